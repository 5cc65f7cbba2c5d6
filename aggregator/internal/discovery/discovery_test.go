package discovery

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/discovery"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/annex-api/annex/aggregator/internal/catalog"
)

// facts hold APIServices that an extension server answers, by name.
type facts struct{ catalog.Facts }

// acceptV2Beta1 is what clients up to v1.36 ask for besides v2.
const acceptV2Beta1 = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList"

func newFacts() facts {
	return facts{catalog.Facts{
		Registrations: map[string]catalog.Registration{},
		Verdicts:      map[string]catalog.Verdict{}, Documents: map[string]catalog.Document{}, Resolver: true,
	}}
}

func (f facts) register(name string, groupPriority, versionPriority int32, local bool) {
	o := &apiregistrationv1.APIService{ObjectMeta: metav1.ObjectMeta{Name: name}}
	o.Spec.Version, o.Spec.Group, _ = strings.Cut(name, ".")
	o.Spec.GroupPriorityMinimum, o.Spec.VersionPriority = groupPriority, versionPriority
	if !local {
		o.Spec.Service = &apiregistrationv1.ServiceReference{Namespace: "ns", Name: "api"}
	}
	f.Registrations[name] = catalog.NewRegistration(o)
}

func (f facts) document(name, resource string, stale bool) {
	d := &apidiscoveryv2.APIVersionDiscovery{Resources: []apidiscoveryv2.APIResourceDiscovery{{
		Resource: resource, Scope: apidiscoveryv2.ScopeCluster, ResponseKind: &metav1.GroupVersionKind{},
	}}}
	d.Version, _, _ = strings.Cut(name, ".")
	f.Documents[name] = catalog.Document{Discovery: d, Stale: stale}
}

func get(t *testing.T, s *Service, snapshot *catalog.Snapshot, path string, header http.Header) *http.Response {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
	for k, v := range header {
		r.Header[k] = v
	}
	w := httptest.NewRecorder()
	switch route := snapshot.Route(path); route.Kind {
	case catalog.GroupList:
		s.ServeGroupList(w, r, snapshot)
	case catalog.GroupVersions:
		s.ServeGroup(w, r, route.Group)
	default:
		t.Fatalf("%s is not discovery", path)
	}
	return w.Result()
}

func decode[T any](t *testing.T, r *http.Response) T {
	t.Helper()
	var v T
	if err := json.NewDecoder(r.Body).Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

// aggregatedList is /apis as lines "group/version freshness resources".
func aggregatedList(t *testing.T, s *Service, snapshot *catalog.Snapshot) []string {
	t.Helper()
	r := get(t, s, snapshot, "/apis", http.Header{"Accept": {discovery.AcceptV2}})
	var lines []string
	for _, g := range decode[apidiscoveryv2.APIGroupDiscoveryList](t, r).Items {
		for _, v := range g.Versions {
			line := g.Name + "/" + v.Version + " " + string(v.Freshness)
			for _, resource := range v.Resources {
				line += " " + resource.Resource
			}
			lines = append(lines, line)
		}
	}
	return lines
}

func TestAggregatedListFollowsSnapshots(t *testing.T) {
	s, f := New(Config{}), newFacts()
	var snapshot *catalog.Snapshot
	expect := func(what string, want ...string) {
		t.Helper()
		snapshot = catalog.Build(f.Facts)
		s.Sync(snapshot)
		if diff := cmp.Diff(want, aggregatedList(t, s, snapshot)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	expect("nothing")
	f.register("v1.a.example", 100, 10, false)
	expect("not downloaded yet", "a.example/v1 Stale")
	f.document("v1.a.example", "things", false)
	expect("downloaded", "a.example/v1 Current things")
	f.document("v1.a.example", "things", true)
	expect("a later download failed: the last known stays", "a.example/v1 Stale things")
	f.document("v1.a.example", "others", false)
	expect("changed", "a.example/v1 Current others")
	f.register("v2.a.example", 100, 20, false)
	f.document("v2.a.example", "things", false)
	f.register("v1.b.example", 200, 10, false)
	f.document("v1.b.example", "beings", false)
	expect("by priority", "b.example/v1 Current beings", "a.example/v2 Current things", "a.example/v1 Current others")
	f.register("v1.a.example", 300, 30, false)
	expect("other priorities", "a.example/v1 Current others", "a.example/v2 Current things", "b.example/v1 Current beings")
	f.register("v1.a.example", 300, 30, true)
	expect("local now: the host's own document would stand here", "b.example/v1 Current beings", "a.example/v2 Current things")
	delete(f.Registrations, "v2.a.example")
	expect("deleted", "b.example/v1 Current beings")
	f.register(catalog.LegacyName, 300, 30, false)
	expect("the legacy group is no part of /apis", "b.example/v1 Current beings")
}

func TestUnchangedSnapshotsKeepTheETag(t *testing.T) {
	s, f := New(Config{}), newFacts()
	f.register("v1.a.example", 100, 10, false)
	f.document("v1.a.example", "things", false)
	etag := ""
	for i := range 3 {
		snapshot := catalog.Build(f.Facts)
		s.Sync(snapshot)
		r := get(t, s, snapshot, "/apis", http.Header{"Accept": {discovery.AcceptV2}, "If-None-Match": {etag}})
		if want := map[bool]int{true: 200, false: 304}[i == 0]; r.StatusCode != want {
			t.Errorf("request %d: %d, want %d", i, r.StatusCode, want)
		}
		if r.Header.Get("Vary") != "Accept" || r.Header.Get("Etag") == "" || i == 0 && r.Header.Get("Cache-Control") != "public" {
			t.Errorf("request %d: %v", i, r.Header)
		}
		etag = r.Header.Get("Etag")
	}
}

func TestNegotiation(t *testing.T) {
	s, f := New(Config{First: []metav1.APIGroup{{Name: "first.example"}}}), newFacts()
	f.register("v1.a.example", 100, 10, false)
	snapshot := catalog.Build(f.Facts)
	s.Sync(snapshot)
	for _, c := range []struct{ path, accept, kind string }{
		{"/apis", "application/json", "APIGroupList"},
		{"/apis", "", "APIGroupList"},
		{"/apis", "*/*", "APIGroupList"},
		{"/apis", discovery.AcceptV2, "APIGroupDiscoveryList"},
		{"/apis", discovery.AcceptV2 + ";profile=nopeer", "APIGroupDiscoveryList"},
		{"/apis", discovery.AcceptV2 + "," + acceptV2Beta1 + ",application/json", "APIGroupDiscoveryList"},
		{"/apis", "application/json;g=apidiscovery.k8s.io;v=v9;as=APIGroupDiscoveryList,application/json", "APIGroupList"},
		{"/apis/", discovery.AcceptV2 + ",application/json", "APIGroupList"},
		{"/apis/a.example", "application/json", "APIGroup"},
		{"/apis/a.example/", "application/json", "APIGroup"},
	} {
		r := get(t, s, snapshot, c.path, http.Header{"Accept": {c.accept}})
		if got := decode[metav1.TypeMeta](t, r); r.StatusCode != 200 || got.Kind != c.kind {
			t.Errorf("%s with %q: %d %s, want %s", c.path, c.accept, r.StatusCode, got.Kind, c.kind)
		}
	}
	for _, accept := range []string{"application/vnd.kubernetes.protobuf", "application/yaml"} {
		if r := get(t, s, snapshot, "/apis", http.Header{"Accept": {accept}}); r.StatusCode != 200 || r.Header.Get("Content-Type") != accept {
			t.Errorf("%s: %d %s", accept, r.StatusCode, r.Header.Get("Content-Type"))
		}
	}
	if r := get(t, s, snapshot, "/apis", http.Header{"Accept": {"image/png"}}); r.StatusCode != http.StatusNotAcceptable {
		t.Errorf("image/png: %d", r.StatusCode)
	}
}

func TestPlainLists(t *testing.T) {
	s, f := New(Config{
		First: []metav1.APIGroup{{Name: "apiregistration.k8s.io"}},
		Last:  []metav1.APIGroup{{Name: "aggregation.annex.dev"}},
	}), newFacts()
	f.register("v1.low.example", 100, 10, false)
	f.register("v1.high.example", 900, 10, true)
	f.register("v1beta1.high.example", 900, 20, false)
	f.register(catalog.LegacyName, 999, 1, true)
	snapshot := catalog.Build(f.Facts)
	s.Sync(snapshot)
	list := decode[metav1.APIGroupList](t, get(t, s, snapshot, "/apis", nil))
	var names []string
	for _, g := range list.Groups {
		names = append(names, g.Name)
	}
	if !slices.Equal(names, []string{"apiregistration.k8s.io", "high.example", "low.example", "aggregation.annex.dev"}) {
		t.Errorf("%q", names)
	}
	group := decode[metav1.APIGroup](t, get(t, s, snapshot, "/apis/high.example", nil))
	want := metav1.APIGroup{
		TypeMeta: metav1.TypeMeta{Kind: "APIGroup", APIVersion: "v1"}, Name: "high.example",
		Versions: []metav1.GroupVersionForDiscovery{
			{GroupVersion: "high.example/v1beta1", Version: "v1beta1"}, {GroupVersion: "high.example/v1", Version: "v1"},
		},
		PreferredVersion: metav1.GroupVersionForDiscovery{GroupVersion: "high.example/v1beta1", Version: "v1beta1"},
	}
	if diff := cmp.Diff(want, group); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// plainHost is a host that knows only unaggregated discovery.
type plainHost struct{ groups []string }

func (h *plainHost) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	if r.URL.Path == "/apis" {
		list := metav1.APIGroupList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupList", APIVersion: "v1"}}
		for _, g := range h.groups {
			v := metav1.GroupVersionForDiscovery{GroupVersion: g + "/v1", Version: "v1"}
			list.Groups = append(list.Groups, metav1.APIGroup{Name: g, Versions: []metav1.GroupVersionForDiscovery{v}, PreferredVersion: v})
		}
		_ = json.NewEncoder(w).Encode(list)
		return
	}
	if strings.HasPrefix(r.URL.Path, "/apis/broken.example/") {
		http.Error(w, "no", http.StatusInternalServerError)
		return
	}
	_ = json.NewEncoder(w).Encode(metav1.APIResourceList{
		TypeMeta:     metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"},
		APIResources: []metav1.APIResource{{Name: "homes", Kind: "Home", Verbs: []string{"get"}}},
	})
}

func TestGroupsOfAnEmbeddingHost(t *testing.T) {
	host := &plainHost{groups: []string{"host.example", "broken.example", "a.example"}}
	s, f := New(Config{Local: host}), newFacts()
	f.register("v2.a.example", 100, 10, false)
	f.document("v2.a.example", "things", false)
	snapshot := catalog.Build(f.Facts)
	s.Sync(snapshot)
	got := aggregatedList(t, s, snapshot)
	slices.Sort(got)
	want := []string{"a.example/v1 Current homes", "a.example/v2 Current things", "broken.example/v1 Stale", "host.example/v1 Current homes"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("aggregated (-want +got):\n%s", diff)
	}
	list := decode[metav1.APIGroupList](t, get(t, s, snapshot, "/apis", nil))
	var names []string
	for _, g := range list.Groups {
		names = append(names, g.Name)
		if g.Name == "a.example" && (len(g.Versions) != 2 || g.PreferredVersion.Version != "v2") {
			t.Errorf("%+v", g)
		}
	}
	if !slices.Equal(names, []string{"a.example", "host.example", "broken.example"}) {
		t.Errorf("%q", names)
	}
}

// slowHost answers when it is let, or when its request's context ends.
type slowHost struct {
	plainHost
	asked chan struct{}
	let   chan struct{}
}

func (h *slowHost) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.asked <- struct{}{}
	select {
	case <-h.let:
		h.plainHost.ServeHTTP(w, r)
	case <-r.Context().Done():
	}
}

// Clients that come while the host is asked for the first time get its groups too.
func TestClientsWaitForTheFirstAnswerOfTheHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := &slowHost{plainHost: plainHost{groups: []string{"host.example"}}, asked: make(chan struct{}, 10), let: make(chan struct{})}
		s := New(Config{Local: host})
		snapshot := catalog.Build(catalog.Facts{})
		var clients sync.WaitGroup
		for range 3 {
			clients.Go(func() {
				list := decode[metav1.APIGroupList](t, get(t, s, snapshot, "/apis", nil))
				if len(list.Groups) != 1 {
					t.Errorf("the groups are %v", list.Groups)
				}
			})
		}
		synctest.Wait()
		if n := len(host.asked); n != 1 {
			t.Errorf("the host was asked %d times", n)
		}
		close(host.let)
		clients.Wait()
		s.Close()
	})
}

// A host that hangs holds nobody up for longer than the bound, and Close ends what
// it was asked.
func TestHostThatHangsIsNotWaitedForLongerThanTheBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := &slowHost{asked: make(chan struct{}, 10), let: make(chan struct{})}
		s := New(Config{Local: host})
		snapshot := catalog.Build(catalog.Facts{})
		began := time.Now()
		if list := decode[metav1.APIGroupList](t, get(t, s, snapshot, "/apis", nil)); len(list.Groups) != 0 {
			t.Errorf("the groups are %v", list.Groups)
		}
		if took := time.Since(began); took != localTimeout {
			t.Errorf("the answer took %v, want %v", took, localTimeout)
		}
		time.Sleep(localInterval)
		waiting := make(chan struct{})
		go func() {
			defer close(waiting)
			get(t, s, snapshot, "/apis", nil)
		}()
		synctest.Wait()
		began = time.Now()
		s.Close()
		<-waiting
		if took := time.Since(began); took != 0 {
			t.Errorf("Close took %v", took)
		}
		asked := len(host.asked)
		get(t, s, snapshot, "/apis", nil)
		if len(host.asked) != asked {
			t.Error("the host was asked after Close")
		}
	})
}

// A host that panics costs its own groups, and not the process; it is asked again.
func TestHostThatPanicsIsAskedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := true
		host := &plainHost{groups: []string{"host.example"}}
		s := New(Config{Local: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if broken {
				panic("no")
			}
			host.ServeHTTP(w, r)
		})})
		defer s.Close()
		snapshot := catalog.Build(catalog.Facts{})
		if list := decode[metav1.APIGroupList](t, get(t, s, snapshot, "/apis", nil)); len(list.Groups) != 0 {
			t.Errorf("the groups are %v", list.Groups)
		}
		broken = false
		time.Sleep(localInterval)
		if list := decode[metav1.APIGroupList](t, get(t, s, snapshot, "/apis", nil)); len(list.Groups) != 1 {
			t.Errorf("the groups are %v", list.Groups)
		}
	})
}
