package up

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/annex-api/annex/kubeapiserver/certs"
)

const (
	readyPoll = 20 * time.Millisecond
	// defaultNamespace is what a first command most likely goes to. The server makes it
	// soon after it is ready; a user whose first object it refused would not know why.
	defaultNamespace      = "/api/v1/namespaces/default"
	defaultNamespaceLimit = 10 * time.Second
	requestLimit          = 10 * time.Second
	maxAnswer             = 1 << 20
)

// client is the admin's view of the server.
type client struct {
	address string
	http    *http.Client
	dynamic dynamic.Interface
}

func newClient(address string, f certs.Files) (*client, error) {
	config := &rest.Config{
		Host:  address,
		QPS:   -1,
		Proxy: http.ProxyURL(nil), // it is on this machine
		TLSClientConfig: rest.TLSClientConfig{
			CAFile: f.CA.Cert, CertFile: f.Admin.Cert, KeyFile: f.Admin.Key,
		},
	}
	h, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("make a client with the admin's certificate: %w", err)
	}
	d, err := dynamic.NewForConfigAndClient(config, h)
	if err != nil {
		return nil, fmt.Errorf("make a client with the admin's certificate: %w", err)
	}
	return &client{address: address, http: h, dynamic: d}, nil
}

// ready sends nil when /readyz passes and there is a namespace to work in, or the reason
// why ctx ended. A server that makes no namespace is ready after defaultNamespaceLimit.
func (c *client) ready(ctx context.Context) <-chan error {
	done := make(chan error, 1)
	go func() {
		if err := c.await(ctx, "/readyz"); err != nil {
			done <- err
			return
		}
		bounded, cancel := context.WithTimeout(ctx, defaultNamespaceLimit)
		defer cancel()
		_ = c.await(bounded, defaultNamespace)
		done <- ctx.Err()
	}()
	return done
}

// await returns nil when the server answers a path with 200, or why ctx ended.
func (c *client) await(ctx context.Context, path string) error {
	ticker := time.NewTicker(readyPoll)
	defer ticker.Stop()
	for {
		if _, err := c.get(ctx, path, ""); err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

// listed says why discovery does not list a resource yet; nil where it does.
func (c *client) listed(ctx context.Context, resource schema.GroupVersionResource) error {
	body, err := c.get(ctx, "/apis", discovery.AcceptV2)
	if err != nil {
		return err
	}
	var list apidiscoveryv2.APIGroupDiscoveryList
	if err := json.Unmarshal(body, &list); err != nil {
		return fmt.Errorf("read discovery: %w", err)
	}
	for _, group := range list.Items {
		for _, version := range group.Versions {
			for _, r := range version.Resources {
				if (schema.GroupVersionResource{Group: group.Name, Version: version.Version, Resource: r.Resource}) == resource {
					return nil
				}
			}
		}
	}
	return fmt.Errorf("discovery does not list %s yet", resource.Resource)
}

// get returns the body of a 200.
func (c *client) get(ctx context.Context, path, accept string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, requestLimit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.address+path, nil)
	if err != nil {
		return nil, fmt.Errorf("ask for %s: %w", path, err)
	}
	if accept != "" {
		req.Header.Set("Accept", accept)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask for %s: %w", path, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("read the answer to %s: %w", path, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered %s", path, resp.Status)
	}
	return body, nil
}
