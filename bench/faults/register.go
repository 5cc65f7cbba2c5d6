package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/annex-api/annex/bench/internal/fixture"
	"github.com/annex-api/annex/bench/internal/host"
)

// cutMethod takes a journal's line apart.
func cutMethod(line, method string) (id string, ok bool) {
	return strings.CutPrefix(line, method+" ")
}

// endpoint is an address in an EndpointSlice.
type endpoint struct {
	host        string
	terminating bool // still serving, not ready
}

// ready lists replicas as ready endpoints.
func ready(replicas ...*replica) []endpoint {
	out := make([]endpoint, len(replicas))
	for i, r := range replicas {
		out[i] = endpoint{host: r.host}
	}
	return out
}

func slicePath() string {
	return "/apis/discovery.k8s.io/v1/namespaces/" + fixture.Namespace + "/endpointslices"
}

func slice(n int, endpoints []endpoint) object {
	list := make([]object, len(endpoints))
	for i, e := range endpoints {
		list[i] = object{
			"addresses":  []string{e.host},
			"conditions": object{"ready": !e.terminating, "serving": true, "terminating": e.terminating},
		}
	}
	return object{
		"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
		"metadata":    object{"name": fixture.Service(n), "labels": object{"kubernetes.io/service-name": fixture.Service(n)}},
		"addressType": "IPv4",
		"ports":       []object{{"name": "https", "port": replicaPort, "protocol": "TCP"}},
		"endpoints":   list,
	}
}

// publish tells the server the endpoints of the n-th Service.
func (s *stage) publish(ctx context.Context, n int, endpoints []endpoint) error {
	return s.Replace(ctx, slicePath()+"/"+fixture.Service(n), slice(n, endpoints))
}

// register makes the n-th APIService with its Service and endpoints.
func (s *stage) register(ctx context.Context, n int, endpoints []endpoint) error {
	if err := s.Create(ctx, "/api/v1/namespaces/"+fixture.Namespace+"/services", object{
		"metadata": object{"name": fixture.Service(n)},
		"spec":     object{"ports": []object{{"name": "https", "port": 443, "targetPort": replicaPort}}},
	}); err != nil {
		return fmt.Errorf("making a Service: %w", err)
	}
	if err := s.Create(ctx, slicePath(), slice(n, endpoints)); err != nil {
		return fmt.Errorf("making an EndpointSlice: %w", err)
	}
	if err := s.Create(ctx, "/apis/apiregistration.k8s.io/v1/apiservices", object{
		"metadata": object{"name": fixture.APIService(n)},
		"spec": object{
			"group": fixture.Group(n), "version": fixture.Version, "caBundle": s.caBundle,
			"groupPriorityMinimum": 1000, "versionPriority": 15,
			"service": object{"namespace": fixture.Namespace, "name": fixture.Service(n), "port": 443},
		},
	}); err != nil {
		return fmt.Errorf("making an APIService: %w", err)
	}
	return nil
}

// serving registers the first APIService and waits until it is Available and in
// discovery, and the users may read it.
func (s *stage) serving(ctx context.Context, endpoints []endpoint) error {
	if err := s.register(ctx, 0, endpoints); err != nil {
		return err
	}
	return s.until(ctx, "the extension server to be served", func(ctx context.Context) (bool, error) {
		status, err := s.available(ctx, 0)
		if err != nil || status != "True" {
			return false, err
		}
		found, err := s.discovered(ctx)
		if err != nil || found != current {
			return false, err
		}
		for _, user := range []string{loud, quiet} {
			if ok, err := s.mayRead(ctx, user); err != nil || !ok {
				return false, err
			}
		}
		return true, nil
	})
}

func (s *stage) until(ctx context.Context, what string, check func(context.Context) (bool, error)) error {
	return s.Server.Until(ctx, what, readyLimit, pollInterval, check)
}

func (s *stage) mayRead(ctx context.Context, user string) (bool, error) {
	r, err := s.get(user, fixture.Path(0)+"/one")(ctx, 0)
	if err != nil {
		return false, err
	}
	response, err := s.client(1)[0].Do(r)
	if err != nil {
		return false, fmt.Errorf("reading as %s: %w", user, err)
	}
	return response.StatusCode == http.StatusOK, response.Body.Close()
}

// get makes GET requests of a user.
func (s *stage) get(user, path string) func(context.Context, int) (*http.Request, error) {
	return func(ctx context.Context, _ int) (*http.Request, error) {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+path, nil)
		if err != nil {
			return nil, fmt.Errorf("making a request: %w", err)
		}
		r.Header.Set("Authorization", "Bearer "+s.tokens[user])
		return r, nil
	}
}

// How the first group stands in aggregated discovery.
const (
	gone    = "gone"
	current = "Current"
	stale   = "Stale"
)

// discovered is the freshness of the first group's resources; gone if there are none.
func (s *stage) discovered(ctx context.Context) (string, error) {
	body, err := s.Get(ctx, "/apis", http.Header{"Accept": {host.AggregatedDiscovery}})
	if err != nil {
		return "", err
	}
	var list struct {
		Items []struct {
			Metadata struct{ Name string }
			Versions []struct {
				Freshness string
				Resources []struct{ Resource string }
			}
		}
	}
	if err := json.Unmarshal(body, &list); err != nil {
		return "", fmt.Errorf("decoding the discovery document: %w", err)
	}
	for _, g := range list.Items {
		if g.Metadata.Name == fixture.Group(0) && len(g.Versions) == 1 && len(g.Versions[0].Resources) > 0 {
			return g.Versions[0].Freshness, nil
		}
	}
	return gone, nil
}

// after does one step of a scenario once a time has passed.
func after(ctx context.Context, d time.Duration, step func() error) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return step()
	}
}
