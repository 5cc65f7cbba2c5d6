package pace

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestABudgetIsSpentAndRefilled(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	b := NewBudget(4, time.Minute)
	for i := range 4 {
		if wait := b.Wait(now); wait != 0 {
			t.Errorf("number %d waits %v", i, wait)
		}
		b.Spend(now, 1)
	}
	about := func(got, want time.Duration) {
		t.Helper()
		if got < want || got > want+time.Microsecond {
			t.Errorf("waits %v, want %v", got, want)
		}
	}
	about(b.Wait(now), 15*time.Second)
	about(b.Wait(now.Add(10*time.Second)), 5*time.Second)
	now = now.Add(b.Wait(now) + 10*time.Second)
	if wait := b.Wait(now); wait != 0 {
		t.Errorf("after the wait: %v more", wait)
	}
	b.Spend(now, 9) // more than is left
	about(b.Wait(now), 125*time.Second)
	now = now.Add(time.Hour)
	for range 4 { // no more than at the beginning
		if wait := b.Wait(now); wait != 0 {
			t.Errorf("after an hour: waits %v", wait)
		}
		b.Spend(now, 1)
	}
	about(b.Wait(now), 15*time.Second)
}

func TestTheZeroBudgetBoundsNothing(t *testing.T) {
	var b Budget
	var w Writes
	for range 1000 {
		b.Spend(time.Time{}, 1)
		w.Spend(time.Now(), 1<<20)
	}
	if b.Wait(time.Now()) != 0 || w.Wait(time.Now()) != 0 {
		t.Error("it waits")
	}
}

// Whatever is written whenever: over any time there are no more writes and bytes
// than the first lot, what the time has added, and the last write.
func TestWritesKeepToTheirBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const number, bytes, period = 5, 1000, time.Minute
		w := NewWrites(number, bytes, period)
		began := time.Unix(0, 0)
		now := began
		written, sum, last := 0, 0, 0
		for range 200 {
			now = now.Add(time.Duration(rapid.IntRange(0, 20_000).Draw(t, "ms")) * time.Millisecond)
			if w.Wait(now) > 0 {
				continue
			}
			last = rapid.IntRange(1, 3000).Draw(t, "bytes")
			w.Spend(now, last)
			written, sum = written+1, sum+last
			periods := float64(now.Sub(began)) / float64(period)
			if float64(written) > number*(1+periods)+1e-6 || float64(sum-last) > bytes*(1+periods)+1e-6 {
				t.Fatalf("%d writes of %d bytes after %v", written, sum, now.Sub(began))
			}
		}
	})
}
