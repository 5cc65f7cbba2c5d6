package aggregator

import (
	"context"
	"time"

	"github.com/annex-api/annex/aggregator/internal/catalog"
	"github.com/annex-api/annex/aggregator/internal/pace"
)

// Between two snapshots there is a pause that grows with what one costs: however
// many facts arrive, building takes at most a fifth of a processor, and the first
// fact after a quiet time never waits.
const (
	minPause = 10 * time.Millisecond
	maxPause = 250 * time.Millisecond
)

// build turns facts into snapshots; a burst of facts costs one.
func (a *Aggregator) build(ctx context.Context) {
	first := true
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.facts.changed:
		}
		began := time.Now()
		snapshot, known := a.facts.snapshot(a.fetcher.Documents())
		a.publish(ctx, snapshot)
		if first && known {
			close(a.routes)
			first = false
		}
		if !pace.Wait(ctx, pace.AfterWork(time.Since(began), minPause, maxPause), nil) {
			return
		}
	}
}

func (a *Aggregator) publish(ctx context.Context, s *catalog.Snapshot) {
	a.backends.Sync(s) // before requests see endpoints that it has to know
	a.proxy.Sync(s)    // before requests go where it does not know yet
	a.snapshot.Store(s)
	a.discovery.Sync(s)
	a.openapi.Sync(s)
	a.fetcher.Sync(ctx, s) // before the probes, which it is told of
	a.prober.Sync(ctx, s)
	a.watchLists.Sync(ctx, s)
	if a.config.Metrics != nil {
		a.config.Metrics.availability.Sync(s)
	}
	if a.writer != nil {
		a.writer.Sync(s)
	}
	a.observer.stir()
	select {
	case a.newer <- struct{}{}:
	default:
	}
}
