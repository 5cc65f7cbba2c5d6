package aggregator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/annex-api/annex/aggregator/internal/backendtest"
)

// memory is a Memory of which a test knows what it holds. Failing, it saves and
// forgets nothing.
type memory struct {
	mu        sync.Mutex
	documents map[string][]byte
	failing   bool
	writes    int // how often a document was saved
	bytes     int // and what it held
}

// Load returns more than it is asked for, as a careless Memory may.
func (m *memory) Load(context.Context, []string) (map[string][]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.documents), nil
}

func (m *memory) Save(_ context.Context, name string, document []byte) error {
	return m.change(func() {
		m.documents[name] = document
		m.writes, m.bytes = m.writes+1, m.bytes+len(document)
	})
}

func (m *memory) Forget(_ context.Context, name string) error {
	return m.change(func() { delete(m.documents, name) })
}

func (m *memory) Retain(_ context.Context, names []string) error {
	return m.change(func() {
		maps.DeleteFunc(m.documents, func(name string, _ []byte) bool { return !slices.Contains(names, name) })
	})
}

func (m *memory) change(do func()) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failing {
		return errors.New("failing")
	}
	do()
	return nil
}

// written is how often a document was saved, and what it held in all.
func (m *memory) written() (writes, bytes int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.writes, m.bytes
}

func (m *memory) document(name string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return string(m.documents[name])
}

func (m *memory) names() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.documents))
}

func (m *memory) fail(failing bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.failing = failing
}

// sourceFunc is a function that is a Source.
type sourceFunc func(ctx context.Context, publish func(State)) error

func (f sourceFunc) Run(ctx context.Context, publish func(State)) error { return f(ctx, publish) }

// roundTripper is a handler that requests are sent to without a network.
type roundTripper struct{ handler http.Handler }

func (t roundTripper) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	t.handler.ServeHTTP(w, r)
	return w.Result(), nil
}

// work runs an Aggregator in a bubble, and test beside it.
func work(t *testing.T, config Config, test func(a *Aggregator)) {
	t.Helper()
	config.Addressing = EndpointAddresses
	a, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	synctest.Wait()
	test(a)
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("Run returned %v", err)
	}
}

// What was remembered is listed, as Stale, while nobody answers; also where a
// zone became known before the APIServices did.
func TestWhatWasRememberedIsListed(t *testing.T) {
	document, err := json.Marshal(apidiscoveryv2.APIVersionDiscovery{Version: "v1", Resources: []apidiscoveryv2.APIResourceDiscovery{{Resource: "things"}}})
	if err != nil {
		t.Fatal(err)
	}
	m := &memory{documents: map[string][]byte{"v1.a.example": document, "v1.b.example": []byte("not JSON")}}
	objects := []*apiregistrationv1.APIService{(&backendtest.Server{Service: "absent"}).APIService("v1.a.example")}
	synctest.Test(t, func(t *testing.T) {
		published := make(chan State)
		source := sourceFunc(func(ctx context.Context, publish func(State)) error {
			publish(<-published)
			<-ctx.Done()
			return ctx.Err()
		})
		work(t, Config{Source: source, Memory: m}, func(a *Aggregator) {
			a.SetZone("here")
			synctest.Wait()
			published <- state(objects)
			time.Sleep(maxPause)
			synctest.Wait()
			d := a.snapshot.Load().Remotes()[0].Document
			if d.Discovery == nil || len(d.Discovery.Resources) != 1 || !d.Stale {
				t.Errorf("%+v", d)
			}
		})
	})
}

// Whoever can write where documents are kept can do no more than an extension
// server can: what it says of others, of another version, or beyond the bounds is
// not taken over.
func TestWhatIsRememberedIsCheckedAsADownloadIs(t *testing.T) {
	absent := &backendtest.Server{Service: "absent"}
	resource := `{"resource":"things","responseKind":{"group":"","version":"","kind":"Thing"},"scope":"Namespaced","verbs":["get"]}`
	// Each takes a third of what may be recalled in all: the last does not fit.
	large := func() []byte {
		return []byte(`{"version":"v1","resources":[` + resource + `],"x":[` + strings.Repeat("0,", 199_000-30) + `0]}`)
	}
	many := map[string][]byte{}
	for i := range maxRecalledTokens/199_000 + 3 {
		many[fmt.Sprintf("v1.g%d.example", i)] = large()
	}
	for what, c := range map[string]struct {
		documents map[string][]byte
		claimed   []string
		taken     int
	}{
		"as it should be":         {map[string][]byte{"v1.a.example": []byte(`{"version":"v1","resources":[` + resource + `]}`)}, []string{"v1.a.example"}, 1},
		"of another":              {map[string][]byte{"v1.b.example": []byte(`{"version":"v1","resources":[` + resource + `]}`)}, []string{"v1.a.example"}, 0},
		"of another version":      {map[string][]byte{"v1.a.example": []byte(`{"version":"v2","resources":[` + resource + `]}`)}, []string{"v1.a.example"}, 0},
		"a resource without name": {map[string][]byte{"v1.a.example": []byte(`{"version":"v1","resources":[{},` + resource + `]}`)}, []string{"v1.a.example"}, 1},
		"a kind that is null":     {map[string][]byte{"v1.a.example": []byte(`{"version":"v1","resources":[{"resource":"things"}]}`)}, []string{"v1.a.example"}, 1},
		"too many values":         {map[string][]byte{"v1.a.example": []byte(`{"version":"v1","resources":[` + strings.Repeat(resource+",", 20_000) + resource + `]}`)}, []string{"v1.a.example"}, 0},
		"too many in all":         {many, slices.Sorted(maps.Keys(many)), maxRecalledTokens / 199_000},
	} {
		t.Run(what, func(t *testing.T) {
			var objects []*apiregistrationv1.APIService
			for _, name := range c.claimed {
				objects = append(objects, absent.APIService(name))
			}
			synctest.Test(t, func(t *testing.T) {
				work(t, Config{Source: NewStaticSource(state(objects)), Memory: &memory{documents: c.documents}}, func(a *Aggregator) {
					time.Sleep(maxPause)
					synctest.Wait()
					taken := 0
					for _, s := range a.snapshot.Load().Remotes() {
						d := s.Document.Discovery
						if d == nil {
							continue
						}
						taken++
						if len(d.Resources) != 1 || d.Resources[0].ResponseKind == nil || d.Version != s.Version {
							t.Errorf("%s: %+v", s.Name, d)
						}
					}
					if taken != c.taken {
						t.Errorf("%d documents were taken over, want %d", taken, c.taken)
					}
				})
			})
		})
	}
}

// What has no time left is not decoded: a start does not wait for it.
func TestDecodingOfWhatWasRememberedEndsInTime(t *testing.T) {
	m := &memory{documents: map[string][]byte{"v1.a.example": []byte(`{"version":"v1"}`)}}
	first := state([]*apiregistrationv1.APIService{(&backendtest.Server{Service: "absent"}).APIService("v1.a.example")})
	a, err := New(Config{Addressing: EndpointAddresses, Source: NewStaticSource(first), Memory: m})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if got := a.recall(ctx, first); len(got) != 1 {
		t.Errorf("%d documents are recalled, want one", len(got))
	}
	cancel()
	if got := a.recall(ctx, first); len(got) != 0 {
		t.Errorf("%d documents are decoded without time", len(got))
	}
}

// What went while no server ran is forgotten by the next one.
func TestDocumentsOfOthersAreForgotten(t *testing.T) {
	m := &memory{documents: map[string][]byte{"v1.gone.example": []byte(`{}`), "v1.a.example": []byte(`{"version":"v1"}`)}}
	objects := []*apiregistrationv1.APIService{(&backendtest.Server{Service: "absent"}).APIService("v1.a.example")}
	synctest.Test(t, func(t *testing.T) {
		work(t, Config{Source: NewStaticSource(state(objects)), Memory: m}, func(*Aggregator) {
			time.Sleep(2 * rememberAfter)
			synctest.Wait()
			if got := m.names(); !slices.Equal(got, []string{"v1.a.example"}) {
				t.Errorf("remembered: %q", got)
			}
		})
	})
}

// Between two terms other servers write: what they left is forgotten in each term.
func TestDocumentsOfOthersAreForgottenInEachTerm(t *testing.T) {
	m := &memory{documents: map[string][]byte{}}
	a, err := New(Config{Source: NewStaticSource(State{}), Memory: m})
	if err != nil {
		t.Fatal(err)
	}
	close(a.routes)
	known := remembering{}
	for _, c := range []struct{ term, left int64 }{{1, 0}, {1, 1}, {3, 0}} {
		if err := m.Save(t.Context(), "v1.gone.example", []byte(`{}`)); err != nil {
			t.Fatal(err)
		}
		a.saveChanges(t.Context(), a.snapshot.Load(), &known, c.term)
		if got := m.names(); int64(len(got)) != c.left {
			t.Errorf("in term %d: remembered %q, want %d", c.term, got, c.left)
		}
	}
}

func TestDocumentsAreRememberedAndForgotten(t *testing.T) {
	m := &memory{documents: map[string][]byte{}}
	s := &backendtest.Server{Service: "api", Address: "192.0.2.1:443"}
	objects := []*apiregistrationv1.APIService{s.APIService("v1.a.example")}
	wrap := func(http.RoundTripper) http.RoundTripper {
		return roundTripper{&extension{gv: "a.example/v1", resource: "things"}}
	}
	synctest.Test(t, func(t *testing.T) {
		source := NewStaticSource(state(objects, s))
		work(t, Config{Source: source, Memory: m, WrapTransport: wrap}, func(a *Aggregator) {
			time.Sleep(2 * rememberAfter)
			synctest.Wait()
			if got := m.names(); !slices.Equal(got, []string{"v1.a.example"}) {
				t.Errorf("remembered: %q", got)
			}
			m.fail(true)
			source.Set(state(nil))
			time.Sleep(2 * rememberAfter)
			synctest.Wait()
			if got := m.names(); len(got) != 1 {
				t.Errorf("forgotten, though that failed: %q", got)
			}
			m.fail(false)
			time.Sleep(rememberAgain)
			synctest.Wait()
			if got := m.names(); len(got) != 0 {
				t.Errorf("still remembered: %q", got)
			}
		})
	})
}

// A server whose discovery differs with each download, and whose endpoints flap so that
// it is downloaded as often as may be, costs no more writes and bytes than the bounds,
// and its last document is remembered in the end.
func TestAnHourOfChangesIsRememberedWithinBounds(t *testing.T) {
	const periods = int(time.Hour / rememberPeriod)
	for name, size := range map[string]int{"small": 1, "large": 300 << 10} {
		t.Run(name, func(t *testing.T) {
			m := &memory{documents: map[string][]byte{}}
			var mu sync.Mutex
			downloads, changing := 0, true
			changes := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				if changing && r.URL.Path == "/apis" {
					downloads++
				}
				resource := fmt.Sprint("things", downloads, strings.Repeat("x", size))
				mu.Unlock()
				(&extension{gv: "a.example/v1", resource: resource}).ServeHTTP(w, r)
			})
			wrap := func(http.RoundTripper) http.RoundTripper { return roundTripper{changes} }
			at := func(address string) State {
				s := &backendtest.Server{Service: "api", Address: address}
				return state([]*apiregistrationv1.APIService{s.APIService("v1.a.example")}, s)
			}
			synctest.Test(t, func(t *testing.T) {
				source := NewStaticSource(at("192.0.2.1:443"))
				work(t, Config{Source: source, Memory: m, WrapTransport: wrap}, func(*Aggregator) {
					for i := range 3600 {
						source.Set(at(fmt.Sprintf("192.0.2.%d:443", 1+i%2)))
						time.Sleep(time.Second)
					}
					synctest.Wait()
					writes, bytes := m.written()
					if most := rememberWrites * (1 + periods); writes > most || writes < periods {
						t.Errorf("%d writes, at most %d are allowed", writes, most)
					}
					if most := rememberBytes*(1+periods) + size + 4096; bytes > most {
						t.Errorf("%d bytes, at most %d are allowed", bytes, most)
					}
					mu.Lock()
					t.Logf("%d downloads, %d writes of %d bytes", downloads, writes, bytes)
					changing = false
					last := downloads
					mu.Unlock()
					time.Sleep(2 * rememberPeriod)
					synctest.Wait()
					if want := fmt.Sprintf("\"things%d", last); !strings.Contains(m.document("v1.a.example"), want) {
						t.Error("the last document is not remembered")
					}
				})
			})
		})
	}
}
