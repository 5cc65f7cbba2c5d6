package discovery

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiversion "k8s.io/apimachinery/pkg/util/version"
	auditinternal "k8s.io/apiserver/pkg/apis/audit"
	"k8s.io/apiserver/pkg/audit"
	"k8s.io/apiserver/pkg/endpoints/discovery/aggregated"
	"k8s.io/apiserver/pkg/endpoints/metrics"
	genericfeatures "k8s.io/apiserver/pkg/features"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/client-go/discovery"
	featuregatetesting "k8s.io/component-base/featuregate/testing"
	"k8s.io/component-base/metrics/legacyregistry"

	"github.com/annex-api/annex/aggregator/internal/catalog"
)

const (
	protobufV2 = "application/vnd.kubernetes.protobuf;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
	yamlV2     = "application/yaml;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
)

// version is a document with resources that makes it as long as real ones.
func version(name string, resources int) apidiscoveryv2.APIVersionDiscovery {
	v := apidiscoveryv2.APIVersionDiscovery{Version: name, Freshness: apidiscoveryv2.DiscoveryFreshnessCurrent}
	for i := range resources {
		v.Resources = append(v.Resources, apidiscoveryv2.APIResourceDiscovery{
			Resource: fmt.Sprintf("things%d", i), SingularResource: fmt.Sprintf("thing%d", i), Scope: apidiscoveryv2.ScopeNamespace,
			ResponseKind: &metav1.GroupVersionKind{Kind: fmt.Sprintf("Thing%d", i)},
			Verbs:        metav1.Verbs{"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"},
		})
	}
	return v
}

func fill(m aggregated.ResourceManager, groups, resources int) {
	for i := range groups {
		m.AddGroupVersion(fmt.Sprintf("group%03d.example", i), version("v1", resources))
	}
}

// peers tells the handler of peers what another server serves.
type peers map[string][]apidiscoveryv2.APIGroupDiscovery

func (p peers) GetPeerResources() map[string][]apidiscoveryv2.APIGroupDiscovery { return p }

// pair is one manager behind a Service, and behind what the manager's own
// library puts in front of it.
type pair struct {
	manager aggregated.ResourceManager
	peers   aggregated.PeerAggregatedResourceManager
	plain   http.Handler
	ours    http.Handler
}

func newPair(withPeers bool) pair {
	p := pair{manager: aggregated.NewResourceManager("apis")}
	var peersHandler http.Handler
	if withPeers {
		p.peers = aggregated.NewPeerAggregatedDiscoveryHandler("a", p.manager, peers{
			"b": {{ObjectMeta: metav1.ObjectMeta{Name: "peer.example"}, Versions: []apidiscoveryv2.APIVersionDiscovery{version("v1", 1)}}},
		}, "apis")
		peersHandler = p.peers
	}
	s := New(Config{Manager: p.manager, Peers: peersHandler})
	snapshot := catalog.Build(newFacts().Facts)
	list := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.encodeGroupList(w, r, snapshot) })
	p.plain = aggregated.WrapAggregatedDiscoveryToHandler(list, p.manager, peersHandler)
	p.ours = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.ServeGroupList(w, r, snapshot) })
	return p
}

// recorded is what a client sees.
type recorded struct {
	Code   int
	Header http.Header
	Body   string
}

func serve(ctx context.Context, h http.Handler, path string, header http.Header) recorded {
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, path, nil)
	maps.Copy(r.Header, header)
	w := httptest.NewRecorder()
	w.Header().Set("Cache-Control", "no-cache, private") // as a filter outside does
	w.Header().Set("Audit-Id", "1")
	h.ServeHTTP(w, r)
	return recorded{Code: w.Code, Header: w.Result().Header, Body: w.Body.String()}
}

// requests are every way to ask that the answer depends on.
func requests(etags ...string) map[string]http.Header {
	all := map[string]http.Header{}
	for _, accept := range []string{
		"", "*/*", "application/json", "application/yaml", "application/vnd.kubernetes.protobuf", "image/png",
		discovery.AcceptV2, acceptV2Beta1, protobufV2, yamlV2, "application/cbor;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
		discovery.AcceptV2 + ";profile=nopeer", discovery.AcceptV2 + ";pretty=1", acceptV2Beta1 + ";profile=nopeer",
		discovery.AcceptV2 + "," + acceptV2Beta1 + ",application/json",
	} {
		for _, encoding := range []string{"", "deflate, gzip", "gzip;q=0"} {
			for _, agent := range []string{"curl/8", "kubectl/v1"} {
				for _, etag := range append([]string{""}, etags...) {
					h := http.Header{"Accept": {accept}, "User-Agent": {agent}}
					if encoding != "" {
						h.Set("Accept-Encoding", encoding)
					}
					if etag != "" {
						h.Set("If-None-Match", etag)
					}
					all[fmt.Sprintf("%q %q %q %.8s", accept, encoding, agent, etag)] = h
				}
			}
		}
	}
	return all
}

func TestCachedAnswersEqualEncodedOnes(t *testing.T) {
	for _, withPeers := range []bool{false, true} {
		t.Run(fmt.Sprintf("peers %v", withPeers), func(t *testing.T) {
			featuregatetesting.SetFeatureGateDuringTest(t, utilfeature.DefaultFeatureGate, genericfeatures.UnknownVersionInteroperabilityProxy, withPeers)
			compareUnderChanges(t, newPair(withPeers))
		})
	}
	t.Run("v2beta1", func(t *testing.T) { // only older versions may be told to serve it
		gate := utilfeature.DefaultFeatureGate
		featuregatetesting.SetFeatureGateEmulationVersionDuringTest(t, gate, apiversion.MustParse("1.34"))
		featuregatetesting.SetFeatureGateDuringTest(t, gate, genericfeatures.AggregatedDiscoveryRemoveBetaType, false)
		p := newPair(false)
		compareUnderChanges(t, p)
		got := serve(t.Context(), p.ours, "/apis", http.Header{"Accept": {acceptV2Beta1}})
		if !strings.Contains(got.Header.Get("Content-Type"), "v=v2beta1") {
			t.Errorf("%d %v", got.Code, got.Header)
		}
	})
}

func compareUnderChanges(t *testing.T, p pair) {
	fill(p.manager, 40, 20) // long enough for compression
	stale := version("v1", 3)
	stale.Freshness = apidiscoveryv2.DiscoveryFreshnessStale
	remote := p.manager.WithSource(aggregated.AggregatorSource)
	changes := []func(){
		func() {},
		func() { p.manager.SetGroups(nil); fill(p.manager, 3, 2) },
		func() { remote.AddGroupVersion("new.example", version("v1", 3)) },
		func() { remote.AddGroupVersion("new.example", stale) },
		func() {
			remote.SetGroupVersionPriority(metav1.GroupVersion{Group: "new.example", Version: "v1"}, 2000, 1)
		},
		func() { remote.RemoveGroupVersion(metav1.GroupVersion{Group: "new.example", Version: "v1"}) },
		func() { p.manager.RemoveGroup("group001.example") },
		func() { p.manager.SetGroups(nil) },
	}
	etag := `"never"`
	for i, change := range changes {
		change()
		if p.peers != nil {
			p.peers.InvalidateCache()
		}
		old := etag
		etag = serve(t.Context(), p.plain, "/apis", http.Header{"Accept": {discovery.AcceptV2}}).Header.Get("Etag")
		for name, header := range requests(old, etag) {
			for _, path := range []string{"/apis", "/apis?pretty=0"} {
				want := serve(t.Context(), p.plain, path, header)
				for n := range 2 {
					if diff := cmp.Diff(want, serve(t.Context(), p.ours, path, header)); diff != "" {
						t.Fatalf("change %d, %s %s, request %d (-encoded +cached):\n%.2000s", i, path, name, n, diff)
					}
				}
			}
		}
	}
}

// counted is what the metrics of k8s.io/apiserver say of /apis: counters, and
// the count and sum of sizes.
func counted(t *testing.T) map[string]float64 {
	t.Helper()
	families, err := legacyregistry.DefaultGatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		if !slices.Contains([]string{
			"apiserver_request_total", "apiserver_response_sizes", "apiserver_request_duration_seconds",
			"aggregator_discovery_aggregation_count_total", "aggregator_discovery_nopeer_requests_total",
			"aggregator_discovery_peer_aggregated_cache_hits_total", "aggregator_discovery_peer_aggregated_cache_misses_total",
		}, f.GetName()) {
			continue
		}
		for _, m := range f.GetMetric() {
			key := f.GetName()
			for _, l := range m.GetLabel() {
				key += " " + l.GetName() + "=" + l.GetValue()
			}
			if h := m.GetHistogram(); h != nil {
				out[key+" count"] = float64(h.GetSampleCount())
				if f.GetName() == "apiserver_response_sizes" {
					out[key+" sum"] = h.GetSampleSum()
				}
				continue
			}
			out[key] = m.GetCounter().GetValue()
		}
	}
	return out
}

func TestCachedAnswersAreCountedAsEncodedOnes(t *testing.T) {
	featuregatetesting.SetFeatureGateDuringTest(t, utilfeature.DefaultFeatureGate, genericfeatures.UnknownVersionInteroperabilityProxy, true)
	metrics.Register()
	// The same requests in the same order, each of which two servers answer.
	run := func(handler func(pair) http.Handler) map[string]float64 {
		before := counted(t)
		p := newPair(true)
		h := handler(p)
		fill(p.manager, 40, 20)
		etag := ""
		for i := range 4 {
			header := func(accept string, tag string) http.Header {
				return http.Header{"Accept": {accept}, "Accept-Encoding": {"gzip"}, "If-None-Match": {tag}}
			}
			for range 3 {
				etag = serve(t.Context(), h, "/apis", header(discovery.AcceptV2, "")).Header.Get("Etag")
				serve(t.Context(), h, "/apis", header(discovery.AcceptV2, `"another"`))
				serve(t.Context(), h, "/apis", header(discovery.AcceptV2, etag))
				serve(t.Context(), h, "/apis", header(protobufV2+";profile=nopeer", ""))
			}
			p.manager.AddGroupVersion("new.example", version("v1", i+1))
			for range 2 {
				serve(t.Context(), h, "/apis", header(discovery.AcceptV2, etag))
			}
		}
		after := counted(t)
		for key, n := range before {
			after[key] -= n
		}
		maps.DeleteFunc(after, func(_ string, n float64) bool { return n == 0 })
		return after
	}
	want := run(func(p pair) http.Handler { return p.plain })
	got := run(func(p pair) http.Handler { return p.ours })
	if diff := cmp.Diff(want, got); diff != "" || len(want) < 8 {
		t.Errorf("of %d figures (-encoded +cached):\n%s", len(want), diff)
	}
}

// A client may have from another server what this one has not encoded yet.
func TestClientThatKnowsMoreThanWhatIsCached(t *testing.T) {
	metrics.Register()
	p := newPair(false)
	accept := http.Header{"Accept": {discovery.AcceptV2}}
	fill(p.manager, 2, 2)
	serve(t.Context(), p.ours, "/apis", accept)
	fill(p.manager, 3, 2)
	accept.Set("If-None-Match", serve(t.Context(), p.plain, "/apis", accept).Header.Get("Etag"))
	before := counted(t)
	want := serve(t.Context(), p.plain, "/apis", accept)
	middle := counted(t)
	got := serve(t.Context(), p.ours, "/apis", accept)
	after := counted(t)
	if diff := cmp.Diff(want, got); diff != "" || want.Code != http.StatusNotModified {
		t.Errorf("%d (-encoded +cached):\n%s", want.Code, diff)
	}
	for key := range after {
		if after[key]-middle[key] != middle[key]-before[key] {
			t.Errorf("%s: %v, want %v", key, after[key]-middle[key], middle[key]-before[key])
		}
	}
}

func TestAuditedResponsesAreLogged(t *testing.T) {
	p := newPair(false)
	fill(p.manager, 2, 2)
	for _, accept := range []string{discovery.AcceptV2, "application/json"} {
		for i := range 2 {
			ctx := audit.WithAuditContext(t.Context())
			all := audit.RequestAuditConfig{Level: auditinternal.LevelRequestResponse}
			sink := &sink{}
			if err := audit.AuditContextFrom(ctx).Init(all, sink); err != nil {
				t.Fatal(err)
			}
			serve(ctx, p.ours, "/apis", http.Header{"Accept": {accept}})
			audit.AuditContextFrom(ctx).ProcessEventStage(ctx, auditinternal.StageResponseComplete)
			if len(sink.events) != 1 || sink.events[0].ResponseObject == nil || len(sink.events[0].ResponseObject.Raw) == 0 {
				t.Errorf("%s, request %d: the response is not in the audit log", accept, i)
			}
		}
	}
}

type sink struct{ events []*auditinternal.Event }

func (s *sink) ProcessEvents(events ...*auditinternal.Event) bool {
	for _, e := range events {
		s.events = append(s.events, e.DeepCopy())
	}
	return true
}

// After a change has been published, no request may see what was before it.
func TestChangesShowAtOnceUnderLoad(t *testing.T) {
	p := newPair(false)
	fill(p.manager, 5, 2)
	remote := p.manager.WithSource(aggregated.AggregatorSource)
	var published atomic.Int64
	done := make(chan struct{})
	var readers sync.WaitGroup
	for i := range 4 {
		accept := []string{discovery.AcceptV2, discovery.AcceptV2 + ";pretty=1"}[i%2]
		readers.Go(func() {
			etag := ""
			for n := 0; ; n++ {
				select {
				case <-done:
					return
				default:
				}
				least := published.Load()
				header := http.Header{"Accept": {accept}}
				if n%2 == 0 {
					header.Set("If-None-Match", etag)
				}
				got := serve(t.Context(), p.ours, "/apis", header)
				if got.Code == http.StatusNotModified {
					continue
				}
				etag = got.Header.Get("Etag")
				var list apidiscoveryv2.APIGroupDiscoveryList
				if err := json.Unmarshal([]byte(got.Body), &list); err != nil {
					t.Errorf("%d: %v", got.Code, err)
					return
				}
				shown := int64(0)
				for _, g := range list.Items {
					if name, ok := strings.CutPrefix(g.Name, "change"); ok {
						var n int64
						_, _ = fmt.Sscanf(name, "%d", &n)
						shown = max(shown, n)
					}
				}
				if shown < least {
					t.Errorf("shows change %d after %d was published", shown, least)
					return
				}
			}
		})
	}
	for i := range int64(200) {
		remote.AddGroupVersion(fmt.Sprintf("change%d.example", i+1), version("v1", 1))
		published.Store(i + 1)
		remote.RemoveGroupVersion(metav1.GroupVersion{Group: fmt.Sprintf("change%d.example", i), Version: "v1"})
		for range 3 {
			serve(t.Context(), p.ours, "/apis", http.Header{"Accept": {discovery.AcceptV2}})
		}
	}
	close(done)
	readers.Wait()
}

func TestPlainListFollowsTheSnapshot(t *testing.T) {
	s, f := New(Config{Manager: aggregated.NewResourceManager("apis")}), newFacts()
	for i := range 3 {
		f.register(fmt.Sprintf("v%d.a.example", i+1), 100, int32(10+i), false)
		snapshot := catalog.Build(f.Facts)
		for name, header := range requests() {
			for _, path := range []string{"/apis", "/apis/", "/apis?pretty=true"} {
				if strings.Contains(name, "apidiscovery") && path != "/apis/" {
					continue
				}
				encoded := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.encodeGroupList(w, r, snapshot) })
				served := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.ServeGroupList(w, r, snapshot) })
				want := serve(t.Context(), encoded, path, header)
				for range 2 {
					if diff := cmp.Diff(want, serve(t.Context(), served, path, header)); diff != "" {
						t.Fatalf("%d versions, %s %s (-encoded +cached):\n%s", i+1, path, name, diff)
					}
				}
			}
		}
	}
}

func TestVariantCacheStaysWithinItsLimit(t *testing.T) {
	s := variantCache[string]{limit: 100}
	put := func(state, version string, size int) {
		s.put(state, variant{version: version}, &reply{body: make([]byte, size)})
	}
	has := func(version string) bool { r, _ := s.get(variant{version: version}); return r != nil }
	put("one", "a", 60)
	put("one", "b", 60)
	put("one", "c", 40)
	if !has("a") || has("b") || !has("c") {
		t.Error("of 60, 60 and 40 bytes the first and the last fit into 100")
	}
	put("two", "b", 60)
	if has("a") || !has("b") {
		t.Error("another state takes the place of all that was kept")
	}
}

// A handler's panic is not ours to keep.
func TestPanicOfTheHandlerGoesOn(t *testing.T) {
	defer func() {
		if got := recover(); got != http.ErrAbortHandler {
			t.Errorf("got %v", got)
		}
	}()
	p := newCachingHandler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	serve(t.Context(), p, "/apis", http.Header{"Accept": {discovery.AcceptV2}})
	t.Error("returned")
}

// A document is encoded once for all who ask for the same bytes.
func TestUnchangedDocumentsAreNotEncoded(t *testing.T) {
	manager := aggregated.NewResourceManager("apis")
	fill(manager, 3, 2)
	encoded := 0
	p := newCachingHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		manager.ServeHTTP(&counter{w, &encoded}, r)
	}))
	for i := range 3 {
		manager.AddGroupVersion("changing.example", version("v1", i))
		for range 5 {
			for _, accept := range []string{discovery.AcceptV2, protobufV2} {
				for _, etag := range []string{"", `"of old"`} {
					got := serve(t.Context(), p, "/apis", http.Header{"Accept": {accept}, "If-None-Match": {etag}})
					if got.Code != http.StatusOK {
						t.Errorf("%s: %d", accept, got.Code)
					}
				}
			}
		}
		if want := 2 * (i + 1); encoded != want {
			t.Errorf("after %d changes: encoded %d times, want %d", i+1, encoded, want)
		}
	}
}

// counter counts answers that have a body.
type counter struct {
	http.ResponseWriter
	bodies *int
}

func (c *counter) WriteHeader(code int) {
	if code == http.StatusOK {
		*c.bodies++
	}
	c.ResponseWriter.WriteHeader(code)
}

// discard is a ResponseWriter that keeps nothing.
type discard struct{ header http.Header }

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
func (d *discard) WriteHeader(int)             {}
