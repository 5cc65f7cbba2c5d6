package pace

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestRegularPausesAreJitteredAndEndTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const interval = 30 * time.Second
		seen := map[time.Duration]bool{}
		for range 1000 {
			time.Sleep(time.Millisecond)
			d := Regular(interval)
			seen[d.Round(time.Second)] = true
			if d < interval*9/10-Step || d > interval*11/10 {
				t.Fatalf("a pause of %v", d)
			}
			if off := time.Now().Add(d).UnixNano() % int64(Step); off != 0 {
				t.Fatalf("a pause ends %v after a common moment", time.Duration(off))
			}
		}
		if len(seen) < 4 {
			t.Errorf("pauses of %d lengths alone", len(seen))
		}
	})
}

func TestDoubled(t *testing.T) {
	const s = time.Second
	for _, c := range []struct {
		first, most time.Duration
		times       int
		want        time.Duration
	}{
		{s, 60 * s, 0, s},
		{s, 60 * s, 1, 2 * s},
		{s, 60 * s, 5, 32 * s},
		{s, 60 * s, 6, 60 * s},
		{s, 60 * s, 1 << 30, 60 * s},
		{60 * s, s, 0, s},
		{0, s, 3, 0},
	} {
		if got := Doubled(c.first, c.most, c.times); got != c.want {
			t.Errorf("%v doubled %d times, %v at most: %v, want %v", c.first, c.times, c.most, got, c.want)
		}
	}
}

func TestFailing(t *testing.T) {
	const least, most = 250 * time.Millisecond, 5 * time.Second
	began := time.Unix(1_800_000_000, 0)
	var f Failing
	for _, c := range []struct{ after, want time.Duration }{
		{0, least}, {time.Second, least}, {3 * time.Second, 300 * time.Millisecond}, {50 * time.Second, most}, {time.Hour, most},
	} {
		if got := f.Pause(began.Add(c.after), least, most); got != c.want {
			t.Errorf("%v after the first failure: %v, want %v", c.after, got, c.want)
		}
	}
	f.Over()
	if got := f.Pause(began.Add(2*time.Hour), least, most); got != least {
		t.Errorf("the first failure after a success: %v", got)
	}
}

func TestAfterWork(t *testing.T) {
	const ms = time.Millisecond
	for cost, want := range map[time.Duration]time.Duration{0: 10 * ms, 2 * ms: 10 * ms, 5 * ms: 20 * ms, time.Second: 250 * ms} {
		if got := AfterWork(cost, 10*ms, 250*ms); got != want {
			t.Errorf("after %v: %v, want %v", cost, got, want)
		}
	}
}

func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wake := make(chan struct{}, 1)
		ctx, cancel := context.WithCancel(t.Context())
		took := func(pause time.Duration) (alive bool, took time.Duration) {
			began := time.Now()
			return Wait(ctx, pause, wake), time.Since(began)
		}
		if alive, took := took(time.Minute); !alive || took != time.Minute {
			t.Errorf("a pause of a minute: %v, %v", alive, took)
		}
		if alive, took := took(-time.Minute); !alive || took != 0 {
			t.Errorf("a pause that is over: %v, %v", alive, took)
		}
		wake <- struct{}{}
		if alive, took := took(time.Minute); !alive || took != 0 {
			t.Errorf("woken: %v, %v", alive, took)
		}
		cancel()
		if alive, _ := took(time.Minute); alive {
			t.Error("it goes on after its context")
		}
		if alive, _ := took(0); alive {
			t.Error("it goes on after its context, without a pause")
		}
	})
}

func TestWaitOrShorten(t *testing.T) {
	const s = time.Second
	for what, c := range map[string]struct {
		sign         string // what comes a second after the beginning
		soonest      time.Duration
		woken, alive bool
		took         time.Duration
	}{
		"nothing":               {"", 0, false, true, 300 * s},
		"woken":                 {"wake", 0, true, true, s},
		"shortened":             {"shorten", 60 * s, true, true, 60 * s},
		"soonest is past":       {"shorten", -60 * s, true, true, s},
		"soonest is the latest": {"shorten", 600 * s, true, true, 300 * s},
		"ended":                 {"end", 0, false, false, s},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				wake, shorten := make(chan struct{}, 1), make(chan struct{}, 1)
				began := time.Now()
				time.AfterFunc(s, func() {
					switch c.sign {
					case "wake":
						wake <- struct{}{}
					case "shorten":
						shorten <- struct{}{}
					case "end":
						cancel()
					}
				})
				woken, alive := WaitOrShorten(ctx, 300*s, wake, shorten, began.Add(c.soonest))
				if took := time.Since(began); woken != c.woken || alive != c.alive || took != c.took {
					t.Errorf("woken %v, alive %v, after %v; want %v, %v, %v", woken, alive, took, c.woken, c.alive, c.took)
				}
			})
		})
	}
}
