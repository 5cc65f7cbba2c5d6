package watchcache

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"
)

func TestAlign(t *testing.T) {
	for range 10_000 {
		now := time.Unix(rand.Int64N(1<<32), rand.Int64N(1e9))
		d := time.Duration(rand.Int64N(int64(20 * time.Second)))
		got := align(now, d)
		switch {
		case d < grid && got != d:
			t.Fatalf("%v became %v: short timers keep their time", d, got)
		case d < grid:
		case got <= 0 || got > d || d-got >= grid:
			t.Fatalf("%v at %v became %v", d, now, got)
		case now.Add(got).Nanosecond() != 0 && got != d:
			t.Fatalf("%v at %v ends at %v", d, now, now.Add(got))
		}
	}
}

// Timers that were started at different times end together, each time.
func TestTimersEndTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fired := make(chan time.Time, 1000)
		for range 50 {
			time.Sleep(17 * time.Millisecond)
			timer := newAlignedTimer(time.Second + rand.N(250*time.Millisecond))
			go func() {
				for range 5 {
					<-timer.C()
					fired <- time.Now()
					timer.Reset(time.Second + rand.N(250*time.Millisecond))
				}
				timer.Stop()
			}()
		}
		synctest.Wait()
		instants := map[time.Time]int{}
		for range 250 {
			instants[(<-fired).Round(0)]++
		}
		if len(instants) > 7 {
			t.Errorf("250 timers ended at %d instants: %v", len(instants), instants)
		}
	})
}
