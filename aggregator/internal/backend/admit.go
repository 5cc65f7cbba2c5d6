package backend

import (
	"context"
	"time"

	"k8s.io/apiserver/pkg/util/flowcontrol"

	"github.com/annex-api/annex/aggregator/internal/backend/histogram"
	"github.com/annex-api/annex/aggregator/internal/backend/limit"
	"github.com/annex-api/annex/aggregator/internal/backend/retry"
	"github.com/annex-api/annex/aggregator/internal/catalog"
)

const (
	// maxStreams bounds the long-running requests for one extension server.
	maxStreams = 20_000
	// A fifth of the requests may be sent again, and a few each second in any
	// case.
	retryShare, retryRate, retryBurst = 0.2, 10, 100
)

// Refusal says why a request is not sent to an extension server now.
type Refusal struct {
	Reason RefusalReason
	// RetryAfter is how many seconds the client is asked to wait before it tries
	// again; zero where it is not asked to.
	RetryAfter int
	// Err says more about Unusable.
	Err error
}

// RefusalReason is the kind of a Refusal.
type RefusalReason int

const (
	// Unavailable: the APIService's verdict keeps it from being sent requests.
	Unavailable RefusalReason = iota
	// Unusable: no connection can be made at all, see Err.
	Unusable
	// Full: the extension server, or the user there, has as many requests as it may
	// have, and the queue is full or the wait was too long.
	Full
)

// Sender is whose request it is, as far as admission goes by it.
type Sender struct {
	User     string
	Priority limit.Priority
}

// Place is what a request takes at an extension server. Each kind has its own bound,
// and none of them is used up by a request of another kind.
type Place int

const (
	// UnderWay is that of a request which the extension server works on.
	UnderWay Place = iota
	// LongRunning is that of a request which lasts as long as its client wants.
	LongRunning
	// Sending is that of a request whose body has not arrived. Its client alone decides
	// how long that takes.
	Sending

	places = iota
)

// admission decides which requests are sent to one extension server, and how many
// of them are sent again.
type admission struct {
	limiters    [places]*limit.Limiter
	unavailable limit.RefusalRate
	full        flowcontrol.DroppedRequestsTracker
	retries     *retry.Budget
}

func newAdmission(limits limit.Config) *admission {
	return &admission{
		limiters: [places]*limit.Limiter{
			UnderWay:    limit.New(limits.Shared()),
			LongRunning: limit.New(limit.Config{InFlight: maxStreams}.Shared()),
			Sending:     limit.New(limits.Shared()),
		},
		full:    flowcontrol.NewDroppedRequestsTracker(),
		retries: retry.NewBudget(retryShare, retryRate, retryBurst),
	}
}

// set changes the limits. As many requests as may be under way may be sending
// their bodies.
func (a *admission) set(limits limit.Config) {
	limits = limits.Shared()
	a.limiters[UnderWay].Set(limits)
	a.limiters[Sending].Set(limits)
}

// Usable says why no request at all is sent for an APIService; nil where one may be.
func (b *Backend) Usable(a *catalog.APIService) *Refusal {
	if !a.Routable() {
		return &Refusal{Reason: Unavailable, RetryAfter: b.admission.unavailable.Refuse(time.Now())}
	}
	if err := b.Err(); err != nil {
		return &Refusal{Reason: Unusable, Err: err}
	}
	return nil
}

// Admit asks for a place for a request to an APIService, and waits for it where others
// have them. The caller calls release when the request has ended, or needs another
// place; there is none with a refusal.
func (b *Backend) Admit(ctx context.Context, a *catalog.APIService, s Sender, place Place) (release func(), refusal *Refusal) {
	if refusal := b.Usable(a); refusal != nil {
		return nil, refusal
	}
	release, err := b.admission.limiters[place].Acquire(ctx, s.User, s.Priority)
	if err != nil {
		// From 1 to 32 seconds, the longer the more are turned away, as priority and
		// fairness does it.
		b.admission.full.RecordDroppedRequest("")
		return nil, &Refusal{Reason: Full, RetryAfter: int(b.admission.full.GetRetryAfter(""))}
	}
	if place != Sending {
		b.admission.retries.Request()
	}
	return release, nil
}

// TakeRetry says whether a request may be sent once more, and counts it.
func (b *Backend) TakeRetry() bool { return b.admission.retries.Take(time.Now()) }

// Load is how many requests are under way, long-running ones left out, and how many
// wait for others to end.
func (b *Backend) Load() (inFlight, queued int) { return b.admission.limiters[UnderWay].InFlight() }

// LongRunning is how many requests are under way that last as long as their clients want.
func (b *Backend) LongRunning() int {
	inFlight, _ := b.admission.limiters[LongRunning].InFlight()
	return inFlight
}

// MaxInFlight is how many requests may be under way, long-running ones left out.
func (b *Backend) MaxInFlight() int { return b.admission.limiters[UnderWay].Max() }

// Waited is how long requests have waited for others to end.
func (b *Backend) Waited() histogram.Counts { return b.admission.limiters[UnderWay].Waited() }

// Sending is how many requests have a body that has not arrived.
func (b *Backend) Sending() int {
	sending, waiting := b.admission.limiters[Sending].InFlight()
	return sending + waiting
}
