package proxy

import (
	"bytes"
	"context"
	"errors"
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

// exchange is one client's request with the attempts to have it answered.
//
// A request is sent a second time only if it provably reached no handler, or
// if it is a GET or HEAD that the client has seen no answer of.
type exchange struct {
	proxy      *Proxy
	ctx        context.Context
	request    *http.Request // to the extension server, without a host and a context
	apiService *catalog.APIService
	backend    *backend.Backend
	body       *replayBody // nil where there is none
	watch      bool
	winner     atomic.Int32
	stopHedge  atomic.Pointer[context.CancelFunc] // of the attempt under way
	began      atomic.Bool                        // the first attempt, which has the request's own header
}

// answer is a response whose header has arrived.
type answer struct {
	*http.Response
	choice balance.Choice
	cancel context.CancelFunc
}

// end gives up or finishes the response.
func (a *answer) end() {
	a.cancel()
	_ = a.Body.Close()
	a.choice.Done(time.Now(), balance.Neutral)
}

// readOnly says whether sending the request twice does no harm.
func (x *exchange) readOnly() bool {
	return x.request.Method == http.MethodGet || x.request.Method == http.MethodHead
}

// run returns the first answer of any attempt. On success the caller ends the
// answer.
func (x *exchange) run() (*answer, error) {
	x.backend.Retries.Request()
	var tried []string
	for attempt := 1; ; attempt++ {
		choice, err := x.backend.Pick(x.apiService.Target, tried...)
		if err != nil {
			return nil, errUnresolved{err}
		}
		others := choice.Alternatives(time.Now())
		result, sent, err := x.attempt(choice, others && x.readOnly() && x.body == nil)
		if err == nil {
			return result, nil
		}
		// An endpoint that retires a connection is as good as another one.
		elsewhere := others || errors.Is(err, errNotBegun)
		again := x.ctx.Err() == nil && attempt < maxAttempts && elsewhere && (!sent || x.readOnly()) &&
			x.body.rewind() && x.backend.Retries.Take(time.Now())
		klog.FromContext(x.ctx).V(4).Info("Attempt at an extension server failed",
			"apiService", x.apiService.Name, "endpoint", choice.Address, "sent", sent, "again", again, "err", err)
		if !again {
			return nil, err
		}
		tried = append(tried, choice.Address)
	}
}

// runApart is run on a goroutine of its own, which has ended when it returns.
// The stack of a goroutine that lives as long as a watch would be twice as
// large for the sake of this call, as it shrinks only when it is nearly empty.
func (x *exchange) runApart() (result *answer, err error) {
	var panicked any
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		defer func() { panicked = recover() }()
		result, err = x.run()
	}()
	wg.Wait()
	if panicked != nil {
		panic(panicked)
	}
	return result, err
}

// Winners of a hedged attempt.
const (
	nobody int32 = iota
	first
	second
)

// attempt sends the request to one endpoint and, if its answer is late and
// hedging is allowed, to another as well. Sent is false if the request provably
// reached no handler.
func (x *exchange) attempt(choice balance.Choice, hedge bool) (result *answer, sent bool, err error) {
	x.winner.Store(nobody)
	x.stopHedge.Store(nil)
	ctx, cancel := context.WithCancel(x.ctx)
	hedged := make(chan *answer, 1) // nil if the second attempt failed or was not made
	late := time.AfterFunc(hedgeAfter, func() {
		x.proxy.config.ProbeNow(x.apiService)
		var other *answer
		if hedge {
			other = x.hedge(choice, cancel)
		}
		hedged <- other
	})
	result, sent, err = x.send(ctx, cancel, choice)
	if late.Stop() {
		if err != nil {
			cancel()
		}
		return result, sent, err
	}
	if err == nil && x.winner.CompareAndSwap(nobody, first) {
		if stop := x.stopHedge.Load(); stop != nil {
			(*stop)()
		}
		return result, sent, nil
	}
	if result != nil {
		result.end()
	}
	cancel()
	if other := <-hedged; other != nil {
		return other, true, nil
	}
	if err == nil { // cannot be: only a second answer takes the first one's place
		err = context.Canceled
	}
	return nil, sent, err
}

// hedge makes the second of two attempts at the same time.
func (x *exchange) hedge(slow balance.Choice, cancelFirst context.CancelFunc) *answer {
	if !x.backend.Retries.Take(time.Now()) {
		return nil
	}
	choice, err := x.backend.Pick(x.apiService.Target, slow.Address)
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithCancel(x.ctx)
	x.stopHedge.Store(&cancel)
	if x.winner.Load() != nobody {
		cancel() // the first one won before it could know of this one
	}
	result, _, err := x.send(ctx, cancel, choice)
	if err != nil {
		cancel()
		return nil
	}
	if !x.winner.CompareAndSwap(nobody, second) {
		result.end()
		return nil
	}
	if !x.watch {
		// The other endpoint answered while this one was silent. With a watch that may
		// mean that there is no event yet.
		slow.Note(time.Now(), balance.Failed)
	}
	cancelFirst()
	return result
}

// outgoing is the request as it is sent to one endpoint. Attempts share what
// is not changed.
func (x *exchange) outgoing(ctx context.Context, host string) *http.Request {
	out := x.request.WithContext(ctx)
	u := *x.request.URL
	out.URL = &u
	if x.began.Swap(true) {
		out.Header = maps.Clone(out.Header)
	}
	out.URL.Host, out.Host = host, host
	out.Header[forwardedHost] = []string{host}
	return out
}

// sendTrace tells how far one round trip has come.
type sendTrace struct {
	cancel                  context.CancelFunc
	connected, wrote, again atomic.Bool
	trace                   httptrace.ClientTrace
}

func newSendTrace(cancel context.CancelFunc) *sendTrace {
	t := &sendTrace{cancel: cancel}
	t.trace.GetConn = func(string) { t.once(); t.connected.Store(false) }
	t.trace.GotConn = func(httptrace.GotConnInfo) { t.once(); t.connected.Store(true) }
	t.trace.WroteHeaders = func() { t.wrote.Store(true) }
	return t
}

// once ends the attempt when the transport is about to send on its own account
// what it has sent before. Whether that is done, and where, is decided in run.
func (t *sendTrace) once() {
	if t.wrote.Load() {
		t.again.Store(true)
		t.cancel()
	}
}

// send makes one round trip. The bodies of small answers to requests that can
// be repeated are read before they are passed on: an extension server that dies
// in the middle of one is not the client's concern.
func (x *exchange) send(ctx context.Context, cancel context.CancelFunc, choice balance.Choice) (*answer, bool, error) {
	t := newSendTrace(cancel)
	unclear := x.backend.UnclearResets()
	out := x.outgoing(httptrace.WithClientTrace(ctx, &t.trace), choice.Address)
	if x.body != nil {
		out.Body = x.body
	}
	if !x.readOnly() {
		// The transport sends a request again by itself where it has no body or
		// GetBody helps it. Here that is decided in run: elsewhere, and counted. With a
		// body, though an empty one, the connection also waits until it is written.
		if out.Body == nil {
			out.Body = io.NopCloser(strings.NewReader(""))
		}
		again := errNotBegun
		if out.Header["Idempotency-Key"] != nil || out.Header["X-Idempotency-Key"] != nil {
			again = errPerhapsBegun // the transport would send such a request in any case
		}
		out.GetBody = func() (io.ReadCloser, error) { return nil, again }
	}
	if d := x.apiService.Settings.HeaderTimeout; d > 0 {
		timer := time.AfterFunc(d, cancel)
		defer timer.Stop()
	}
	response, err := x.backend.RoundTrip(out)
	if err == nil && x.readOnly() {
		err = readSmall(response)
	}
	if err != nil && t.again.Load() {
		err = errNotBegun // as far as the transport can tell
	}
	if err != nil {
		outcome := balance.Failed
		if ctx.Err() != nil && x.ctx.Err() != nil {
			outcome = balance.Neutral // the client left
		} else if ctx.Err() != nil && x.winner.Load() != nobody {
			outcome = balance.Neutral // the other attempt won, and has noted what there is
		}
		choice.Done(time.Now(), outcome)
		// A write that was cut short by a deadline may have been half done.
		sent := t.wrote.Load() || t.connected.Load() && ctx.Err() != nil
		begun := !refused(err) || x.backend.UnclearResets() != unclear
		return nil, sent && begun, err
	}
	choice.Note(time.Now(), balance.Answered)
	return &answer{Response: response, choice: choice, cancel: cancel}, true, nil
}

// errNotBegun takes the place of the transport's error where it would have sent
// a request again by itself: after REFUSED_STREAM, a GOAWAY that leaves the
// request out, or a connection that nothing was written to.
var errNotBegun = errors.New("the extension server did not begin to handle the request")

// errPerhapsBegun is the same where the transport does not ask that much.
var errPerhapsBegun = errors.New("the extension server ended the connection")

// refused says whether the extension server has told that it did not begin to
// handle the request (RFC 9113, sections 6.8 and 8.7).
func refused(err error) bool {
	var stream http2.StreamError
	return errors.Is(err, errNotBegun) || errors.As(err, &stream) && stream.Code == http2.ErrCodeRefusedStream
}

// readSmall reads a body of known, small length into memory.
func readSmall(response *http.Response) error {
	if response.ContentLength <= 0 || response.ContentLength > bufferSize || response.Request.Method == http.MethodHead {
		return nil
	}
	data := make([]byte, response.ContentLength)
	_, err := io.ReadFull(response.Body, data)
	_ = response.Body.Close()
	if err != nil {
		return err
	}
	response.Body = &memoryBody{*bytes.NewBuffer(data)}
	return nil
}

// memoryBody is a body that has been read.
type memoryBody struct{ bytes.Buffer }

// Close implements io.Closer.
func (*memoryBody) Close() error { return nil }
