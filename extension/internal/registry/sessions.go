package registry

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// brokenOff is how long what was broken off may take to end.
const brokenOff = 5 * time.Second

// errStopping is why the context of an action or a stream ends at a stop.
var errStopping = errors.New("the server stops")

// Sessions are the actions and streams that are under way. Nothing of k8s.io/apiserver
// ends them at a stop: they are no watches, and a hijacked connection is nobody's.
type Sessions struct {
	mu     sync.Mutex
	open   map[*session]struct{}
	ending bool
	// none is closed once the sessions are ending and none is open.
	none chan struct{}
}

// NewSessions gives sessions of which none is open.
func NewSessions() *Sessions {
	return &Sessions{open: map[*session]struct{}{}, none: make(chan struct{})}
}

// session is one action or stream.
type session struct {
	of     *Sessions
	cancel context.CancelCauseFunc

	mu sync.Mutex
	// parts are the handler, until it returns, and a hijacked connection, until it is closed.
	parts  int
	writer http.ResponseWriter // nil unless the handler has it
	conn   net.Conn            // nil unless it is hijacked
	// broken is set once the session is broken off: no connection is taken over any more.
	broken bool
	// release is called at the end, with the last part.
	release func()
}

// begin opens a session. Its context ends with the request, and at a stop. leave is called
// once, when its handler has returned or is not to be called. release is called when the
// session is over, also if there is an error.
func (s *Sessions) begin(ctx context.Context, release func()) (context.Context, *session, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending {
		release()
		return nil, nil, apierrors.NewServiceUnavailable(errStopping.Error())
	}
	ctx, cancel := context.WithCancelCause(ctx)
	x := &session{of: s, cancel: cancel, parts: 1, release: release}
	s.open[x] = struct{}{}
	return ctx, x, nil
}

// End has all sessions end, and no other one begin. Their contexts are over at once. What
// goes on after the grace is broken off: its connection is closed, or no longer read and
// written. It gives how many have not ended even then.
func (s *Sessions) End(grace time.Duration) int {
	for _, x := range s.stop() {
		x.cancel(errStopping)
	}
	if s.await(grace) {
		return 0
	}
	for _, x := range s.all() {
		x.breakOff()
	}
	if s.await(brokenOff) {
		return 0
	}
	return len(s.all())
}

// stop lets none begin, and gives those that are open.
func (s *Sessions) stop() []*session {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ending {
		s.ending = true
		s.settle()
	}
	return s.list()
}

func (s *Sessions) all() []*session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.list()
}

func (s *Sessions) list() []*session {
	all := make([]*session, 0, len(s.open))
	for x := range s.open {
		all = append(all, x)
	}
	return all
}

// settle notes that none is open, if that is so and is waited for.
func (s *Sessions) settle() {
	if s.ending && len(s.open) == 0 {
		close(s.none)
	}
}

func (s *Sessions) await(limit time.Duration) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-s.none:
		return true
	case <-timer.C:
		return false
	}
}

func (s *Sessions) remove(x *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, x)
	s.settle()
}

// leaveOn leaves a session that is not to be, as there is an error.
func (x *session) leaveOn(err *error) {
	if *err != nil {
		x.leave()
	}
}

// leave is called when the handler has returned.
func (x *session) leave() {
	x.mu.Lock()
	x.writer = nil // it is another request's from now on
	x.mu.Unlock()
	x.end()
}

// end notes that a part is over, and the session with the last one.
func (x *session) end() {
	x.mu.Lock()
	x.parts--
	last := x.parts == 0
	x.mu.Unlock()
	if last {
		x.cancel(nil)
		x.release()
		x.of.remove(x)
	}
}

// breakOff has reads and writes of the session fail from now on.
func (x *session) breakOff() {
	x.mu.Lock()
	x.broken = true
	conn := x.conn
	if conn == nil && x.writer != nil {
		// Whoever has no deadlines cannot be broken off, and is waited for.
		now, c := time.Now(), http.NewResponseController(x.writer)
		_, _ = c.SetReadDeadline(now), c.SetWriteDeadline(now)
	}
	x.mu.Unlock()
	if conn != nil {
		_ = conn.Close() // it is closed to end what uses it
	}
}

// handle gives the writer for the handler of the session: it knows of a connection that is
// taken over.
func (x *session) handle(w http.ResponseWriter) http.ResponseWriter {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.writer = w
	if h, ok := w.(http.Hijacker); ok {
		return hijackable{ResponseWriter: w, hijacker: h, session: x}
	}
	return w
}

// hijackable is a writer whose connection may be taken over.
type hijackable struct {
	http.ResponseWriter
	hijacker http.Hijacker
	session  *session
}

// Unwrap is for http.ResponseController.
func (h hijackable) Unwrap() http.ResponseWriter { return h.ResponseWriter }

// Flush implements http.Flusher.
func (h hijackable) Flush() {
	_ = http.NewResponseController(h.ResponseWriter).Flush() // as http.Flusher has it
}

// Hijack implements http.Hijacker. A connection that comes after the session was broken
// off is closed: to take it over has taken the deadlines back.
func (h hijackable) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffered, err := h.hijacker.Hijack()
	if err != nil {
		return nil, nil, err
	}
	x := h.session
	taken := &takenOver{Conn: conn, closed: sync.OnceFunc(x.end)}
	if !x.take(taken) {
		_ = conn.Close() // nobody has written to it
		return nil, nil, errStopping
	}
	if half, ok := conn.(halfCloser); ok {
		return halfClosing{taken, half}, buffered, nil
	}
	return taken, buffered, nil
}

// take notes a connection, unless the session is broken off.
func (x *session) take(conn net.Conn) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.broken {
		return false
	}
	x.conn = conn
	x.parts++
	return true
}

// takenOver is a hijacked connection.
type takenOver struct {
	net.Conn
	closed func()
}

func (c *takenOver) Close() error {
	defer c.closed()
	return c.Conn.Close()
}

type halfCloser interface{ CloseWrite() error }

// halfClosing is one of which each direction ends by itself.
type halfClosing struct {
	*takenOver
	halfCloser
}
