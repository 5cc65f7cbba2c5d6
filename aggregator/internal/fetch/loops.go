package fetch

import (
	"context"
	"slices"
	"time"

	"github.com/annex-api/annex/aggregator/internal/pace"
)

// openAPIAfter bounds how long the first OpenAPI waits for discovery, which is
// wanted sooner.
const openAPIAfter = 10 * time.Second

// runDiscovery downloads discovery until ctx ends. The first download waits for a
// probe, for so long at most: it may have opened a connection.
func (f *Fetcher) runDiscovery(ctx context.Context, srv *server, probeWait time.Duration) {
	defer srv.cancel()
	if !pace.Wait(ctx, probeWait, srv.probeEnded) {
		return
	}
	var state discoveryState
	for failures, seen, first := 0, 0, true; ; {
		members, changes, _ := f.members(srv)
		if changes != seen {
			state, seen = discoveryState{}, changes
		}
		before := f.known(members)
		if f.discovery(ctx, members, &state) {
			failures = 0
		} else {
			failures++
		}
		if first {
			close(srv.attempted)
			first = false
		} else if !slices.EqualFunc(before, f.known(members), sameResources) {
			wake(srv.openAPINow) // what serves other resources has other schemas
		}
		if !pace.Wait(ctx, f.pause(failures, 0, 0), srv.discoverNow) {
			return
		}
	}
}

// runOpenAPI downloads OpenAPI until ctx ends, less often the longer nothing
// changes.
func (f *Fetcher) runOpenAPI(ctx context.Context, srv *server) {
	if !pace.Wait(ctx, openAPIAfter, srv.attempted) {
		return
	}
	state := openAPIState{}
	woken := true
	for failures, unchanged, seen := 0, 0, 0; ; {
		members, _, joined := f.members(srv)
		if joined != seen {
			state, seen = openAPIState{}, joined
		}
		began := time.Now()
		before := f.known(members)
		ok := f.openAPI(ctx, members, &state, woken)
		switch {
		case !ok:
			failures, unchanged = failures+1, 0
		case woken || !slices.EqualFunc(before, f.known(members), sameOpenAPI):
			failures, unchanged = 0, 0
		default:
			failures, unchanged = 0, min(unchanged+1, 16)
		}
		alive := true
		woken, alive = pace.WaitOrShorten(ctx, f.pause(failures, unchanged, f.timing.OpenAPIMax), srv.openAPINow, srv.refreshSoon, began.Add(f.timing.Interval))
		if !alive {
			return
		}
	}
}

// pause is the time until the next attempt, after so many that failed, or that
// found nothing new where the interval grows to limit.
func (f *Fetcher) pause(failures, unchanged int, limit time.Duration) time.Duration {
	if failures > 0 {
		return pace.Doubled(f.timing.RetryMin, f.timing.RetryMax, failures-1)
	}
	return pace.Regular(pace.Doubled(f.timing.Interval, max(f.timing.Interval, limit), unchanged))
}

// takeTurn waits until no other OpenAPI document is being decoded, or ctx ends.
// Each turn ends: what a document costs is bounded.
func (f *Fetcher) takeTurn(ctx context.Context) error {
	select {
	case f.decoding <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (f *Fetcher) endTurn() { <-f.decoding }
