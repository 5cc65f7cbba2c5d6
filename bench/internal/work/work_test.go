package work

import (
	"net/http"
	"net/http/httptest"
	"net/http/pprof"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/annex-api/annex/bench/internal/fixture"
	"github.com/annex-api/annex/bench/internal/host"
	"github.com/annex-api/annex/bench/internal/process"
)

var small = Config{APIServices: 1, Requests: 20, Concurrency: 3, Watches: 40, IdleSeconds: 1}

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
		"short": {[]byte("{}"), "2 bytes, want 400"},
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
	if err != nil || len(metrics) != 3 {
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

func TestNamesCanBeChosen(t *testing.T) {
	seen := map[string]bool{}
	for _, w := range All() {
		if seen[w.Name()] || w.Name() == "" || strings.Contains(w.Name(), ",") {
			t.Errorf("name %q is empty, used twice, or has a comma", w.Name())
		}
		seen[w.Name()] = true
	}
}
