package host

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/annex-api/annex/bench/internal/fixture"
)

// AggregatedDiscovery is the Accept header of the merged discovery document.
const AggregatedDiscovery = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"

const (
	registerLimit = 3 * time.Minute
	// leastInterval is how often is asked whether all is there; it grows with
	// the answers, which would keep the server busy.
	leastInterval = 100 * time.Millisecond
)

const apiServices = "/apis/apiregistration.k8s.io/v1/apiservices"

type object = map[string]any

// Get fetches a path and errs unless the answer is 200.
func (h *Host) Get(ctx context.Context, path string, header http.Header) ([]byte, error) {
	status, body, err := h.send(ctx, http.MethodGet, path, header, nil)
	if err != nil {
		return nil, err
	}
	if status != http.StatusOK {
		return nil, fmt.Errorf("GET %s: status %d: %.200s", path, status, body)
	}
	return body, nil
}

// Create posts an object and errs unless it was created.
func (h *Host) Create(ctx context.Context, path string, o any) error {
	return h.write(ctx, http.MethodPost, path, http.StatusCreated, o)
}

// Replace puts an object in the place of the one that is there.
func (h *Host) Replace(ctx context.Context, path string, o any) error {
	return h.write(ctx, http.MethodPut, path, http.StatusOK, o)
}

func (h *Host) write(ctx context.Context, method, path string, want int, o any) error {
	content, err := json.Marshal(o)
	if err != nil {
		return fmt.Errorf("encoding an object for %s: %w", path, err)
	}
	status, body, err := h.send(ctx, method, path, http.Header{"Content-Type": {"application/json"}}, bytes.NewReader(content))
	if err != nil {
		return err
	}
	if status != want {
		return fmt.Errorf("%s %s: status %d: %.500s", method, path, status, body)
	}
	return nil
}

// Registration is one APIService, with a Service that leads to a port of this machine.
type Registration struct {
	Group, Version string
	Service        string // its name; the certificate behind it has the name of fixture.WildcardName
	Port           int
	CABundle       []byte
}

// RegisterOne makes an APIService and waits until it is available.
func (h *Host) RegisterOne(ctx context.Context, r Registration) error {
	if err := h.makeNamespace(ctx); err != nil {
		return err
	}
	if err := h.register(ctx, r); err != nil {
		return err
	}
	name := r.Version + "." + r.Group
	return h.Server.Until(ctx, "the APIService "+name+" to be available", registerLimit, leastInterval, func(ctx context.Context) (bool, error) {
		body, err := h.Get(ctx, apiServices+"/"+name, nil)
		if err != nil {
			return false, err
		}
		var a apiService
		if err := json.Unmarshal(body, &a); err != nil {
			return false, fmt.Errorf("decoding the APIService %s: %w", name, err)
		}
		return a.available(), nil
	})
}

// Current says whether a group version is in the discovery document, and not as stale.
func (h *Host) Current(ctx context.Context, group, version string) (bool, error) {
	groups, err := h.groups(ctx)
	for _, g := range groups {
		for _, v := range g.Versions {
			if g.Metadata.Name == group && v.Version == version {
				return v.Freshness == "Current", err
			}
		}
	}
	return false, err
}

// makeNamespace makes that of the Services, once.
func (h *Host) makeNamespace(ctx context.Context) error {
	if h.namespace {
		return nil
	}
	if err := h.Create(ctx, "/api/v1/namespaces", object{"metadata": object{"name": fixture.Namespace}}); err != nil {
		return fmt.Errorf("making the namespace: %w", err)
	}
	h.namespace = true
	return nil
}

func (h *Host) register(ctx context.Context, r Registration) error {
	if err := h.Create(ctx, "/api/v1/namespaces/"+fixture.Namespace+"/services", object{
		"metadata": object{"name": r.Service},
		"spec":     object{"type": "ExternalName", "externalName": "localhost"},
	}); err != nil {
		return fmt.Errorf("making a Service: %w", err)
	}
	if err := h.Create(ctx, apiServices, object{
		"metadata": object{"name": r.Version + "." + r.Group},
		"spec": object{
			"group": r.Group, "version": r.Version, "caBundle": r.CABundle,
			"groupPriorityMinimum": 1000, "versionPriority": 15,
			"service": object{"namespace": fixture.Namespace, "name": r.Service, "port": r.Port},
		},
	}); err != nil {
		return fmt.Errorf("making an APIService: %w", err)
	}
	return nil
}

// Register makes the APIServices from number from up to, not including, to, each
// with a Service of its own that leads to localhost, and waits until all from 0 on
// are available and in the discovery document. It returns how long that took.
func (h *Host) Register(ctx context.Context, from, to, port int, caBundle []byte) (time.Duration, error) {
	if err := h.makeNamespace(ctx); err != nil {
		return 0, err
	}
	began := time.Now()
	for n := from; n < to; n++ {
		if err := h.register(ctx, Registration{
			Group: fixture.Group(n), Version: fixture.Version, Service: fixture.Service(n), Port: port, CABundle: caBundle,
		}); err != nil {
			return 0, err
		}
	}
	err := h.Server.Until(ctx, fmt.Sprintf("%d APIServices to be available", to), registerLimit, interval(to), func(ctx context.Context) (bool, error) {
		return h.available(ctx, to)
	})
	if err != nil {
		return 0, err
	}
	err = h.Discovered(ctx, to)
	return time.Since(began), err
}

// Discovered waits until the groups of count APIServices are in the discovery
// document, current and with their resources.
func (h *Host) Discovered(ctx context.Context, count int) error {
	return h.Server.Until(ctx, fmt.Sprintf("%d groups in discovery", count), registerLimit, interval(count), func(ctx context.Context) (bool, error) {
		found, err := h.discovered(ctx)
		return found == count, err
	})
}

func interval(count int) time.Duration {
	return max(leastInterval, time.Duration(count)*time.Millisecond/2)
}

func (h *Host) available(ctx context.Context, count int) (bool, error) {
	body, err := h.Get(ctx, apiServices, nil)
	if err != nil {
		return false, err
	}
	var list struct{ Items []apiService }
	if err := json.Unmarshal(body, &list); err != nil {
		return false, fmt.Errorf("decoding the APIServices: %w", err)
	}
	for _, item := range list.Items {
		if fixture.IsGroup(item.Spec.Group) && item.available() {
			count--
		}
	}
	return count == 0, nil
}

// apiService is what is read of one.
type apiService struct {
	Spec   struct{ Group string }
	Status struct {
		Conditions []struct{ Type, Status string }
	}
}

func (a apiService) available() bool {
	for _, c := range a.Status.Conditions {
		if c.Type == "Available" {
			return c.Status == "True"
		}
	}
	return false
}

// group is one of the aggregated discovery document.
type group struct {
	Metadata struct{ Name string }
	Versions []struct {
		Version   string
		Freshness string
		Resources []struct{ Resource string }
	}
}

func (h *Host) groups(ctx context.Context) ([]group, error) {
	body, err := h.Get(ctx, "/apis", http.Header{"Accept": {AggregatedDiscovery}})
	if err != nil {
		return nil, err
	}
	var list struct{ Items []group }
	if err := json.Unmarshal(body, &list); err != nil {
		return nil, fmt.Errorf("decoding the discovery document: %w", err)
	}
	return list.Items, nil
}

// discovered counts our groups that are in the discovery document, current and with their resources.
func (h *Host) discovered(ctx context.Context) (int, error) {
	groups, err := h.groups(ctx)
	if err != nil {
		return 0, err
	}
	found := 0
	for _, g := range groups {
		if fixture.IsGroup(g.Metadata.Name) && len(g.Versions) == 1 && g.Versions[0].Freshness == "Current" && len(g.Versions[0].Resources) > 0 {
			found++
		}
	}
	return found, nil
}
