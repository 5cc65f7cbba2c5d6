package aggregator

import (
	"context"
	"time"

	"github.com/annex-api/annex/aggregator/internal/catalog"
)

const (
	// After a snapshot there is a rest of buildRest times what it cost, between
	// minRest and maxRest: building takes at most a fifth of a processor, however
	// many facts arrive, and the first fact after a quiet time never waits.
	buildRest = 4
	minRest   = 10 * time.Millisecond
	maxRest   = 250 * time.Millisecond
)

// build turns facts into snapshots; a burst of facts costs one.
func (a *Aggregator) build(ctx context.Context) {
	first := true
	rest := time.NewTimer(0)
	defer rest.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-rest.C:
		}
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
		rest.Reset(min(max(buildRest*time.Since(began), minRest), maxRest))
	}
}

func (a *Aggregator) publish(ctx context.Context, s *catalog.Snapshot) {
	a.backends.Sync(s) // before requests see endpoints that it has to know
	a.snapshot.Store(s)
	a.discovery.Sync(s)
	a.openapi.Sync(s)
	a.fetcher.Sync(ctx, s) // before the probes, which it is told of
	a.prober.Sync(ctx, s)
	if a.config.Metrics != nil {
		a.config.Metrics.availability.Sync(s)
	}
	if a.writer != nil {
		a.writer.Sync(s)
	}
	select {
	case a.newer <- struct{}{}:
	default:
	}
}
