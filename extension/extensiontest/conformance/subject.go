package conformance

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// subject is the resource that is checked, as discovery and OpenAPI describe it.
type subject struct {
	schema.GroupVersionResource
	kind          string
	namespaced    bool
	noNamespaces  bool // objects are put into namespaces that nobody made
	verbs         map[string]bool
	subresources  map[string]bool
	otherVersions []string // that serve the resource too

	document      *document      // OpenAPI v3 of the group version; nil where there is none
	schema        map[string]any // of the kind; nil where there is none
	schemaProblem string
	apiService    *unstructured.Unstructured // nil where the group version is not aggregated

	sample      map[string]any
	change      changeable
	statusField changeable

	prefix           string // of all names
	namespace, other string // "" for cluster-scoped resources
}

const (
	// documentTimeout is how long an aggregator may take to have the OpenAPI document of a new
	// group version, and documentPoll how often it is looked for.
	documentTimeout = 10 * time.Second
	documentPoll    = 100 * time.Millisecond
)

// root is the path of a group version.
func root(gv schema.GroupVersion) string {
	if gv.Group == "" {
		return "/api/" + gv.Version
	}
	return "/apis/" + gv.Group + "/" + gv.Version
}

// path is that of an object, or of the collection where the name is empty; without a namespace, that
// of all namespaces.
func (s *subject) path(namespace, name string) string {
	return s.pathIn(s.Version, namespace, name)
}

func (s *subject) pathIn(version, namespace, name string) string {
	p := root(schema.GroupVersion{Group: s.Group, Version: version})
	if s.namespaced && namespace != "" {
		p += "/namespaces/" + namespace
	}
	// A group may have subresources of others' resources alone, as custom metrics do.
	resource, subresource, _ := strings.Cut(s.Resource, "/")
	p += "/" + resource
	if name != "" {
		p += "/" + name
		if subresource != "" {
			p += "/" + subresource
		}
	}
	return p
}

// newSample is a copy.
func (s *subject) newSample() map[string]any { return runtime.DeepCopyJSON(s.sample) }

// getJSON reads a document of the server.
func (c *client) getJSON(ctx context.Context, path string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, requestLimit)
	defer cancel()
	a, err := c.do(ctx, request{method: http.MethodGet, path: path})
	if err != nil {
		return fmt.Errorf("ask for %s: %w", path, err)
	}
	if a.Code != http.StatusOK {
		return fmt.Errorf("%s answered %s%s", path, code(a.Code), saying(a.raw))
	}
	if err := json.Unmarshal(a.raw, into); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}

// readSubject reads what the server says of the target's resource.
func readSubject(ctx context.Context, c *client, target Target) (*subject, error) {
	s := &subject{GroupVersionResource: target.Resource, verbs: map[string]bool{}, subresources: map[string]bool{}}
	var resources metav1.APIResourceList
	if err := c.getJSON(ctx, root(s.GroupVersion()), &resources); err != nil {
		return nil, fmt.Errorf("find %s: %w", s.GroupVersion(), err)
	}
	for _, r := range resources.APIResources {
		if r.Name == s.Resource {
			s.kind, s.namespaced = r.Kind, r.Namespaced
			for _, verb := range r.Verbs {
				s.verbs[verb] = true
			}
		}
		if name, ok := strings.CutPrefix(r.Name, s.Resource+"/"); ok {
			s.subresources[name] = true
		}
	}
	if s.kind == "" {
		return nil, fmt.Errorf("%s has no resource %s", s.GroupVersion(), s.Resource)
	}
	if err := s.readVersions(ctx, c); err != nil {
		return nil, err
	}
	s.readAPIService(ctx, c)
	if s.document, s.schemaProblem = s.awaitDocument(ctx, c); s.document != nil {
		if s.schema = s.document.kind(s.GroupVersion().WithKind(s.kind)); s.schema == nil {
			s.schemaProblem = "no schema names the kind"
		}
	}
	s.chooseSample(target)
	return s, nil
}

// readVersions finds the other versions that serve the resource.
func (s *subject) readVersions(ctx context.Context, c *client) error {
	if s.Group == "" {
		return nil
	}
	var group metav1.APIGroup
	if err := c.getJSON(ctx, "/apis/"+s.Group, &group); err != nil {
		return fmt.Errorf("find the versions of %s: %w", s.Group, err)
	}
	for _, v := range group.Versions {
		if v.Version == s.Version {
			continue
		}
		var resources metav1.APIResourceList
		if err := c.getJSON(ctx, root(schema.GroupVersion{Group: s.Group, Version: v.Version}), &resources); err != nil {
			continue // its own check says so
		}
		for _, r := range resources.APIResources {
			if r.Name == s.Resource {
				s.otherVersions = append(s.otherVersions, v.Version)
			}
		}
	}
	return nil
}

// readAPIService finds the registration of an aggregated group version. A local one has no Service.
func (s *subject) readAPIService(ctx context.Context, c *client) {
	if s.Group == "" {
		return
	}
	o := map[string]any{}
	if err := c.getJSON(ctx, s.apiServicePath(), &o); err != nil {
		return // no aggregation layer, or no right to look: not aggregated as far as we see
	}
	if service, ok, _ := unstructured.NestedMap(o, "spec", "service"); ok && len(service) > 0 {
		s.apiService = &unstructured.Unstructured{Object: o}
	}
}

// awaitDocument is readDocument, with patience where an aggregator has the document of another
// server: it calls an APIService available before it has that, and without a schema the sample
// would be of no fields.
func (s *subject) awaitDocument(ctx context.Context, c *client) (*document, string) {
	ctx, cancel := context.WithTimeout(ctx, documentTimeout)
	defer cancel()
	for {
		d, problem := readDocument(ctx, c, s.GroupVersion())
		if s.apiService == nil || !strings.HasPrefix(problem, unlisted) {
			return d, problem
		}
		select {
		case <-time.After(documentPoll):
		case <-ctx.Done():
			return nil, problem
		}
	}
}

func (s *subject) apiServicePath() string {
	return "/apis/apiregistration.k8s.io/v1/apiservices/" + s.Version + "." + s.Group
}
