package projection

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

func at(uid types.UID, version string, ring uint64) sighting {
	return sighting{moment{uid, version}, ring}
}

func TestSeenKnowsMoments(t *testing.T) {
	s := newSeen()
	s.replace([]sighting{at("a", "5", 50), at("b", "100", 1000)}, "100")
	s.put(at("a", "101", 1010))
	s.put(at("c", "103", 1030))
	s.gone("b", "104")
	for _, c := range []struct {
		uid     types.UID
		version string
		ring    uint64
		want    verdict
	}{
		{"a", "101", 1010, known},
		{"a", "5", 0, passed}, // it was listed, and has changed since
		{"c", "103", 1030, known},
		{"b", "100", 0, passed}, // it is gone
		{"a", "102", 0, passed}, // never seen, and others are later
		{"d", "104", 0, passed}, // that of the last event, which was another's
		{"a", "105", 0, notYet},
		{"a", "1000", 0, notYet}, // numbers, not texts
		{"a", "x", 0, notYet},    // no number is neither earlier nor later
	} {
		if ring, got, _ := s.look(moment{c.uid, c.version}); got != c.want || ring != c.ring {
			t.Errorf("%s at %s: %d and %d, want %d and %d", c.uid, c.version, got, ring, c.want, c.ring)
		}
	}
}

// A moment that is past stays known for a while: whoever wrote it learns which resourceVersion it got.
func TestSeenRemembersRecentMoments(t *testing.T) {
	s := newSeen()
	for i := range 2 * recentMoments {
		s.put(at("a", fmt.Sprint(i+1), uint64(i+1)))
	}
	for version, want := range map[int]verdict{recentMoments: passed, recentMoments + 1: known, 2 * recentMoments: known} {
		if _, got, _ := s.look(moment{"a", fmt.Sprint(version)}); got != want {
			t.Errorf("moment %d is %d, want %d", version, got, want)
		}
	}
	if len(s.recent) != recentMoments || len(s.order) != recentMoments {
		t.Errorf("%d and %d moments are remembered", len(s.recent), len(s.order))
	}
}

func TestSeenWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSeen()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		go func() {
			time.Sleep(time.Millisecond)
			s.advance("3")
			time.Sleep(time.Millisecond)
			s.put(at("a", "7", 70))
			time.Sleep(time.Millisecond)
			s.gone("a", "8")
		}()
		if ring, v := s.wait(ctx, moment{"a", "7"}); v != known || ring != 70 {
			t.Errorf("waiting gave %d, %d", ring, v)
		}
		if !s.waitGone(ctx, "a") {
			t.Error("waiting for the end gave false")
		}
		if _, v := s.wait(ctx, moment{"a", "9"}); v != notYet || ctx.Err() == nil {
			t.Errorf("waiting for what does not come gave %d", v)
		}
		s.put(at("b", "10", 100))
		if s.waitGone(ctx, "b") {
			t.Error("what is there is said to be gone")
		}
	})
}
