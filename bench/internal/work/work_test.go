package work

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/pprof"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/annex-api/annex/bench/internal/fixture"
	"github.com/annex-api/annex/bench/internal/host"
	"github.com/annex-api/annex/bench/internal/process"
)

var small = Config{
	APIServices: 1, Requests: 20, Concurrency: 3, Watches: 40, IdleSeconds: 1,
	EventWatches: 5, EventRate: 20, EventSeconds: 2,
}

// newHost is a host whose answers come from a handler, and whose process is any.
func newHost(t *testing.T, h http.Handler) *host.Host {
	t.Helper()
	mux := http.NewServeMux()
	mux.Handle("/", h)
	mux.Handle("/debug/pprof/heap", pprof.Handler("heap"))
	s := httptest.NewUnstartedServer(mux)
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	p, err := process.Start(process.Command{Name: "sleep", Path: "/bin/sleep", Args: []string{"3600"}, Log: filepath.Join(t.TempDir(), "log")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Stop(time.Minute); err != nil {
			t.Error(err)
		}
	})
	return &host.Host{URL: s.URL, Client: s.Client(), Server: p, Startup: time.Second}
}

func TestProxiedGetChecksTheSize(t *testing.T) {
	for name, c := range map[string]struct {
		body []byte
		want string
	}{
		"right": {fixture.Item(fixture.Group(0), "one"), ""},
		"short": {[]byte("{}"), "2 bytes, want 200 and 400"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(c.body) }))
			metrics, err := proxiedGet().Run(t.Context(), h, small)
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("error %v, want %q", err, c.want)
				}
				return
			}
			if err != nil || len(metrics) != 3 || metrics[1].Value <= 0 || metrics[2].Value < metrics[1].Value {
				t.Errorf("got %+v, %v", metrics, err)
			}
		})
	}
}

func TestWatchesAreAllOpenAtOnce(t *testing.T) {
	var open, most atomic.Int64
	h := newHost(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Write(fixture.Bookmark(fixture.Group(0)))
		now := open.Add(1)
		for seen := most.Load(); now > seen && !most.CompareAndSwap(seen, now); seen = most.Load() {
		}
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
		<-r.Context().Done()
		open.Add(-1)
	}))
	metrics, err := watches{}.Run(t.Context(), h, small)
	if err != nil || len(metrics) != 4 {
		t.Errorf("got %+v, %v", metrics, err)
	}
	if most.Load() != int64(small.Watches) {
		t.Errorf("%d open at once, want %d", most.Load(), small.Watches)
	}
}

func TestAWrongFirstEventFails(t *testing.T) {
	h := newHost(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Write(fixture.Bookmark(fixture.Group(1)))
	}))
	if _, err := (watches{}).Run(t.Context(), h, small); err == nil || !strings.Contains(err.Error(), "first event") {
		t.Errorf("error %v", err)
	}
}

func TestWritesAreSentWithAnObject(t *testing.T) {
	var wrong atomic.Int64
	h := newHost(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.Method != http.MethodPost || len(body) != fixture.ItemBytes || r.Header.Get("Content-Type") != "application/json" {
			wrong.Add(1)
		}
		w.WriteHeader(http.StatusCreated)
		w.Write(body)
	}))
	if metrics, err := proxiedWrites().Run(t.Context(), h, small); err != nil || len(metrics) != 3 || wrong.Load() != 0 {
		t.Errorf("got %+v, %v; %d requests were not as they should", metrics, err, wrong.Load())
	}
}

// newEventHost sends each watch what it wants to, for each event that is asked for.
func newEventHost(t *testing.T, event func(n int) []byte) *host.Host {
	var mu sync.Mutex
	streams := map[chan int]bool{}
	return newHost(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			count, err := strconv.Atoi(r.URL.Query().Get("count"))
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			for s := range streams {
				s <- count
			}
			return
		}
		asked := make(chan int, 2)
		mu.Lock()
		streams[asked] = true
		mu.Unlock()
		w.Write(fixture.Bookmark(fixture.Group(0)))
		http.NewResponseController(w).Flush()
		sent := 0
		for {
			select {
			case <-r.Context().Done():
				return
			case count := <-asked:
				for range count {
					w.Write(event(sent))
					sent++
				}
				http.NewResponseController(w).Flush()
			}
		}
	}))
}

func TestEveryEventIsCounted(t *testing.T) {
	event := fixture.Event(fixture.Group(0))
	h := newEventHost(t, func(int) []byte { return event })
	metrics, err := watchEvents{}.Run(t.Context(), h, small)
	if err != nil || len(metrics) != 3 || metrics[1].Value != 5*20*2 {
		t.Errorf("got %+v, %v", metrics, err)
	}
}

func TestAWrongEventFails(t *testing.T) {
	event := fixture.Event(fixture.Group(0))
	h := newEventHost(t, func(n int) []byte {
		if n == 30 {
			return bytes.ToUpper(event)
		}
		return event
	})
	if _, err := (watchEvents{}).Run(t.Context(), h, small); err == nil || !strings.Contains(err.Error(), "an event is") {
		t.Errorf("error %v", err)
	}
}

func TestAWatchThatEndsEarlyFails(t *testing.T) {
	h := newHost(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Write(fixture.Bookmark(fixture.Group(0)))
	}))
	if _, err := (watchEvents{}).Run(t.Context(), h, small); err == nil || !strings.Contains(err.Error(), "reading an event") {
		t.Errorf("error %v", err)
	}
}

func TestNamesCanBeChosen(t *testing.T) {
	seen := map[string]bool{}
	for _, w := range All() {
		if seen[w.Name()] || w.Name() == "" || strings.Contains(w.Name(), ",") {
			t.Errorf("name %q is empty, used twice, or has a comma", w.Name())
		}
		seen[w.Name()] = true
	}
}
