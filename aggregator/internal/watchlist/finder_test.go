package watchlist

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/annex-api/annex/aggregator/internal/backend"
	"github.com/annex-api/annex/aggregator/internal/backendtest"
	"github.com/annex-api/annex/aggregator/internal/catalog"
)

const name = "v1.a.example"

func listOf(resources ...string) *apidiscoveryv2.APIVersionDiscovery {
	d := &apidiscoveryv2.APIVersionDiscovery{Version: "v1"}
	for _, r := range resources {
		d.Resources = append(d.Resources, apidiscoveryv2.APIResourceDiscovery{Resource: r, Verbs: []string{"list", "watch"}})
	}
	return d
}

var things = listOf("things")

// claim is a snapshot with the server's claim of name: available, and with things to
// watch, unless change says otherwise.
func claim(s *backendtest.Server, change func(*catalog.Facts)) *catalog.Snapshot {
	f := backendtest.Facts([]*apiregistrationv1.APIService{s.APIService(name)}, s)
	f.Verdicts[name] = catalog.Verdict{Status: apiregistrationv1.ConditionTrue}
	f.Documents[name] = catalog.Document{Discovery: things}
	if change != nil {
		change(&f)
	}
	return catalog.Build(f)
}

// tries is a Try that answers as told and remembers when it was asked, and where.
type tries struct {
	mu      sync.Mutex
	answer  catalog.WatchListSupport
	asked   []time.Time
	hang    bool
	running atomic.Int32
}

func (s *tries) try(ctx context.Context, _ *catalog.APIService) catalog.WatchListSupport {
	defer s.running.Add(-1)
	if s.running.Add(1) > 1 {
		panic("two at a time")
	}
	s.mu.Lock()
	s.asked = append(s.asked, time.Now())
	answer, hang := s.answer, s.hang
	s.mu.Unlock()
	if hang {
		<-ctx.Done()
	}
	return answer
}

func (s *tries) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.asked)
}

// start runs a Finder in the bubble that holds it until the function ends.
func start(t *testing.T, s *tries, body func(f *Finder, sync func(*catalog.Snapshot))) (reported []catalog.WatchListSupport) {
	t.Helper()
	var mu sync.Mutex
	f := New(Config{Timing: DefaultTiming(), Try: s.try, Report: func(_ *catalog.APIService, support catalog.WatchListSupport) {
		mu.Lock()
		defer mu.Unlock()
		reported = append(reported, support)
	}})
	ctx, cancel := context.WithCancel(t.Context())
	body(f, func(snapshot *catalog.Snapshot) { f.Sync(ctx, snapshot); synctest.Wait() })
	cancel()
	f.Wait()
	return reported
}

func at(address string) *backendtest.Server {
	return &backendtest.Server{Service: "api", Address: address, CA: []byte("ca")}
}

func TestWhatIsTriedAgain(t *testing.T) {
	api := at("192.0.2.1:443")
	for what, c := range map[string]struct {
		next  *catalog.Snapshot
		tries int
	}{
		"the same":         {claim(api, nil), 1},
		"another endpoint": {claim(at("192.0.2.2:443"), nil), 2},
		"other resources":  {claim(api, func(f *catalog.Facts) { f.Documents[name] = catalog.Document{Discovery: listOf("things")} }), 2},
		"nothing to watch": {claim(api, func(f *catalog.Facts) { f.Documents[name] = catalog.Document{Discovery: listOf()} }), 1},
		"another OpenAPI": {claim(api, func(f *catalog.Facts) {
			f.Documents[name] = catalog.Document{Discovery: things, OpenAPIV3: catalog.Blob{ETag: "2"}}
		}), 1},
		"another CA":         {claim(&backendtest.Server{Service: "api", Address: api.Address, CA: []byte("another")}, nil), 2},
		"it is unavailable":  {claim(api, func(f *catalog.Facts) { f.Verdicts[name] = catalog.Verdict{Status: "False"} }), 1},
		"it is gone":         {catalog.Build(catalog.Facts{}), 1},
		"its owner knows":    {settled(api, "pass"), 1},
		"its owner knows it": {settled(api, "refuse"), 1},
		"its owner asks":     {settled(api, "auto"), 1},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &tries{answer: catalog.WatchListWorks}
				start(t, s, func(_ *Finder, sync func(*catalog.Snapshot)) {
					sync(claim(api, nil))
					if s.count() != 1 {
						t.Fatalf("%d tries at first", s.count())
					}
					sync(c.next)
					time.Sleep(DefaultTiming().Pause)
					synctest.Wait()
					if s.count() != c.tries {
						t.Errorf("%d tries, want %d", s.count(), c.tries)
					}
				})
			})
		})
	}
}

func settled(s *backendtest.Server, policy string) *catalog.Snapshot {
	return claim(s, func(f *catalog.Facts) {
		o := s.APIService(name)
		o.Annotations = map[string]string{catalog.WatchListAnnotation: policy}
		f.Registrations[name] = catalog.NewRegistration(o)
	})
}

// Nothing is tried before there is something to try.
func TestWhatIsNotTried(t *testing.T) {
	api := at("192.0.2.1:443")
	for what, next := range map[string]*catalog.Snapshot{
		"no verdict":   claim(api, func(f *catalog.Facts) { delete(f.Verdicts, name) }),
		"unavailable":  claim(api, func(f *catalog.Facts) { f.Verdicts[name] = catalog.Verdict{Status: "False"} }),
		"no discovery": claim(api, func(f *catalog.Facts) { delete(f.Documents, name) }),
		"pass":         settled(api, "pass"),
		"refuse":       settled(api, "refuse"),
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &tries{}
				start(t, s, func(_ *Finder, sync func(*catalog.Snapshot)) {
					sync(next)
					time.Sleep(time.Hour)
					if s.count() > 0 {
						t.Errorf("%d tries", s.count())
					}
					sync(claim(api, nil))
					if s.count() != 1 {
						t.Errorf("%d tries when there was something", s.count())
					}
				})
			})
		})
	}
}

// A server whose endpoints change all the time, and that ends connections all the
// time, is tried a few times, and then every 40 s at most, one watch at a time.
func TestAServerThatChangesAllTheTimeIsTriedNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &tries{hang: true}
		start(t, s, func(f *Finder, sync func(*catalog.Snapshot)) {
			for i := range 3600 {
				snapshot := claim(at(fmt.Sprintf("192.0.2.%d:443", i%200)), nil)
				sync(snapshot)
				f.Again(snapshot.APIServices()[0].Backend)
				time.Sleep(time.Second)
			}
			if most := triesAtOnce + int(time.Hour*triesAtOnce/triesPeriod); s.count() > most || s.count() < most/2 || most > int(time.Hour/DefaultTiming().Pause) {
				t.Errorf("%d tries in an hour, at most %d are allowed", s.count(), most)
			}
			for i := 1; i < len(s.asked); i++ {
				if since := s.asked[i].Sub(s.asked[i-1]); since < DefaultTiming().Soon {
					t.Errorf("a try %v after another", since)
				}
			}
		})
	})
}

// shows has the next tries show something else.
func (s *tries) shows(support catalog.WatchListSupport) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = support
}

// What was mended is known as soon as it shows: clients are refused watches until then.
func TestAMendedServerIsKnownAtOnce(t *testing.T) {
	const old = "192.0.2.1:443"
	for what, mend := range map[string]func(s *tries, f *Finder, sync func(*catalog.Snapshot)){
		"another endpoint": func(s *tries, _ *Finder, sync func(*catalog.Snapshot)) {
			s.shows(catalog.WatchListWorks)
			sync(claim(at("192.0.2.2:443"), nil))
		},
		"restarted": func(s *tries, f *Finder, _ func(*catalog.Snapshot)) {
			s.shows(catalog.WatchListWorks)
			f.Again(claim(at(old), nil).APIServices()[0].Backend)
		},
		"another one after a while beside the old one": func(s *tries, _ *Finder, sync func(*catalog.Snapshot)) {
			sync(claim(at("192.0.2.3:443"), nil)) // the old one is asked once more
			time.Sleep(2 * time.Second)
			s.shows(catalog.WatchListWorks)
			sync(claim(at("192.0.2.2:443"), nil))
		},
		"away for a while": func(s *tries, _ *Finder, sync func(*catalog.Snapshot)) {
			sync(claim(at(old), func(f *catalog.Facts) { f.Verdicts[name] = catalog.Verdict{Status: "False"} }))
			time.Sleep(20 * time.Second)
			s.shows(catalog.WatchListWorks)
			sync(claim(at(old), nil))
		},
		"not at work at once": func(s *tries, f *Finder, _ func(*catalog.Snapshot)) {
			s.shows(catalog.WatchListUnknown)
			f.Again(claim(at(old), nil).APIServices()[0].Backend)
			time.Sleep(2 * time.Second)
			s.shows(catalog.WatchListWorks)
		},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &tries{answer: catalog.WatchListMissing}
				var mu sync.Mutex
				var last catalog.WatchListSupport
				f := New(Config{Timing: DefaultTiming(), Try: s.try, Report: func(_ *catalog.APIService, support catalog.WatchListSupport) {
					mu.Lock()
					defer mu.Unlock()
					last = support
				}})
				ctx, cancel := context.WithCancel(t.Context())
				sync := func(snapshot *catalog.Snapshot) { f.Sync(ctx, snapshot); synctest.Wait() }
				sync(claim(at(old), nil))
				time.Sleep(2 * time.Second)
				synctest.Wait()
				mu.Lock()
				if last != catalog.WatchListMissing {
					t.Errorf("at first it is %q", last)
				}
				mu.Unlock()
				mend(s, f, sync)
				time.Sleep(5 * time.Second)
				synctest.Wait()
				mu.Lock()
				if last != catalog.WatchListWorks {
					t.Errorf("5 s after it was mended it is %q", last)
				}
				mu.Unlock()
				cancel()
				f.Wait()
			})
		})
	}
}

// What shows nothing is tried again, more and more rarely; what was known stays.
func TestWhatShowsNothingIsTriedAgain(t *testing.T) {
	const s, m = time.Second, time.Minute
	for known, want := range map[catalog.WatchListSupport][]time.Duration{
		catalog.WatchListRefused: {30 * s, 30 * s, m, 2 * m, 4 * m, 8 * m, 10 * m, 10 * m, 10 * m, 10 * m},
		// Of a server whose clients are refused watches it is asked sooner, but not too often.
		catalog.WatchListMissing: {30 * s, s, 2 * s, 4 * s, 8 * s, 16 * s, 32 * s, 64 * s, 128 * s, 256 * s, 512 * s, 10 * m, 10 * m},
	} {
		synctest.Test(t, func(t *testing.T) {
			tries := &tries{answer: known}
			reported := start(t, tries, func(f *Finder, sync func(*catalog.Snapshot)) {
				snapshot := claim(at("192.0.2.1:443"), nil)
				sync(snapshot)
				tries.shows(catalog.WatchListUnknown)
				time.Sleep(DefaultTiming().Pause)
				f.Again(snapshot.APIServices()[0].Backend)
				time.Sleep(40 * time.Minute)
				synctest.Wait()
				var pauses []time.Duration
				for i := 1; i < len(tries.asked); i++ {
					pauses = append(pauses, tries.asked[i].Sub(tries.asked[i-1]).Round(time.Millisecond))
				}
				if len(pauses) < 7 || !slices.Equal(pauses, want[:min(len(pauses), len(want))]) {
					t.Errorf("%s: pauses of %v, want %v", known, pauses, want)
				}
			})
			if !slices.Equal(reported, []catalog.WatchListSupport{known}) {
				t.Errorf("reported %v", reported)
			}
		})
	}
}

// One late bookmark, or one watch without an answer, does not have all clients list.
func TestASecondTryDecides(t *testing.T) {
	const works, missing, refused, unknown = catalog.WatchListWorks, catalog.WatchListMissing, catalog.WatchListRefused, catalog.WatchListUnknown
	for _, c := range []struct{ shown, want []catalog.WatchListSupport }{
		{[]catalog.WatchListSupport{missing}, []catalog.WatchListSupport{missing}},
		{[]catalog.WatchListSupport{works, missing, works}, []catalog.WatchListSupport{works, unknown, works}},
		{[]catalog.WatchListSupport{works, missing, unknown, missing, missing}, []catalog.WatchListSupport{works, unknown, unknown, unknown, missing}},
		{[]catalog.WatchListSupport{works, Silent, Silent, Silent, missing, missing}, []catalog.WatchListSupport{works, unknown, unknown, unknown, unknown, missing}},
		{[]catalog.WatchListSupport{Silent, unknown, Silent, Silent}, []catalog.WatchListSupport{unknown, unknown, unknown, missing}},
		{[]catalog.WatchListSupport{works, missing, works, missing}, []catalog.WatchListSupport{works, unknown, works, unknown}},
		{[]catalog.WatchListSupport{Silent, Silent, Silent, works}, []catalog.WatchListSupport{unknown, missing, missing, works}},
		{[]catalog.WatchListSupport{Silent, works, Silent, missing}, []catalog.WatchListSupport{unknown, works, unknown, unknown}},
		{[]catalog.WatchListSupport{refused, missing}, []catalog.WatchListSupport{refused, missing}},
	} {
		var h history
		for i, shown := range c.shown {
			if got := h.settle(shown); got != c.want[i] {
				t.Errorf("%q: %q after %d, want %q", c.shown, got, i+1, c.want[i])
			}
		}
	}
}

// The second try comes after the pause.
func TestWhatIsSilentIsTriedASecondTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &tries{answer: Silent}
		reported := start(t, s, func(_ *Finder, sync func(*catalog.Snapshot)) {
			sync(claim(at("192.0.2.1:443"), nil))
			time.Sleep(DefaultTiming().Pause)
			synctest.Wait()
			if n := s.count(); n != 2 {
				t.Errorf("%d tries", n)
			}
		})
		if !slices.Equal(reported, []catalog.WatchListSupport{catalog.WatchListMissing}) {
			t.Errorf("reported %v", reported)
		}
	})
}

// An extension server may become another one without a sign.
func TestWhatIsKnownIsTriedAgainAfterAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &tries{answer: catalog.WatchListMissing}
		start(t, s, func(_ *Finder, sync func(*catalog.Snapshot)) {
			sync(claim(at("192.0.2.1:443"), nil))
			time.Sleep(10 * time.Hour)
			if n := s.count(); n < 10 || n > 13 {
				t.Errorf("%d tries in 10 hours", n)
			}
		})
	})
}

// answers of real servers, and what trying them costs.
func TestRealServers(t *testing.T) {
	const bound = 8 << 20 // what a connection takes before anybody reads, and more
	flush := func(w http.ResponseWriter) error { return http.NewResponseController(w).Flush() }
	for what, c := range map[string]struct {
		serve func(w http.ResponseWriter, r *http.Request, wrote *atomic.Int64)
		want  catalog.WatchListSupport
	}{
		"the bookmark": {func(w http.ResponseWriter, r *http.Request, _ *atomic.Int64) {
			_, _ = io.WriteString(w, bookmark)
			_ = flush(w)
			<-r.Context().Done()
		}, catalog.WatchListWorks},
		"nothing after the header": {func(w http.ResponseWriter, r *http.Request, _ *atomic.Int64) {
			_ = flush(w)
			<-r.Context().Done()
		}, catalog.WatchListMissing},
		"nothing at all": {func(_ http.ResponseWriter, r *http.Request, _ *atomic.Int64) { <-r.Context().Done() }, Silent},
		"a refusal":      {func(w http.ResponseWriter, _ *http.Request, _ *atomic.Int64) { w.WriteHeader(422) }, catalog.WatchListRefused},
		"a redirect": {func(w http.ResponseWriter, r *http.Request, _ *atomic.Int64) {
			http.Redirect(w, r, "/else", http.StatusFound)
		}, catalog.WatchListUnknown},
		"everything in spite of the selector": {func(w http.ResponseWriter, r *http.Request, wrote *atomic.Int64) {
			for r.Context().Err() == nil {
				n, err := io.WriteString(w, added+"\n")
				if wrote.Add(int64(n)); err != nil {
					return
				}
			}
		}, catalog.WatchListMissing},
		"10 MiB on one line": {func(w http.ResponseWriter, r *http.Request, wrote *atomic.Int64) {
			_, _ = io.WriteString(w, `{"type":"ADDED","object":{"metadata":{"name":"`)
			for range 10 << 4 {
				n, err := io.WriteString(w, strings.Repeat("x", 64<<10))
				if wrote.Add(int64(n)); err != nil {
					return
				}
			}
			<-r.Context().Done()
		}, catalog.WatchListUnknown},
		"one byte at a time": {func(w http.ResponseWriter, r *http.Request, _ *atomic.Int64) {
			for r.Context().Err() == nil {
				_, _ = io.WriteString(w, " ")
				_ = flush(w)
				select {
				case <-r.Context().Done():
				case <-time.After(10 * time.Millisecond):
				}
			}
		}, catalog.WatchListMissing},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			var wrote atomic.Int64
			ended := make(chan struct{}, 1)
			s := backendtest.Start(t, "api", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				c.serve(w, r, &wrote)
				ended <- struct{}{}
			}))
			pool := backend.New(backend.Config{})
			t.Cleanup(pool.Close)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			began := time.Now()
			if got := HTTP(pool)(ctx, claim(s, nil).APIServices()[0]); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			took := time.Since(began)
			<-ended // nothing is left open at the server
			if n := wrote.Load(); n > bound || took > 2*time.Second {
				t.Errorf("%d bytes in %v", n, took)
			}
			requests := s.Requests()
			if len(requests) != 1 || !strings.HasPrefix(requests[0].Path, "/apis/a.example/v1/things?") {
				t.Fatalf("%v", requests)
			}
			if h := requests[0].Header; !slices.Equal(h["X-Remote-User"], []string{"system:kube-aggregator"}) || !slices.Equal(h["X-Remote-Group"], []string{"system:masters"}) {
				t.Errorf("asked as %q of %q", h["X-Remote-User"], h["X-Remote-Group"])
			}
		})
	}
}

func TestNothingIsTriedAtAServerThatIsNotThere(t *testing.T) {
	pool := backend.New(backend.Config{})
	t.Cleanup(pool.Close)
	for what, a := range map[string]*catalog.APIService{
		"dead":        claim(backendtest.Dead(t, "api"), nil).APIServices()[0],
		"no endpoint": claim(at("192.0.2.1:443"), func(f *catalog.Facts) { clear(f.Services) }).APIServices()[0],
		"no resource": claim(at("192.0.2.1:443"), func(f *catalog.Facts) { clear(f.Documents) }).APIServices()[0],
	} {
		if got := HTTP(pool)(t.Context(), a); got != catalog.WatchListUnknown {
			t.Errorf("%s: %q", what, got)
		}
	}
}

// A connection that cannot be made says nothing of watches: nothing was asked.
func TestAServerThatCannotBeReachedIsNotSilent(t *testing.T) {
	s := backendtest.Start(t, "api", http.NotFoundHandler())
	pool := backend.New(backend.Config{Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}})
	t.Cleanup(pool.Close)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if got := HTTP(pool)(ctx, claim(s, nil).APIServices()[0]); got != catalog.WatchListUnknown {
		t.Errorf("got %q", got)
	}
}
