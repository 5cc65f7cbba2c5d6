package pace

import "time"

// Budget bounds what is done over a time: so much at once, and as much again in each
// period, evenly. What is done last may be more than what is left; it is made up for
// by a longer wait. The zero Budget bounds nothing.
type Budget struct {
	most   float64
	period time.Duration
	left   float64
	at     time.Time // when that was left
}

// NewBudget returns a Budget that is full.
func NewBudget(most int, period time.Duration) Budget {
	return Budget{most: float64(most), period: period, left: float64(most)}
}

// Wait is how long until something may be done; zero for now.
func (b *Budget) Wait(now time.Time) time.Duration {
	b.refill(now)
	if b.most == 0 || b.left >= 1 {
		return 0
	}
	return time.Duration((1-b.left)/b.most*float64(b.period)) + 1 // rounded up
}

// Spend takes from the budget what was done.
func (b *Budget) Spend(now time.Time, amount int) {
	b.refill(now)
	b.left -= float64(amount)
}

func (b *Budget) refill(now time.Time) {
	if b.period > 0 && now.After(b.at) {
		b.left = min(b.most, b.left+b.most*float64(now.Sub(b.at))/float64(b.period))
	}
	b.at = now
}

// Writes bounds how often something is written, and how many bytes that are. The
// zero Writes bounds nothing.
type Writes struct{ number, bytes Budget }

// NewWrites returns the bounds for one period, and for each one after it.
func NewWrites(number, bytes int, period time.Duration) Writes {
	return Writes{number: NewBudget(number, period), bytes: NewBudget(bytes, period)}
}

// Wait is how long until the next write; zero for now.
func (w *Writes) Wait(now time.Time) time.Duration {
	return max(w.number.Wait(now), w.bytes.Wait(now))
}

// Spend takes note of a write of so many bytes.
func (w *Writes) Spend(now time.Time, bytes int) {
	w.number.Spend(now, 1)
	w.bytes.Spend(now, bytes)
}
