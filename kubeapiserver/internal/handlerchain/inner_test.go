package handlerchain

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"
	"k8s.io/apiserver/pkg/audit"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
	genericapifilters "k8s.io/apiserver/pkg/endpoints/filters"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/server/httplog"
	"k8s.io/apiserver/pkg/warning"
)

// seen is what the innermost handler finds in a request.
type seen struct {
	Method, URI, Proto, Host, Body string
	Header                         http.Header
	Length                         int64
	Certificates                   int

	User          *user.DefaultInfo
	Info          request.RequestInfo
	AuditID       string
	AuditLevel    string
	ImpersonatedU string
	Annotations   map[string]string
	Audiences     []string
	// Deadline counts from the moment at which the request was received.
	Deadline      string
	Received      bool
	Latency       bool
	Shutdown      bool
	MuxComplete   bool
	Span          bool
	Flush, Hijack bool
}

// inner is the handler at the end of a chain. It does what the header X-Do
// says, and remembers what it saw.
type inner struct {
	mu     sync.Mutex
	seen   []seen
	active atomic.Int64
	// claimed counts requests that came through the claimed chain.
	claimed atomic.Int64
	// entered and release are of the requests that hold.
	entered, release chan struct{}
	// answered is closed when the client has its answer, or has left.
	answered chan struct{}
}

func newInner() *inner {
	return &inner{entered: make(chan struct{}, 16), release: make(chan struct{}), answered: make(chan struct{})}
}

func (h *inner) look(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	s := seen{
		Method: r.Method, URI: r.RequestURI, Proto: r.Proto, Host: r.Host, Header: r.Header.Clone(), Length: r.ContentLength,
		MuxComplete: genericapifilters.NoMuxAndDiscoveryIncompleteKey(ctx),
		Span:        trace.SpanContextFromContext(ctx).IsValid(),
		Shutdown:    request.ServerShutdownSignalFrom(ctx) != nil,
	}
	if r.TLS != nil {
		s.Certificates = len(r.TLS.PeerCertificates)
	}
	if u, ok := request.UserFrom(ctx); ok {
		s.User = &user.DefaultInfo{Name: u.GetName(), UID: u.GetUID(), Groups: u.GetGroups(), Extra: u.GetExtra()}
	}
	if info, ok := request.RequestInfoFrom(ctx); ok {
		s.Info = *info
	}
	if id, ok := audit.AuditIDFrom(ctx); ok {
		s.AuditID = same(string(id))
	}
	if ac := audit.AuditContextFrom(ctx); ac != nil {
		s.AuditLevel = string(ac.GetEventLevel())
		s.Annotations = ac.GetEventAnnotations()
		if u := ac.GetEventImpersonatedUser(); u != nil {
			s.ImpersonatedU = u.Username
		}
	}
	audiences, _ := authenticator.AudiencesFrom(ctx)
	s.Audiences = slices.Clone(audiences)
	received, ok := request.ReceivedTimestampFrom(ctx)
	s.Received = ok
	if d, ok := ctx.Deadline(); ok {
		s.Deadline = d.Sub(received).String()
	}
	_, s.Latency = request.LatencyTrackersFrom(ctx)
	_, s.Flush = w.(http.Flusher)
	_, s.Hijack = w.(http.Hijacker)
	h.mu.Lock()
	h.seen = append(h.seen, s)
	h.mu.Unlock()
}

func (h *inner) reset() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seen, h.answered = nil, make(chan struct{})
}

func (h *inner) answer() chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.answered
}

func (h *inner) all() []seen {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.seen)
}

// ServeHTTP implements http.Handler. X-Do has steps, one after another.
func (h *inner) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.active.Add(1)
	defer h.active.Add(-1)
	h.look(w, r)
	if calledBy(ourChain) {
		h.claimed.Add(1)
	}
	for _, step := range strings.Fields(r.Header.Get("X-Do") + " echo") {
		if !h.step(w, r, step) {
			return
		}
	}
}

// watched is the goroutine that the reference's timeout filter watches.
const watched = "(*timeoutHandler).ServeHTTP.func1"

// late waits for the end of the request's context, and where a filter answers
// beside the handler, for that too: both see the end at the same time.
func (h *inner) late(ctx context.Context) {
	<-ctx.Done()
	if !calledBy(watched) {
		return
	}
	select {
	case <-h.answer():
	case <-time.After(deadline): // the comparison finds what is missing
	}
}

// step says whether the next one follows.
func (h *inner) step(w http.ResponseWriter, r *http.Request, step string) bool {
	step, argument, _ := strings.Cut(step, ":")
	ctx := r.Context()
	switch step {
	case "echo":
		w.Header().Set("X-Inner", "yes")
		w.Header().Set("Content-Type", "application/json")
		n, err := io.Copy(io.Discard, r.Body)
		fmt.Fprintf(w, `{"read":%d,"error":%v}`, n, err)
	case "read": // until then a server of HTTP/1.1 does not notice that the client leaves
		_, _ = io.Copy(io.Discard, r.Body)
	case "end":
		return false
	case "status":
		code, _ := strconv.Atoi(argument)
		w.WriteHeader(code)
	case "write":
		fmt.Fprint(w, "half of it\n")
	case "body":
		n, _ := strconv.Atoi(argument)
		fmt.Fprint(w, strings.Repeat("x", n))
	case "flush":
		if f, ok := w.(http.Flusher); ok {
			f.Flush()
		}
	case "control-flush":
		if err := http.NewResponseController(w).Flush(); err != nil {
			fmt.Fprintf(w, "flushing: %v\n", err)
		}
	case "panic":
		panic("boom")
	case "abort":
		panic(http.ErrAbortHandler)
	case "wait":
		h.late(ctx)
	case "left":
		h.entered <- struct{}{}
		h.late(ctx)
	case "hold":
		h.entered <- struct{}{}
		<-h.release
	case "signal":
		if signal := request.ServerShutdownSignalFrom(ctx); signal != nil {
			<-signal.ShuttingDown()
			fmt.Fprint(w, "the server shuts down\n")
		}
	case "warn":
		warning.AddWarning(ctx, "agent", "take "+argument)
	case "warnings":
		for i := range 40 {
			warning.AddWarning(ctx, "", strings.Repeat("w", 300)+strconv.Itoa(i))
		}
	case "annotate":
		audit.AddAuditAnnotation(ctx, "example.com/inner", argument)
	case "log":
		httplog.AddKeyValue(ctx, "inner", argument)
	case "header":
		w.Header().Set("X-Set", argument)
	case "replace":
		w.Header().Set("Cache-Control", "public")
		w.Header().Set("Audit-Id", "the handler's")
		w.Header().Set("Strict-Transport-Security", "max-age=1")
	case "remove":
		w.Header().Del("Cache-Control")
		w.Header().Del("Audit-Id")
	case "trailer":
		w.Header().Set("Trailer", "X-Trailer")
		fmt.Fprint(w, "body")
		w.Header().Set("X-Trailer", "there")
	case "readfrom":
		// The copy must find its way whatever the writer offers.
		if _, err := io.Copy(w, strings.NewReader("copied\n")); err != nil {
			fmt.Fprintf(w, "copying: %v", err)
		}
	case "span":
		trace.SpanFromContext(ctx).AddEvent(argument)
	case "rest":
		time.Sleep(550 * time.Millisecond) // the audit annotates what took more than 500 ms, over the wire
	case "trackers":
		request.TrackStorageLatency(ctx, 1)
	case "hijack":
		return hijack(w)
	case "session":
		echoLines(w)
		return false
	}
	return true
}

func hijack(w http.ResponseWriter) bool {
	hijacker, ok := w.(http.Hijacker)
	if !ok {
		http.Error(w, "no hijacking here", http.StatusTeapot)
		return false
	}
	conn, rw, err := hijacker.Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusTeapot)
		return false
	}
	defer func() { _ = conn.Close() }()
	talk(rw)
	return false
}

func talk(rw *bufio.ReadWriter) {
	fmt.Fprint(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: test\r\n\r\nhello")
	_ = rw.Flush()
}

// ourChain is the function that only requests through the claimed chain are in.
const ourChain = "(*claimedChain).serve"

// calledBy says whether a function whose name has that end is being executed.
func calledBy(end string) bool {
	pcs := make([]uintptr, 200)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(1, pcs)])
	for {
		frame, more := frames.Next()
		if strings.HasSuffix(frame.Function, end) {
			return true
		}
		if !more {
			return false
		}
	}
}
