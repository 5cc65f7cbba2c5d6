package fetch

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/annex-api/annex/aggregator/internal/backend/coalesce"
)

// openAPIAfter bounds how long the first OpenAPI waits for discovery, which is
// wanted sooner.
const openAPIAfter = 10 * time.Second

func (f *Fetcher) runDiscovery(ctx context.Context, srv *server, probeWait time.Duration) {
	defer srv.cancel()
	if probeWait > 0 && !waitAtMost(ctx, srv.probeEnded, probeWait) {
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
		if _, alive := wait(ctx, f.pause(failures, 0, 0), srv.discoverNow, nil, time.Time{}); !alive {
			return
		}
	}
}

func (f *Fetcher) runOpenAPI(ctx context.Context, srv *server) {
	if !waitAtMost(ctx, srv.attempted, openAPIAfter) {
		return
	}
	state := openAPIState{}
	woken := true
	for failures, quiet, seen := 0, 0, 0; ; {
		members, _, joined := f.members(srv)
		if joined != seen {
			state, seen = openAPIState{}, joined
		}
		began := time.Now()
		before := f.known(members)
		ok := f.openAPI(ctx, members, &state, woken)
		switch {
		case !ok:
			failures, quiet = failures+1, 0
		case woken || !slices.EqualFunc(before, f.known(members), sameOpenAPI):
			failures, quiet = 0, 0
		default:
			failures, quiet = 0, min(quiet+1, 16)
		}
		alive := true
		woken, alive = wait(ctx, f.pause(failures, quiet, f.timing.OpenAPIMax), srv.openAPINow, srv.refreshSoon, began.Add(f.timing.Interval))
		if !alive {
			return
		}
	}
}

// pause is the time until the next attempt, after so many that failed, or that
// found nothing new where the interval grows to limit.
func (f *Fetcher) pause(failures, quiet int, limit time.Duration) time.Duration {
	if failures > 0 {
		pause := f.timing.RetryMax
		if shift := failures - 1; shift < 30 {
			pause = min(pause, f.timing.RetryMin<<shift)
		}
		return pause
	}
	pause := f.timing.Interval
	for ; quiet > 0 && pause < limit; quiet-- {
		pause = min(2*pause, limit)
	}
	return coalesce.Shorten(pause + time.Duration((rand.Float64()-0.5)*0.2*float64(pause)))
}

// wait waits for a pause to end, or for a kick. After soon it is over no later
// than soonest. It says whether anything but time ended or shortened it; alive is
// false when the loop is to end.
func wait(ctx context.Context, pause time.Duration, now, soon <-chan struct{}, soonest time.Time) (woken, alive bool) {
	end := time.Now().Add(pause)
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return false, false
		case <-now:
			return true, true
		case <-soon:
			woken = true
			if soonest.Before(end) {
				end = soonest
				timer.Reset(coalesce.Shorten(time.Until(end)))
			}
		case <-timer.C:
			return woken, true
		}
	}
}

// hold waits for c for a time; false means that the loop is to end.
func waitAtMost(ctx context.Context, c <-chan struct{}, limit time.Duration) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-c:
		return true
	case <-timer.C:
		return true
	}
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
