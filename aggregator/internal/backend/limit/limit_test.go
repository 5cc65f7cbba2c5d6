package limit_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/annex-api/annex/aggregator/internal/backend/limit"
)

var roomy = limit.Config{InFlight: 1, Queue: 10_000, QueuePerUser: 10_000, Wait: time.Hour}

func acquire(t testing.TB, l *limit.Limiter, user string) (release func()) {
	t.Helper()
	release, err := l.Acquire(context.Background(), user, limit.Ordinary)
	if err != nil {
		t.Fatalf("Acquire for %s: %v", user, err)
	}
	return release
}

func expect(t testing.TB, l *limit.Limiter, inFlight, queued int) {
	t.Helper()
	if i, q := l.InFlight(); i != inFlight || q != queued {
		t.Fatalf("%d in flight and %d queued, want %d and %d", i, q, inFlight, queued)
	}
}

// order collects who was admitted, in turn. Each holds the limiter until the
// test says next.
type order struct {
	l        *limit.Limiter
	admitted []string
	releases []func()
	mu       sync.Mutex
}

func (o *order) enqueue(ctx context.Context, user string) {
	go func() {
		release, err := o.l.Acquire(ctx, user, limit.Ordinary)
		if err != nil {
			return
		}
		o.mu.Lock()
		defer o.mu.Unlock()
		o.admitted = append(o.admitted, user)
		o.releases = append(o.releases, release)
	}()
	synctest.Wait()
}

// next ends the oldest request that is under way.
func (o *order) next() {
	o.mu.Lock()
	release := o.releases[0]
	o.releases = o.releases[1:]
	o.mu.Unlock()
	release()
	synctest.Wait()
}

func TestAUsersThousandDelaysAnothersOneByOneTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &order{l: limit.New(roomy)}
		for range 1000 {
			o.enqueue(t.Context(), "many")
		}
		o.enqueue(t.Context(), "single")
		expect(t, o.l, 1, 1000)
		o.next()
		o.next()
		if got := o.admitted[len(o.admitted)-1]; got != "single" && o.admitted[1] != "single" {
			t.Fatalf("after two turns: %v", o.admitted)
		}
		for len(o.releases) > 0 {
			o.next()
		}
		if len(o.admitted) != 1001 {
			t.Fatalf("%d of 1001 were admitted", len(o.admitted))
		}
		expect(t, o.l, 0, 0)
	})
}

func TestUsersTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &order{l: limit.New(roomy)}
		for _, user := range []string{"first", "a", "a", "a", "b", "b", "c"} {
			o.enqueue(t.Context(), user)
		}
		for len(o.releases) > 0 {
			o.next()
		}
		want := []string{"first", "a", "b", "c", "a", "b", "a"}
		if fmt.Sprint(o.admitted) != fmt.Sprint(want) {
			t.Fatalf("admitted %v, want %v", o.admitted, want)
		}
	})
}

func TestTheQueueIsBounded(t *testing.T) {
	tests := []struct {
		name   string
		config limit.Config
		queued []string // after the one in flight
		then   string
		full   bool
	}{
		{"no queue", limit.Config{InFlight: 1, Wait: time.Hour}, nil, "a", true},
		{"the last place", limit.Config{InFlight: 1, Queue: 2, QueuePerUser: 2, Wait: time.Hour}, []string{"a"}, "a", false},
		{"a full queue", limit.Config{InFlight: 1, Queue: 2, QueuePerUser: 2, Wait: time.Hour}, []string{"a", "b"}, "c", true},
		{"one user's part", limit.Config{InFlight: 1, Queue: 10, QueuePerUser: 2, Wait: time.Hour}, []string{"a", "a"}, "a", true},
		{"another user's part", limit.Config{InFlight: 1, Queue: 10, QueuePerUser: 2, Wait: time.Hour}, []string{"a", "a"}, "b", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := &order{l: limit.New(test.config)}
				for _, user := range append([]string{"first"}, test.queued...) {
					o.enqueue(t.Context(), user)
				}
				expect(t, o.l, 1, len(test.queued))
				start := time.Now()
				refused := make(chan error, 1)
				go func() {
					release, err := o.l.Acquire(t.Context(), test.then, limit.Ordinary)
					if err == nil {
						release()
					}
					refused <- err
				}()
				synctest.Wait()
				if test.full {
					if err := <-refused; !errors.Is(err, limit.ErrFull) || time.Since(start) != 0 {
						t.Fatalf("%v after %s, want ErrFull at once", err, time.Since(start))
					}
					expect(t, o.l, 1, len(test.queued))
				} else {
					expect(t, o.l, 1, len(test.queued)+1)
				}
				for range 1 + len(test.queued) {
					o.next()
				}
				if !test.full {
					if err := <-refused; err != nil {
						t.Fatal(err)
					}
				}
				expect(t, o.l, 0, 0)
			})
		})
	}
}

func TestTheWaitIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := limit.New(limit.Config{InFlight: 1, Queue: 2, QueuePerUser: 2, Wait: 2 * time.Second})
		release := acquire(t, l, "a")
		start := time.Now()
		if _, err := l.Acquire(t.Context(), "b", limit.Ordinary); !errors.Is(err, limit.ErrFull) {
			t.Fatalf("%v", err)
		}
		if d := time.Since(start); d != 2*time.Second {
			t.Fatalf("waited %s", d)
		}
		expect(t, l, 1, 0)
		release()
		expect(t, l, 0, 0)
		acquire(t, l, "b")()
	})
}

func TestAClientThatLeavesTheQueueLeavesNoTrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &order{l: limit.New(roomy)}
		o.enqueue(t.Context(), "first")
		o.enqueue(t.Context(), "a")
		ctx, cancel := context.WithCancel(t.Context())
		failed := make(chan error, 1)
		go func() {
			_, err := o.l.Acquire(ctx, "b", limit.Ordinary)
			failed <- err
		}()
		synctest.Wait()
		o.enqueue(t.Context(), "c")
		expect(t, o.l, 1, 3)
		cancel()
		if err := <-failed; !errors.Is(err, context.Canceled) {
			t.Fatalf("%v, want the context's error", err)
		}
		expect(t, o.l, 1, 2)
		for len(o.releases) > 0 {
			o.next()
		}
		if want := []string{"first", "a", "c"}; fmt.Sprint(o.admitted) != fmt.Sprint(want) {
			t.Fatalf("admitted %v, want %v", o.admitted, want)
		}
		expect(t, o.l, 0, 0)
	})
}

func TestAUserKeepsHisTurnWhenOneOfHisRequestsLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &order{l: limit.New(roomy)}
		ctx, cancel := context.WithCancel(t.Context())
		o.enqueue(t.Context(), "first")
		o.enqueue(ctx, "a")
		o.enqueue(t.Context(), "b")
		o.enqueue(t.Context(), "a")
		cancel()
		synctest.Wait()
		for len(o.releases) > 0 {
			o.next()
		}
		if want := []string{"first", "a", "b"}; fmt.Sprint(o.admitted) != fmt.Sprint(want) {
			t.Fatalf("admitted %v, want %v", o.admitted, want)
		}
	})
}

func TestAHigherLimitAdmitsThoseThatWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &order{l: limit.New(roomy)}
		for range 6 {
			o.enqueue(t.Context(), "a")
		}
		expect(t, o.l, 1, 5)
		more := roomy
		more.InFlight = 4
		o.l.Set(more)
		synctest.Wait()
		expect(t, o.l, 4, 2)
		o.l.Set(roomy) // less again: those under way stay, and no others come in
		o.next()
		o.next()
		o.next()
		expect(t, o.l, 1, 2)
		o.next()
		expect(t, o.l, 1, 1)
		o.next()
		o.next()
		expect(t, o.l, 0, 0)
	})
}

// Whatever comes in whatever order: the bound holds, nobody waits while there
// is room, and all are answered.
func TestTheBoundHoldsInAnyOrder(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		most := rapid.IntRange(1, 4).Draw(rt, "inFlight")
		config := limit.Config{
			InFlight: most, Queue: rapid.IntRange(0, 6).Draw(rt, "queue"),
			QueuePerUser: rapid.IntRange(1, 4).Draw(rt, "perUser"), Wait: 3 * time.Second,
		}
		type step struct {
			user             string
			after, hold, ctx time.Duration
		}
		millis := func(name string, most int) time.Duration {
			return time.Duration(rapid.IntRange(0, most).Draw(rt, name)) * time.Millisecond
		}
		steps := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) step {
			return step{
				rapid.SampledFrom([]string{"a", "b", "c"}).Draw(rt, "user"),
				time.Duration(rapid.IntRange(0, 900).Draw(rt, "after")) * time.Millisecond,
				time.Duration(rapid.IntRange(0, 4000).Draw(rt, "hold")) * time.Millisecond,
				time.Duration(rapid.IntRange(1, 5000).Draw(rt, "context")) * time.Millisecond,
			}
		}), 1, 40).Draw(rt, "requests")
		raiseAfter, raised := millis("raise", 5000), most+rapid.IntRange(0, 3).Draw(rt, "more")
		synctest.Test(t, func(t *testing.T) {
			l := limit.New(config)
			var under, highest atomic.Int32
			var requests sync.WaitGroup
			requests.Go(func() {
				time.Sleep(raiseAfter)
				config := config
				config.InFlight = raised
				l.Set(config)
			})
			check := func() {
				synctest.Wait()
				bound := config.InFlight
				if time.Since(started(t)) >= raiseAfter {
					bound = raised
				}
				inFlight, queued := l.InFlight()
				if queued > 0 && inFlight < bound {
					rt.Errorf("%d wait while there is room: %d of %d in flight", queued, inFlight, bound)
				}
				if queued > config.Queue || inFlight < 0 || queued < 0 {
					rt.Errorf("%d in flight, %d queued", inFlight, queued)
				}
			}
			for _, s := range steps {
				time.Sleep(s.after)
				requests.Go(func() {
					ctx, cancel := context.WithTimeout(t.Context(), s.ctx)
					defer cancel()
					start := time.Now()
					release, err := l.Acquire(ctx, s.user, limit.Ordinary)
					waited := time.Since(start)
					if waited > min(config.Wait, s.ctx) {
						rt.Errorf("waited %s of at most %s", waited, min(config.Wait, s.ctx))
					}
					if err != nil {
						return
					}
					n := under.Add(1)
					for h := highest.Load(); n > h && !highest.CompareAndSwap(h, n); h = highest.Load() {
					}
					time.Sleep(s.hold)
					under.Add(-1)
					release()
				})
				check()
			}
			requests.Wait()
			if h := int(highest.Load()); h > raised {
				rt.Errorf("%d in flight of at most %d", h, raised)
			}
			if i, q := l.InFlight(); i != 0 || q != 0 {
				rt.Errorf("%d in flight and %d queued when all have ended", i, q)
			}
		})
	})
}

// started is when a synctest bubble's clock begins.
func started(*testing.T) time.Time { return time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) }

func TestNoWakeUpIsLost(t *testing.T) {
	l := limit.New(limit.Config{InFlight: 3, Queue: 1000, QueuePerUser: 1000, Wait: time.Minute})
	var under, admitted atomic.Int32
	var requests sync.WaitGroup
	for i := range 400 {
		requests.Go(func() {
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			if i%4 == 0 { // some leave while they may just be admitted
				requests.Go(cancel)
			}
			release, err := l.Acquire(ctx, fmt.Sprint("user-", i%7), limit.Ordinary)
			if err != nil {
				if i%4 != 0 {
					t.Errorf("request %d: %v", i, err)
				}
				return
			}
			if n := under.Add(1); n > 3 {
				t.Errorf("%d in flight", n)
			}
			admitted.Add(1)
			under.Add(-1)
			release()
		})
	}
	requests.Wait()
	expect(t, l, 0, 0)
	if n := admitted.Load(); n < 300 {
		t.Errorf("%d were admitted of at least 300", n)
	}
}
