package conformance

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	validate "k8s.io/apimachinery/pkg/api/validate/content"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const aggregatedDiscovery = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"

func discoveryChecks() []Check {
	return []Check{
		{
			ID:      "discovery/legacy",
			Promise: "The discovery documents of the group and of the group version list the version and its resources, with kind, verbs and a singular name.",
			Source:  concepts + "#unaggregated-discovery",
			Run:     checkLegacyDiscovery,
		},
		{
			ID:      "discovery/aggregated",
			Promise: "Aggregated discovery says the same of the group version as the document of the group version.",
			Source:  keps + "sig-api-machinery/3352-aggregated-discovery",
			Run:     checkAggregatedDiscovery,
		},
		{
			ID:      "http/etag",
			Promise: "Discovery and OpenAPI documents have an ETag, and If-None-Match is answered with 304 while they stay.",
			Source:  concepts + "#aggregated-discovery, and " + keps + "sig-api-machinery/2896-openapi-v3",
			Run:     checkETags,
		},
	}
}

// described is what discovery says of one resource.
type described struct {
	kind         string
	namespaced   bool
	singular     string
	verbs        []string
	short        []string
	categories   []string
	subresources []string
}

func (d described) differences(other described) []string {
	var found []string
	differ := func(what string, a, b any) {
		if fmt.Sprint(a) != fmt.Sprint(b) {
			found = append(found, fmt.Sprintf("%s is %v in one and %v in the other", what, a, b))
		}
	}
	differ("the kind", d.kind, other.kind)
	differ("namespaced", d.namespaced, other.namespaced)
	differ("the singular name", d.singular, other.singular)
	differ("the list of verbs", sorted(d.verbs), sorted(other.verbs))
	differ("the list of short names", sorted(d.short), sorted(other.short))
	differ("the list of categories", sorted(d.categories), sorted(other.categories))
	differ("the list of subresources", sorted(d.subresources), sorted(other.subresources))
	return found
}

func sorted(list []string) []string { return slices.Sorted(slices.Values(list)) }

// read decodes a document of the server, or ends the check.
func (t *T) read(a answer, into any) {
	t.want(a, http.StatusOK)
	if err := json.Unmarshal(a.raw, into); err != nil {
		t.fatalf(a.Exchange, "the answer is no %T: %v", into, err)
	}
}

// legacyResource reads the document of the group version.
func (t *T) legacyResource(ctx context.Context) (described, answer) {
	a := t.do(ctx, request{method: http.MethodGet, path: root(t.subject.GroupVersion())})
	var resources metav1.APIResourceList
	t.read(a, &resources)
	if resources.GroupVersion != t.subject.GroupVersion().String() {
		t.failf(a.Exchange, "groupVersion is %q, want %q", resources.GroupVersion, t.subject.GroupVersion())
	}
	var d described
	seen := map[string]bool{}
	for _, r := range resources.APIResources {
		if seen[r.Name] {
			t.failf(a.Exchange, "%s is listed twice", r.Name)
		}
		seen[r.Name] = true
		if r.Kind == "" || len(r.Verbs) == 0 {
			t.failf(a.Exchange, "%s has no kind or no verbs", r.Name)
		}
		if !resourceName(r.Name) {
			t.failf(a.Exchange, "%q is no name of a resource, nor of a subresource: no path leads to it", r.Name)
		}
		if r.Name == t.subject.Resource {
			d.kind, d.namespaced, d.singular, d.verbs, d.short, d.categories = r.Kind, r.Namespaced, r.SingularName, r.Verbs, r.ShortNames, r.Categories
		}
		if name, ok := strings.CutPrefix(r.Name, t.subject.Resource+"/"); ok {
			d.subresources = append(d.subresources, name)
		}
	}
	return d, a
}

// resourceName says whether a name may stand in a path: widgets, or widgets/status.
func resourceName(name string) bool {
	for segment := range strings.SplitSeq(name, "/") {
		if segment == "" || len(validate.IsPathSegmentName(segment)) > 0 {
			return false
		}
	}
	return true
}

func checkLegacyDiscovery(ctx context.Context, t *T) {
	s := t.subject
	if s.Group == "" {
		var versions metav1.APIVersions
		a := t.do(ctx, request{method: http.MethodGet, path: "/api"})
		t.read(a, &versions)
		if !slices.Contains(versions.Versions, s.Version) {
			t.failf(a.Exchange, "/api does not list %s", s.Version)
		}
	} else {
		var groups metav1.APIGroupList
		a := t.do(ctx, request{method: http.MethodGet, path: "/apis"})
		t.read(a, &groups)
		i := slices.IndexFunc(groups.Groups, func(g metav1.APIGroup) bool { return g.Name == s.Group })
		if i < 0 {
			t.fatalf(a.Exchange, "/apis does not list the group %s", s.Group)
		}
		var group metav1.APIGroup
		b := t.do(ctx, request{method: http.MethodGet, path: "/apis/" + s.Group})
		t.read(b, &group)
		for where, g := range map[*Exchange]metav1.APIGroup{a.Exchange: groups.Groups[i], b.Exchange: group} {
			if !slices.ContainsFunc(g.Versions, func(v metav1.GroupVersionForDiscovery) bool {
				return v.Version == s.Version && v.GroupVersion == s.GroupVersion().String()
			}) {
				t.failf(where, "the group does not list the version %s", s.Version)
			}
			if !slices.Contains(g.Versions, g.PreferredVersion) {
				t.failf(where, "the preferred version %q is none of the group's", g.PreferredVersion.GroupVersion)
			}
		}
	}
	d, a := t.legacyResource(ctx)
	if d.singular == "" && !strings.Contains(s.Resource, "/") {
		t.failf(a.Exchange, "%s has no singular name; kubectl needs one", s.Resource)
	}
}

func checkAggregatedDiscovery(ctx context.Context, t *T) {
	s := t.subject
	root := "/apis"
	if s.Group == "" {
		root = "/api"
	}
	a := t.want(t.do(ctx, request{method: http.MethodGet, path: root}.with("Accept", aggregatedDiscovery+",application/json")), http.StatusOK)
	if !strings.Contains(a.Header.Get("Content-Type"), "as=APIGroupDiscoveryList") {
		t.notApplicable("the API server has no aggregated discovery")
	}
	var groups apidiscoveryv2.APIGroupDiscoveryList
	t.read(a, &groups)
	for _, g := range groups.Items {
		if g.Name != s.Group {
			continue
		}
		for _, v := range g.Versions {
			if v.Version == s.Version {
				t.compareDiscovery(ctx, a, v)
				return
			}
		}
	}
	t.failf(a.Exchange, "aggregated discovery does not list %s", s.GroupVersion())
}

func (t *T) compareDiscovery(ctx context.Context, a answer, v apidiscoveryv2.APIVersionDiscovery) {
	if v.Freshness == apidiscoveryv2.DiscoveryFreshnessStale {
		t.failf(a.Exchange, "the version is listed as stale: its server was not reached")
	}
	if len(v.Resources) == 0 {
		t.fatalf(a.Exchange, "the version is listed without a resource, which upsets clients")
	}
	legacy, _ := t.legacyResource(ctx)
	resource, subresource, alone := strings.Cut(t.subject.Resource, "/")
	for _, r := range v.Resources {
		if r.Resource != resource {
			continue
		}
		if alone {
			t.compareSubresource(a, legacy, r, subresource)
			return
		}
		d := described{
			namespaced: r.Scope == apidiscoveryv2.ScopeNamespace, singular: r.SingularResource,
			verbs: r.Verbs, short: r.ShortNames, categories: r.Categories,
		}
		if r.ResponseKind != nil {
			d.kind = r.ResponseKind.Kind
		}
		for _, sub := range r.Subresources {
			d.subresources = append(d.subresources, sub.Subresource)
		}
		for _, difference := range legacy.differences(d) {
			t.failf(a.Exchange, "%s: %s", root(t.subject.GroupVersion()), difference)
		}
		return
	}
	t.failf(a.Exchange, "aggregated discovery does not list %s", t.subject.Resource)
}

// compareSubresource compares a subresource that is checked by itself.
func (t *T) compareSubresource(a answer, legacy described, r apidiscoveryv2.APIResourceDiscovery, name string) {
	i := slices.IndexFunc(r.Subresources, func(s apidiscoveryv2.APISubresourceDiscovery) bool { return s.Subresource == name })
	if i < 0 {
		t.fatalf(a.Exchange, "aggregated discovery does not list %s", t.subject.Resource)
	}
	sub := r.Subresources[i]
	d := described{namespaced: r.Scope == apidiscoveryv2.ScopeNamespace, singular: legacy.singular, verbs: sub.Verbs}
	if sub.ResponseKind != nil {
		d.kind = sub.ResponseKind.Kind
	}
	for _, difference := range legacy.differences(d) {
		t.failf(a.Exchange, "%s: %s", root(t.subject.GroupVersion()), difference)
	}
}

func checkETags(ctx context.Context, t *T) {
	documents := map[string]string{"/apis": aggregatedDiscovery, "/openapi/v2": "application/json"}
	if t.subject.document != nil {
		documents[t.subject.document.path] = "application/json"
	}
	for _, path := range slices.Sorted(maps.Keys(documents)) {
		r := request{method: http.MethodGet, path: path}.with("Accept", documents[path])
		a := t.do(ctx, r)
		if a.Code != http.StatusOK {
			continue // other checks say so
		}
		tag := a.Header.Get("ETag")
		if tag == "" {
			t.failf(a.Exchange, "%s has no ETag", path)
			continue
		}
		again := t.do(ctx, r.with("If-None-Match", tag))
		if again.Code == http.StatusOK && again.Header.Get("ETag") != tag {
			continue // it has just changed
		}
		if again.Code != http.StatusNotModified {
			t.failf(again.Exchange, "If-None-Match with the document's own ETag was answered %s, want %s", code(again.Code), code(http.StatusNotModified))
		}
	}
}
