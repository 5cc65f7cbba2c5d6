package kubeapiserver_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"net/http"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	"k8s.io/apimachinery/pkg/runtime/schema"

	test "github.com/annex-api/annex/kubeapiserver/kubeapiservertest"
)

// discovered returns what the aggregated discovery document says of a group
// version; nil where it is not listed.
func discovered(t *testing.T, want schema.GroupVersion) *apidiscoveryv2.APIVersionDiscovery {
	t.Helper()
	a := server.Get(t, test.Admin, "/apis", "Accept", test.DiscoveryV2)
	var list apidiscoveryv2.APIGroupDiscoveryList
	if a.Code != http.StatusOK {
		t.Fatalf("/apis: %d %s", a.Code, a.Body)
	}
	if err := json.Unmarshal([]byte(a.Body), &list); err != nil {
		t.Fatalf("/apis: %v", err)
	}
	for _, g := range list.Items {
		for i, v := range g.Versions {
			if g.Name == want.Group && v.Version == want.Version {
				return &g.Versions[i]
			}
		}
	}
	return nil
}

// awaitDiscovered waits until a group version is listed with a freshness and a
// resource.
func awaitDiscovered(t *testing.T, want schema.GroupVersion, freshness apidiscoveryv2.DiscoveryFreshness, resource string) {
	t.Helper()
	test.Eventually(t, func() string {
		v := discovered(t, want)
		if v == nil {
			return want.String() + " is not listed"
		}
		var names []string
		for _, r := range v.Resources {
			names = append(names, r.Resource)
		}
		if got := strings.Join(names, " "); v.Freshness != freshness || got != resource {
			return fmt.Sprintf("%s is %s with the resources %q, want %s with %q", want, v.Freshness, got, freshness, resource)
		}
		return ""
	})
}

// Threat confinement: an extension server publishes what is not its own, to
// have clients send it what they mean for others.
func TestAttackServersThatAdvertiseWhatIsNotTheirs(t *testing.T) {
	own, victim, nobody := gv("confined.attack", "v1"), gv("victim.confined.attack", "v1"), gv("nobody.confined.attack", "v1")
	other := server.Register(t, "confined-victim", victim)
	awaitDiscovered(t, victim, apidiscoveryv2.DiscoveryFreshnessCurrent, "things")

	e := test.NewExtension(t, "confined", own)
	foreign := []schema.GroupVersion{gv("apps", "v1"), gv("apps", "v9"), victim, gv(victim.Group, "v2"), nobody, gv("apiregistration.k8s.io", "v1"), gv("confined.attack", "v2")}
	e.Handle("/apis", func(w http.ResponseWriter, _ *http.Request) {
		list := test.AggregatedDiscovery(append(foreign, own)...)
		for i := range list.Items {
			if list.Items[i].Name != own.Group {
				list.Items[i].Versions[0].Resources[0].Resource = "stolen"
			}
		}
		w.Header().Set("Content-Type", test.DiscoveryV2)
		_ = json.NewEncoder(w).Encode(list)
	})
	operation := func(name string) map[string]any {
		return map[string]any{"get": map[string]any{
			"operationId": name, "responses": map[string]any{"200": map[string]any{"description": "OK"}},
		}}
	}
	paths := map[string]any{
		"/apis/confined.attack/v1/things":               operation("ownThings"),
		"/apis/apps/v1/stolen":                          operation("stolenApps"),
		"/apis/apps/v1/deployments":                     operation("stolenDeployments"),
		"/api/v1/stolen":                                operation("stolenCore"),
		"/apis/victim.confined.attack/v1/stolen":        operation("stolenVictim"),
		"/apis/nobody.confined.attack/v1/stolen":        operation("stolenNobody"),
		"/apis/confined.attack/v1/../../apps/v1/stolen": operation("stolenDots"),
		"/apis/confined.attack/v10/stolen":              operation("stolenPrefix"),
		"/version/":                                     operation("stolenVersion"),
	}
	e.Handle("/openapi/v2", func(w http.ResponseWriter, _ *http.Request) {
		test.JSON(w, map[string]any{
			"swagger": "2.0", "info": map[string]any{"title": "stolen title", "version": "1"}, "paths": paths,
			"definitions": map[string]any{
				"io.k8s.api.core.v1.Pod": map[string]any{"description": "stolen Pod", "type": "string"},
				"Deployment": map[string]any{
					"description": "stolen Deployment", "type": "object",
					"x-kubernetes-group-version-kind": []any{map[string]any{"group": "apps", "version": "v1", "kind": "Deployment"}},
				},
			},
		})
	})
	e.Handle("/openapi/v3", func(w http.ResponseWriter, _ *http.Request) {
		keys := map[string]any{}
		for _, f := range append(foreign, own) {
			keys["apis/"+f.String()] = map[string]any{"serverRelativeURL": "/openapi/v3/apis/" + f.String() + "?hash=STOLEN"}
		}
		keys["api/v1"] = map[string]any{"serverRelativeURL": "/openapi/v3/api/v1?hash=STOLEN"}
		keys["version"] = map[string]any{"serverRelativeURL": "/openapi/v3/version?hash=STOLEN"}
		test.JSON(w, map[string]any{"paths": keys})
	})
	for _, f := range append(foreign, own) {
		e.Handle("/openapi/v3/apis/"+f.String(), func(w http.ResponseWriter, _ *http.Request) {
			test.JSON(w, map[string]any{"openapi": "3.0.0", "info": map[string]any{"title": "x", "version": "1"}, "paths": paths})
		})
	}
	server.Expose(t, e.Name, "localhost")
	server.CreateRegistration(t, test.Registration(own, e))
	server.AwaitAvailable(t, own)
	awaitDiscovered(t, own, apidiscoveryv2.DiscoveryFreshnessCurrent, "things")

	// Its own paths are published, so its documents were read.
	test.Eventually(t, func() string {
		for _, path := range []string{"/openapi/v2", "/openapi/v3/apis/confined.attack/v1"} {
			if a := server.Get(t, test.Admin, path); !strings.Contains(a.Body, "ownThings") {
				return fmt.Sprintf("%s does not have the server's own paths: %d", path, a.Code)
			}
		}
		return ""
	})
	root := server.Get(t, test.Admin, "/openapi/v3")
	if strings.Contains(root.Body, "STOLEN") || strings.Contains(root.Body, "nobody.confined") || strings.Contains(root.Body, "confined.attack/v2") || strings.Contains(root.Body, "apps/v9") {
		t.Errorf("/openapi/v3 lists documents of others: %s", root.Body)
	}
	published := []string{"/openapi/v2", "/openapi/v3/apis/confined.attack/v1", "/openapi/v3/apis/apps/v1", "/openapi/v3/api/v1", "/openapi/v3/version"}
	for _, path := range published {
		if a := server.Get(t, test.Admin, path); a.Code != http.StatusOK || strings.Contains(a.Body, "stolen") {
			at := max(0, strings.Index(a.Body, "stolen")-200)
			t.Errorf("%s: %d, with what is not the server's: …%.400s", path, a.Code, a.Body[at:])
		}
	}
	for _, path := range []string{"/apis", "/apis/", "/apis/apps", "/apis/victim.confined.attack", "/apis/confined.attack", "/"} {
		for _, accept := range []string{test.DiscoveryV2, "application/json"} {
			a := server.Get(t, test.Admin, path, "Accept", accept)
			for _, word := range []string{"stolen", "nobody.confined.attack", "v9", "confined.attack/v2", "victim.confined.attack/v2"} {
				if strings.Contains(a.Body, word) {
					t.Errorf("%s as %s lists %s", path, accept, word)
				}
			}
		}
	}
	awaitDiscovered(t, victim, apidiscoveryv2.DiscoveryFreshnessCurrent, "things")

	// Nothing but its own is routed to it.
	for _, f := range foreign {
		for _, path := range []string{"/apis/" + f.String() + "/stolen", "/apis/" + f.String()} {
			server.Get(t, test.Admin, path)
		}
	}
	server.Get(t, test.Admin, "/api/v1/stolen")
	server.Get(t, test.Admin, "/apis/confined.attack/v10/stolen")
	if got := e.Requests("/"); len(got) != 0 {
		t.Errorf("the server got requests for what is not its own: %v", got)
	}
	if got := len(other.Requests("/apis/victim.confined.attack/v1/stolen")); got != 1 {
		t.Errorf("the owner got %d requests, want 1", got)
	}
}

// endless writes until the client has had enough, and counts.
type endless struct {
	chunk       []byte
	header      http.Header
	pause       time.Duration
	largest     atomic.Int64
	ended, hits atomic.Int64
	longest     atomic.Int64
}

func (e *endless) serve(w http.ResponseWriter, r *http.Request) {
	e.hits.Add(1)
	start, total := time.Now(), int64(0)
	for name, values := range e.header {
		w.Header()[name] = values
	}
	controller := http.NewResponseController(w)
	var tick <-chan time.Time
	if e.pause > 0 {
		ticker := time.NewTicker(e.pause)
		defer ticker.Stop()
		tick = ticker.C
	}
	for r.Context().Err() == nil {
		n, err := w.Write(e.chunk)
		total += int64(n)
		if err != nil {
			break
		}
		if tick != nil {
			if controller.Flush() != nil {
				break
			}
			select {
			case <-tick:
			case <-r.Context().Done():
			}
		}
	}
	for old := e.largest.Load(); total > old && !e.largest.CompareAndSwap(old, total); old = e.largest.Load() {
	}
	took := int64(time.Since(start))
	for old := e.longest.Load(); took > old && !e.longest.CompareAndSwap(old, took); old = e.longest.Load() {
	}
	e.ended.Add(1)
}

// bomb is a small gzip stream of 256 MiB of blanks.
func bomb(t *testing.T) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, gzip.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	blank := bytes.Repeat([]byte(" "), 1<<20)
	for range 256 {
		if _, err := w.Write(blank); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func heap() uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// Threat hostile documents: an extension server's documents exhaust the memory
// or the time of the API server, or make other groups disappear.
func TestAttackHostileDocuments(t *testing.T) {
	good := gv("good.documents.attack", "v1")
	server.Register(t, "documents-good", good)
	awaitDiscovered(t, good, apidiscoveryv2.DiscoveryFreshnessCurrent, "things")
	zipped := bomb(t)
	static := func(body []byte, header ...string) func() (http.HandlerFunc, *endless) {
		return func() (http.HandlerFunc, *endless) {
			return func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", test.DiscoveryV2)
				for i := 0; i+1 < len(header); i += 2 {
					w.Header().Set(header[i], header[i+1])
				}
				_, _ = w.Write(body)
			}, nil
		}
	}
	flood := func(chunk string, pause time.Duration) func() (http.HandlerFunc, *endless) {
		return func() (http.HandlerFunc, *endless) {
			e := &endless{chunk: []byte(chunk), pause: pause, header: http.Header{"Content-Type": {test.DiscoveryV2}}}
			return e.serve, e
		}
	}
	head := `{"kind":"APIGroupDiscoveryList","apiVersion":"apidiscovery.k8s.io/v2","items":`
	cases := map[string]func() (http.HandlerFunc, *endless){
		"endless":         flood(strings.Repeat(" ", 64<<10), 0),
		"slow":            flood(" ", 50*time.Millisecond),
		"huge":            static([]byte(head + "[" + strings.Repeat(`{"metadata":{"name":"x"}},`, 2<<20) + "{}]}")),
		"empty":           static(nil),
		"malformed":       static([]byte(head + `[{"metadata":{"name":42},"versions":"v1"}]}`)),
		"cut off":         static([]byte(head + `[{"metadata":`)),
		"deeply nested":   static([]byte(head + strings.Repeat("[", 3<<20))),
		"nested objects":  static([]byte(strings.Repeat(`{"a":`, 700<<10))),
		"gzip bomb":       static(zipped, "Content-Encoding", "gzip"),
		"not gzip":        static([]byte("plain"), "Content-Encoding", "gzip"),
		"another kind":    static([]byte(`{"kind":"Pod","apiVersion":"v1"}`)),
		"nameless":        static([]byte(head + `[{"metadata":{"name":"nameless.documents.attack"},"versions":[{"version":"v1","resources":[{},{"resource":"named","scope":"Namespaced","verbs":["get"]}]}]}]}`)),
		"other resources": static([]byte(head + `[]}`)),
		"server error": func() (http.HandlerFunc, *endless) {
			return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }, nil
		},
	}
	base := heap()
	var peak atomic.Uint64
	stop, watched := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		ticker := time.NewTicker(5 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-stop:
				return
			case <-ticker.C:
				if h := heap(); h > peak.Load() {
					peak.Store(h)
				}
			}
		}
	}()
	t.Run("cases", func(t *testing.T) {
		for name, hostile := range cases {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				short := strings.ReplaceAll(name, " ", "-")
				v1, v2 := gv(short+".documents.attack", "v1"), gv(short+".documents.attack", "v2")
				e := server.Register(t, "documents-"+short, v1)
				awaitDiscovered(t, v1, apidiscoveryv2.DiscoveryFreshnessCurrent, "things")
				handler, count := hostile()
				for _, path := range []string{"/apis", "/openapi/v2", "/openapi/v3", "/openapi/v3/apis/" + v1.String()} {
					e.Handle(path, handler)
				}
				e.Handle("/apis/"+v1.String(), func(w http.ResponseWriter, r *http.Request) {
					if strings.Contains(r.Header.Get("Accept"), "json") && r.Header.Get("X-Remote-User") == "system:kube-aggregator" {
						handler(w, r) // discovery; the probe, which does not say what it accepts, passes
					}
				})
				// Another member of the Service makes the documents be asked
				// for at once.
				server.CreateRegistration(t, test.Registration(v2, e))
				if name == "nameless" {
					// What nobody can name is left out, and the rest of the document counts.
					awaitDiscovered(t, v1, apidiscoveryv2.DiscoveryFreshnessCurrent, "named")
				} else {
					awaitDiscovered(t, v1, apidiscoveryv2.DiscoveryFreshnessStale, "things")
				}

				start := time.Now()
				awaitDiscovered(t, good, apidiscoveryv2.DiscoveryFreshnessCurrent, "things")
				for _, path := range []string{"/readyz", "/openapi/v2", "/openapi/v3", "/apis/" + good.String() + "/things", "/apis/" + v1.String() + "/things"} {
					if a := server.Get(t, test.Admin, path); a.Code != http.StatusOK {
						t.Errorf("%s: %d %.300s", path, a.Code, a.Body)
					}
				}
				if took := time.Since(start); took > 20*time.Second {
					t.Errorf("others took %v meanwhile", took)
				}
				if count == nil {
					return
				}
				test.Eventually(t, func() string {
					if count.ended.Load() == 0 {
						return "no download has ended"
					}
					return ""
				})
				if got := time.Duration(count.longest.Load()); got > 15*time.Second {
					t.Errorf("a download went on for %v", got)
				}
				const bound = 64 << 20 // the largest document, and what is in flight
				if got := count.largest.Load(); got > bound {
					t.Errorf("a download of %d bytes was taken, the bound is %d", got, bound)
				}
			})
		}
	})
	close(stop)
	<-watched
	// All of it at once, in one process with the extension servers.
	const bound = 700 << 20
	if got := peak.Load(); got > base+bound {
		t.Errorf("the heap grew from %d to %d MiB", base>>20, got>>20)
	}
}

// Threat hostile documents: references without an end, which libraries follow
// until the stack ends the process. Nobody else's documents are held up.
func TestAttackReferencesWithoutAnEnd(t *testing.T) {
	limit := debug.SetMaxStack(128 << 20)
	t.Cleanup(func() { debug.SetMaxStack(limit) })
	good := gv("good.references.attack", "v1")
	for name, document := range map[string]string{
		"itself": `{"swagger":"2.0","info":{"title":"x","version":"1"},"paths":{"%s":{"parameters":[{"$ref":"#/parameters/a"}]}},"parameters":{"a":{"$ref":"#/parameters/a"}}}`,
		"others": `{"swagger":"2.0","info":{"title":"x","version":"1"},"paths":{"/x":{"parameters":[{"$ref":"#/parameters/a"}]},"%s":{"get":{"responses":{"200":{"description":"read in spite of it"}}}}},"parameters":{"a":{"$ref":"#/parameters/a"}}}`,
	} {
		own := gv(name+".references.attack", "v1")
		e := test.NewExtension(t, "references-"+name, own)
		asked := make(chan struct{}, 1)
		e.Handle("/openapi/v2", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = fmt.Fprintf(w, document, "/apis/"+own.String()+"/things")
			select {
			case asked <- struct{}{}:
			default:
			}
		})
		e.Handle("/openapi/v3", http.NotFound)
		server.Expose(t, e.Name, "localhost")
		server.CreateRegistration(t, test.Registration(own, e))
		server.AwaitAvailable(t, own)
		<-asked
	}
	e := test.NewExtension(t, "references-good", good)
	e.Handle("/openapi/v2", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintf(w, `{"swagger":"2.0","info":{"title":"x","version":"1"},"paths":{"/apis/%s/things":{"get":{"responses":{"200":{"description":"of the good one"}}}}}}`, good)
	})
	server.Expose(t, e.Name, "localhost")
	server.CreateRegistration(t, test.Registration(good, e))
	test.Eventually(t, func() string {
		a := server.Get(t, test.Admin, "/openapi/v2")
		for _, want := range []string{"of the good one", "read in spite of it"} {
			if !strings.Contains(a.Body, want) {
				return fmt.Sprintf("/openapi/v2 lacks %q: %d", want, a.Code)
			}
		}
		if strings.Contains(a.Body, "itself.references.attack/v1/things") {
			return "the document without an end is published"
		}
		return ""
	})
}
