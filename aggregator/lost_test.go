package aggregator

import (
	"slices"
	"testing"
	"time"

	"github.com/annex-api/annex/aggregator/internal/catalog"
)

// An extension server that ends connections all the time is checked once in lostPause,
// and none of its ends goes unnoticed.
func TestServersThatEndConnectionsAreCheckedOnceInAWhile(t *testing.T) {
	restless, other := catalog.BackendID{Insecure: true}, catalog.BackendID{}
	l, now := newLostConnections(), time.Now()
	for _, step := range []struct {
		what  string
		after time.Duration
		ended []catalog.BackendID
		due   []catalog.BackendID
		next  time.Duration
	}{
		{"the first end", 0, []catalog.BackendID{restless}, []catalog.BackendID{restless}, 0},
		{"one soon after it", lostPause / 4, []catalog.BackendID{restless}, nil, lostPause * 3 / 4},
		{"another server's meanwhile", lostPause / 4, []catalog.BackendID{other}, []catalog.BackendID{other}, lostPause / 2},
		{"no other end", lostPause / 2, nil, []catalog.BackendID{restless}, 0},
		{"nothing", lostPause / 2, nil, nil, 0},
		{"both", lostPause / 4, []catalog.BackendID{restless, restless, other}, []catalog.BackendID{other}, lostPause / 4},
		{"the later one", lostPause / 4, nil, []catalog.BackendID{restless}, 0},
		{"after a long time", time.Hour, []catalog.BackendID{restless}, []catalog.BackendID{restless}, 0},
	} {
		now = now.Add(step.after)
		for _, id := range step.ended {
			l.add(id)
		}
		due, next := l.take(now)
		if !slices.Equal(due, step.due) || next != step.next {
			t.Errorf("%s: check %v, and again in %v; want %v and %v", step.what, due, next, step.due, step.next)
		}
	}
	if len(l.taken) != 1 {
		t.Errorf("%d servers are remembered, want the last one", len(l.taken))
	}
}
