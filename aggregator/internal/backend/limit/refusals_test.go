package limit

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// hold tells how long a refusal is held back.
func hold(ctx context.Context, f *Refusals, user string) time.Duration {
	start := time.Now()
	f.Hold(ctx, user, false)
	return time.Since(start)
}

func TestWhoIsRefusedAllTheTimeWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := NewRefusals(nil)
		for i := range promptRefusals {
			if d := hold(t.Context(), f, "many"); d != 0 {
				t.Errorf("refusal %d waits %v", i, d)
			}
		}
		if d := hold(t.Context(), f, "many"); d < holdLeast || d > holdMost {
			t.Errorf("one more waits %v", d)
		}
		if d := hold(t.Context(), f, "single"); d != 0 {
			t.Errorf("another user's waits %v", d)
		}
		time.Sleep(2 * time.Second)
		if d := hold(t.Context(), f, "many"); d != 0 {
			t.Errorf("after a quiet time it waits %v", d)
		}
		if n := f.Held(); n != 0 {
			t.Errorf("%d are held at the end", n)
		}
	})
}

func TestWhatIsHeldBackIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := NewRefusals(nil)
		var all sync.WaitGroup
		var prompt atomic.Int32
		start := time.Now()
		for user := range 5 {
			for range promptRefusals + maxHeldPerUser {
				all.Go(func() {
					if hold(t.Context(), f, fmt.Sprint(user)) == 0 {
						prompt.Add(1)
					}
				})
			}
			synctest.Wait()
			if n := f.Held(); n != min(maxHeldPerUser*(user+1), maxHeld) {
				t.Errorf("%d of %d users are held back", n, user+1)
			}
		}
		if d := hold(t.Context(), f, "0"); d != 0 {
			t.Errorf("one over the user's bound waits %v", d)
		}
		if time.Since(start) != 0 {
			t.Fatalf("some have come to their end after %v", time.Since(start))
		}
		all.Wait()
		if want := 5*(promptRefusals+maxHeldPerUser) - maxHeld; int(prompt.Load()) != want || f.Held() != 0 {
			t.Errorf("%d were told at once, want %d; %d are held at the end", prompt.Load(), want, f.Held())
		}
	})
}

// What is not read of a body is in memory while its refusal is held back.
func TestHeldRefusalsOfBodiesAreFewer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := NewRefusals(nil)
		var all sync.WaitGroup
		for range 2 { // the places are free again the second time
			var prompt atomic.Int32
			for range promptRefusals {
				f.Hold(t.Context(), "many", false)
			}
			start := time.Now()
			for range maxHeldBodies + 50 {
				all.Go(func() {
					if f.Hold(t.Context(), "many", true); time.Since(start) == 0 {
						prompt.Add(1)
					}
				})
			}
			synctest.Wait()
			if n := f.Held(); n != maxHeldBodies || prompt.Load() != 50 {
				t.Errorf("%d with a body are held back, %d are not", n, prompt.Load())
			}
			all.Go(func() { f.Hold(t.Context(), "many", false) })
			synctest.Wait()
			if n := f.Held(); n != maxHeldBodies+1 {
				t.Errorf("%d are held back with one that has no body", n)
			}
			all.Wait()
		}
	})
}

func TestUsersWhoAreRefusedAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := NewRefusals(nil)
		for user := range 2 * maxRefusedUsers {
			f.Hold(t.Context(), fmt.Sprint(user), false)
		}
		if n := len(f.users); n != maxRefusedUsers {
			t.Errorf("%d users are known", n)
		}
		time.Sleep(3 * time.Second)
		f.Hold(t.Context(), "another", false)
		if n := len(f.users); n != 1 {
			t.Errorf("%d users are known after a quiet time", n)
		}
	})
}

func TestTheWaitForARefusalEnds(t *testing.T) {
	for what, c := range map[string]struct {
		end  func(leave, shutDown func())
		want time.Duration
	}{
		"when the client leaves":       {func(leave, _ func()) { leave() }, time.Second},
		"when the server shuts down":   {func(_, shutDown func()) { shutDown() }, time.Second},
		"half way to the deadline":     {nil, 2 * time.Second},
		"at once after the shutdown":   {nil, 0},
		"at once without a time to go": {nil, 0},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				over := make(chan struct{})
				f := NewRefusals(over)
				ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
				defer cancel()
				switch what {
				case "at once after the shutdown":
					close(over)
				case "at once without a time to go":
					cancel()
				}
				for range promptRefusals {
					f.Hold(ctx, "many", false)
				}
				waited := make(chan time.Duration, 1)
				go func() { waited <- hold(ctx, f, "many") }()
				synctest.Wait()
				if c.end != nil {
					time.Sleep(time.Second)
					c.end(cancel, func() { close(over) })
				}
				if got := <-waited; got != c.want {
					t.Errorf("it was held for %v, want %v", got, c.want)
				}
				if n := f.Held(); n != 0 {
					t.Errorf("%d are held at the end", n)
				}
			})
		})
	}
}

func TestRefusalsThatAreNotHeldBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for range 10 * promptRefusals {
			if d := hold(t.Context(), nil, "many") + hold(t.Context(), &Refusals{}, "many"); d != 0 {
				t.Fatalf("held for %v", d)
			}
		}
	})
}

// 3,000 clients of one user who come back 50 ms after each refusal come less often
// than 750 times a second in all, their first requests included.
func TestAFloodThatHeedsNothingIsSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := NewRefusals(nil)
		ctx, cancel := context.WithCancel(t.Context())
		var asked atomic.Int32
		var all sync.WaitGroup
		for range 3000 {
			all.Go(func() {
				for ctx.Err() == nil {
					asked.Add(1)
					f.Hold(ctx, "many", false)
					time.Sleep(50 * time.Millisecond)
				}
			})
		}
		time.Sleep(20 * time.Second)
		cancel()
		all.Wait()
		if perSecond := asked.Load() / 20; perSecond > 750 {
			t.Errorf("%d requests a second", perSecond)
		}
	})
}
