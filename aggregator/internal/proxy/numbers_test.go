package proxy

import (
	"net/http"
	"strings"
	"testing"

	"github.com/annex-api/annex/aggregator/internal/backend"
	"github.com/annex-api/annex/aggregator/internal/backend/balance"
	"github.com/annex-api/annex/aggregator/internal/backend/limit"
	"github.com/annex-api/annex/aggregator/internal/backendtest"
)

// What is known of an endpoint counts what clients have asked there, what failed there,
// and how long answers took that tell of it.
func TestTheNumbersOfAnEndpoint(t *testing.T) {
	server := backendtest.Start(t, "api", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Query().Get("labelSelector") {
		case "broken":
			w.WriteHeader(http.StatusInternalServerError)
		case "absent":
			w.WriteHeader(http.StatusNotFound)
		case "cut":
			panic(http.ErrAbortHandler)
		}
	}))
	pool := backend.New(backend.Config{})
	defer pool.Close()
	p, claim := New(Config{Backends: pool}), server.Claim(name)
	for i, c := range []struct {
		query            string
		requests, failed uint64
		measured         bool
		lastError        string
	}{
		{query: "?watch=1", requests: 1},
		{query: "", requests: 2, measured: true},
		{query: "?labelSelector=absent", requests: 3, measured: true},
		{query: "?labelSelector=broken", requests: 4, failed: 1, measured: true, lastError: "the answer was 500 Internal Server Error"},
		{query: "?labelSelector=cut", requests: 5, failed: 2, measured: true, lastError: "without a whole answer"},
	} {
		r := newRequest(t.Context(), t, http.MethodGet, c.query, nil)
		p.Serve(&drain{header: http.Header{}}, r, claim, limit.Ordinary)
		got := pool.Get(claim).Traffic()
		if len(got) != 1 || got[0].Recent == nil {
			t.Fatalf("step %d: %+v", i, got)
		}
		a := got[0]
		if a.Recent.Requests != c.requests || a.Recent.Failed != c.failed || a.Requests != c.requests || a.Failed != c.failed {
			t.Errorf("step %d: %d requests, %d failed; want %d, %d", i, a.Recent.Requests, a.Recent.Failed, c.requests, c.failed)
		}
		if measured := a.Recent.Quantile(1) > 0; measured != c.measured {
			t.Errorf("step %d: measured %v, want %v", i, measured, c.measured)
		}
		if !strings.Contains(a.LastError.Message, c.lastError) || (c.lastError == "") != (a.LastError == balance.LastError{}) {
			t.Errorf("step %d: the last error is %+v, want %q", i, a.LastError, c.lastError)
		}
		if a.InFlight != 0 {
			t.Errorf("step %d: %d requests are under way", i, a.InFlight)
		}
	}
}

// Who was overtaken had no fault if it began later, or was to wait for an event.
func TestWhoWasOvertakenCountsAsFailedOnlyIfItWasSlow(t *testing.T) {
	overtaken := judge(ending{cause: errOvertaken, stage: sent})
	for _, c := range []struct {
		kind    kind
		attempt string
		failed  bool
	}{
		{kind{plainRead: true}, firstAttempt, true},
		{kind{plainRead: true}, hedgeAttempt, false},
		{kind{plainRead: true, watch: true}, firstAttempt, false},
		{kind{plainRead: true, watch: true}, hedgeAttempt, false},
	} {
		if got := overtaken.request(c.kind, c.attempt); (got.Error != "") != c.failed {
			t.Errorf("%+v, the %s attempt: %+v", c.kind, c.attempt, got)
		}
	}
}
