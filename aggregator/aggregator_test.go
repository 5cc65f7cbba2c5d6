package aggregator

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/client-go/discovery"
	kubefake "k8s.io/client-go/kubernetes/fake"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	registrationfake "k8s.io/kube-aggregator/pkg/client/clientset_generated/clientset/fake"

	"github.com/annex-api/annex/aggregator/internal/backendtest"
)

const patience = 15 * time.Second

// extension answers for one group version with one resource.
type extension struct {
	gv, resource string
	down         atomic.Bool
}

func (e *extension) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if e.down.Load() {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	group, version, _ := strings.Cut(e.gv, "/")
	path := "/apis/" + e.gv
	var answer any
	switch r.URL.Path {
	case "/apis":
		w.Header().Set("Content-Type", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")
		answer = apidiscoveryv2.APIGroupDiscoveryList{
			TypeMeta: metav1.TypeMeta{Kind: "APIGroupDiscoveryList", APIVersion: "apidiscovery.k8s.io/v2"},
			Items: []apidiscoveryv2.APIGroupDiscovery{{ObjectMeta: metav1.ObjectMeta{Name: group}, Versions: []apidiscoveryv2.APIVersionDiscovery{{
				Version: version, Resources: []apidiscoveryv2.APIResourceDiscovery{{Resource: e.resource, Scope: apidiscoveryv2.ScopeCluster, Verbs: []string{"get"}}},
			}}}},
		}
	case path:
		answer = metav1.APIResourceList{TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: e.gv}
	case path + "/" + e.resource:
		answer = map[string]string{"user": r.Header.Get("X-Remote-User"), "from": e.gv}
	case "/openapi/v2":
		_, _ = io.WriteString(w, `{"swagger":"2.0","info":{"title":"x","version":"1"},"paths":{"`+path+"/"+e.resource+
			`":{"get":{"responses":{"200":{"description":"OK"}}}},"/apis/apps/v1/stolen":{"get":{"responses":{"200":{"description":"OK"}}}}}}`)
		return
	default:
		http.NotFound(w, r)
		return
	}
	_ = json.NewEncoder(w).Encode(answer)
}

// running is a layer at work over a static source.
type running struct {
	*Aggregator
	t       *testing.T
	source  *StaticSource
	handler http.Handler
	ended   chan error
	cancel  context.CancelFunc
}

func run(t *testing.T, config Config, initial State) *running {
	t.Helper()
	r := &running{t: t, source: NewStaticSource(initial), ended: make(chan error, 1)}
	config.Source = r.source
	config.Addressing = EndpointAddresses
	a, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	r.Aggregator = a
	inner := a.Handler(config.Local)
	r.handler = http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		inner.ServeHTTP(w, q.WithContext(request.WithUser(q.Context(), &user.DefaultInfo{Name: "alice"})))
	})
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	go func() { r.ended <- a.Run(ctx) }()
	t.Cleanup(cancel)
	select {
	case <-a.Routes():
	case <-time.After(patience):
		t.Fatal("the first state was never routed")
	}
	return r
}

// stop ends the layer and waits for it.
func (r *running) stop() {
	r.t.Helper()
	r.cancel()
	select {
	case err := <-r.ended:
		if !errors.Is(err, context.Canceled) {
			r.t.Errorf("Run returned %v", err)
		}
	case <-time.After(patience):
		r.t.Fatal("Run does not return")
	}
}

func (r *running) get(path, accept string) *httptest.ResponseRecorder {
	w, q := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, path, nil)
	q.Header.Set("Accept", accept)
	r.handler.ServeHTTP(w, q)
	return w
}

// groups is /apis as "group/version freshness resource" lines.
func (r *running) groups() []string {
	var list apidiscoveryv2.APIGroupDiscoveryList
	if err := json.Unmarshal(r.get("/apis", discovery.AcceptV2).Body.Bytes(), &list); err != nil {
		r.t.Fatal(err)
	}
	var lines []string
	for _, g := range list.Items {
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

func (r *running) await(what string, done func() bool) {
	r.t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for !done() {
		select {
		case <-tick.C:
		case <-deadline:
			r.t.Fatalf("waited in vain for %s; /apis is %q", what, r.groups())
		}
	}
}

func (r *running) awaitGroups(want ...string) {
	r.t.Helper()
	r.await("/apis to be "+strings.Join(want, ", "), func() bool { return slices.Equal(r.groups(), want) })
}

func state(objects []*apiregistrationv1.APIService, servers ...*backendtest.Server) State {
	services := map[types.NamespacedName]ServiceFacts{}
	for name, facts := range backendtest.Services(servers...) {
		services[name] = ServiceFacts(facts)
	}
	return State{APIServices: objects, Services: services}
}

// The whole life of an extension server: registered, listed, proxied to, gone
// for a while, back, replaced by a local handler, removed. Nothing is left
// running after that.
func TestLifeOfAnAPIService(t *testing.T) {
	ignore := goleak.IgnoreCurrent()
	e := &extension{gv: "a.example/v1", resource: "things"}
	s := backendtest.Start(t, "api", e)
	local := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/apis/a.example/") {
			_, _ = io.WriteString(w, "local")
			return
		}
		http.NotFound(w, r)
	})
	remote := s.APIService("v1.a.example")
	r := run(t, Config{Local: local}, state([]*apiregistrationv1.APIService{remote}, s))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r.AwaitDiscovery(ctx)
	r.awaitGroups("a.example/v1 Current things")

	w := r.get("/apis/a.example/v1/things", "application/json")
	var answer map[string]string
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || w.Code != 200 || answer["user"] != "alice" || answer["from"] != "a.example/v1" {
		t.Errorf("%d %s, %v", w.Code, w.Body, err)
	}
	r.await("its OpenAPI v2", func() bool {
		return strings.Contains(r.get("/openapi/v2", "application/json").Body.String(), "/apis/a.example/v1/things")
	})
	if body := r.get("/openapi/v2", "application/json").Body.String(); strings.Contains(body, "stolen") {
		t.Error("a path of another group version is published in OpenAPI v2")
	}
	r.await("its OpenAPI v3, converted", func() bool {
		return strings.Contains(r.get("/openapi/v3", "application/json").Body.String(), `"apis/a.example/v1"`)
	})
	if body := r.get("/openapi/v3/apis/a.example/v1", "application/json").Body.String(); !strings.Contains(body, "/apis/a.example/v1/things") || strings.Contains(body, "stolen") {
		t.Errorf("OpenAPI v3: %s", body)
	}

	// Away: 503 for its own requests, its resources stay known. The layer
	// learns of it because a request fails.
	e.down.Store(true)
	s.Cut()
	r.await("the layer to hold it for unavailable", func() bool {
		r.prober.ProbeNow("v1.a.example")
		return r.get("/apis/a.example/v1/things", "application/json").Code == 503 &&
			!r.snapshot.Load().Get("a.example", "v1").Routable()
	})
	if got := r.groups(); len(got) != 1 || !strings.HasSuffix(got[0], " things") {
		t.Errorf("while it is away: %q", got)
	}
	e.down.Store(false)
	r.await("it to be back", func() bool { return r.get("/apis/a.example/v1/things", "application/json").Code == 200 })

	// Local: one switch.
	mine := remote.DeepCopy()
	mine.Spec.Service, mine.Spec.CABundle = nil, nil
	r.source.Set(state([]*apiregistrationv1.APIService{mine}))
	r.await("the local handler", func() bool { return r.get("/apis/a.example/v1/things", "").Body.String() == "local" })
	r.awaitGroups()

	r.source.Set(state([]*apiregistrationv1.APIService{remote}, s))
	r.awaitGroups("a.example/v1 Current things")
	r.source.Set(state(nil))
	r.awaitGroups()
	if w := r.get("/apis/a.example", ""); w.Body.String() == "" || w.Code == 503 {
		t.Errorf("%d %s: the group outlives its last version", w.Code, w.Body)
	}
	r.stop()
	s.Close()
	goleak.VerifyNone(t, ignore)
}

// A broken extension server is nobody else's trouble.
func TestBadServersLeaveOthersAlone(t *testing.T) {
	ignore := goleak.IgnoreCurrent()
	good := backendtest.Start(t, "good", &extension{gv: "good.example/v1", resource: "things"})
	hung := backendtest.Start(t, "hung", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	liar := backendtest.Start(t, "liar", &extension{gv: "good.example/v1", resource: "stolen"})
	dead := backendtest.Dead(t, "dead")
	r := run(t, Config{}, state([]*apiregistrationv1.APIService{
		good.APIService("v1.good.example"), hung.APIService("v1.hung.example"), liar.APIService("v1.liar.example"), dead.APIService("v1.dead.example"),
	}, good, hung, liar, dead))
	r.awaitGroups("dead.example/v1 Stale", "good.example/v1 Current things", "hung.example/v1 Stale", "liar.example/v1 Stale")
	start := time.Now()
	for range 20 {
		if w := r.get("/apis/good.example/v1/things", "application/json"); w.Code != 200 {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		if w := r.get("/openapi/v2", "application/json"); w.Code != 200 {
			t.Errorf("/openapi/v2: %d", w.Code)
		}
	}
	if took := time.Since(start); took > 4*time.Second {
		t.Errorf("20 rounds took %v: the hung server delays others", took)
	}
	r.stop()
	good.Close()
	hung.Close()
	liar.Close()
	goleak.VerifyNone(t, ignore)
}

func TestBeforeTheFirstState(t *testing.T) {
	a, err := New(Config{Source: NewStaticSource(State{})})
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-a.Routes():
		t.Error("routes stand before Run")
	default:
	}
	w := httptest.NewRecorder()
	a.Handler(nil).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/apis/a.example/v1", nil))
	if w.Code != http.StatusNotFound {
		t.Errorf("%d", w.Code)
	}
}

func TestConfigsThatLackSomethingAreRefused(t *testing.T) {
	source := NewStaticSource(State{})
	client := registrationfake.NewClientset().ApiregistrationV1()
	leases := kubefake.NewClientset().CoordinationV1()
	for what, c := range map[string]struct {
		config Config
		says   string // empty where it is taken
	}{
		"no Source":             {Config{}, "Config.Source is required"},
		"a Source alone":        {Config{Source: source}, ""},
		"an unknown addressing": {Config{Source: source, Addressing: 7}, "Config.Addressing is 7"},
		"no client":             {Config{Source: source, Status: &StatusConfig{}}, "Config.Status.Client is required"},
		"no Lease":              {Config{Source: source, Status: &StatusConfig{Client: client}}, ""},
		"a Lease without a name": {
			Config{Source: source, Status: &StatusConfig{Client: client, Leases: leases, Namespace: "a", Identity: "b"}},
			"Config.Status.Namespace, Name and Identity are required with Leases",
		},
		"a Lease": {Config{Source: source, Status: &StatusConfig{Client: client, Leases: leases, Namespace: "a", Identity: "b", Name: "c"}}, ""},
	} {
		_, err := New(c.config)
		if (err == nil) != (c.says == "") || (err != nil && !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v, want %q", what, err, c.says)
		}
	}
}

type fixed string

func (f fixed) ResolveEndpoint(string, string, int32) (*url.URL, error) {
	return &url.URL{Scheme: "https", Host: string(f)}, nil
}

// A host without Services brings a resolver.
func TestResolverOfAnEmbeddingHost(t *testing.T) {
	ignore := goleak.IgnoreCurrent()
	s := backendtest.Start(t, "api", &extension{gv: "a.example/v1", resource: "things"})
	r := run(t, Config{Resolver: fixed(s.Address)}, State{APIServices: []*apiregistrationv1.APIService{s.APIService("v1.a.example")}})
	r.awaitGroups("a.example/v1 Current things")
	if w := r.get("/apis/a.example/v1/things", "application/json"); w.Code != 200 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	r.stop()
	s.Close()
	goleak.VerifyNone(t, ignore)
}

func TestIndexListsClaimedPaths(t *testing.T) {
	s := backendtest.Dead(t, "api")
	r := run(t, Config{LocalPaths: func() []string { return []string{"/version", "/apis"} }, Local: http.NotFoundHandler()},
		state([]*apiregistrationv1.APIService{s.APIService("v1.a.example")}, s))
	var got metav1.RootPaths
	if err := json.Unmarshal(r.get("/", "").Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	want := []string{"/apis", "/apis/a.example", "/apis/a.example/v1", "/openapi/v2", "/openapi/v3", "/version"}
	if !slices.Equal(got.Paths, want) {
		t.Errorf("%q, want %q", got.Paths, want)
	}
	r.stop()
}

// A burst of states costs few snapshots, and the last one holds.
func TestBurstsAreCoalesced(t *testing.T) {
	r := run(t, Config{}, State{})
	dead := backendtest.Dead(t, "api")
	for range 1000 {
		r.source.Set(state([]*apiregistrationv1.APIService{dead.APIService("v1.a.example")}, dead))
		r.source.Set(State{Services: map[types.NamespacedName]ServiceFacts{}})
	}
	r.source.Set(state([]*apiregistrationv1.APIService{dead.APIService("v1.last.example")}, dead))
	r.await("the last state", func() bool {
		s := r.snapshot.Load()
		return len(s.APIServices()) == 1 && s.Get("last.example", "v1") != nil
	})
	r.stop()
}
