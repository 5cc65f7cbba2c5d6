package fetch

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/annex-api/annex/aggregator/internal/backend"
	"github.com/annex-api/annex/aggregator/internal/backendtest"
	"github.com/annex-api/annex/aggregator/internal/catalog"
)

// outage is a server that can be told to fail.
type outage struct {
	http.Handler
	down atomic.Bool
}

func (o *outage) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if o.down.Load() {
		http.Error(w, "no", http.StatusServiceUnavailable)
		return
	}
	o.Handler.ServeHTTP(w, r)
}

// Each document is known with when it was last fetched, how large it is and what went
// wrong since.
func TestDownloadsAreNoted(t *testing.T) {
	discovery := aggregatedServer(version("a.example", "v1"))
	all := files{"/openapi/v2": swagger(own), "/openapi/v3": v3Root(map[string]string{key: ownURL + "A"}), ownURL + "A": openAPI3(own)}
	o := &outage{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/apis" {
			discovery.ServeHTTP(w, r)
			return
		}
		all.ServeHTTP(w, r)
	})}
	s := backendtest.Start(t, "api", o)
	pool := backend.New(backend.Config{})
	defer pool.Close()
	var noted atomic.Int32
	f := New(patient(), pool, func() {}, func() { noted.Add(1) })
	f.logf = t.Logf
	members, state := s.Snapshot(name).Remotes(), &openAPIState{}
	download := func() Downloads {
		f.discovery(t.Context(), members, &discoveryState{})
		f.openAPI(t.Context(), members, state, true)
		return f.Downloads()[name]
	}
	began := time.Now()
	first := download()
	for what, d := range map[string]Download{"discovery": first.Discovery, "OpenAPI v2": first.OpenAPIV2, "OpenAPI v3": first.OpenAPIV3} {
		if d.Fetched.Before(began) || d.Bytes == 0 || d.Problem != "" {
			t.Errorf("%s: %+v", what, d)
		}
	}
	if n := noted.Load(); n != 0 {
		t.Errorf("problems changed %d times though there were none", n)
	}
	o.down.Store(true)
	failed := download()
	for what, d := range map[string][2]Download{
		"discovery":  {first.Discovery, failed.Discovery},
		"OpenAPI v2": {first.OpenAPIV2, failed.OpenAPIV2}, "OpenAPI v3": {first.OpenAPIV3, failed.OpenAPIV3},
	} {
		if d[1].Fetched != d[0].Fetched || d[1].Bytes != d[0].Bytes || !strings.Contains(d[1].Problem, "503") {
			t.Errorf("%s after a failure: %+v", what, d[1])
		}
	}
	if n := noted.Load(); n != 3 {
		t.Errorf("problems changed %d times, want once for each document", n)
	}
	o.down.Store(false)
	mended := download()
	for what, d := range map[string]Download{"discovery": mended.Discovery, "OpenAPI v2": mended.OpenAPIV2, "OpenAPI v3": mended.OpenAPIV3} {
		if !d.Fetched.After(first.OpenAPIV3.Fetched) || d.Problem != "" {
			t.Errorf("%s afterwards: %+v", what, d)
		}
	}
}

// A version that is made from the other one is as good as that one is.
func TestDownloadsOfAVersionThatIsMade(t *testing.T) {
	for _, c := range []struct{ lacks, path string }{{"/openapi/v2", "/openapi/v3"}, {"/openapi/v3", "/openapi/v2"}} {
		all := files{"/openapi/v2": swagger(own), "/openapi/v3": v3Root(map[string]string{key: ownURL + "A"}), ownURL + "A": openAPI3(own)}
		codes := map[string]int{c.lacks: http.StatusNotFound}
		var mu sync.Mutex
		s := backendtest.Start(t, "api", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			statuses{codes, all}.ServeHTTP(w, r)
		}))
		f, _ := newFetcher(t, patient())
		f.logf = t.Logf
		members, state := s.Snapshot(name).Remotes(), &openAPIState{}
		f.openAPI(t.Context(), members, state, true)
		f.openAPI(t.Context(), members, state, true)
		if d := f.Downloads()[name]; d.OpenAPIV2.Bytes == 0 || d.OpenAPIV3.Bytes == 0 || d.OpenAPIV2.Problem+d.OpenAPIV3.Problem != "" {
			t.Errorf("without %s: %+v", c.lacks, d)
		}
		mu.Lock()
		codes[c.path] = http.StatusBadGateway
		mu.Unlock()
		f.openAPI(t.Context(), members, state, true)
		if d := f.Downloads()[name]; !strings.Contains(d.OpenAPIV2.Problem, "502") || !strings.Contains(d.OpenAPIV3.Problem, "502") {
			t.Errorf("without %s, while the other one fails: %+v", c.lacks, d)
		}
	}
}

// What is wrong with one APIService's part of a document is no problem of the others.
func TestAProblemOfOneMemberIsItsOwn(t *testing.T) {
	down, bad := errors.New("down"), ofMember{"v1.b.example", errors.New("bad")}
	for i, c := range []struct {
		err  error
		a, b string
	}{
		{nil, "", ""},
		{down, "down", "down"},
		{bad, "", "bad"},
		{errors.Join(bad, ofMember{"v1.a.example", errors.New("odd")}), "odd", "bad"},
		{errors.Join(errors.Join(bad), down), "down", "bad"},
		{fmt.Errorf("asking: %w", down), "asking: down", "asking: down"},
	} {
		if a, b := backend.ErrorText(problemOf("v1.a.example", c.err)), backend.ErrorText(problemOf("v1.b.example", c.err)); a != c.a || b != c.b {
			t.Errorf("%d: %q and %q, want %q and %q", i, a, b, c.a, c.b)
		}
	}
	if !errors.As(errors.Join(ofMember{"x", unusable{errors.New("y")}}), &unusable{}) {
		t.Error("a member's problem is unusable no more")
	}
}

func TestSizesOfWhatWasRemembered(t *testing.T) {
	f, _ := newFetcher(t, patient())
	d := backendtest.Things()
	d.Stale = true
	f.Seed(name, d)
	got := f.Downloads()[name].Discovery
	if got.Bytes != d.Discovery.Size() || !got.Fetched.IsZero() {
		t.Errorf("%+v", got)
	}
	f.Sync(t.Context(), catalog.Build(catalog.Facts{}))
	if n := len(f.Downloads()); n != 0 {
		t.Errorf("%d are kept of APIServices that are gone", n)
	}
}
