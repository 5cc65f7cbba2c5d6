package aggregator

import (
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/annex-api/annex/aggregator/internal/catalog"
)

// lostConnections are the extension servers that ended a connection and were not
// asked since how they are. It stands between the connections, which must not
// wait, and those who ask.
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

// askLost has the APIServices of extension servers that ended a connection probed,
// and their documents downloaded sooner, until ctx ends.
func (a *Aggregator) askLost(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.lost.some:
		}
		ids := a.lost.take()
		for _, id := range ids {
			a.fetcher.RefreshSoon(id)
		}
		for _, s := range a.snapshot.Load().Remotes() {
			if slices.Contains(ids, s.Backend) {
				a.prober.ProbeNow(s.Name)
			}
		}
	}
}
