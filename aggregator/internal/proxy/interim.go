package proxy

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"net/textproto"
	"sync"

	"github.com/annex-api/annex/aggregator/internal/proxy/outgoing"
)

const (
	// maxInterim bounds the interim answers (1xx) to one request.
	maxInterim = 100
	// maxWaitingInterim bounds those that the client has not taken yet; the ones
	// that come meanwhile are left out.
	maxWaitingInterim = 4
)

var errTooManyInterim = errors.New("the extension server sent too many interim answers (1xx)")

// interimAnswers pass the interim answers (1xx) to one request on, while its answer is
// awaited. They come on the goroutine that reads a connection for all of its requests:
// another one writes them, so that a client that reads nothing holds up nobody.
type interimAnswers struct {
	to      http.ResponseWriter
	request *http.Request // the client's
	// past is how to get past filters that wrap the ResponseWriter, see Config.Interim.
	past func(context.Context) func(code int, header http.Header)

	mu      sync.Mutex
	waiting []interimAnswer
	count   int
	over    bool
	writing chan struct{} // closed when the goroutine that writes ends; nil while there is none
}

type interimAnswer struct {
	code   int
	header http.Header
}

// take is given an interim answer. An error ends the attempt that it belongs to.
func (i *interimAnswers) take(code int, header textproto.MIMEHeader) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.count++
	switch {
	case i.count > maxInterim:
		return errTooManyInterim
	case i.over, code == http.StatusSwitchingProtocols, len(i.waiting) == maxWaitingInterim:
		return nil
	}
	i.waiting = append(i.waiting, interimAnswer{code, http.Header(header)})
	if i.writing == nil {
		i.writing = make(chan struct{})
		go i.writeAll(i.writing)
	}
	return nil
}

// writeAll writes what waits, and ends when nothing does.
func (i *interimAnswers) writeAll(ended chan struct{}) {
	defer close(ended)
	write := i.writer()
	for {
		i.mu.Lock()
		if len(i.waiting) == 0 {
			i.writing = nil
			i.mu.Unlock()
			return
		}
		next := i.waiting[0]
		i.waiting = i.waiting[1:]
		i.mu.Unlock()
		if write != nil {
			outgoing.CleanResponse(next.header)
			write(next.code, next.header)
		}
	}
}

// writer sends one to the client; nil where it cannot. Filters that wrap the
// ResponseWriter take the first status that they see for the answer's: the host says how
// to get past its own.
func (i *interimAnswers) writer() func(code int, header http.Header) {
	if !i.request.ProtoAtLeast(1, 1) { // whose clients know none (RFC 9110, section 15.2)
		return nil
	}
	if i.past != nil {
		return i.past(i.request.Context())
	}
	if _, wrapped := i.to.(interface{ Unwrap() http.ResponseWriter }); wrapped {
		return nil
	}
	return func(code int, header http.Header) {
		h := i.to.Header()
		before := maps.Clone(h)
		clear(h)
		maps.Copy(h, header)
		i.to.WriteHeader(code)
		clear(h)
		maps.Copy(h, before)
	}
}

// end returns when nothing is written any more: the answer's own header may be. The trace
// of a watch holds what is left, as long as that lasts: so it is little.
func (i *interimAnswers) end() {
	i.mu.Lock()
	i.over = true
	writing := i.writing
	i.mu.Unlock()
	if writing != nil {
		<-writing
	}
	i.to, i.request, i.past = nil, nil, nil
}
