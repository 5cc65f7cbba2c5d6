package fetch

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/discovery"

	"github.com/annex-api/annex/aggregator/internal/backend"
	"github.com/annex-api/annex/aggregator/internal/backendtest"
	"github.com/annex-api/annex/aggregator/internal/catalog"
)

const (
	typeV2      = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
	typeV2beta1 = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList"
)

// version is a group with one version and one resource, named for it.
func version(group, version string, resources ...apidiscoveryv2.APIResourceDiscovery) apidiscoveryv2.APIGroupDiscovery {
	if len(resources) == 0 {
		resources = []apidiscoveryv2.APIResourceDiscovery{{
			Resource: "of-" + version + "." + group, Scope: apidiscoveryv2.ScopeNamespace,
			Verbs: []string{"get"}, ResponseKind: &metav1.GroupVersionKind{Group: group, Version: version, Kind: "Thing"},
		}}
	}
	return apidiscoveryv2.APIGroupDiscovery{
		ObjectMeta: metav1.ObjectMeta{Name: group},
		Versions:   []apidiscoveryv2.APIVersionDiscovery{{Version: version, Resources: resources, Freshness: "Current"}},
	}
}

func listOf(apiVersion string, groups ...apidiscoveryv2.APIGroupDiscovery) []byte {
	body, err := json.Marshal(apidiscoveryv2.APIGroupDiscoveryList{
		TypeMeta: metav1.TypeMeta{Kind: "APIGroupDiscoveryList", APIVersion: apiVersion}, Items: groups,
	})
	if err != nil {
		panic(err)
	}
	return body
}

// aggregatedServer offers the groups at /apis and has no OpenAPI.
func aggregatedServer(groups ...apidiscoveryv2.APIGroupDiscovery) http.Handler {
	return answer("/apis", typeV2, listOf("apidiscovery.k8s.io/v2", groups...))
}

func answer(path, contentType string, body []byte) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != path {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", contentType)
		_, _ = w.Write(body)
	})
}

func legacyList(gv string, resources ...metav1.APIResource) []byte {
	body, err := json.Marshal(metav1.APIResourceList{
		TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: gv, APIResources: resources,
	})
	if err != nil {
		panic(err)
	}
	return body
}

var thing = metav1.APIResource{Name: "things", SingularName: "thing", Kind: "Thing", Namespaced: true, Verbs: []string{"get", "list"}}

func resources(d catalog.Document) string {
	if d.Discovery == nil {
		return "(unknown)"
	}
	var names []string
	for _, r := range d.Discovery.Resources {
		names = append(names, r.Resource)
	}
	return strings.Join(names, " ")
}

func TestAggregatedDiscovery(t *testing.T) {
	body := listOf("apidiscovery.k8s.io/v2", version("a.example", "v1"), version("apps", "v1"), version("a.example", "v9"))
	s := backendtest.Start(t, "api", answer("/apis", typeV2, body))
	f, l := newFetcher(t, patient())
	members := s.Snapshot(name).Remotes()
	if !f.discovery(t.Context(), members, &discoveryState{}) {
		t.Errorf("failed: %s", l.get(name).Problem)
	}
	d := l.get(name)
	if got := resources(d); got != "of-v1.a.example" || d.Stale || d.Problem != "" {
		t.Errorf("resources %q, stale %v, problem %q", got, d.Stale, d.Problem)
	}
	if known := f.Documents(); len(known) != 1 {
		t.Errorf("documents of %d APIServices, want only %s: what else it advertises is not its own", len(known), name)
	}
	request := s.Requests()[0]
	if got := request.Header.Get("Accept"); got != discovery.AcceptV2 {
		t.Errorf("Accept: %s", got)
	}
	if user, groups := request.Header["X-Remote-User"], request.Header["X-Remote-Group"]; !slices.Equal(user, []string{"system:kube-aggregator"}) || !slices.Equal(groups, []string{"system:masters"}) {
		t.Errorf("asked as %q of %q", user, groups)
	}
}

// Servers up to v1.29 may offer v2beta1 alone, which Kubernetes v1.37 does not
// read any more: they are asked for each group version.
func TestServersThatOfferV2beta1AreAskedTheOldWay(t *testing.T) {
	body := listOf("apidiscovery.k8s.io/v2beta1", version("a.example", "v1"))
	s := backendtest.Start(t, "api", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/apis" {
			answer("/apis", typeV2beta1, body).ServeHTTP(w, r)
			return
		}
		_, _ = w.Write([]byte(`{"kind":"APIResourceList","apiVersion":"v1","groupVersion":"a.example/v1","resources":[{"name":"listed","kind":"Listed","verbs":["get"]}]}`))
	}))
	f, l := newFetcher(t, patient())
	if !f.discovery(t.Context(), s.Snapshot(name).Remotes(), &discoveryState{}) {
		t.Errorf("failed: %s", l.get(name).Problem)
	}
	if got := resources(l.get(name)); got != "listed" {
		t.Errorf("resources %q", got)
	}
}

func TestUnchangedDiscoveryIsConfirmedByETag(t *testing.T) {
	body := listOf("apidiscovery.k8s.io/v2", version("a.example", "v1"))
	down := false
	s := backendtest.Start(t, "api", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case down:
			w.WriteHeader(http.StatusServiceUnavailable)
		case r.Header.Get("If-None-Match") == `"one"`:
			w.WriteHeader(http.StatusNotModified)
		default:
			w.Header().Set("ETag", `"one"`)
			w.Header().Set("Content-Type", typeV2)
			_, _ = w.Write(body)
		}
	}))
	f, l := newFetcher(t, patient())
	members, state := s.Snapshot(name).Remotes(), &discoveryState{}
	for i, c := range []struct {
		down, ok bool
		match    string
	}{{false, true, ""}, {false, true, `"one"`}, {true, false, `"one"`}, {false, true, ""}, {false, true, `"one"`}} {
		down = c.down
		if got := f.discovery(t.Context(), members, state); got != c.ok {
			t.Errorf("attempt %d: %v, want %v", i, got, c.ok)
		}
		requests := s.Requests()
		if got := requests[len(requests)-1].Header.Get("If-None-Match"); got != c.match {
			t.Errorf("attempt %d: If-None-Match %q, want %q", i, got, c.match)
		}
		if d := l.get(name); d.Stale == c.ok || resources(d) != "of-v1.a.example" {
			t.Errorf("attempt %d: stale %v, resources %q", i, d.Stale, resources(d))
		}
	}
}

// A server that answers 304 to a question without an ETag confirms nothing.
func TestUnaskedNotModifiedConfirmsNothing(t *testing.T) {
	s := backendtest.Start(t, "api", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotModified) }))
	f, l := newFetcher(t, patient())
	if f.discovery(t.Context(), s.Snapshot(name).Remotes(), &discoveryState{}) || !l.get(name).Stale {
		t.Error("304 without an ETag was taken for a success")
	}
}

func TestLegacyDiscovery(t *testing.T) {
	for what, apis := range map[string]http.HandlerFunc{
		"404":           func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) },
		"403":           func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(403) },
		"406":           func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(406) },
		"500":           func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) },
		"a redirect":    func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Location", "/else"); w.WriteHeader(302) },
		"an old list":   answer("/apis", "application/json", []byte(`{"kind":"APIGroupList","apiVersion":"v1","groups":[]}`)).ServeHTTP,
		"another v2":    answer("/apis", strings.Replace(typeV2, "v=v2", "v=v3", 1), []byte(`{}`)).ServeHTTP,
		"no such thing": answer("/apis", "text/html", []byte(`<html>`)).ServeHTTP,
		"not this one":  aggregatedServer(version("other.example", "v1")).ServeHTTP,
	} {
		t.Run(what, func(t *testing.T) {
			s := backendtest.Start(t, "api", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/apis" {
					apis(w, r)
					return
				}
				answer("/apis/a.example/v1", "application/json", legacyList("a.example/v1", thing)).ServeHTTP(w, r)
			}))
			f, l := newFetcher(t, patient())
			if !f.discovery(t.Context(), s.Snapshot(name).Remotes(), &discoveryState{}) {
				t.Errorf("failed: %s", l.get(name).Problem)
			}
			if d := l.get(name); resources(d) != "things" || d.Stale {
				t.Errorf("resources %q, stale %v", resources(d), d.Stale)
			}
		})
	}
}

func TestUnavailableServerIsNotAskedAgain(t *testing.T) {
	s := backendtest.Start(t, "api", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/apis" {
			t.Errorf("asked for %s after 503", r.URL.Path)
		}
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	f, l := newFetcher(t, patient())
	if f.discovery(t.Context(), s.Snapshot(name).Remotes(), &discoveryState{}) {
		t.Error("503 was taken for a success")
	}
	if d := l.get(name); !d.Stale || !strings.Contains(d.Problem, "503") {
		t.Errorf("%+v", d)
	}
}

// The legacy group's server is asked at /api/v1.
func TestLegacyGroup(t *testing.T) {
	s := backendtest.Start(t, "api", answer("/api/v1", "application/json", legacyList("v1", thing)))
	f, l := newFetcher(t, patient())
	if !f.discovery(t.Context(), s.Snapshot(catalog.LegacyName).Remotes(), &discoveryState{}) || resources(l.get(catalog.LegacyName)) != "things" {
		t.Errorf("%+v", l.get(catalog.LegacyName))
	}
}

// A list that belongs to another group is not published, and what is
// known stays, marked Stale; the other member of the server is untouched.
func TestConfinementOfLegacyLists(t *testing.T) {
	claimed := "a.example/v1"
	s := backendtest.Start(t, "api", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/apis/a.example/v1":
			answer(r.URL.Path, "application/json", legacyList(claimed, thing)).ServeHTTP(w, r)
		case "/apis/a.example/v2":
			answer(r.URL.Path, "application/json", legacyList("a.example/v2", thing)).ServeHTTP(w, r)
		default:
			http.NotFound(w, r)
		}
	}))
	f, l := newFetcher(t, patient())
	members := s.Snapshot(name, "v2.a.example").Remotes()
	if !f.discovery(t.Context(), members, &discoveryState{}) {
		t.Fatal(l.get(name).Problem)
	}
	for _, claimed = range []string{"apps/v1", "v2", "v1", "b.example/v1", "a.example/v1/v1", "a.example/ v1", "a.example/V1", "/"} {
		if f.discovery(t.Context(), members, &discoveryState{}) {
			t.Errorf("the list of %s was taken for that of %s", claimed, name)
		}
		if d := l.get(name); !d.Stale || resources(d) != "things" {
			t.Errorf("%s: %+v", claimed, d)
		}
		if d := l.get("v2.a.example"); d.Stale || resources(d) != "things" {
			t.Errorf("%s: the other member: %+v", claimed, d)
		}
	}
}

// An APIService's own bound holds for downloads; of several behind one server the
// longest does.
func TestDiscoveryTimeoutOfAnAPIService(t *testing.T) {
	const usual = 5 * time.Second
	for what, c := range map[string]struct {
		own  []time.Duration // zero where an APIService sets none
		want time.Duration
	}{
		"none":                {[]time.Duration{0, 0}, usual},
		"a longer one":        {[]time.Duration{time.Minute}, time.Minute},
		"a shorter one":       {[]time.Duration{time.Second}, time.Second},
		"only one is shorter": {[]time.Duration{time.Second, 0}, usual},
		"both are shorter":    {[]time.Duration{time.Second, 2 * time.Second}, 2 * time.Second},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hung := func(http.RoundTripper) http.RoundTripper {
					return roundTrip(func(r *http.Request) (*http.Response, error) {
						<-r.Context().Done()
						return nil, r.Context().Err()
					})
				}
				pool := backend.New(backend.Config{Wrap: hung})
				defer pool.Close()
				f := New(DefaultTiming(), pool, func() {}, func() {})
				var members []*catalog.APIService
				for i, own := range c.own {
					a := (&backendtest.Server{Service: "api", Address: "192.0.2.1:443"}).Claim(fmt.Sprintf("v%d.a.example", i))
					a.Settings.DiscoveryTimeout = own
					members = append(members, a)
				}
				began := time.Now()
				if f.discovery(t.Context(), members, &discoveryState{}) {
					t.Error("taken for a success")
				}
				if took := time.Since(began); took != c.want {
					t.Errorf("given up after %v, want %v", took, c.want)
				}
			})
		})
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestNullResponseKinds(t *testing.T) {
	resource := apidiscoveryv2.APIResourceDiscovery{
		Resource: "things", Scope: apidiscoveryv2.ScopeNamespace, Verbs: []string{"get"},
		Subresources: []apidiscoveryv2.APISubresourceDiscovery{{Subresource: "status", Verbs: []string{"get"}}},
	}
	s := backendtest.Start(t, "api", aggregatedServer(version("a.example", "v1", resource)))
	f, l := newFetcher(t, patient())
	f.discovery(t.Context(), s.Snapshot(name).Remotes(), &discoveryState{})
	d := l.get(name)
	if d.Discovery == nil {
		t.Fatal(d.Problem)
	}
	got := d.Discovery.Resources[0]
	if got.ResponseKind == nil || got.Subresources[0].ResponseKind == nil {
		t.Errorf("a nil responseKind is left in %+v", got)
	}
}

// What is not as it should be, though its meaning is clear, is taken with a warning:
// one in the log for each change of it.
func TestListsWhoseMeaningIsClear(t *testing.T) {
	const (
		otherVersion = "the resource list of /apis/a.example/v1 names the version v1alpha3"
		noKind       = "the resource list of /apis/a.example/v1 names no kind"
		noName       = `the discovery document of version "v1" lists a resource without a name, which is left out`
		noKindV2     = "the discovery document of /apis names no kind"
		list         = `"resources":[{"name":"things","kind":"Thing","verbs":["get"]}]`
		items        = `"items":[{"metadata":{"name":"a.example"},"versions":[{"version":"v1","resources":[{"resource":"things"}]}]}]`
	)
	body := ""
	s := backendtest.Start(t, "api", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path, contentType := "/apis/a.example/v1", "application/json"
		if strings.Contains(body, "items") {
			path, contentType = "/apis", typeV2
		}
		answer(path, contentType, []byte(body)).ServeHTTP(w, r)
	}))
	f, l := newFetcher(t, patient())
	var log []string
	f.logf = func(format string, args ...any) { log = append(log, fmt.Sprintf(format, args...)) }
	for _, c := range []struct {
		body, warning string
		refused       bool
		logged        int
	}{
		{body: `{"kind":"APIResourceList","apiVersion":"v1","groupVersion":"a.example/v1",` + list + `}`},
		{body: `{"kind":"APIResourceList","apiVersion":"v1",` + list + `}`},
		{body: `{"kind":"APIResourceList","groupVersion":"a.example/v1",` + list + `}`},
		{body: `{"kind":"APIResourceList","groupVersion":"a.example/v1alpha3",` + list + `}`, warning: otherVersion, logged: 1},
		{body: `{"kind":"APIResourceList","groupVersion":"a.example/v1alpha3",` + list + `}`, warning: otherVersion, logged: 1},
		{body: `{"groupVersion":"a.example/v1",` + list + `}`, warning: noKind, logged: 2},
		{body: `{"kind":"",` + list + `}`, warning: noKind, logged: 2},
		{body: `{` + list + `}`, warning: noKind, logged: 2},
		{body: `{"groupVersion":"a.example/v1alpha3",` + list + `}`, warning: otherVersion + ", and " + noKind, logged: 3},
		{body: `{"kind":"APIResourceList","apiVersion":"v1",` + list + `}`, logged: 3},
		{body: `{"kind":"APIGroupDiscoveryList","apiVersion":"apidiscovery.k8s.io/v2",` + items + `}`, logged: 3},
		{body: `{` + items + `}`, warning: noKindV2, logged: 4},
		{body: `{"resources":[{"kind":"Thing"},{"name":"things","kind":"Thing","verbs":["get"]},{"name":"/part","kind":"Thing"}]}`, warning: noKind + ", and " + noName, logged: 5},
		{body: `{` + items + `}`, warning: noKindV2, logged: 6},
		// Of these nobody knows what they mean: what is known stays.
		{body: `{"kind":null,` + list + `}`, refused: true, warning: noKindV2, logged: 6},
		{body: `{"kind":7,` + list + `}`, refused: true, warning: noKindV2, logged: 6},
		{body: `{"kind":"Status",` + list + `}`, refused: true, warning: noKindV2, logged: 6},
		{body: `{"groupVersion":"a.example/v1"}`, refused: true, warning: noKindV2, logged: 6},
		{body: `{"groupVersion":"a.example/v1","resources":null}`, refused: true, warning: noKindV2, logged: 6},
		{body: `{"groupVersion":"a.example/v1","resources":{}}`, refused: true, warning: noKindV2, logged: 6},
		{body: `{"kind":null,` + items + `}`, refused: true, warning: noKindV2, logged: 6},
	} {
		body = c.body
		taken := f.discovery(t.Context(), s.Snapshot(name).Remotes(), &discoveryState{})
		d := l.get(name)
		if taken == c.refused || d.Stale != c.refused || resources(d) != "things" || d.Warning != c.warning {
			t.Errorf("%s: %+v", c.body, d)
		}
		if len(log) != c.logged {
			t.Errorf("%s: the log has %q, want %d lines", c.body, log, c.logged)
		}
	}
	for _, line := range log {
		if !strings.Contains(line, "APIService "+name+" ") {
			t.Errorf("%q names no APIService", line)
		}
	}
}

// Where nothing is left, the version has no resources: others are not kept from what they do
// with all of them.
func TestResourceWithoutName(t *testing.T) {
	for what, handler := range map[string]http.Handler{
		"aggregated": aggregatedServer(version("a.example", "v1", apidiscoveryv2.APIResourceDiscovery{Scope: "Cluster"})),
		"legacy":     answer("/apis/a.example/v1", "application/json", legacyList("a.example/v1", metav1.APIResource{Kind: "Thing", Verbs: []string{"get"}})),
	} {
		t.Run(what, func(t *testing.T) {
			s := backendtest.Start(t, "api", handler)
			f, l := newFetcher(t, patient())
			if !f.discovery(t.Context(), s.Snapshot(name).Remotes(), &discoveryState{}) {
				t.Error("taken for a failure")
			}
			if d := l.get(name); d.Stale || d.Discovery == nil || len(d.Discovery.Resources) > 0 || !strings.Contains(d.Warning, "without a name") {
				t.Errorf("%+v", d)
			}
		})
	}
}

// What is wrong with one group version of a server leaves its others alone.
func TestBadGroupVersionLeavesOthersOfItsServerAlone(t *testing.T) {
	s := backendtest.Start(t, "api", aggregatedServer(
		version("a.example", "v1"), version("a.example", "v2", apidiscoveryv2.APIResourceDiscovery{Scope: "Cluster"})))
	f, l := newFetcher(t, patient())
	f.discovery(t.Context(), s.Snapshot(name, "v2.a.example").Remotes(), &discoveryState{})
	if d := l.get(name); d.Stale || resources(d) != "of-v1.a.example" {
		t.Errorf("the good one: %+v", d)
	}
	if d := l.get("v2.a.example"); d.Stale || d.Warning == "" || len(d.Discovery.Resources) > 0 {
		t.Errorf("the bad one: %+v", d)
	}
}

func FuzzParseAggregated(f *testing.F) {
	f.Add(listOf("apidiscovery.k8s.io/v2", version("a.example", "v1"), version("apps", "v1")))
	f.Add(listOf("apidiscovery.k8s.io/v2beta1", version("a.example", "v1")))
	f.Add([]byte(`{"kind":"APIGroupDiscoveryList","apiVersion":"apidiscovery.k8s.io/v2","items":[{"versions":[{"resources":[{"resource":"x","subresources":[{}]}]}]}]}`))
	f.Add([]byte(`{"kind":"APIGroupDiscoveryList","apiVersion":"apidiscovery.k8s.io/v2","items":null}`))
	f.Add([]byte(`{"kind":"APIGroupList","apiVersion":"v1"}`))
	f.Add([]byte("kind: APIGroupDiscoveryList\napiVersion: apidiscovery.k8s.io/v2\n"))
	f.Add([]byte("k8s\x00\n\x0a"))
	f.Add([]byte(strings.Repeat("[", 200)))
	f.Add([]byte(""))
	f.Fuzz(func(t *testing.T, body []byte) {
		found, err := parseAggregated(body)
		if err != nil {
			if found != nil {
				t.Error("an error and a document")
			}
			return
		}
		for gv, one := range found {
			if one.err != nil {
				continue
			}
			if one.entry.Version != gv.Version || one.entry.Freshness != "" {
				t.Errorf("%v: %+v", gv, one.entry)
			}
			for _, r := range one.entry.Resources {
				if r.Resource == "" || r.ResponseKind == nil {
					t.Errorf("%v lists %+v", gv, r)
				}
			}
		}
	})
}
