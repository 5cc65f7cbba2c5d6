package status

import (
	"time"

	"github.com/annex-api/annex/aggregator/internal/pace"
)

const (
	// flapWindow is how long a fall is remembered.
	flapWindow = 5 * time.Minute
	// holdMin and holdMax bound how long a recovery must last before it is
	// reported, from the third fall in the window on; it doubles with each. Two
	// falls may be a roll-out.
	holdMin = time.Second
	holdMax = 30 * time.Second
	// So many writes of the condition of one APIService, and so many bytes of its
	// object, are sent at once, and as many again in each period: a verdict's message
	// may change as often as its status.
	conditionWrites = 20
	conditionBytes  = 2 << 20
	conditionPeriod = 5 * time.Minute
	// messageWrites and messageBytes of these may leave the status as it is. The rest is
	// kept for falls, which are reported at once.
	messageWrites = 15
	messageBytes  = conditionBytes * messageWrites / conditionWrites
)

// history of one APIService's reports. A fall is reported at once, a recovery
// only when it has lasted: the longer, the more often it was not one.
type history struct {
	falls   []time.Time
	since   time.Time // of the present run of verdicts for it; zero when it is down
	writes  conditionBudget
	failing bool // the last write failed
}

// hold returns how long to wait before a verdict is reported; zero means now.
// StatusChanges says whether the report changes the condition's status.
func (h *history) hold(now time.Time, up, statusChanges bool) time.Duration {
	for len(h.falls) > 0 && now.Sub(h.falls[0]) > flapWindow {
		h.falls = h.falls[1:]
	}
	if !up {
		h.since = time.Time{}
		return 0
	}
	if h.since.IsZero() {
		h.since = now
	}
	if !statusChanges || len(h.falls) < 3 {
		return 0
	}
	must := holdMax
	if shift := len(h.falls) - 3; shift < 10 {
		must = min(holdMax, holdMin<<shift)
	}
	return max(0, must-now.Sub(h.since))
}

// recordFall takes note of a fall that was reported.
func (h *history) recordFall(now time.Time) { h.falls = append(h.falls, now) }

// conditionBudget bounds the writes of one APIService's condition.
type conditionBudget struct{ all, messages pace.Writes }

func newConditionBudget() conditionBudget {
	return conditionBudget{
		all:      pace.NewWrites(conditionWrites, conditionBytes, conditionPeriod),
		messages: pace.NewWrites(messageWrites, messageBytes, conditionPeriod),
	}
}

// wait is how long until the next write, which changes the status or nothing but the
// message; zero for now.
func (b *conditionBudget) wait(now time.Time, messageOnly bool) time.Duration {
	wait := b.all.Wait(now)
	if messageOnly {
		wait = max(wait, b.messages.Wait(now))
	}
	return wait
}

// spend takes note of a write of so many bytes.
func (b *conditionBudget) spend(now time.Time, bytes int, messageOnly bool) {
	b.all.Spend(now, bytes)
	if messageOnly {
		b.messages.Spend(now, bytes)
	}
}
