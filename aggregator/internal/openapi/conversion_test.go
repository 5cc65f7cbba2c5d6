package openapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/annex-api/annex/aggregator/internal/pace"
)

func newTestConversion(t pace.Turns, log *[]string, encode func(context.Context) ([]byte, error)) *conversion {
	return &conversion{turns: t, what: "it", encode: encode, logf: func(format string, args ...any) {
		*log = append(*log, fmt.Sprintf(format, args...))
	}}
}

func TestConversionsAreDoneOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := pace.NewTurns()
		var running, most, total atomic.Int64
		var log []string
		var wait sync.WaitGroup
		for range 5 {
			c := newTestConversion(turns, &log, func(context.Context) ([]byte, error) {
				most.Store(max(most.Load(), running.Add(1)))
				total.Add(1)
				time.Sleep(time.Second)
				running.Add(-1)
				return []byte("made"), nil
			})
			for range 3 {
				wait.Go(func() {
					if data, err := c.get(context.Background()); string(data) != "made" || err != nil {
						t.Error(string(data), err)
					}
				})
			}
		}
		wait.Wait()
		expect(t, "conversions at once", most.Load(), int64(1))
		expect(t, "conversions", total.Load(), int64(5))
	})
}

func TestConversionOutlivesAClientThatLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		var log []string
		c := newTestConversion(pace.NewTurns(), &log, func(ctx context.Context) ([]byte, error) {
			calls++
			select {
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			case <-time.After(time.Second):
				return []byte("made"), nil
			}
		})
		leaving, leave := context.WithTimeout(context.Background(), time.Second/2)
		defer leave()
		var wait sync.WaitGroup
		wait.Go(func() {
			if _, err := c.get(leaving); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("the client that left: %v", err)
			}
		})
		wait.Go(func() {
			time.Sleep(time.Millisecond) // comes second
			if data, err := c.get(context.Background()); string(data) != "made" || err != nil {
				t.Errorf("the client that stayed: %q, %v", data, err)
			}
		})
		wait.Wait()
		expect(t, "conversions", calls, 2)
		expect(t, "log lines", len(log), 0)
	})
}

func TestFailedConversionIsToldOnce(t *testing.T) {
	calls := 0
	var log []string
	c := newTestConversion(pace.NewTurns(), &log, func(context.Context) ([]byte, error) {
		calls++
		panic("no")
	})
	for range 3 {
		if _, err := c.get(t.Context()); err == nil {
			t.Error("no error")
		}
	}
	expect(t, "conversions", calls, 1)
	expect(t, "log lines", len(log), 1)
}

// A client that leaves during a merge does not spoil it for others, and nothing
// is said of the documents.
func TestMergeOutlivesAClientThatLeaves(t *testing.T) {
	f := newFixture(newLocal(map[string]string{"/openapi/v2": good("/api/v1/pods")}))
	f.v2(t) // the local document is known
	f.Sync(snapshot(gizmo(good(onGizmos))))
	gone, leave := context.WithCancel(t.Context())
	leave()
	w := httptest.NewRecorder()
	f.serveV2.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/openapi/v2", nil).WithContext(gone))
	expect(t, "status for who left", w.Code, http.StatusServiceUnavailable)
	expectMap(t, "paths after that", described(f.v2(t)), map[string]string{"/api/v1/pods": thing, onGizmos: thing})
	expect(t, "log lines", len(f.log.all()), 0)
}

// What all extension servers say together is bounded, and those of the lowest
// priority are left out, each with one line.
func TestV2OfAllServersIsBounded(t *testing.T) {
	f := newFixture(newLocal(map[string]string{"/openapi/v2": good("/api/v1/pods")}))
	f.Service.v2.limit = 150
	large := func(path string) string {
		return swagger("A", map[string]string{"A": `{"enum":[` + strings.Repeat(`"a",`, 80) + `"a"]}`}, path)
	}
	first, second := gizmo(large(onGizmos)), widget(large(onWidget))
	first.group2, second.group2 = 2000, 1000
	f.Sync(snapshot(first, second))
	documents := func() (first, second *v2Document) {
		rs := f.current.Load()
		return rs.ordered[0].v2, rs.ordered[1].v2
	}
	for range 3 {
		got := described(f.v2(t))
		if _, found := got[onGizmos]; !found || len(got) != 2 {
			t.Errorf("paths: %v", got)
		}
	}
	expect(t, "log lines", len(f.log.all()), 1)
	kept, left := documents()
	expect(t, "the first is kept parsed", kept.spec != nil, true)
	expect(t, "what is left out is parsed", left.parsed, false)
	first.v2, first.etag = good(onGizmos), "smaller"
	f.Sync(snapshot(first, second))
	expect(t, "paths when there is room", len(described(f.v2(t))), 3)
	_, left = documents()
	expect(t, "what there is room for is kept parsed", left.spec != nil, true)
	first.v2, first.etag = large(onGizmos), "larger"
	f.Sync(snapshot(first, second))
	expect(t, "paths when there is no room again", len(described(f.v2(t))), 2)
	_, left = documents()
	expect(t, "what is left out again is kept parsed", left.parsed || left.spec != nil, false)
}
