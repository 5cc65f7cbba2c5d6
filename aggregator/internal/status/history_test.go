package status

import (
	"testing"
	"time"
)

// A fall is reported at once; a recovery waits longer the more falls there were
// in the window, and not at all after the first two.
func TestHold(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	h := &history{}
	for fall, want := range []time.Duration{0, 0, time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second, holdMax, holdMax} {
		if got := h.hold(now, false, true); got != 0 {
			t.Fatalf("fall %d waits %v", fall, got)
		}
		h.recordFall(now)
		now = now.Add(100 * time.Millisecond)
		if got := h.hold(now, true, true); got != want {
			t.Fatalf("the recovery after fall %d waits %v, want %v", fall+1, got, want)
		}
		now = now.Add(want)
		if got := h.hold(now, true, true); got != 0 {
			t.Fatalf("the recovery after fall %d waits %v more", fall+1, got)
		}
	}
	// A recovery that does not last begins anew.
	h.hold(now, false, true)
	if got := h.hold(now, true, true); got != holdMax {
		t.Errorf("a recovery after a break waits %v", got)
	}
	// Falls are forgotten.
	now = now.Add(flapWindow + time.Second)
	h.hold(now, false, true)
	h.recordFall(now)
	if got := h.hold(now, true, true); got != 0 {
		t.Errorf("after a quiet time the recovery waits %v", got)
	}
	// What does not turn the condition does not wait.
	h.recordFall(now)
	if got := h.hold(now, true, false); got != 0 {
		t.Errorf("another reason waits %v", got)
	}
}
