package fetch

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/annex-api/annex/aggregator/internal/backend"
	"github.com/annex-api/annex/aggregator/internal/backendtest"
	"github.com/annex-api/annex/aggregator/internal/catalog"
)

const (
	name     = "v1.a.example"
	patience = time.Minute // how long a test waits for what must come
)

// patient never repeats on its own within a test.
func patient() Timing {
	return Timing{
		DiscoveryTimeout: patience, OpenAPITimeout: patience,
		Interval: time.Hour, RetryMin: time.Hour, RetryMax: time.Hour,
	}
}

// learned reads what a Fetcher knows; changed has a value after it has changed.
type learned struct {
	fetcher *Fetcher
	changed chan struct{}
}

func (l *learned) get(name string) catalog.Document { return l.fetcher.Documents()[name] }

// await waits until the document of name is as wanted.
func (l *learned) await(t *testing.T, name string, what string, wanted func(catalog.Document) bool) catalog.Document {
	t.Helper()
	deadline := time.After(patience)
	for {
		if d := l.get(name); wanted(d) {
			return d
		}
		select {
		case <-l.changed:
		case <-deadline:
			t.Fatalf("%s: no document %s; the last is %+v", name, what, l.get(name))
		}
	}
}

func current(d catalog.Document) bool { return d.Discovery != nil && !d.Stale }

func newFetcher(t *testing.T, timing Timing) (*Fetcher, *learned) {
	t.Helper()
	pool := backend.New(backend.Config{})
	t.Cleanup(pool.Close)
	l := newLearned(timing, pool)
	return l.fetcher, l
}

func newLearned(timing Timing, pool *backend.Pool) *learned {
	changed := make(chan struct{}, 1)
	return &learned{fetcher: New(timing, pool, func() { wake(changed) }, func() {}), changed: changed}
}

// run starts loops by Sync and stops them when the test ends.
func run(t *testing.T, f *Fetcher) func(*catalog.Snapshot) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() {
		cancel()
		f.Wait()
	})
	return func(s *catalog.Snapshot) { f.Sync(ctx, s) }
}

func TestMembersOfOneServiceShareOneFetch(t *testing.T) {
	s := backendtest.Start(t, "api", aggregatedServer(version("a.example", "v1"), version("a.example", "v2"), version("b.example", "v1")))
	f, l := newFetcher(t, patient())
	sync := run(t, f)
	names := []string{"v1.a.example", "v2.a.example", "v1.b.example"}
	sync(s.Snapshot(names...))
	for _, name := range names {
		l.await(t, name, "that is current", current)
	}
	if n := s.Count("/apis"); n != 1 {
		t.Errorf("/apis was fetched %d times for three APIServices of one Service", n)
	}
	// The same snapshot again is no reason to fetch.
	sync(s.Snapshot(names...))
	// A new member is.
	sync(s.Snapshot(append(names, "v3.a.example")...))
	l.await(t, "v3.a.example", "at all", func(d catalog.Document) bool { return d.Problem != "" })
	if n := s.Count("/apis"); n != 2 {
		t.Errorf("/apis was fetched %d times, want once more for the new member", n)
	}
}

func TestSlowOpenAPIDelaysNoDiscovery(t *testing.T) {
	discovery := aggregatedServer(version("a.example", "v1"))
	s := backendtest.Start(t, "api", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/apis" {
			discovery.ServeHTTP(w, r)
			return
		}
		<-r.Context().Done()
	}))
	f, l := newFetcher(t, patient())
	run(t, f)(s.Snapshot(name))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	f.AwaitFirstAttempt(ctx)
	if ctx.Err() != nil {
		t.Fatal("a first attempt at discovery waited for OpenAPI")
	}
	l.await(t, name, "that is current", current)
}

func TestAwaitFirstAttemptAnswersForHungServers(t *testing.T) {
	hung := backendtest.Start(t, "hung", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	dead := backendtest.Dead(t, "dead")
	timing := patient()
	timing.DiscoveryTimeout = 100 * time.Millisecond
	f, l := newFetcher(t, timing)
	snapshot := catalog.Build(backendtest.Facts([]*apiregistrationv1.APIService{
		hung.APIService("v1.hung.example"), dead.APIService("v1.dead.example"),
	}, hung, dead))
	run(t, f)(snapshot)
	f.AwaitFirstAttempt(t.Context())
	for _, name := range []string{"v1.hung.example", "v1.dead.example"} {
		if d := l.get(name); !d.Stale || d.Problem == "" || d.Discovery != nil {
			t.Errorf("%s: %+v, want Stale with a problem", name, d)
		}
	}
}

func TestAwaitFirstAttemptEndsWithItsContext(t *testing.T) {
	hung := backendtest.Start(t, "hung", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	f, _ := newFetcher(t, patient())
	run(t, f)(hung.Snapshot(name))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	f.AwaitFirstAttempt(ctx) // returns, though nothing was attempted to its end
}

func TestFailuresAreTriedAgain(t *testing.T) {
	var mu sync.Mutex
	down := true
	good := aggregatedServer(version("a.example", "v1"))
	s := backendtest.Start(t, "api", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		refuse := down
		mu.Unlock()
		if refuse {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		good.ServeHTTP(w, r)
	}))
	timing := patient()
	timing.RetryMin, timing.RetryMax = 5*time.Millisecond, 20*time.Millisecond
	f, l := newFetcher(t, timing)
	run(t, f)(s.Snapshot(name))
	l.await(t, name, "that is Stale", func(d catalog.Document) bool { return d.Stale })
	mu.Lock()
	down = false
	mu.Unlock()
	l.await(t, name, "that is current", current)
}

func TestReturnOfAServerIsSeenAtOnce(t *testing.T) {
	s := backendtest.Start(t, "api", aggregatedServer(version("a.example", "v1")))
	f, l := newFetcher(t, patient())
	sync := run(t, f)
	with := func(status catalog.Status) *catalog.Snapshot {
		facts := backendtest.Facts([]*apiregistrationv1.APIService{s.APIService(name)}, s)
		facts.Verdicts[name] = catalog.Verdict{Status: status}
		return catalog.Build(facts)
	}
	sync(with(apiregistrationv1.ConditionFalse))
	l.await(t, name, "that is current", current)
	before := s.Count("/apis")
	sync(with(apiregistrationv1.ConditionTrue))
	await(t, "another fetch after the server is available again", func() bool { return s.Count("/apis") > before })
}

// A document stays while snapshots have its APIService, and goes with it.
func TestDocumentsAreThoseOfTheLastSnapshot(t *testing.T) {
	s := backendtest.Start(t, "api", aggregatedServer(version("a.example", "v1")))
	f, l := newFetcher(t, patient())
	sync := run(t, f)
	f.Seed(name, catalog.Document{Stale: true, Problem: "seeded"})
	if d := f.Documents(); len(d) != 1 || d[name].Problem != "seeded" {
		t.Errorf("before the first snapshot: %+v", d)
	}
	sync(s.Snapshot(name))
	known := l.await(t, name, "that is current", current)
	sync(s.Snapshot(name)) // made anew, without a document
	if again := l.get(name); again.Discovery != known.Discovery {
		t.Errorf("after a snapshot without the document: %+v", again)
	}
	given := f.Documents()
	delete(given, name)
	if len(f.Documents()) != 1 {
		t.Error("what was given to a caller is changed with it")
	}
	sync(catalog.Build(catalog.Facts{}))
	if d := f.Documents(); len(d) != 0 {
		t.Errorf("after the APIService has gone: %+v", d)
	}
}

// A member that leaves and returns during a download makes the next one start from
// nothing: what the server says of an ETag holds for documents that are gone.
func TestMembersThatComeAndGoAreCounted(t *testing.T) {
	a := (&backendtest.Server{Service: "api", Address: "192.0.2.1:443"}).Snapshot(name).Remotes()
	b := (&backendtest.Server{Service: "api", Address: "192.0.2.2:443"}).Snapshot(name).Remotes()
	f, _ := newFetcher(t, patient())
	n := newServer(nil, a)
	n.setMembers(nil)
	n.setMembers(a)
	if _, changes, nameChanges := f.members(n); changes != 2 || nameChanges != 2 {
		t.Errorf("after a member left and returned: %d changes, %d of them of members", changes, nameChanges)
	}
	n.setMembers(b)
	if _, changes, nameChanges := f.members(n); changes != 3 || nameChanges != 2 {
		t.Errorf("after a member led elsewhere: %d changes, %d of them of members", changes, nameChanges)
	}
}

func TestSyncStopsWhatIsGone(t *testing.T) {
	s := backendtest.Start(t, "api", aggregatedServer(version("a.example", "v1")))
	f, l := newFetcher(t, patient())
	sync := run(t, f)
	sync(s.Snapshot(name))
	l.await(t, name, "that is current", current)
	sync(catalog.Build(catalog.Facts{}))
	f.Wait() // both loops end without the context's end
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.servers) != 0 || len(f.documents) != 0 {
		t.Errorf("%d servers and %d documents are left", len(f.servers), len(f.documents))
	}
}

// A registration that moves to another server is not told of the old one's end.
func TestOldServersLastWordDoesNotCount(t *testing.T) {
	asked := make(chan struct{}, 10)
	old := backendtest.Start(t, "old", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/apis" {
			asked <- struct{}{}
		}
		<-r.Context().Done()
	}))
	ended := make(chan struct{})
	answer := aggregatedServer(version("a.example", "v1"))
	fresh := backendtest.Start(t, "fresh", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		<-ended
		answer.ServeHTTP(w, r)
	}))
	f, l := newFetcher(t, patient())
	sync := run(t, f)
	sync(old.Snapshot(name))
	<-asked // the old server's download is under way
	f.mu.Lock()
	var oldServer *server
	for _, n := range f.servers {
		oldServer = n
	}
	f.mu.Unlock()
	sync(fresh.Snapshot(name))
	<-oldServer.attempted // the old server's download has ended
	if d := l.get(name); d.Problem != "" || d.Stale {
		t.Errorf("after the move the old server's end is told: %s", d.Problem)
	}
	close(ended)
	l.await(t, name, "from the fresh server", current)
}

func TestNothingIsLeftRunning(t *testing.T) {
	ignore := goleak.IgnoreCurrent()
	s := backendtest.Start(t, "api", aggregatedServer(version("a.example", "v1")))
	pool := backend.New(backend.Config{})
	l := newLearned(patient(), pool)
	f := l.fetcher
	ctx, cancel := context.WithCancel(t.Context())
	f.Sync(ctx, s.Snapshot(name))
	l.await(t, name, "that is current", current)
	cancel()
	f.Wait()
	pool.Close()
	s.Close()
	goleak.VerifyNone(t, ignore)
}

// await polls a condition that no channel announces.
func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for !done() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// What a server says of an APIService that has moved to another one meanwhile, or is
// gone, does not count, though the server has other APIServices still.
func TestServersWordOnAnAPIServiceThatMovedDoesNotCount(t *testing.T) {
	const stays = "v1.stays.example"
	for _, path := range []string{"/apis", "/openapi/v2", ownURL + "A"} {
		for what, moves := range map[string]bool{"moved": true, "gone": false} {
			t.Run(path+" "+what, func(t *testing.T) {
				asked, answer := make(chan struct{}), make(chan struct{})
				documents := files{
					"/openapi/v2": swagger(own, "/apis/stays.example/v1/things"), ownURL + "A": openAPI3(own),
					"/openapi/v3": v3Root(map[string]string{key: ownURL + "A"}),
				}
				if path == "/openapi/v2" {
					delete(documents, "/openapi/v3")
				}
				discovery := aggregatedServer(version("a.example", "v1"), version("stays.example", "v1"))
				var once sync.Once
				old := backendtest.Start(t, "old", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.URL.RequestURI() == path {
						once.Do(func() { close(asked); <-answer })
					}
					if strings.HasPrefix(r.URL.Path, "/openapi") {
						documents.ServeHTTP(w, r)
						return
					}
					discovery.ServeHTTP(w, r)
				}))
				fresh := backendtest.Start(t, "fresh", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					http.Error(w, "not yet", http.StatusInternalServerError)
				}))
				f, _ := newFetcher(t, patient())
				ctx := t.Context()
				before := catalog.Build(backendtest.Facts([]*apiregistrationv1.APIService{old.APIService(name), old.APIService(stays)}, old))
				after := []*apiregistrationv1.APIService{old.APIService(stays)}
				if moves {
					after = append(after, fresh.APIService(name))
				}
				// The loops themselves do not run: they would tell later what is looked for now.
				stopped, stop := context.WithCancel(ctx)
				stop()
				f.Sync(stopped, before)
				f.Wait()
				members := before.Remotes()
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					if path == "/apis" {
						f.discovery(ctx, members, &discoveryState{})
					} else {
						f.openAPI(ctx, members, &openAPIState{}, true)
					}
				}()
				<-asked
				f.Sync(stopped, catalog.Build(backendtest.Facts(after, old, fresh)))
				close(answer)
				<-ended
				if d, known := f.Documents()[name]; known {
					t.Errorf("the old server's word is taken: %+v", d)
				}
				if d := f.Documents()[stays]; d.Discovery == nil && d.OpenAPIV2.ETag == "" {
					t.Error("and what it says of the APIService that stays is not")
				}
			})
		}
	}
}
