package up

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/storage/storagebackend"

	"github.com/annex-api/annex/internal/child"
	"github.com/annex-api/annex/internal/cli/demoserver"
	"github.com/annex-api/annex/internal/cli/terminal"
	"github.com/annex-api/annex/kubeapiserver/certs"
	"github.com/annex-api/annex/kubeapiserver/launch"
)

const (
	demoNamespace  = "annex-demo"
	demoService    = "bulletin"
	demoAPIService = "v1.demo.annex.dev"
	demoPrefix     = "/registry/demo.annex.dev"
	// demoWait bounds each wait for the demo; childGrace the child's graceful end.
	demoWait   = 30 * time.Second
	childGrace = 5 * time.Second
	demoPoll   = 25 * time.Millisecond
)

var (
	namespaces  = schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}
	services    = schema.GroupVersionResource{Version: "v1", Resource: "services"}
	apiServices = schema.GroupVersionResource{Group: "apiregistration.k8s.io", Version: "v1", Resource: "apiservices"}
	notices     = schema.GroupVersionResource{Group: "demo.annex.dev", Version: "v1", Resource: "notices"}
)

func (o *Options) demoLog() string { return filepath.Join(o.DataDir, "demo-server.log") }

// demo starts the extension API server and registers it. With an error, a child that still runs is
// returned too.
func (o *Options) demo(ctx context.Context, p *terminal.Progress, c *client, store *certs.Store, server *launch.Options) (*child.Process, error) {
	pair, err := store.Serving("demo-server", demoService+"."+demoNamespace+".svc", "localhost", "127.0.0.1")
	if err != nil {
		return nil, err
	}
	listener, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, fmt.Errorf("listen on loopback for the demo server: %w", err)
	}
	defer listener.Close()
	port := listener.Addr().(*net.TCPAddr).Port

	var process *child.Process
	err = p.Step("demo server", func() error {
		process, err = o.startDemo(listener, pair, server)
		if err != nil {
			return err
		}
		return o.register(ctx, c, process, store, port)
	})
	if err != nil {
		return process, err
	}
	err = p.Step("demo notices", func() error { return sampleNotices(ctx, c) })
	if err != nil {
		return process, err
	}
	return process, o.show(ctx, c)
}

func (o *Options) startDemo(listener *net.TCPListener, pair certs.Pair, server *launch.Options) (*child.Process, error) {
	socket, err := listener.File()
	if err != nil {
		return nil, fmt.Errorf("pass the demo server its socket: %w", err)
	}
	defer socket.Close()
	storage, err := storageURL(server.Server.Etcd.StorageConfig.Transport)
	if err != nil {
		return nil, err
	}
	args := []string{
		demoserver.Name, "--listen-fd=3", "--kubeconfig=" + o.demoKubeconfig(),
		"--tls-cert-file=" + pair.Cert, "--tls-private-key-file=" + pair.Key,
		"--storage=" + storage, "--storage-prefix=" + demoPrefix,
	}
	return child.StartSelf(args, newLogFile(o.demoLog()), socket)
}

// storageURL is the host's etcd, which the demo shares, as servers on the SDK name it.
func storageURL(t storagebackend.TransportConfig) (string, error) {
	u := url.URL{Scheme: "etcd"}
	query := url.Values{}
	var hosts []string
	for _, server := range t.ServerList {
		endpoint, err := url.Parse(server)
		switch {
		case err != nil:
			return "", fmt.Errorf("read the URL of etcd: %w", err)
		case endpoint.Scheme == "unix":
			u.Path = endpoint.Path
			return u.String(), nil
		case endpoint.Scheme == "https":
			query.Set("tls", "true")
		}
		hosts = append(hosts, endpoint.Host)
	}
	for name, file := range map[string]string{"ca": t.TrustedCAFile, "cert": t.CertFile, "key": t.KeyFile} {
		if file != "" {
			query.Set(name, file)
		}
	}
	u.Host, u.RawQuery = strings.Join(hosts, ","), query.Encode()
	return u.String(), nil
}

// register applies the objects and waits until the APIService is available.
func (o *Options) register(ctx context.Context, c *client, process *child.Process, store *certs.Store, port int) error {
	ca, err := os.ReadFile(store.Files().CA.Cert)
	if err != nil {
		return fmt.Errorf("read the CA for the APIService: %w", err)
	}
	object := func(apiVersion, kind, name string, spec map[string]any) *unstructured.Unstructured {
		u := map[string]any{"apiVersion": apiVersion, "kind": kind, "metadata": map[string]any{"name": name}}
		if spec != nil {
			u["spec"] = spec
		}
		return &unstructured.Unstructured{Object: u}
	}
	options := metav1.ApplyOptions{FieldManager: "annex-up", Force: true}
	if _, err := c.dynamic.Resource(namespaces).Apply(ctx, demoNamespace, object("v1", "Namespace", demoNamespace, nil), options); err != nil {
		return fmt.Errorf("apply namespace %s: %w", demoNamespace, err)
	}
	service := object("v1", "Service", demoService, map[string]any{"type": "ExternalName", "externalName": "localhost"})
	if _, err := c.dynamic.Resource(services).Namespace(demoNamespace).Apply(ctx, demoService, service, options); err != nil {
		return fmt.Errorf("apply service %s/%s: %w", demoNamespace, demoService, err)
	}
	apiService := object("apiregistration.k8s.io/v1", "APIService", demoAPIService, map[string]any{
		"group": notices.Group, "version": notices.Version,
		"groupPriorityMinimum": int64(1000), "versionPriority": int64(15),
		"caBundle": base64.StdEncoding.EncodeToString(ca),
		"service":  map[string]any{"namespace": demoNamespace, "name": demoService, "port": int64(port)},
	})
	if _, err := c.dynamic.Resource(apiServices).Apply(ctx, demoAPIService, apiService, options); err != nil {
		return fmt.Errorf("apply APIService %s: %w", demoAPIService, err)
	}
	return o.waitAvailable(ctx, c, process)
}

// waitAvailable polls the APIService, and that its resource answers and is listed:
// kubectl asks for what is listed alone.
func (o *Options) waitAvailable(ctx context.Context, c *client, process *child.Process) error {
	ctx, cancel := context.WithTimeout(ctx, demoWait)
	defer cancel()
	ticker := time.NewTicker(demoPoll)
	defer ticker.Stop()
	last := "it has no condition yet"
	for {
		u, err := c.dynamic.Resource(apiServices).Get(ctx, demoAPIService, metav1.GetOptions{})
		if err == nil {
			ok, why := available(u)
			if ok {
				_, err = c.dynamic.Resource(notices).Namespace(demoNamespace).List(ctx, metav1.ListOptions{Limit: 1})
				if err == nil {
					err = c.listed(ctx, notices)
				}
				if err == nil {
					return nil
				}
				why = err.Error()
			}
			last = why
		} else if ctx.Err() == nil {
			last = err.Error()
		}
		select {
		case <-process.Ended():
			return fmt.Errorf("the demo server ended (%v), see %s", process.Err(), o.demoLog())
		case <-ctx.Done():
			return fmt.Errorf("APIService %s is not available: %s, see %s", demoAPIService, last, o.demoLog())
		case <-ticker.C:
		}
	}
}

// available reads the condition; why is its reason and message when it is not True.
func available(u *unstructured.Unstructured) (ok bool, why string) {
	conditions, _, err := unstructured.NestedSlice(u.Object, "status", "conditions")
	if err != nil {
		return false, err.Error()
	}
	for _, c := range conditions {
		m, _ := c.(map[string]any)
		if m["type"] == "Available" {
			return m["status"] == "True", fmt.Sprintf("%v: %v", m["reason"], m["message"])
		}
	}
	return false, "it has no condition yet"
}

// sampleNotices makes a few notices where there are none.
func sampleNotices(ctx context.Context, c *client) error {
	board := c.dynamic.Resource(notices).Namespace(demoNamespace)
	list, err := board.List(ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		return fmt.Errorf("list notices: %w", err)
	}
	if len(list.Items) > 0 {
		return nil
	}
	for _, n := range []struct{ name, severity, message string }{
		{"welcome", "info", "This notice is served by an extension API server."},
		{"kitchen", "warning", "The coffee machine is being descaled."},
		{"fire-drill", "critical", "Fire drill today at noon."},
	} {
		u := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": notices.GroupVersion().String(), "kind": "Notice",
			"metadata": map[string]any{"name": n.name},
			"spec":     map[string]any{"message": n.message, "severity": n.severity},
		}}
		if _, err := board.Create(ctx, u, metav1.CreateOptions{FieldManager: "annex-up"}); err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("create notice %s: %w", n.name, err)
		}
	}
	return nil
}

// stopDemo takes the APIService away, so that the next start does not show a server that is gone,
// and stops the child.
func (o *Options) stopDemo(c *client, process *child.Process) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	err := c.dynamic.Resource(apiServices).Delete(ctx, demoAPIService, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		err = fmt.Errorf("remove APIService %s: %w", demoAPIService, err)
	} else {
		err = nil
	}
	return errors.Join(err, process.Stop(childGrace))
}
