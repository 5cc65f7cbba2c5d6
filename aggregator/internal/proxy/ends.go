package proxy

import (
	"context"
	"errors"
	"net/http"
	"time"

	"k8s.io/klog/v2"

	"github.com/annex-api/annex/aggregator/internal/backend"
)

// How the answer to a request ends, once its header has left:
//
//	what ends it                            the client finds    audited as
//	the extension server, all is there      its end             complete
//	its client leaves                       nobody is there     complete
//	a watch: whatever ends it               its end             complete
//	another stream: whatever ends it        it is cut off       complete
//	another answer: the extension server    it is cut off       panic
//	a request's deadline                    it is cut off       panic
//
// Every event of a watch is whole, and a client that finds the end of one begins the
// next. Of anything else a part must not look like the whole: a log, a list.
//
// What is audited as a panic is http.ErrAbortHandler, which the filters of
// k8s.io/apiserver also log as an error. So it is kept to what somebody has to look
// at. Neither a client that leaves nor a server that shuts down is, here or there.

// clientError is what the client's side of an answer says: it is gone, or a filter
// has answered in the place of the handler.
type clientError struct{ error }

// Unwrap returns what was said.
func (e clientError) Unwrap() error { return e.error }

// endHalfAnswer ends an answer that is not whole.
func endHalfAnswer(w http.ResponseWriter, r *http.Request, err error) {
	switch ended := r.Context().Err(); {
	case clientLeft(r), ended == nil && errors.As(err, new(clientError)):
		cutOff(w, r)
		return
	case ended == nil:
		klog.FromContext(r.Context()).V(2).Info("The answer of an extension server broke off", "err", backend.ErrorText(err))
	}
	panic(http.ErrAbortHandler)
}

// endWithDeadline has an answer to a request with a deadline end with that though its
// client takes no bytes: the request would keep its place for as long as it likes. What it
// returns is called when all has been written.
func endWithDeadline(w http.ResponseWriter, r *http.Request) func() {
	if _, bounded := r.Context().Deadline(); !bounded {
		return func() {}
	}
	done := make(chan struct{})
	stop := context.AfterFunc(r.Context(), func() {
		defer close(done)
		_ = http.NewResponseController(w).SetWriteDeadline(time.Unix(1, 0))
	})
	return func() {
		if !stop() {
			<-done
		}
	}
}

// clientLeft says whether the client has closed its connection or its stream.
func clientLeft(r *http.Request) bool { return errors.Is(r.Context().Err(), context.Canceled) }

// cutOff has an answer end as one that is not whole, without an abort of its handler.
//
// It is for the goroutine that the server calls handlers on. A request with a deadline
// may have been left by it: then the filter that set the deadline ends the answer, and
// cutOff says no.
func cutOff(w http.ResponseWriter, r *http.Request) bool {
	if _, bounded := r.Context().Deadline(); bounded {
		return false
	}
	err := http.NewResponseController(w).SetWriteDeadline(time.Unix(1, 0))
	if errors.Is(err, http.ErrNotSupported) {
		panic(http.ErrAbortHandler)
	}
	return true
}
