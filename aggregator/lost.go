package aggregator

import (
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/annex-api/annex/aggregator/internal/catalog"
)

// lostConnections lists the extension servers that ended a connection and have not
// been checked since. Connections add to it without waiting; checkLost takes from
// it.
type lostConnections struct {
	some chan struct{} // one slot

	mu      sync.Mutex
	servers map[catalog.BackendID]bool
}

func newLostConnections() *lostConnections {
	return &lostConnections{some: make(chan struct{}, 1), servers: map[catalog.BackendID]bool{}}
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

func (l *lostConnections) take() []catalog.BackendID {
	l.mu.Lock()
	defer l.mu.Unlock()
	ids := slices.Collect(maps.Keys(l.servers))
	clear(l.servers)
	return ids
}

// checkLost has the extension servers that ended a connection probed, their documents
// downloaded sooner and a watch tried there, until ctx ends.
func (a *Aggregator) checkLost(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.lost.some:
		}
		ids := a.lost.take()
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
