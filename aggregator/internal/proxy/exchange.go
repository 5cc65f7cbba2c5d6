package proxy

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptrace"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"
	"k8s.io/klog/v2"

	"github.com/annex-api/annex/aggregator/internal/backend"
	"github.com/annex-api/annex/aggregator/internal/backend/balance"
	"github.com/annex-api/annex/aggregator/internal/catalog"
	"github.com/annex-api/annex/aggregator/internal/proxy/outgoing"
	"github.com/annex-api/annex/aggregator/internal/proxy/traffic"
)

const (
	// maxAttempts bounds how often one request is tried; an attempt may be made at
	// two endpoints at a time, see hedgeAfter.
	maxAttempts = 3
	// hedgeAfter is how long the header of a response may take before a plain read is
	// sent to a second endpoint as well, and before the extension server is probed.
	hedgeAfter = 800 * time.Millisecond
)

// errUnresolved means that there is nowhere to send a request.
type errUnresolved struct{ error }

// exchange is one client's request with the attempts to have it answered.
//
// A request is sent a second time only if it provably reached no handler, or
// if it is a plain read that the client has seen no answer of.
type exchange struct {
	request    *http.Request // to the extension server, without a host and a context
	interim    *interimAnswers
	kind       kind
	body       *replayBody // nil where there is none
	late       *lateBody   // nil where the body has arrived
	apiService *catalog.APIService
	backend    *backend.Backend
	probeNow   func(*catalog.APIService)
	counts     *traffic.Counts
	tracer     trace.Tracer // nil where the request's trace is not recorded
	began      time.Time    // when the request was there
	// begin is called before the first attempt at a watch, on the stack of run's own.
	begin func()
}

// answer is a response whose header has arrived.
type answer struct {
	*http.Response
	choice balance.Choice
	cancel context.CancelCauseFunc
}

// end gives up or finishes the response.
func (a *answer) end() {
	a.cancel(nil)
	_ = a.Body.Close()
	a.choice.Done(time.Now(), balance.Neutral)
}

// run returns the first answer of any attempt. On success the caller ends the
// answer.
func (x *exchange) run(ctx context.Context) (*answer, error) {
	if x.kind.longRunning {
		return x.runOnOwnStack(ctx)
	}
	return x.tryEndpoints(ctx)
}

// runOnOwnStack tries on a goroutine of its own, which has ended when it returns.
// The stack of the caller's, which lives as long as a watch, would be twice as large
// for the sake of this call: it shrinks only when it is nearly empty.
func (x *exchange) runOnOwnStack(ctx context.Context) (result *answer, err error) {
	var panicked any
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		defer func() { panicked = recover() }()
		if x.begin != nil {
			x.begin()
		}
		result, err = x.tryEndpoints(ctx)
	}()
	wg.Wait()
	if panicked != nil {
		panic(panicked)
	}
	return result, err
}

// tryEndpoints makes one attempt after the other, each at another endpoint where
// there is one.
func (x *exchange) tryEndpoints(ctx context.Context) (*answer, error) {
	var tried []string
	var doubtful suspects
	kind := firstAttempt
	for attempt := 1; ; attempt++ {
		choice, err := x.pick(ctx, tried...)
		if err != nil {
			return nil, errUnresolved{err}
		}
		began := time.Now()
		others := choice.Alternatives(began)
		result, failed := x.attempt(ctx, trial{choice, x.header(choice, attempt > 1), began, attempt, kind}, others)
		if failed == nil {
			doubtful.answeredBy(result.choice)
			return result, nil
		}
		if ctx.Err() != nil || attempt == maxAttempts || !x.maySendAgain(failed, others) || !x.backend.TakeRetry() {
			return nil, failed
		}
		x.counts.Retried()
		kind = retryAttempt
		if failed.fault == unclear {
			doubtful = append(doubtful, choice)
		}
		tried = append(tried, choice.Address)
	}
}

// maySendAgain says whether another attempt would do no harm, and could do better.
func (x *exchange) maySendAgain(failed *failure, others bool) bool {
	if failed.sent && !x.kind.plainRead || failed.elsewhereToo() || !x.body.whole() {
		return false
	}
	// An endpoint that ends a connection which it has kept is as good as another one.
	return others || errors.Is(failed, errNotBegun) || errors.Is(failed, errPerhapsBegun)
}

// trial is one endpoint with what is sent to it, and when that began.
type trial struct {
	choice balance.Choice
	header http.Header
	began  time.Time
	number int    // of the attempt, from 1 on
	kind   string // of the attempt
}

// attempt sends the request to one endpoint and, if its answer is late and
// hedging is allowed, to another as well.
func (x *exchange) attempt(ctx context.Context, first trial, others bool) (*answer, *failure) {
	late := time.AfterFunc(hedgeAfter, func() { x.probeNow(x.apiService) })
	defer late.Stop()
	if !others || !x.kind.plainRead || x.body != nil {
		ctx, cancel := context.WithCancelCause(ctx)
		result, failed := x.send(ctx, cancel, first)
		if failed != nil {
			cancel(nil)
		}
		return result, failed
	}
	var failed *failure
	result, err := hedge{
		after: hedgeAfter,
		first: func(ctx context.Context, cancel context.CancelCauseFunc) (*answer, error) {
			var result *answer
			if result, failed = x.send(ctx, cancel, first); failed != nil {
				return nil, failed
			}
			return result, nil
		},
		second: func(ctx context.Context, cancel context.CancelCauseFunc) (*answer, error) {
			return x.sendElsewhere(ctx, cancel, first)
		},
	}.run(ctx)
	if err != nil { // the first attempt's
		return nil, failed
	}
	return result, nil
}

// errNotHedged means that no second attempt was made beside a slow one.
var errNotHedged = errors.New("too many requests are sent again")

// sendElsewhere makes an attempt beside one that is slow.
func (x *exchange) sendElsewhere(ctx context.Context, cancel context.CancelCauseFunc, slow trial) (*answer, error) {
	if !x.backend.TakeRetry() {
		return nil, errNotHedged
	}
	choice, err := x.pick(ctx, slow.choice.Address)
	if err != nil {
		return nil, err
	}
	x.counts.Hedged()
	result, failed := x.send(ctx, cancel, trial{choice, x.header(choice, true), time.Now(), slow.number, hedgeAttempt})
	if failed != nil {
		return nil, failed
	}
	if !x.kind.watch {
		// This endpoint answered while the other one was silent. With a watch that may
		// mean that there is no event yet.
		slow.choice.Note(time.Now(), balance.Failed)
	}
	return result, nil
}

// header is the request's for one endpoint. The first attempt takes it as it is, the
// others a copy.
func (x *exchange) header(choice balance.Choice, another bool) http.Header {
	header := x.request.Header
	if another {
		header = maps.Clone(header)
	}
	header[outgoing.ForwardedHost] = []string{choice.Address}
	return header
}

// send makes one round trip. The bodies of small answers to plain reads are read
// before they are passed on: an extension server that dies in the middle of one is not
// the client's concern.
func (x *exchange) send(ctx context.Context, cancel context.CancelCauseFunc, to trial) (*answer, *failure) {
	choice, header := to.choice, to.header
	ctx, span := x.startAttempt(ctx, to)
	t := newSendTrace(x.request, cancel, x.interim)
	reset, refused := x.backend.UnclearResets(), x.backend.RefusedStreams()
	out := x.request.WithContext(httptrace.WithClientTrace(ctx, &t.trace))
	u := *x.request.URL // by itself: a watch holds the trace as long as it lasts
	out.URL, out.Header = &u, header
	out.URL.Host, out.Host = choice.Address, choice.Address
	timer := startHeaderTimer(x.apiService, cancel)
	defer timer.end()
	x.setBody(out, t, timer)
	response, err := x.backend.RoundTrip(out)
	ended := time.Now()
	if err == nil && x.kind.plainRead {
		err = readSmall(response)
	}
	if err == nil {
		span.answered(response.StatusCode)
		choice.NoteRequest(ended, balance.Answered, x.came(response, ended.Sub(to.began)))
		return &answer{Response: response, choice: choice, cancel: cancel}, nil
	}
	e := x.ended(ctx, t, header, err)
	e.reset, e.refused = x.backend.UnclearResets() != reset, x.backend.RefusedStreams() != refused
	failed := judge(e)
	span.failed(failed)
	choice.DoneRequest(time.Now(), failed.outcome(), failed.request(x.kind, to.kind))
	klog.FromContext(ctx).V(4).Info("Attempt at an extension server failed",
		"apiService", x.apiService.Name, "endpoint", choice.Address, "how", failed.name, "sent", failed.sent, "err", backend.ErrorText(err))
	return nil, failed
}

// came is what an answer says of its endpoint. How long that of a watch takes, or of a
// request whose body is slow, says nothing.
func (x *exchange) came(response *http.Response, took time.Duration) balance.Request {
	r := balance.Request{Took: took, Error: failedStatus(response.StatusCode)}
	if x.kind.longRunning || x.late != nil {
		r.Took = 0
	}
	return r
}

// setBody gives a request its body, if it has one: what arrives has the length that the
// client announced. The transport sends a request again by itself where there is no body,
// and where GetBody brings it anew. The trace keeps it from the one, and GetBody from the
// other.
func (x *exchange) setBody(out *http.Request, t *sendTrace, timer *headerTimer) {
	if x.body == nil {
		return
	}
	out.Body = x.body.open(timer)
	out.GetBody = func() (io.ReadCloser, error) { return nil, t.whyAgain() }
}
