package handlerchain

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apiserver/pkg/endpoints/metrics"
)

// maxStack bounds the stack that is logged of a panic, in bytes.
const maxStack = 64 << 10

// deadlineWriter answers a request whose context has ended as k8s.io/apiserver's
// timeout filter does, without a goroutine of its own: the proxy notices the end, as
// do the filters that wait. What does not, such as an audit sink that blocks, is waited for.
type deadlineWriter struct {
	http.ResponseWriter
	ctx context.Context
	// reset leaves those headers that were there before the first handler.
	reset func(http.Header)

	begun, over bool
}

// Unwrap implements responsewriter.UserProvidedDecorator.
func (w *deadlineWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (w *deadlineWriter) WriteHeader(code int) {
	if w.over || w.begun {
		return
	}
	if w.ended() {
		w.timeout()
		return
	}
	w.begun = true
	w.ResponseWriter.WriteHeader(code)
}

// Write implements http.ResponseWriter.
func (w *deadlineWriter) Write(p []byte) (int, error) {
	if !w.begun {
		w.WriteHeader(http.StatusOK)
	}
	if w.over || w.ended() {
		return 0, http.ErrHandlerTimeout
	}
	return w.ResponseWriter.Write(p)
}

func (w *deadlineWriter) ended() bool {
	return w.ctx.Err() != nil
}

// finish is called when the handler has returned or panicked, and returns the
// panic that is to go on, or nil. One that nobody will see any more is logged; that
// an answer is given up whose client has left is not.
func (w *deadlineWriter) finish(r *http.Request, panicked any) any {
	if !w.ended() {
		if panicked != nil && !w.begun {
			w.reset(w.Header()) // whoever answers for it answers without the handler's headers
		}
		return panicked
	}
	if !w.over && !w.begun {
		w.timeout()
	}
	left := errors.Is(w.ctx.Err(), context.Canceled)
	metrics.RecordRequestTermination(r, contextOf(r).info, metrics.APIServerComponent, http.StatusGatewayTimeout)
	status := metrics.PostTimeoutHandlerOK
	if panicked != nil {
		status = metrics.PostTimeoutHandlerPanic
		if !left || panicked != http.ErrAbortHandler {
			logLatePanic(r, panicked)
		}
	}
	metrics.RecordRequestPostTimeout(metrics.PostTimeoutSourceTimeoutHandler, status)
	switch {
	case w.over:
		return nil
	case left && w.cutOff():
		return nil
	}
	// A part of an answer is out: the client must see that it is not whole.
	return http.ErrAbortHandler
}

func logLatePanic(r *http.Request, panicked any) {
	if panicked != http.ErrAbortHandler { // an abort is meant: its stack tells nothing
		stack := make([]byte, maxStack)
		panicked = fmt.Sprintf("%v\n%s", panicked, stack[:runtime.Stack(stack, false)])
	}
	utilruntime.HandleErrorWithContext(r.Context(), nil, "Post-timeout activity",
		"method", r.Method, "path", r.URL.Path, "result", panicked)
}

// cutOff has nothing more be written, not even the end of the answer: should the client
// be there after all, it sees that the answer is not whole. It says whether that works.
func (w *deadlineWriter) cutOff() bool {
	return http.NewResponseController(w.ResponseWriter).SetWriteDeadline(time.Unix(1, 0)) == nil
}

func (w *deadlineWriter) timeout() {
	w.over = true
	w.reset(w.Header())
	w.ResponseWriter.WriteHeader(http.StatusGatewayTimeout)
	status := apierrors.NewTimeoutError("request did not complete within the allotted timeout", 0).ErrStatus
	_ = json.NewEncoder(w.ResponseWriter).Encode(&status) // the client may be gone
}
