package aggregator

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/annex-api/annex/aggregator/internal/catalog"
)

// lostPause is the least time between two checks of one extension server because it
// ended a connection: some end each soon after it fell idle, those of the checks too.
const lostPause = time.Second

// lostConnections lists the extension servers that ended a connection and have not
// been checked since. Connections add to it without waiting; checkLost takes from
// it.
type lostConnections struct {
	some chan struct{} // one slot

	mu      sync.Mutex
	servers map[catalog.BackendID]bool
	taken   map[catalog.BackendID]time.Time // within the last lostPause
}

func newLostConnections() *lostConnections {
	return &lostConnections{
		some:    make(chan struct{}, 1),
		servers: map[catalog.BackendID]bool{},
		taken:   map[catalog.BackendID]time.Time{},
	}
}

func (l *lostConnections) add(id catalog.BackendID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.servers[id] = true
	select {
	case l.some <- struct{}{}:
	default:
	}
}

// take returns the servers that may be checked now, and after which time another one
// may be; zero where no other one waits.
func (l *lostConnections) take(now time.Time) (due []catalog.BackendID, next time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	maps.DeleteFunc(l.taken, func(_ catalog.BackendID, at time.Time) bool { return now.Sub(at) >= lostPause })
	for id := range l.servers {
		if at, lately := l.taken[id]; lately {
			if wait := lostPause - now.Sub(at); next == 0 || wait < next {
				next = wait
			}
			continue
		}
		due = append(due, id)
		delete(l.servers, id)
		l.taken[id] = now
	}
	return due, next
}

// checkLost has the extension servers that ended a connection probed, their documents
// downloaded sooner and a watch tried there, until ctx ends.
func (a *Aggregator) checkLost(ctx context.Context) {
	later := time.NewTimer(lostPause)
	defer later.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.lost.some:
		case <-later.C:
		}
		ids, next := a.lost.take(time.Now())
		if next > 0 {
			later.Reset(next)
		}
		if len(ids) == 0 {
			continue
		}
		for _, id := range ids {
			a.fetcher.RefreshSoon(id)
			a.watchLists.Again(id)
		}
		for _, s := range a.snapshot.Load().Remotes() {
			if slices.Contains(ids, s.Backend) {
				a.prober.ProbeNow(s.Name)
			}
		}
	}
}
