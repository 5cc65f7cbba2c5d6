package limit_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/annex-api/annex/aggregator/internal/backend/limit"
)

func TestSharesOfWhatMayBeUnderWay(t *testing.T) {
	for _, c := range []struct{ inFlight, perUser, reserve int }{
		{1, 1, 0}, {2, 1, 1}, {3, 1, 1}, {4, 1, 1}, {5, 2, 1}, {10, 4, 1}, {20, 9, 2}, {400, 180, 40}, {20_000, 9_000, 2_000},
	} {
		got := limit.Config{InFlight: c.inFlight}.Shared()
		if got.PerUser != c.perUser || got.Reserve != c.reserve {
			t.Errorf("of %d one user has %d and %d are reserved, want %d and %d", c.inFlight, got.PerUser, got.Reserve, c.perUser, c.reserve)
		}
	}
	if got := (limit.Config{InFlight: 400, PerUser: 300}).Shared(); got.PerUser != 300 || got.Reserve != 40 {
		t.Errorf("%+v", got)
	}
}

// admission is one that a test waits for.
type admission struct {
	release func()
	err     error
}

func try(l *limit.Limiter, user string, p limit.Priority) chan admission {
	result := make(chan admission, 1)
	go func() {
		release, err := l.Acquire(context.Background(), user, p)
		result <- admission{release, err}
	}()
	synctest.Wait()
	return result
}

// admitted says whether a request has been admitted at once.
func admitted(t *testing.T, what string, got chan admission, want bool) (release func()) {
	t.Helper()
	select {
	case a := <-got:
		if a.err != nil {
			t.Fatalf("%s: %v", what, a.err)
		}
		if !want {
			t.Errorf("%s is admitted", what)
		}
		return a.release
	default:
		if want {
			t.Errorf("%s is not admitted", what)
		}
		return nil
	}
}

func TestOneUserHasNoMoreThanAShare(t *testing.T) {
	for _, inFlight := range []int{3, 400} {
		t.Run(fmt.Sprint(inFlight), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				config := limit.Config{InFlight: inFlight, Queue: 400, QueuePerUser: 100, Wait: time.Hour}.Shared()
				l := limit.New(config)
				var first func()
				for i := range config.PerUser {
					release := admitted(t, "one of the share", try(l, "many", limit.Ordinary), true)
					if i == 0 {
						first = release
					}
				}
				waiting := try(l, "many", limit.Ordinary)
				admitted(t, "one over the share", waiting, false)
				admitted(t, "another user's", try(l, "single", limit.Ordinary), true)
				admitted(t, "an exempt one", try(l, "admin", limit.Exempt), true)
				expect(t, l, config.PerUser+2, 1)
				first()
				synctest.Wait()
				admitted(t, "the one that waited", waiting, true)
			})
		})
	}
}

func TestTheReserveIsForHigherPriorities(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := limit.New(limit.Config{InFlight: 10, PerUser: 10, Reserve: 4, Queue: 10, QueuePerUser: 10, Wait: time.Second})
		fill := func(p limit.Priority, most int) {
			t.Helper()
			for i := range 10 {
				result := try(l, fmt.Sprint(p, "-", i), p)
				if admitted(t, fmt.Sprintf("number %d of priority %d", i, p), result, i < most) == nil {
					if a := <-result; !errors.Is(a.err, limit.ErrFull) {
						t.Errorf("after the wait: %v", a.err)
					}
					return
				}
			}
		}
		fill(limit.Ordinary, 6)
		fill(limit.High, 2)
		fill(limit.Exempt, 2)
		expect(t, l, 10, 0)
	})
}

// The queue has a reserve too: who fills it keeps nobody out whom the reserve is for.
func TestTheQueueIsReservedAsWell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := limit.New(limit.Config{InFlight: 2, PerUser: 2, Reserve: 2, Queue: 10, QueuePerUser: 10, Wait: time.Second})
		admitted(t, "an exempt one", try(l, "admin", limit.Exempt), true)
		admitted(t, "another", try(l, "admin", limit.Exempt), true)
		for i := range 8 {
			admitted(t, "one that waits", try(l, fmt.Sprint("user-", i), limit.Ordinary), false)
		}
		if a := <-try(l, "late", limit.Ordinary); !errors.Is(a.err, limit.ErrFull) {
			t.Errorf("an ordinary one: %v", a.err)
		}
		admitted(t, "a high one", try(l, "controller", limit.High), false)
		if a := <-try(l, "controller", limit.High); !errors.Is(a.err, limit.ErrFull) {
			t.Errorf("another high one: %v", a.err)
		}
		admitted(t, "an exempt one more", try(l, "admin", limit.Exempt), false)
		expect(t, l, 2, 10)
		time.Sleep(2 * time.Second)
		expect(t, l, 2, 0)
	})
}

// Whatever comes in whatever order: the bounds hold, and nobody waits who could be
// admitted.
func TestSharesHoldInAnyOrder(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		config := limit.Config{InFlight: rapid.IntRange(1, 6).Draw(rt, "inFlight"), Queue: 20, QueuePerUser: 6, Wait: time.Hour}
		config.Reserve = rapid.IntRange(0, config.InFlight-1).Draw(rt, "reserve")
		config.PerUser = rapid.IntRange(0, 3).Draw(rt, "perUser")
		type request struct {
			user     string
			priority limit.Priority
		}
		type step struct {
			end bool // the oldest one that is under way
			request
		}
		steps := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) step {
			return step{rapid.IntRange(0, 2).Draw(rt, "end") == 0, request{
				rapid.SampledFrom([]string{"a", "b", "c"}).Draw(rt, "user"),
				limit.Priority(rapid.IntRange(0, 2).Draw(rt, "priority")),
			}}
		}), 1, 40).Draw(rt, "steps")
		synctest.Test(t, func(t *testing.T) {
			l := limit.New(config)
			var mu sync.Mutex
			var releases []func()
			underWay, waiting := map[request]int{}, map[request]int{}
			var all sync.WaitGroup
			check := func() {
				synctest.Wait()
				mu.Lock()
				defer mu.Unlock()
				total, users, priorities := 0, map[string]int{}, map[limit.Priority]int{}
				for r, n := range underWay {
					total += n
					users[r.user] += n
					priorities[r.priority] += n
				}
				ordinary, high := priorities[limit.Ordinary], priorities[limit.High]
				room := map[limit.Priority]bool{limit.Exempt: total < config.InFlight}
				room[limit.High] = room[limit.Exempt] && ordinary+high < config.InFlight-config.Reserve/2
				room[limit.Ordinary] = room[limit.High] && ordinary < config.InFlight-config.Reserve
				if total > config.InFlight || ordinary > config.InFlight-config.Reserve || ordinary+high > config.InFlight-config.Reserve/2 {
					rt.Errorf("%v are under way of %+v", underWay, config)
				}
				for r, n := range waiting {
					free := config.PerUser == 0 || r.priority == limit.Exempt || users[r.user] < config.PerUser
					if n > 0 && free && room[r.priority] {
						rt.Errorf("%+v waits beside %v under way of %+v", r, underWay, config)
					}
				}
				for r, n := range underWay {
					if r.priority != limit.Exempt && config.PerUser > 0 && n > config.PerUser {
						rt.Errorf("%d of %+v are under way of %+v", n, r, config)
					}
				}
			}
			end := func() bool {
				mu.Lock()
				if len(releases) == 0 {
					mu.Unlock()
					return false
				}
				release := releases[0]
				releases = releases[1:]
				mu.Unlock()
				release()
				check()
				return true
			}
			for _, s := range steps {
				if s.end && end() {
					continue
				}
				all.Go(func() {
					mu.Lock()
					waiting[s.request]++
					mu.Unlock()
					release, err := l.Acquire(t.Context(), s.user, s.priority)
					mu.Lock()
					defer mu.Unlock()
					waiting[s.request]--
					if err != nil {
						return
					}
					underWay[s.request]++
					releases = append(releases, func() {
						mu.Lock()
						underWay[s.request]--
						mu.Unlock()
						release()
					})
				})
				check()
			}
			for end() {
			}
			all.Wait()
			if i, q := l.InFlight(); i != 0 || q != 0 {
				rt.Errorf("%d in flight and %d queued when all have ended", i, q)
			}
		})
	})
}

// A request that finds room costs nothing.
func TestAdmissionAllocatesNothing(t *testing.T) {
	l := limit.New(limit.Config{InFlight: 10}.Shared())
	users := make([]string, 100)
	for i := range users {
		users[i] = fmt.Sprint("user-", i)
	}
	next := 0
	got := testing.AllocsPerRun(1000, func() {
		next = (next + 1) % len(users)
		release, err := l.Acquire(context.Background(), users[next], limit.Ordinary)
		if err != nil {
			t.Fatal(err)
		}
		release()
	})
	if got > 0 {
		t.Errorf("%.1f allocations", got)
	}
}
