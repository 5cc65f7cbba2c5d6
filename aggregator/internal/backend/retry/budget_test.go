package retry_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/annex-api/annex/aggregator/internal/backend/retry"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func TestTheBudgetIsNeverExceeded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		share := rapid.Float64Range(0, 1).Draw(t, "share")
		rate := rapid.Float64Range(0, 50).Draw(t, "rate")
		most := rapid.Float64Range(0, 100).Draw(t, "most")
		b := retry.NewBudget(share, rate, most)
		now, latest := epoch, epoch
		requests, retries := 0, 0
		check := func(*rapid.T) {
			allowed := most + share*float64(requests) + rate*latest.Sub(epoch).Seconds()
			if float64(retries) > allowed+1e-6 {
				t.Fatalf("%d retries, allowed are %.3f: %d requests in %s", retries, allowed, requests, latest.Sub(epoch))
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"request": func(*rapid.T) { b.Request(); requests++ },
			"storm": func(t *rapid.T) {
				for range rapid.IntRange(1, 150).Draw(t, "asked") {
					if b.Take(now) {
						retries++
					}
				}
			},
			"wait": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(0, 2000).Draw(t, "ms")) * time.Millisecond)
				latest = later(now, latest)
			},
			// Callers read the clock before they come to the budget, and may come out of turn.
			"out of turn": func(t *rapid.T) {
				early := later(epoch, now.Add(-time.Duration(rapid.IntRange(0, 500).Draw(t, "ms"))*time.Millisecond))
				for _, at := range []time.Time{early, now} {
					if b.Take(at) {
						retries++
					}
				}
			},
			"": check,
		})
	})
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// Callers that read the clock in one order and ask in another are not paid for
// the same time twice.
func TestTimeIsPaidOnce(t *testing.T) {
	b := retry.NewBudget(0, 1, 10)
	retries := 0
	for range 1000 {
		for _, at := range []time.Duration{time.Second, 0} {
			if b.Take(epoch.Add(at)) {
				retries++
			}
		}
	}
	if retries > 11 {
		t.Fatalf("%d retries within one second, allowed are 11", retries)
	}
}

func TestWhatTheBudgetAllows(t *testing.T) {
	take := func(b *retry.Budget, now time.Time) (n int) {
		for n < 1000 && b.Take(now) {
			n++
		}
		return n
	}
	tests := []struct {
		name               string
		share, rate, most  float64
		requests           int
		wait               time.Duration
		atOnce, afterwards int
	}{
		{"a full bucket at first", 0.2, 0, 10, 0, 0, 10, 0},
		{"a fifth of the requests", 0.2, 0, 10, 25, 0, 10, 5},
		{"never more than the bucket", 1, 0, 10, 500, 0, 10, 10},
		{"some with time", 0, 10, 100, 0, time.Second, 100, 10},
		{"with time never more than the bucket", 0, 10, 10, 0, time.Hour, 10, 10},
		{"part of one is none", 0.2, 0, 10, 4, 0, 10, 0},
		{"both together make one", 0.2, 1, 10, 4, 200 * time.Millisecond, 10, 1},
		{"nothing", 0, 0, 0, 100, time.Hour, 0, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b := retry.NewBudget(test.share, test.rate, test.most)
			if n := take(b, epoch); n != test.atOnce {
				t.Fatalf("%d at once, want %d", n, test.atOnce)
			}
			for range test.requests {
				b.Request()
			}
			if n := take(b, epoch.Add(test.wait)); n != test.afterwards {
				t.Fatalf("%d after %d requests and %s, want %d", n, test.requests, test.wait, test.afterwards)
			}
		})
	}
}

func TestTheZeroBudgetAllowsNothing(t *testing.T) {
	var b retry.Budget
	b.Request()
	if b.Take(epoch) || b.Take(epoch.Add(time.Hour)) {
		t.Fatal("a retry was allowed")
	}
}

func TestConcurrentCallersShareOneBudget(t *testing.T) {
	const most, callers, each = 50, 8, 1000
	b := retry.NewBudget(0.25, 0, most)
	var retries atomic.Int32
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			for range each {
				b.Request()
				if b.Take(epoch) {
					retries.Add(1)
				}
			}
		})
	}
	all.Wait()
	const allowed = most + callers*each/4
	if n := retries.Load(); n > allowed || n < allowed-1 {
		t.Fatalf("%d retries, want %d: callers ask for more than there is", n, allowed)
	}
}
