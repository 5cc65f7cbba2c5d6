package watchcache

import (
	"time"

	"k8s.io/utils/clock"
)

// grid is what timers end on.
const grid = time.Second

// alignedClock is the real clock, but that a timer of a second or more ends on
// the full second before its time, so that all such timers of a process end at
// once. A watch cache draws from 1 to 1.25 s for its bookmarks, to spread the
// load of many servers; what wakes a server once a second instead of once for
// each of its caches is spread over servers by their own start of the second.
type alignedClock struct{ clock.RealClock }

// NewTimer implements clock.Clock.
func (alignedClock) NewTimer(d time.Duration) clock.Timer {
	return &alignedTimer{time.NewTimer(align(time.Now(), d))}
}

type alignedTimer struct{ *time.Timer }

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
