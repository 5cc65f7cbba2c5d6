package pace

import (
	"testing"
	"time"
)

func TestShorten(t *testing.T) {
	moment := time.Unix(1_800_000_000, 0) // a multiple of Step
	for _, c := range []struct {
		begun, d, want time.Duration
	}{
		{0, Step, Step},
		{5 * time.Millisecond, Step, Step - 5*time.Millisecond},
		{Step / 8, Step, Step - Step/8},
		{Step/8 + 1, Step, Step},
		{Step - time.Millisecond, Step, Step},
		{time.Second, 27 * time.Second, 26 * time.Second},
		{Step - time.Millisecond, 27 * time.Second, 24*time.Second + time.Millisecond},
		{Step - time.Millisecond, 20 * time.Second, 18*time.Second + time.Millisecond},
		{0, 20 * time.Second, 18 * time.Second},
		{0, 250 * time.Millisecond, 250 * time.Millisecond},
		{Step - 240*time.Millisecond, 250 * time.Millisecond, 240 * time.Millisecond},
		{0, 0, 0},
		{time.Second, 0, 0},
	} {
		if got := shorten(moment.Add(c.begun), c.d); got != c.want {
			t.Errorf("%v that begin %v after a moment: %v, want %v", c.d, c.begun, got, c.want)
		}
	}
}

// Every pause that loops make while nothing happens ends on a moment.
func TestLongPausesEndTogether(t *testing.T) {
	for begun := time.Duration(0); begun < Step; begun += 7 * time.Millisecond {
		for d := 8 * Step; d < time.Minute; d += 13 * time.Millisecond {
			now := time.Unix(1_800_000_000, 0).Add(begun)
			got := shorten(now, d)
			if end := now.Add(got).UnixNano(); end%int64(Step) != 0 || got > d || got < d-Step {
				t.Fatalf("%v that begin %v after a moment are %v", d, begun, got)
			}
		}
	}
}
