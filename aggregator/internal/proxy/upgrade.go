package proxy

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/textproto"
	"strings"
	"time"

	"k8s.io/klog/v2"

	"github.com/annex-api/annex/aggregator/internal/backend"
	"github.com/annex-api/annex/aggregator/internal/backend/balance"
	"github.com/annex-api/annex/aggregator/internal/catalog"
	"github.com/annex-api/annex/aggregator/internal/proxy/outgoing"
	"github.com/annex-api/annex/aggregator/internal/respond"
)

const (
	// refusalTimeout bounds the copying of an answer that refuses an upgrade.
	refusalTimeout = 10 * time.Second
	// maxUpgradeHeader bounds the header of an answer to an upgrade, in bytes.
	maxUpgradeHeader = 1 << 20
)

// upgrade sends the request on a connection of its own. Only an answer of 101
// makes a tunnel of the two connections; anything else ends both. The answer may take
// as long as that to any long-running request: what its APIService says, or as long as
// the client waits.
func (p *Proxy) upgrade(ctx context.Context, w http.ResponseWriter, r *http.Request, x *exchange) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	a, b, body, out := x.apiService, x.backend, x.body, x.request.WithContext(ctx)
	defer p.served.hold(placeOf(a), &balance.Stream{End: func() { cancel(errMoved) }})() // until it is answered
	timer := startHeaderTimer(a, cancel)
	defer timer.end()
	late := time.AfterFunc(hedgeAfter, func() { p.config.ProbeNow(a) })
	defer late.Stop()
	conn, choice, err := p.dialUpgrade(out, a, b)
	if err != nil {
		p.exchangeFailed(w, r, a, err)
		return
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()

	_, span := x.startAttempt(ctx, trial{choice: choice, number: 1, kind: firstAttempt}) // connecting left out
	u := &upgradeExchange{conn: conn, body: body, timer: timer, interim: x.interim}
	defer u.interim.end()
	response, err := u.roundTrip(out)
	u.interim.end()
	late.Stop()
	timer.end()
	body.allowEarlyAnswer(w, r)
	if err != nil {
		failed := judge(u.ended(ctx, out.Header, err))
		span.failed(failed)
		choice.DoneRequest(time.Now(), failed.outcome(), failed.request(x.kind, firstAttempt))
		p.exchangeFailed(w, r, a, failed)
		return
	}
	span.answered(response.StatusCode)
	choice.NoteRequest(time.Now(), balance.Answered, balance.Request{Error: failedStatus(response.StatusCode)})
	defer choice.Done(time.Now(), balance.Neutral)
	defer response.Body.Close()

	fail := func(format string, args ...any) {
		p.fail(w, r, respond.Fail{Reason: respond.UpgradeInvalid, APIService: a.Name, Message: fmt.Sprintf(format, args...)})
	}
	switch code := response.StatusCode; {
	case code == http.StatusSwitchingProtocols:
		if got := response.Header.Get("Upgrade"); !strings.EqualFold(got, out.Header.Get("Upgrade")) {
			fail("invalid upgrade response: the backend switched to %q", got)
			return
		}
		if err := u.bodySent(); err != nil {
			p.exchangeFailed(w, r, a, judge(u.ended(ctx, out.Header, err)))
			return
		}
		// From here on the connections live as long as their ends want to, not
		// as long as the request's deadline.
		if !stop() {
			p.exchangeFailed(w, r, a, judge(u.ended(ctx, out.Header, context.Cause(ctx))))
			return
		}
		p.switchProtocols(w, r, response, newEnd(conn, u.in), x)
	case code < http.StatusBadRequest:
		fail("invalid upgrade response: status code %d", code)
	default:
		_ = conn.SetDeadline(time.Now().Add(refusalTimeout))
		outgoing.CleanResponse(response.Header)
		// Nothing of the client's connection may be read as a second request.
		response.Header.Set("Connection", "close")
		x.counts.Answered(x.kind.verb, code, time.Since(x.began))
		copyResponse(w, r, response, nil)
	}
}

// upgradeExchange is a request for an upgrade on its connection.
type upgradeExchange struct {
	conn    net.Conn
	in      *bufio.Reader
	body    *replayBody // nil where there is none
	timer   *headerTimer
	interim *interimAnswers
	written chan error // how the writing of the request ended; nil where that was in time
}

// roundTrip sends the request and returns the header of its answer. A body is sent
// meanwhile: an extension server may refuse before it has read all of one.
func (x *upgradeExchange) roundTrip(out *http.Request) (*http.Response, error) {
	if x.body == nil {
		if err := out.Write(x.conn); err != nil {
			return nil, fmt.Errorf("sending the request: %w", err)
		}
	} else {
		out.Body = x.body.open(x.timer)
		x.written = make(chan error, 1)
		go func() {
			// It ends with the connection, or when the client's server closes the body.
			err := out.Write(x.conn)
			if err != nil && x.body.broken(false) != nil {
				_ = x.conn.Close() // nothing will answer half a request
			}
			x.written <- err
		}()
	}
	limited := &io.LimitedReader{R: x.conn, N: maxUpgradeHeader}
	x.in = bufio.NewReader(limited)
	for {
		response, err := http.ReadResponse(x.in, out)
		if err != nil {
			return nil, fmt.Errorf("reading the response to an upgrade: %w", err)
		}
		if code := response.StatusCode; code < 100 || code > 199 || code == http.StatusSwitchingProtocols {
			if err := x.body.broken(false); err != nil {
				return nil, err // the server answers to half a request, while the connection ends
			}
			limited.N = math.MaxInt64
			return response, nil
		}
		if err := x.interim.take(response.StatusCode, textproto.MIMEHeader(response.Header)); err != nil {
			return nil, err
		}
	}
}

// bodySent returns when all of the request has been sent.
func (x *upgradeExchange) bodySent() error {
	if x.written == nil {
		return nil
	}
	if err := <-x.written; err != nil {
		return fmt.Errorf("sending the body: %w", err)
	}
	return nil
}

// ended describes why there is no answer.
func (x *upgradeExchange) ended(ctx context.Context, header http.Header, err error) ending {
	e := ending{err: err, stage: sent, cause: context.Cause(ctx)}
	e.body = x.body.broken(e.cause == context.Canceled)
	e.measure(header)
	return e
}

// dialUpgrade connects to an endpoint, another one where the first cannot be
// reached: nothing was sent then.
func (p *Proxy) dialUpgrade(out *http.Request, a *catalog.APIService, b *backend.Backend) (net.Conn, balance.Choice, error) {
	ctx := out.Context()
	var tried []string
	for attempt := 1; ; attempt++ {
		choice, err := b.Pick(a.Target, tried...)
		if err != nil {
			return nil, choice, errUnresolved{err}
		}
		conn, err := b.DialUpgrade(ctx, choice.Address)
		if err == nil {
			out.URL.Host, out.Host = choice.Address, choice.Address
			return conn, choice, nil
		}
		others := choice.Alternatives(time.Now())
		failed := judge(ending{err: err, stage: connecting, cause: context.Cause(ctx)})
		choice.DoneRequest(time.Now(), failed.outcome(), failed.request(kind{upgrade: true}, firstAttempt))
		if attempt == maxAttempts || !others || ctx.Err() != nil || !b.TakeRetry() {
			return nil, choice, failed
		}
		tried = append(tried, choice.Address)
	}
}

// switchProtocols writes the answer to the client and makes a tunnel of the two
// connections.
func (p *Proxy) switchProtocols(w http.ResponseWriter, r *http.Request, response *http.Response, backend *end, x *exchange) {
	a := x.apiService
	logger := klog.FromContext(r.Context()).WithValues("apiService", a.Name)
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		logger.V(2).Info("The client's connection cannot be taken over", "err", err)
		p.fail(w, r, respond.Fail{Reason: respond.NotHijackable, APIService: a.Name})
		return
	}
	defer conn.Close()
	x.counts.Answered(x.kind.verb, response.StatusCode, time.Since(x.began))
	outgoing.CleanUpgrade(response.Header)
	var head bytes.Buffer
	fmt.Fprintf(&head, "HTTP/1.1 %03d %s\r\n", response.StatusCode, http.StatusText(response.StatusCode))
	_ = response.Header.Write(&head) // a buffer takes all
	head.WriteString("\r\n")
	if _, err := conn.Write(head.Bytes()); err != nil {
		logger.V(4).Info("Answering an upgrade failed", "err", err)
		return
	}
	defer p.served.hold(placeOf(a), &balance.Stream{End: func() { _ = backend.Close() }})()
	err = tunnel(newEnd(conn, buffered.Reader), backend)
	logger.V(4).Info("Upgraded connection ended", "err", err)
}
