package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"

	"golang.org/x/net/http2"
)

// stage is how far an attempt has come.
type stage = int32

const (
	unsent     stage = iota // nothing was tried
	connecting              // a connection is looked for, or made
	connected               // there is one
	sent                    // the header was handed to it, as a whole
)

// errNotBegun takes the place of the transport's error where it would have sent
// a request again by itself: after REFUSED_STREAM, a GOAWAY that leaves the
// request out, or a connection that nothing was written to.
var errNotBegun = errors.New("the extension server did not begin to handle the request")

// errPerhapsBegun is the same where the transport does not ask that much.
var errPerhapsBegun = errors.New("the extension server ended the connection")

// sendTrace tells how far one round trip has come, and ends it where the transport
// would send a second time by itself: whether and where that is done is decided in
// tryEndpoints.
type sendTrace struct {
	cancel context.CancelCauseFunc
	// idempotent is true where the transport for HTTP/1.1 sends again though the
	// request may have been begun.
	idempotent bool
	stage      atomic.Int32
	conn       net.Conn // that the request is sent over; for the goroutine of the round trip
	trace      httptrace.ClientTrace
}

// newSendTrace returns the trace of an attempt at r. Interim gets interim answers (1xx).
func newSendTrace(r *http.Request, cancel context.CancelCauseFunc, interim *interimAnswers) *sendTrace {
	t := &sendTrace{cancel: cancel, idempotent: idempotent(r)}
	t.trace.GetConn = func(string) {
		if !t.again(nil) {
			t.stage.Store(connecting)
		}
	}
	t.trace.GotConn = func(info httptrace.GotConnInfo) {
		if !t.again(info.Conn) {
			t.conn = info.Conn
			t.stage.Store(connected)
		}
	}
	t.trace.WroteHeaders = func() { t.stage.Store(sent) }
	t.trace.Got1xxResponse = interim.take
	return t
}

// idempotent says whether net/http takes a request for one that does no harm when it
// is sent twice.
func idempotent(r *http.Request) bool {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	for _, name := range []string{"Idempotency-Key", "X-Idempotency-Key"} {
		if _, ok := r.Header[name]; ok {
			return true
		}
	}
	return false
}

// again ends the attempt when the transport is about to send what it has sent before,
// and says whether it is. Over HTTP/2 nothing is written any more once the attempt is
// ended. Over HTTP/1.1 it would be: so the next connection is closed.
func (t *sendTrace) again(next net.Conn) bool {
	if t.stage.Load() != sent {
		return false
	}
	t.cancel(t.whyAgain())
	if next != nil && !speaksHTTP2(next) {
		_ = next.Close()
	}
	return true
}

// whyAgain is what makes the transport send a second time.
func (t *sendTrace) whyAgain() error {
	if t.stage.Load() == sent && t.idempotent && !speaksHTTP2(t.conn) {
		return errPerhapsBegun
	}
	return errNotBegun
}

func speaksHTTP2(conn net.Conn) bool {
	c, ok := conn.(interface{ ConnectionState() tls.ConnectionState })
	return ok && c.ConnectionState().NegotiatedProtocol == http2.NextProtoTLS
}
