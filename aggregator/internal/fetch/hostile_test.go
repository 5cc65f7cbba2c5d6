package fetch

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/annex-api/annex/aggregator/internal/backendtest"
	"github.com/annex-api/annex/aggregator/internal/catalog"
)

// hostile bodies, each written until the reader gives up.
var hostile = map[string]func(w http.ResponseWriter, r *http.Request){
	"empty":       func(http.ResponseWriter, *http.Request) {},
	"malformed":   text(`{"kind":"APIGroupDiscoveryList","apiVersion":"apidiscovery.k8s.io/v2","items":[}`),
	"another":     text(`{"kind":"Pod","apiVersion":"v1"}`),
	"not a list":  text(`"apis"`),
	"no fields":   text(`{}`),
	"null":        text(`null`),
	"binary":      text("k8s\x00\xff\xff\xff\xff\xff\xff\xff\xff"),
	"not UTF-8":   text("{\"openapi\": \"\xff\xfe\", \xff}"),
	"cut":         cut,
	"endless":     endless,
	"nested":      text(nested(1 << 20)),
	"nested well": text(`{"kind":"APIGroupDiscoveryList","apiVersion":"apidiscovery.k8s.io/v2","openapi":"3","swagger":"2.0","items":` + nested(1<<20)),
	"slow":        slow,
	"bomb":        bomb,
	"not gzip": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write([]byte(`{}`))
	},
	"YAML aliases": text(aliases()),
	"resets":       func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
}

func text(s string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(s)) }
}

func nested(depth int) string { return strings.Repeat("[", depth) + strings.Repeat("]", depth) }

// aliases is a YAML document that doubles with each line.
func aliases() string {
	var b strings.Builder
	b.WriteString("kind: APIGroupDiscoveryList\napiVersion: apidiscovery.k8s.io/v2\na0: &a0 [x,x,x,x,x,x,x,x]\n")
	for i := range 25 {
		last, next := string(rune('a'+i)), string(rune('a'+i+1))
		if i == 0 {
			last = "a0"
		}
		b.WriteString(next + ": &" + next + " [*" + last + ",*" + last + ",*" + last + ",*" + last + "]\n")
	}
	return b.String()
}

func cut(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Length", "1000")
	_, _ = w.Write([]byte(`{"kind":`))
	panic(http.ErrAbortHandler)
}

// written counts what endless managed to send.
var written atomic.Int64

func endless(w http.ResponseWriter, _ *http.Request) {
	chunk := bytes.Repeat([]byte(" "), 64<<10)
	for {
		n, err := w.Write(chunk)
		written.Add(int64(n))
		if err != nil {
			return
		}
	}
}

func slow(w http.ResponseWriter, r *http.Request) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := w.Write([]byte(" ")); err != nil {
			return
		}
		_ = http.NewResponseController(w).Flush()
		select {
		case <-r.Context().Done():
			return
		case <-tick.C:
		}
	}
}

// bombBody is 256 MiB of spaces in a quarter of a megabyte.
var bombBody = sync.OnceValue(func() []byte {
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	if err != nil {
		panic(err)
	}
	if _, err := io.CopyN(w, spaces{}, 256<<20); err != nil {
		panic(err)
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return b.Bytes()
})

type spaces struct{}

func (spaces) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

func bomb(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Encoding", "gzip")
	_, _ = w.Write(bombBody())
}

// spent runs f and returns how long it took and how many bytes were allocated
// meanwhile, by whatever: an upper bound of what f needed.
func spent(f func()) (time.Duration, uint64) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	f()
	took := time.Since(start)
	runtime.ReadMemStats(&after)
	return took, after.TotalAlloc - before.TotalAlloc
}

const timeLimit = 30 * time.Second // far above what a bounded download takes, on a busy machine too

// impatient gives slow bodies up soon.
func impatient() Timing {
	timing := patient()
	timing.DiscoveryTimeout, timing.OpenAPITimeout = 500*time.Millisecond, 500*time.Millisecond
	return timing
}

// A hostile answer to a discovery request costs bounded memory and time, and
// the last known resources are kept, marked Stale.
func TestHostileDiscovery(t *testing.T) {
	const memoryLimit = 20 * maxDiscovery
	bombBody()
	good := version("a.example", "v1")
	for _, legacy := range []bool{false, true} {
		for what, body := range hostile {
			if legacy {
				what += ", legacy"
			}
			t.Run(what, func(t *testing.T) {
				attack := false
				s := backendtest.Start(t, "api", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					switch {
					case !attack:
						aggregatedServer(good).ServeHTTP(w, r)
					case legacy && r.URL.Path == "/apis":
						http.NotFound(w, r)
					default:
						w.Header().Set("Content-Type", map[bool]string{false: typeV2, true: "application/json"}[legacy])
						body(w, r)
					}
				}))
				f, l := newFetcher(t, patient())
				members, state := s.Snapshot(name).Remotes(), &discoveryState{}
				if !f.discovery(t.Context(), members, state) {
					t.Fatal(l.get(name).Problem)
				}
				attack, f.timing = true, impatient()
				written.Store(0)
				var ok bool
				took, allocated := spent(func() { ok = f.discovery(t.Context(), members, state) })
				if ok {
					t.Error("taken for a success")
				}
				if took > timeLimit || allocated > memoryLimit {
					t.Errorf("took %v and %d MiB", took, allocated>>20)
				}
				if n := written.Load(); n > 8*maxDiscovery {
					t.Errorf("read %d MiB of an endless body", n>>20)
				}
				if d := l.get(name); !d.Stale || d.Problem == "" || resources(d) != "of-v1.a.example" {
					t.Errorf("stale %v, problem %q, resources %q", d.Stale, d.Problem, resources(d))
				}
			})
		}
	}
}

// A hostile answer to an OpenAPI request costs bounded memory and time, and the
// last good documents are kept; discovery is not concerned.
func TestHostileOpenAPI(t *testing.T) {
	const memoryLimit = 40 * maxOpenAPIV2
	bombBody()
	for _, at := range []string{"/openapi/v2", "/openapi/v3", ownURL + "B"} {
		for what, body := range hostile {
			t.Run(what+" at "+at, func(t *testing.T) {
				attack := false
				s := backendtest.Start(t, "api", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					switch {
					case attack && r.URL.RequestURI() == at:
						w.Header().Set("Content-Type", "application/json")
						body(w, r)
					case attack:
						files{"/openapi/v3": v3Root(map[string]string{key: ownURL + "B"}), ownURL + "B": openAPI3(own), "/openapi/v2": swagger(own)}.ServeHTTP(w, r)
					default:
						files{"/openapi/v3": v3Root(map[string]string{key: ownURL + "A"}), ownURL + "A": openAPI3(own), "/openapi/v2": swagger(own)}.ServeHTTP(w, r)
					}
				}))
				f, l := newFetcher(t, patient())
				members, state := s.Snapshot(name).Remotes(), &openAPIState{}
				if !f.openAPI(t.Context(), members, state, true) {
					t.Fatal("failed before the attack")
				}
				attack, f.timing = true, impatient()
				var ok bool
				took, allocated := spent(func() { ok = f.openAPI(t.Context(), members, state, true) })
				if ok {
					t.Error("taken for a success")
				}
				if took > timeLimit || allocated > memoryLimit {
					t.Errorf("took %v and %d MiB", took, allocated>>20)
				}
				d := l.get(name)
				for kind, blob := range map[string]catalog.Blob{"v2": d.OpenAPIV2, "v3": d.OpenAPIV3} {
					if got := pathsOf(t, blob); len(got) != 1 || got[0] != own {
						t.Errorf("OpenAPI %s has %q", kind, got)
					}
				}
				if d.Stale {
					t.Error("discovery is Stale")
				}
			})
		}
	}
}

// itself is an OpenAPI v2 document of a path with a parameter that is itself:
// the library that follows references has no end on it.
func itself(path string) string {
	return fmt.Sprintf(`{"swagger":"2.0","info":{"title":"x","version":"1"},"paths":{%q:{"parameters":[{"$ref":"#/parameters/a"}]}},"parameters":{"a":{"$ref":"#/parameters/a"}}}`, path)
}

// A document on which libraries have no end, or panic, is said once, read once,
// and left out; the last good one stays.
func TestDocumentsThatLibrariesDoNotSurvive(t *testing.T) {
	for what, bad := range map[string]string{
		"a parameter that is itself":     itself(own),
		"an operation without responses": fmt.Sprintf(`{"swagger":"2.0","paths":{%q:{"get":{}}}}`, own),
	} {
		t.Run(what, func(t *testing.T) {
			body := atomic.Pointer[string]{}
			good := swagger(own)
			body.Store(&good)
			s := backendtest.Start(t, "api", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				files{"/openapi/v2": *body.Load()}.ServeHTTP(w, r) // and no v3: it is made from v2
			}))
			f, l := newFetcher(t, patient())
			var lines []string
			f.logf = func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
			members, state := s.Snapshot(name).Remotes(), &openAPIState{}
			if !f.openAPI(t.Context(), members, state, true) {
				t.Fatal("failed before the attack")
			}
			body.Store(&bad)
			for range 3 {
				if f.openAPI(t.Context(), members, state, true) {
					t.Error("taken for a success")
				}
			}
			if got := pathsOf(t, l.get(name).OpenAPIV2); !slices.Equal(got, []string{own}) {
				t.Errorf("OpenAPI v2 has %q", got)
			}
			if len(lines) != 1 || !strings.Contains(lines[0], name) {
				t.Errorf("want one line that names the APIService: %q", lines)
			}
			body.Store(&good)
			if !f.openAPI(t.Context(), members, state, true) {
				t.Error("not well again")
			}
		})
	}
}

// What is wrong with the paths of one group version keeps no other of the same
// server back, nor what has to wait from ending.
func TestADocumentHoldsUpNoOther(t *testing.T) {
	other := "/apis/b.example/v1/things"
	both := strings.Replace(itself(own), `"paths":{`, fmt.Sprintf(`"paths":{%q:{"get":{"responses":{}}},`, other), 1)
	s := backendtest.Start(t, "api", files{"/openapi/v2": both})
	f, l := newFetcher(t, patient())
	members := s.Snapshot(name, "v1.b.example").Remotes()
	if f.openAPI(t.Context(), members, &openAPIState{}, true) {
		t.Error("taken for a success")
	}
	if got := pathsOf(t, l.get("v1.b.example").OpenAPIV2); !slices.Equal(got, []string{other}) {
		t.Errorf("the OpenAPI v2 of the other has %q", got)
	}
	if got := l.get(name).OpenAPIV2.ETag; got != "" {
		t.Error("the bad part was published")
	}

	if err := f.decoding.Take(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer f.decoding.End()
	f.timing.OpenAPITimeout = 50 * time.Millisecond
	if f.openAPI(t.Context(), members, &openAPIState{}, true) {
		t.Error("decoded while another document was")
	}
}
