// Package pace decides when work may go on: after which pause a loop tries again, and whose
// turn it is where work takes much memory.
package pace

import (
	"context"
	"math/rand/v2"
	"time"
)

// Regular is the pause after an attempt that succeeded: an interval, jittered by a
// tenth so that loops that began together drift apart, and up to an eighth shorter
// so that pauses end at common moments, see Step.
func Regular(interval time.Duration) time.Duration {
	jitter := time.Duration((rand.Float64() - 0.5) * 0.2 * float64(interval))
	return Shorten(interval + jitter)
}

// Doubled is first, doubled that many times, but not more than most.
func Doubled(first, most time.Duration, times int) time.Duration {
	pause := min(first, most)
	for ; times > 0 && pause < most; times-- {
		pause = min(2*pause, most)
	}
	return pause
}

// Failing remembers since when something has failed without a success in between.
// The zero Failing has not failed.
type Failing struct{ since time.Time }

// Pause is a tenth of the time since the first failure, from least to most. Call
// it after each failure.
func (f *Failing) Pause(now time.Time, least, most time.Duration) time.Duration {
	if f.since.IsZero() {
		f.since = now
	}
	return min(max(now.Sub(f.since)/10, least), most)
}

// Over notes a success.
func (f *Failing) Over() { *f = Failing{} }

// workPause is the pause after work, in times what the work cost: work that is
// always due takes a fifth of a processor.
const workPause = 4

// AfterWork is the pause after work that cost so long, from least to most.
func AfterWork(cost, least, most time.Duration) time.Duration {
	return min(max(workPause*cost, least), most)
}

// Wait waits for a pause to end, or for wake, which may be nil. It is false when
// ctx ended.
func Wait(ctx context.Context, pause time.Duration, wake <-chan struct{}) bool {
	if pause <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-wake:
	case <-timer.C:
	}
	return true
}

// WaitOrShorten is Wait; where shorten has a value the pause ends at soonest, if
// that comes before its end. Woken says that one of the two channels had a value.
func WaitOrShorten(ctx context.Context, pause time.Duration, wake, shorten <-chan struct{}, soonest time.Time) (woken, alive bool) {
	end := time.Now().Add(pause)
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return false, false
		case <-wake:
			return true, true
		case <-shorten:
			woken = true
			if soonest.Before(end) {
				end = soonest
				timer.Reset(Shorten(time.Until(end)))
			}
		case <-timer.C:
			return woken, true
		}
	}
}
