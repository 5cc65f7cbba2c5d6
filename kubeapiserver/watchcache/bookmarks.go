package watchcache

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/utils/clock"
)

// What k8s.io/apiserver/pkg/storage/cacher keeps to with bookmarks.
const (
	// tickMin and tickMax bound the timer by which a cache looks who is due one.
	tickMin, tickMax = time.Second, 1250 * time.Millisecond
	// bookmarkEvery is the time between two bookmarks of one watch.
	bookmarkEvery = time.Minute
	// bookmarkBefore is how long before its deadline a watch gets the last one.
	bookmarkBefore = 2 * time.Second
)

// longestRest bounds the time between two looks, in steps of the grid.
const longestRest = int64(time.Minute / grid)

// bookmarkClock is the clock of one watch cache: the real one, but that a cache
// looks for watches that are due a bookmark only at full seconds at which one may
// be, not about once a second for ever.
//
// A cache asks what time it is before it notes when a watch is due, under the lock
// under which it looks: that is at once, after bookmarkEvery or shortly before the
// watch's deadline, and the last of these is learnt from expect.
type bookmarkClock struct {
	clock.RealClock
	epoch time.Time // seconds are counted from here

	begun atomic.Bool  // the cache has asked for the timer
	noted atomic.Int64 // the last second that Now added to due

	mu    sync.Mutex
	due   map[int64]struct{} // seconds at which a watch may be due
	ends  map[int64]int      // the same before deadlines, with the number of watches
	timer *time.Timer        // nil before the cache has asked for it
	until int64              // the second at which timer ends
}

func newBookmarkClock() *bookmarkClock {
	now := time.Now()
	return &bookmarkClock{
		epoch: now.Add(-time.Duration(now.Nanosecond())),
		due:   map[int64]struct{}{}, ends: map[int64]int{},
	}
}

// second is the full second that follows t.
func (c *bookmarkClock) second(t time.Time) int64 { return int64(t.Sub(c.epoch)/grid) + 1 }

// Now implements clock.Clock. Before the cache begins to look it is the full second:
// a cache counts seconds from when it was made, and sorts watches by them. Were
// its seconds other ones, a look a little late would have it put a watch off past the
// next look.
func (c *bookmarkClock) Now() time.Time {
	now := c.RealClock.Now()
	next := c.second(now)
	told := now
	if !c.begun.Load() {
		told = c.epoch.Add(time.Duration(next-1) * grid)
	}
	if c.noted.Swap(next) == next {
		return told
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.due[next], c.due[next+int64(bookmarkEvery/grid)] = struct{}{}, struct{}{}
	c.hasten(now, next)
	return told
}

// expect has the cache look before the context's deadline, should it not end sooner.
func (c *bookmarkClock) expect(ctx context.Context) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return
	}
	now, at := c.RealClock.Now(), c.second(deadline.Add(-bookmarkBefore))
	c.mu.Lock()
	defer c.mu.Unlock()
	if at < c.second(now) {
		return
	}
	c.ends[at]++
	c.hasten(now, at)
	context.AfterFunc(ctx, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.ends[at]--; c.ends[at] <= 0 {
			delete(c.ends, at)
		}
	})
}

// hasten shortens the rest that is under way. The lock is held.
func (c *bookmarkClock) hasten(now time.Time, second int64) {
	if c.timer != nil && second < c.until {
		c.until = second
		c.timer.Reset(c.wait(now))
	}
}

// wait is how long the rest is from now on. The lock is held.
func (c *bookmarkClock) wait(now time.Time) time.Duration {
	return c.epoch.Add(time.Duration(c.until) * grid).Sub(now)
}

// rest sets the end of a new rest. The lock is held.
func (c *bookmarkClock) rest(now time.Time) {
	next := c.second(now)
	c.until = next - 1 + longestRest
	for at := range c.due {
		if at < next {
			delete(c.due, at)
		} else {
			c.until = min(c.until, at)
		}
	}
	for at := range c.ends {
		if at >= next {
			c.until = min(c.until, at)
		}
	}
}

// NewTimer implements clock.Clock.
func (c *bookmarkClock) NewTimer(d time.Duration) clock.Timer {
	c.mu.Lock()
	defer c.mu.Unlock()
	if d < tickMin || d > tickMax || c.timer != nil {
		return newAlignedTimer(d)
	}
	now := c.RealClock.Now()
	c.rest(now)
	c.timer = time.NewTimer(c.wait(now))
	c.begun.Store(true)
	return bookmarkTimer{c}
}

// bookmarkTimer ends when a bookmark may be due, whatever time it is given.
type bookmarkTimer struct{ clock *bookmarkClock }

// C implements clock.Timer.
func (t bookmarkTimer) C() <-chan time.Time { return t.clock.timer.C }

// Reset implements clock.Timer.
func (t bookmarkTimer) Reset(time.Duration) bool {
	t.clock.mu.Lock()
	defer t.clock.mu.Unlock()
	now := t.clock.RealClock.Now()
	t.clock.rest(now)
	return t.clock.timer.Reset(t.clock.wait(now))
}

// Stop implements clock.Timer.
func (t bookmarkTimer) Stop() bool {
	t.clock.mu.Lock()
	defer t.clock.mu.Unlock()
	t.clock.until = math.MinInt64 // for good
	return t.clock.timer.Stop()
}

// expecting is storage that tells a cache's clock of watches.
type expecting struct {
	storage.Interface
	clock *bookmarkClock
}

// Watch implements storage.Interface.
func (s expecting) Watch(ctx context.Context, key string, opts storage.ListOptions) (watch.Interface, error) {
	if opts.Predicate.AllowWatchBookmarks {
		s.clock.expect(ctx)
	}
	return s.Interface.Watch(ctx, key, opts)
}
