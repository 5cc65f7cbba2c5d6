package load

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"
)

// requests go to a server with a handler.
func requests(t *testing.T, h http.HandlerFunc) Requests {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return Requests{
		Clients: []*http.Client{server.Client()}, Good: http.StatusOK, Timeout: time.Minute,
		New: func(ctx context.Context, _ int) (*http.Request, error) {
			return http.NewRequestWithContext(ctx, http.MethodGet, server.URL, nil)
		},
	}
}

func TestOpenCountsEveryAnswer(t *testing.T) {
	var seen atomic.Int64
	r := requests(t, func(w http.ResponseWriter, _ *http.Request) {
		if seen.Add(1)%5 == 0 {
			http.Error(w, "no", http.StatusServiceUnavailable)
		}
	})
	tally, err := Open(t.Context(), r, 500, 100*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	failure := tally.Failures["status 503"]
	if tally.Sent != 50 || seen.Load() != 50 || tally.Failed != 10 || failure.Count != 10 || failure.Example != "no\n" {
		t.Errorf("%d arrived; %+v", seen.Load(), tally)
	}
	if late := tally.Late(); late < 0.2 {
		t.Errorf("late %v, want at least 0.2", late)
	}
	if p50, p99 := tally.Percentile(50), tally.Percentile(99); p50 <= 0 || p50 > p99 {
		t.Errorf("p50 %v, p99 %v", p50, p99)
	}
}

func TestOpenDoesNotWaitForAnswers(t *testing.T) {
	all := make(chan struct{})
	var seen atomic.Int64
	r := requests(t, func(_ http.ResponseWriter, r *http.Request) {
		if seen.Add(1) == 20 {
			close(all)
		}
		select {
		case <-all:
		case <-r.Context().Done():
		}
	})
	tally, err := Open(t.Context(), r, 1000, 20*time.Millisecond)
	if err != nil || tally.Failed != 0 || tally.Sent != 20 {
		t.Errorf("%+v, %v", tally, err)
	}
}

func TestWhatIsNotAnsweredInTimeFails(t *testing.T) {
	r := requests(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	r.Timeout = 10 * time.Millisecond
	tally, err := Open(t.Context(), r, 100, 50*time.Millisecond)
	if err != nil || tally.Sent != 5 || tally.Failed != 5 || tally.Failures["no answer within 10ms"].Count != 5 {
		t.Errorf("%+v, %v", tally, err)
	}
}

func TestClosedWaitsAsLongAsItIsAskedTo(t *testing.T) {
	var seen atomic.Int64
	r := requests(t, func(w http.ResponseWriter, _ *http.Request) {
		seen.Add(1)
		w.Header().Set("Retry-After", "3600")
		http.Error(w, "later", http.StatusTooManyRequests)
	})
	tally, err := Closed(t.Context(), r, 4, 4*time.Second)
	if err != nil || tally.Sent != 4 || tally.Failed != 4 || seen.Load() != 4 {
		t.Errorf("%d arrived; %+v, %v", seen.Load(), tally, err)
	}
}

func TestClosedComesAgainAsSoonAsItIsTold(t *testing.T) {
	var seen atomic.Int64
	r := requests(t, func(w http.ResponseWriter, _ *http.Request) {
		seen.Add(1)
		w.Header().Set("Retry-After", "3600")
		http.Error(w, "later", http.StatusTooManyRequests)
	})
	r.Again = 10 * time.Millisecond
	tally, err := Closed(t.Context(), r, 1, time.Second)
	if err != nil || tally.Sent < 3 || tally.Sent > 100 || tally.Failed != tally.Sent {
		t.Errorf("%d arrived; %+v, %v", seen.Load(), tally, err)
	}
}

func TestClosedSendsOneAfterTheOther(t *testing.T) {
	var underWay, most atomic.Int64
	r := requests(t, func(http.ResponseWriter, *http.Request) {
		if n := underWay.Add(1); n > most.Load() {
			most.Store(n)
		}
		underWay.Add(-1)
	})
	tally, err := Closed(t.Context(), r, 1, 2*time.Second)
	if err != nil || tally.Sent < 2 || tally.Failed != 0 || most.Load() != 1 {
		t.Errorf("%d at a time; %+v, %v", most.Load(), tally, err)
	}
}

func TestBadOpenAndClosedLoadsAreRefused(t *testing.T) {
	r := requests(t, func(http.ResponseWriter, *http.Request) {})
	for _, rate := range []int{0, 10_001} {
		if _, err := Open(t.Context(), r, rate, time.Second); err == nil {
			t.Errorf("a rate of %d was taken", rate)
		}
	}
	if _, err := Closed(t.Context(), r, 0, time.Second); err == nil {
		t.Error("no clients were taken")
	}
	r.Clients = nil
	if _, err := Open(t.Context(), r, 1, time.Second); err == nil {
		t.Error("a load without a connection was taken")
	}
}

func TestWatchesAreToldApartByHowTheyEnd(t *testing.T) {
	var seen atomic.Int64
	r := requests(t, func(w http.ResponseWriter, r *http.Request) {
		n := seen.Add(1)
		if n == 4 {
			http.Error(w, "no", http.StatusTooManyRequests)
			return
		}
		event := `{"type":"BOOKMARK"}` + "\n"
		switch n {
		case 2:
			event = `{"type":"ERROR","object":{}}` + "\n"
		case 3:
			event = `{"type":"BOOK`
		}
		if _, err := w.Write([]byte(event)); err != nil {
			t.Error(err)
		}
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
		switch n {
		case 3:
			panic(http.ErrAbortHandler)
		case 5:
			<-r.Context().Done()
		}
	})
	held := Hold(t.Context(), Watches{Clients: r.Clients, Count: 1, New: func(ctx context.Context) (*http.Request, error) { return r.New(ctx, 0) }})
	for deadline := time.Now().Add(time.Minute); seen.Load() < 5 && wait(t.Context(), time.Millisecond) && time.Now().Before(deadline); {
	}
	if err := held.Until(t.Context(), 1, time.Minute); err != nil {
		t.Error(err)
	}
	got := held.Stop()
	if got.Example == "" {
		t.Error("no example of a failure")
	}
	got.Example = ""
	if want := (WatchTally{Ended: 1, Errors: 1, Broken: 1, Refused: 1}); got != want || got.Failed() != 3 {
		t.Errorf("%+v, want %+v", got, want)
	}
	if held.Open() != 0 {
		t.Errorf("%d are open after Stop", held.Open())
	}
}
