package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"syscall"
	"time"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http2"

	"github.com/annex-api/annex/aggregator/internal/backend"
	"github.com/annex-api/annex/aggregator/internal/backend/balance"
	"github.com/annex-api/annex/aggregator/internal/respond"
)

// A request whose header has more bytes or fields than these may be one that a server
// does not read: many close the connection in place of an answer.
const (
	largeHeader = 4 << 10
	manyFields  = 64
)

// fault says whom it speaks of that an attempt ended without an answer.
type fault int

const (
	// ofNobody: nothing is wrong, as far as can be told.
	ofNobody fault = iota
	// ofClient: it left, or what it sends is no HTTP.
	ofClient
	// ofRequest: this one cannot be sent, or not to this extension server. Others can.
	ofRequest
	// ofServer: this API server lacks something.
	ofServer
	// ofEndpoint: others' requests would fare the same there.
	ofEndpoint
	// unclear: the endpoint or the request. If the same request is answered
	// elsewhere, it was the endpoint.
	unclear
)

// ending is an attempt at an endpoint that ended without an answer, as far as it is
// known here.
type ending struct {
	err   error // of the round trip
	stage stage // how far it came
	cause error // why it was given up from here; nil if it was not
	body  error // why the client's body could not be read; nil if it could

	http2     bool // the connection speaks HTTP/2
	connEnded bool // the connection has ended too
	refused   bool // the extension server refused a stream meanwhile
	reset     bool // it reset one with PROTOCOL_ERROR meanwhile

	refusedHere bool // the request was refused while its body was being sent

	unsendable bool // the header has what HTTP does not allow
	large      bool // the header is one that some servers do not read
}

// notBegun says whether the extension server, or the transport, has told that the
// request reached no handler (RFC 9113, sections 6.8 and 8.7).
func (e *ending) notBegun() bool {
	var stream http2.StreamError
	told := e.cause == errNotBegun || errors.Is(e.err, errNotBegun) ||
		errors.As(e.err, &stream) && stream.Code == http2.ErrCodeRefusedStream
	return told && !e.reset // the transport takes PROTOCOL_ERROR for such a word
}

// overLimit says whether the header is over SETTINGS_MAX_HEADER_LIST_SIZE. The connection
// is well then, and the transport wraps what its encoder says. Its word on a connection
// that takes no more requests it does not wrap.
func (e *ending) overLimit() bool {
	return e.stage == connected && e.http2 && !e.connEnded && errors.Unwrap(e.err) != nil
}

// streamEnded says whether the endpoint ended this request alone. The transport may then
// end the connection.
func (e *ending) streamEnded() bool {
	var stream http2.StreamError
	return e.reset || errors.As(e.err, &stream)
}

// givenUp says whether the attempt was ended from here, whatever the endpoint did.
func (e *ending) givenUp() bool {
	return e.cause != nil && e.cause != errNotBegun && e.cause != errPerhapsBegun
}

// row is one way for an attempt to end without an answer.
type row struct {
	name   string
	is     func(*ending) bool
	fault  fault
	reason respond.Reason // what the client is told, if there is no other attempt
}

// endings are all ways in which an attempt can end without an answer, and whose fault
// each is. The first that fits is the one. What is an endpoint's fault is held against
// it: it is left out for a while. Whatever the status, an answer is one: an endpoint
// that refuses a request has served it.
var endings = []row{
	{
		"the request was refused here before the end of its body",
		func(e *ending) bool { return e.refusedHere }, ofRequest, respond.BackendFailed,
	},
	{
		"the client's body broke off, or is malformed",
		func(e *ending) bool { return e.body != nil }, ofClient, respond.BodyBroken,
	},
	{
		"the APIService leads elsewhere now",
		func(e *ending) bool { return e.cause == errMoved }, ofNobody, respond.Moved,
	},
	{
		"another attempt was answered first",
		func(e *ending) bool { return e.cause == errOvertaken }, ofNobody, respond.BackendTimeout,
	},
	{
		"no header of an answer came in the time that the APIService allows",
		func(e *ending) bool { return e.cause == errHeaderTimeout }, ofEndpoint, respond.BackendTimeout,
	},
	{
		"the client left",
		func(e *ending) bool { return e.cause == context.Canceled }, ofClient, respond.ClientLeft,
	},
	{
		"the request's own time is over",
		(*ending).givenUp, ofNobody, respond.BackendTimeout,
	},
	{
		"the endpoint refused the stream",
		func(e *ending) bool { return e.notBegun() && e.refused }, ofEndpoint, respond.BackendFailed,
	},
	{
		"the endpoint retired the connection before it began",
		(*ending).notBegun, ofNobody, respond.BackendFailed,
	},
	{
		"the header has what HTTP does not allow",
		func(e *ending) bool { return e.stage < sent && e.unsendable }, ofRequest, respond.Unsendable,
	},
	{
		"this server can open no more connections",
		func(e *ending) bool { return e.stage == connecting && exhausted(e.err) }, ofServer, respond.BackendFailed,
	},
	{
		"no connection could be made",
		func(e *ending) bool { return e.stage == connecting }, ofEndpoint, respond.BackendFailed,
	},
	{
		"the transport did not try",
		func(e *ending) bool { return e.stage == unsent }, ofServer, respond.BackendFailed,
	},
	{
		"the header is larger than the endpoint announced to take",
		(*ending).overLimit, ofRequest, respond.HeaderTooLarge,
	},
	{
		"the connection ended upon a large header",
		func(e *ending) bool { return e.large }, ofNobody, respond.BackendFailed,
	},
	{
		"the connection ended before the request was sent",
		func(e *ending) bool { return e.stage == connected }, ofEndpoint, respond.BackendFailed,
	},
	{
		"the connection was lost, with all requests on it",
		func(e *ending) bool { return e.http2 && e.connEnded && !e.streamEnded() }, ofEndpoint, respond.BackendFailed,
	},
	{
		"the request was ended, or its connection, without a whole answer",
		func(*ending) bool { return true }, unclear, respond.BackendFailed,
	},
}

// failure is an attempt without an answer, as an error.
type failure struct {
	*row
	sent bool // a handler may have begun with the request
	err  error
}

// judge finds the row of an ending.
func judge(e ending) *failure {
	f := &failure{err: e.err}
	for i := range endings {
		if endings[i].is(&e) {
			f.row = &endings[i]
			break
		}
	}
	// A header that was cut short by a deadline may have been written half.
	f.sent = (e.stage == sent || e.stage == connected && e.cause != nil) && !e.notBegun()
	if e.cause != nil { // the round trip's error is a consequence
		f.err = e.cause
	}
	return f
}

// Error implements error. It is for logs: it may name addresses.
func (f *failure) Error() string { return fmt.Sprintf("%s: %v", f.name, f.err) }

// Unwrap gives the round trip's error.
func (f *failure) Unwrap() error { return f.err }

// outcome is what the endpoint's health makes of it.
func (f *failure) outcome() balance.Outcome {
	if f.fault == ofEndpoint {
		return balance.Failed
	}
	return balance.Neutral
}

// request is what the endpoint's numbers make of it: an error where its answer was
// waited for in vain, whosever fault that is. That another endpoint was first to answer a
// watch may mean that there was no event yet, and an attempt beside one that was slow had
// no time.
func (f *failure) request(k kind, attempt string) balance.Request {
	overtaken := errors.Is(f.err, errOvertaken) && (k.watch || attempt == hedgeAttempt)
	if f.fault == ofEndpoint || f.fault == unclear || f.reason == respond.BackendTimeout && !overtaken {
		return balance.Request{Error: backend.ErrorText(f)}
	}
	return balance.Request{}
}

// failedStatus is the error of an answer by which a server says that it failed; empty for
// any other.
func failedStatus(code int) string {
	if code < http.StatusInternalServerError || code == http.StatusNotImplemented {
		return ""
	}
	return fmt.Sprintf("the answer was %d %s", code, http.StatusText(code))
}

// elsewhereToo says whether another attempt would end no other way.
func (f *failure) elsewhereToo() bool { return f.fault == ofClient || f.fault == ofRequest }

// suspects are endpoints that a request was not answered by, and nobody knows whose
// fault that is.
type suspects []balance.Choice

// answeredBy holds it against them: the same request was answered elsewhere.
func (s suspects) answeredBy(choice balance.Choice) {
	for _, suspect := range s {
		if suspect.Address != choice.Address {
			suspect.Note(time.Now(), balance.Failed)
		}
	}
}

// exhausted says whether this server has no more files, sockets or memory for a
// connection.
func exhausted(err error) bool {
	for _, limit := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.EADDRNOTAVAIL, syscall.ENOBUFS, syscall.ENOMEM} {
		if errors.Is(err, limit) {
			return true
		}
	}
	return false
}

// ended describes a round trip that has failed.
func (x *exchange) ended(ctx context.Context, t *sendTrace, header http.Header, err error) ending {
	e := ending{err: err, stage: t.stage.Load(), cause: context.Cause(ctx), refusedHere: x.late.refused() != nil}
	e.body = x.body.broken(e.cause == context.Canceled)
	if t.conn != nil {
		e.http2, e.connEnded = speaksHTTP2(t.conn), backend.ConnectionEnded(t.conn)
	}
	e.measure(header)
	return e
}

// measure notes what of a header may be refused.
func (e *ending) measure(header http.Header) {
	size, fields := 0, 0
	for name, values := range header {
		for _, v := range values {
			size += len(name) + len(v)
			fields++
			e.unsendable = e.unsendable || !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(v)
		}
	}
	e.large = size > largeHeader || fields > manyFields
}
