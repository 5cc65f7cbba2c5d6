package fetch

import (
	"context"
	"slices"
	"time"

	"github.com/annex-api/annex/aggregator/internal/pace"
)

const (
	// openAPIAfter bounds how long the first OpenAPI waits for discovery, which is
	// wanted sooner.
	openAPIAfter = 10 * time.Second
	// wokenDownloads of a kind are made for changes at an extension server, and as many
	// again in each wokenPeriod. Who changes more often is downloaded that often.
	wokenDownloads = 6
	wokenPeriod    = 2 * time.Minute
	// wokenPause is the least time between two downloads that changes ask for.
	wokenPause = 500 * time.Millisecond
)

// runDiscovery downloads discovery until ctx ends. The first download waits for a
// probe, for so long at most: it may have opened a connection.
func (f *Fetcher) runDiscovery(ctx context.Context, srv *server, probeWait time.Duration) {
	defer srv.cancel()
	if !pace.Wait(ctx, probeWait, srv.probeEnded) {
		return
	}
	var state discoveryState
	var failed failures
	woken := pace.NewBudget(wokenDownloads, wokenPeriod)
	for seen, first := 0, true; ; {
		members, changes, _ := f.members(srv)
		if changes != seen {
			state, seen = discoveryState{}, changes
		}
		began := time.Now()
		before := f.known(members)
		ok := f.discovery(ctx, members, &state)
		streak := failed.note(ok, time.Now(), f.timing)
		same := slices.EqualFunc(before, f.known(members), sameResources)
		srv.count(discoveryDocument, ok, same)
		if first {
			close(srv.attempted)
			first = false
		} else if !same {
			wake(srv.openAPINow) // other resources have other schemas
		}
		if _, alive := f.await(ctx, f.pause(streak, 0, 0), began, srv.discoverNow, nil, &woken); !alive {
			return
		}
	}
}

// await pauses before the next download. A wake ends the pause early, as often as the
// budget has it, and wokenPause after the last download began at the soonest; shorten
// has it end one Interval after that.
func (f *Fetcher) await(ctx context.Context, pause time.Duration, began time.Time, wake, shorten <-chan struct{}, budget *pace.Budget) (woken, alive bool) {
	end := time.Now().Add(pause)
	woken, alive = pace.WaitOrShorten(ctx, pause, wake, shorten, began.Add(f.timing.Interval))
	if !alive || !woken {
		return woken, alive
	}
	now := time.Now()
	wait := max(budget.Wait(now), began.Add(wokenPause).Sub(now))
	if alive = pace.Wait(ctx, min(wait, end.Sub(now)), nil); !alive {
		return woken, false
	}
	budget.Spend(time.Now(), 1)
	select {
	case <-wake: // the download that begins now is for this change too
	default:
	}
	return woken, true
}

// failures counts downloads that failed. It begins anew where none did for a while:
// one that succeeds in between is no sign that the next will.
type failures struct {
	count int
	last  time.Time
}

// note takes note of a download, and returns how many have failed if this one did;
// zero otherwise.
func (n *failures) note(ok bool, now time.Time, timing Timing) int {
	if ok {
		return 0
	}
	if now.Sub(n.last) > 2*timing.RetryMax+max(timing.DiscoveryTimeout, timing.OpenAPITimeout) {
		n.count = 0
	}
	n.count, n.last = n.count+1, now
	return n.count
}

// runOpenAPI downloads OpenAPI until ctx ends, less often the longer nothing
// changes.
func (f *Fetcher) runOpenAPI(ctx context.Context, srv *server) {
	if !pace.Wait(ctx, openAPIAfter, srv.attempted) {
		return
	}
	state := openAPIState{}
	var failed failures
	budget := pace.NewBudget(wokenDownloads, wokenPeriod)
	woken := true
	for unchanged, seen := 0, 0; ; {
		members, _, nameChanges := f.members(srv)
		if nameChanges != seen {
			state, seen = state.forOtherMembers(), nameChanges
		}
		began := time.Now()
		before := f.known(members)
		ok := f.openAPI(ctx, members, &state, woken)
		streak := failed.note(ok, time.Now(), f.timing)
		same := slices.EqualFunc(before, f.known(members), sameOpenAPI)
		srv.count(openAPIDocument, ok, same)
		if !ok || woken || !same {
			unchanged = 0
		} else {
			unchanged = min(unchanged+1, 16)
		}
		alive := true
		woken, alive = f.await(ctx, f.pause(streak, unchanged, f.timing.OpenAPIMax), began, srv.openAPINow, srv.refreshSoon, &budget)
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
