package watchcache

import (
	"time"

	"k8s.io/utils/clock"
)

// grid is what timers end on.
const grid = time.Second

// alignedClock is the real one, but for timers that end together.
type alignedClock struct{ clock.RealClock }

// NewTimer implements clock.WithTicker.
func (alignedClock) NewTimer(d time.Duration) clock.Timer { return newAlignedTimer(d) }

// alignedTimer is a timer that ends on the full second before its time, so that
// all such timers of a process end at once: they wake a server once instead of
// once for each of its caches.
type alignedTimer struct{ *time.Timer }

func newAlignedTimer(d time.Duration) clock.Timer {
	return &alignedTimer{time.NewTimer(align(time.Now(), d))}
}

// C implements clock.Timer.
func (t *alignedTimer) C() <-chan time.Time { return t.Timer.C }

// Reset implements clock.Timer.
func (t *alignedTimer) Reset(d time.Duration) bool { return t.Timer.Reset(align(time.Now(), d)) }

// align shortens a duration from now on so that it ends on the grid; by less
// than one step of it, and not to nothing.
func align(now time.Time, d time.Duration) time.Duration {
	if d < grid {
		return d
	}
	aligned := now.Add(d).Truncate(grid).Sub(now)
	if aligned <= 0 {
		return d
	}
	return aligned
}
