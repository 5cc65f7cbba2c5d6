package host

import (
	"testing"
	"time"
)

func TestParseStolen(t *testing.T) {
	got, err := parseStolen("cpu  1 2 3 4 5 6 7 250 9 10\ncpu0 1 2 3 4 5 6 7 8 9 10\n")
	if err != nil || got != 2500*time.Millisecond {
		t.Errorf("%v, %v, want 2.5s", got, err)
	}
	for _, wrong := range []string{"", "cpu 1 2 3", "cpu 1 2 3 4 5 6 7 x 9 10", "intr 1 2 3 4 5 6 7 8 9"} {
		if got, err := parseStolen(wrong); err == nil {
			t.Errorf("%q: %v, want an error", wrong, got)
		}
	}
	if now, err := stolenTime(); err != nil || now < 0 {
		t.Errorf("of this machine: %v, %v", now, err)
	}
}
