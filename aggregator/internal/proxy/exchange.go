package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
	"k8s.io/klog/v2"

	"github.com/annex-api/annex/aggregator/internal/backend"
	"github.com/annex-api/annex/aggregator/internal/backend/balance"
	"github.com/annex-api/annex/aggregator/internal/catalog"
)

const (
	// maxAttempts bounds how often one request is tried; an attempt may be made at
	// two endpoints at a time, see hedgeAfter.
	maxAttempts = 3
	// hedgeAfter is how long the header of a response may take before a request
	// that changes nothing is sent to a second endpoint as well, and before the
	// extension server is probed.
	hedgeAfter = 800 * time.Millisecond
)

// errUnresolved means that there is nowhere to send a request.
type errUnresolved struct{ error }

// errHeaderTimeout ends an attempt after the time that the APIService allows.
var errHeaderTimeout = fmt.Errorf("the extension server sent no header of a response in time: %w", context.DeadlineExceeded)

// exchange is one client's request with the attempts to have it answered.
//
// A request is sent a second time only if it provably reached no handler, or
// if it is a GET or HEAD that the client has seen no answer of.
type exchange struct {
	request    *http.Request // to the extension server, without a host and a context
	kind       kind
	body       *replayBody // nil where there is none
	late       *lateBody   // nil where the body has arrived
	apiService *catalog.APIService
	backend    *backend.Backend
	probeNow   func(*catalog.APIService)
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
	for attempt := 1; ; attempt++ {
		choice, err := x.backend.Pick(x.apiService.Target, tried...)
		if err != nil {
			return nil, errUnresolved{err}
		}
		others := choice.Alternatives(time.Now())
		result, sent, err := x.attempt(ctx, choice, x.header(choice, attempt > 1), others)
		if err == nil {
			return result, nil
		}
		// An endpoint that retires a connection is as good as another one.
		elsewhere := others || errors.Is(err, errNotBegun)
		again := ctx.Err() == nil && attempt < maxAttempts && elsewhere && (!sent || x.kind.readOnly) &&
			x.body.whole() && x.late.refused() == nil && x.backend.TakeRetry()
		klog.FromContext(ctx).V(4).Info("Attempt at an extension server failed",
			"apiService", x.apiService.Name, "endpoint", choice.Address, "sent", sent, "again", again, "err", err)
		if !again {
			return nil, err
		}
		tried = append(tried, choice.Address)
	}
}

// attempt sends the request to one endpoint and, if its answer is late and
// hedging is allowed, to another as well. Sent is false if the request provably
// reached no handler.
func (x *exchange) attempt(ctx context.Context, choice balance.Choice, header http.Header, others bool) (result *answer, sent bool, err error) {
	late := time.AfterFunc(hedgeAfter, func() { x.probeNow(x.apiService) })
	defer late.Stop()
	if !others || !x.kind.readOnly || x.body != nil {
		ctx, cancel := context.WithCancelCause(ctx)
		result, sent, err = x.send(ctx, cancel, choice, header)
		if err != nil {
			cancel(nil)
		}
		return result, sent, err
	}
	result, err = hedge{
		after: hedgeAfter,
		first: func(ctx context.Context, cancel context.CancelCauseFunc) (result *answer, err error) {
			result, sent, err = x.send(ctx, cancel, choice, header)
			return result, err
		},
		second: func(ctx context.Context, cancel context.CancelCauseFunc) (*answer, error) {
			return x.sendElsewhere(ctx, cancel, choice)
		},
	}.run(ctx)
	return result, sent, err
}

// errNotHedged means that no second attempt was made beside a slow one.
var errNotHedged = errors.New("too many requests are sent again")

// sendElsewhere makes an attempt beside one that is slow.
func (x *exchange) sendElsewhere(ctx context.Context, cancel context.CancelCauseFunc, slow balance.Choice) (*answer, error) {
	if !x.backend.TakeRetry() {
		return nil, errNotHedged
	}
	choice, err := x.backend.Pick(x.apiService.Target, slow.Address)
	if err != nil {
		return nil, err
	}
	result, _, err := x.send(ctx, cancel, choice, x.header(choice, true))
	if err == nil && !x.kind.watch {
		// This endpoint answered while the other one was silent. With a watch that may
		// mean that there is no event yet.
		slow.Note(time.Now(), balance.Failed)
	}
	return result, err
}

// header is the request's for one endpoint. The first attempt takes it as it is, the
// others a copy.
func (x *exchange) header(choice balance.Choice, another bool) http.Header {
	header := x.request.Header
	if another {
		header = maps.Clone(header)
	}
	header[forwardedHost] = []string{choice.Address}
	return header
}

// send makes one round trip. The bodies of small answers to requests that can
// be repeated are read before they are passed on: an extension server that dies
// in the middle of one is not the client's concern.
func (x *exchange) send(ctx context.Context, cancel context.CancelCauseFunc, choice balance.Choice, header http.Header) (*answer, bool, error) {
	t := newSendTrace(cancel)
	unclear := x.backend.UnclearResets()
	out := x.request.WithContext(httptrace.WithClientTrace(ctx, &t.trace))
	u := *x.request.URL
	out.URL, out.Header = &u, header
	out.URL.Host, out.Host = choice.Address, choice.Address
	x.setBody(out)
	if d := x.apiService.Settings.HeaderTimeout; d > 0 {
		timer := time.AfterFunc(d, func() { cancel(errHeaderTimeout) })
		defer timer.Stop()
	}
	response, err := x.backend.RoundTrip(out)
	if err == nil && x.kind.readOnly {
		err = readSmall(response)
	}
	if err == nil {
		choice.Note(time.Now(), balance.Answered)
		return &answer{Response: response, choice: choice, cancel: cancel}, true, nil
	}
	outcome := balance.Failed
	switch cause := context.Cause(ctx); cause {
	case nil:
	case errNotBegun, errHeaderTimeout:
		err = cause
	default: // the client left, or the other attempt was answered
		outcome = balance.Neutral
	}
	if x.late.refused() != nil {
		outcome = balance.Neutral // it was ended from here
	}
	choice.Done(time.Now(), outcome)
	// A write that was cut short by a deadline may have been half done.
	sent := t.wrote.Load() || t.connected.Load() && ctx.Err() != nil
	begun := !refusedToBegin(err) || x.backend.UnclearResets() != unclear
	return nil, sent && begun, err
}

// setBody gives a request its body. The transport sends a request again by itself
// where it has no body, or where GetBody brings it anew. Whether one that changes
// something is sent again, and where, is decided in tryEndpoints.
func (x *exchange) setBody(out *http.Request) {
	if x.body != nil {
		out.Body = x.body.open()
	}
	if x.kind.readOnly {
		return
	}
	if out.Body == nil {
		out.Body = io.NopCloser(strings.NewReader(""))
	}
	again := errNotBegun
	if out.Header["Idempotency-Key"] != nil || out.Header["X-Idempotency-Key"] != nil {
		again = errPerhapsBegun // the transport would send such a request in any case
	}
	out.GetBody = func() (io.ReadCloser, error) { return nil, again }
}

// errNotBegun takes the place of the transport's error where it would have sent
// a request again by itself: after REFUSED_STREAM, a GOAWAY that leaves the
// request out, or a connection that nothing was written to.
var errNotBegun = errors.New("the extension server did not begin to handle the request")

// errPerhapsBegun is the same where the transport does not ask that much.
var errPerhapsBegun = errors.New("the extension server ended the connection")

// refusedToBegin says whether the extension server has told that it did not begin to
// handle the request (RFC 9113, sections 6.8 and 8.7).
func refusedToBegin(err error) bool {
	var stream http2.StreamError
	return errors.Is(err, errNotBegun) || errors.As(err, &stream) && stream.Code == http2.ErrCodeRefusedStream
}

// sendTrace tells how far one round trip has come.
type sendTrace struct {
	cancel           context.CancelCauseFunc
	connected, wrote atomic.Bool
	trace            httptrace.ClientTrace
}

func newSendTrace(cancel context.CancelCauseFunc) *sendTrace {
	t := &sendTrace{cancel: cancel}
	t.trace.GetConn = func(string) { t.once(); t.connected.Store(false) }
	t.trace.GotConn = func(httptrace.GotConnInfo) { t.once(); t.connected.Store(true) }
	t.trace.WroteHeaders = func() { t.wrote.Store(true) }
	return t
}

// once ends the attempt when the transport is about to send by itself what it has
// sent before, which it does where nothing was begun as far as it can tell.
func (t *sendTrace) once() {
	if t.wrote.Load() {
		t.cancel(errNotBegun)
	}
}
