package openapi

import (
	"context"
	"crypto/sha512"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/util/responsewriter"
	"k8s.io/kube-openapi/pkg/handler3"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// aggregatorUser is who the local handlers see.
const aggregatorUser = "system:aggregator"

// requests are those under way to local handlers. Once closed, no more begin.
type requests struct {
	running sync.WaitGroup

	mu     sync.Mutex // no other lock is taken while it is held
	closed bool
	cancel map[*flight]context.CancelFunc
}

// begin says whether f may run. Then end has to follow.
func (r *requests) begin(f *flight, cancel context.CancelFunc) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	r.cancel[f] = cancel
	r.running.Add(1)
	return true
}

func (r *requests) end(f *flight) {
	defer r.running.Done()
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.cancel, f)
}

// close ends the contexts of all requests and waits for their handlers.
func (r *requests) close() {
	r.mu.Lock()
	r.closed = true
	for _, cancel := range r.cancel {
		cancel()
	}
	r.mu.Unlock()
	r.running.Wait()
}

// poll keeps the newest good answer of one local handler to one path. At most
// one request to the handler is under way. When it does not end in time no client
// waits for it, and the last good answer stands.
type poll[T any] struct {
	handler  http.Handler
	what     string
	path     string
	every    time.Duration
	requests *requests
	now      func() time.Time
	logf     func(string, ...any)
	parse    func([]byte) (T, error)

	mu     sync.Mutex // no other lock is taken while it is held
	flight *flight
	asked  time.Time
	good   answer[T]
	// problem tells apart the failures that were logged; empty after a success.
	problem string
}

// answer is a parsed document. The zero answer means that none was ever had.
type answer[T any] struct {
	value T
	// id tells documents apart.
	id string
	// etag is the handler's own, empty when it gives none.
	etag string
}

// flight is one request to a local handler. Expired is closed when its time
// is over.
type flight struct {
	done    chan struct{}
	expired <-chan struct{}
}

var (
	// errNothing is a handler's 404: it does not serve the path.
	errNothing = errors.New("not served")
	// errLate is an answer that came after its time, which was logged then, or after
	// the Service was closed.
	errLate = errors.New("too late")
)

func newPoll[T any](h http.Handler, index int, path string, every time.Duration, s *Service, parse func([]byte) (T, error)) *poll[T] {
	return &poll[T]{
		handler: h,
		what:    fmt.Sprintf("local OpenAPI source %d", index),
		path:    path, every: every, requests: s.requests, now: s.now, logf: s.logf, parse: parse,
	}
}

// starter is a poll of any type.
type starter interface{ start() *flight }

// await asks all polls at once and waits until each has answered or run out
// of time. It is false when ctx ended before that.
func await(ctx context.Context, polls []starter) bool {
	flights := make([]*flight, len(polls))
	for i, p := range polls {
		flights[i] = p.start()
	}
	for _, f := range flights {
		if f == nil {
			continue
		}
		select {
		case <-f.done:
		case <-f.expired:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// start returns the request that is under way, or begins one, or returns nil
// when the last one is recent enough.
func (p *poll[T]) start() *flight {
	now := p.now()
	p.mu.Lock()
	due := p.asked.IsZero() || now.Sub(p.asked) >= p.every || now.Before(p.asked)
	if p.flight != nil || !due {
		defer p.mu.Unlock()
		return p.flight
	}
	ctx, cancel := context.WithTimeout(context.Background(), localTimeout)
	f := &flight{done: make(chan struct{}), expired: ctx.Done()}
	p.asked, p.flight = now, f
	known := p.good
	p.mu.Unlock()

	if !p.requests.begin(f, cancel) {
		cancel()
		p.settle(answer[T]{}, errLate)
		close(f.done)
		return f
	}
	unwatch := context.AfterFunc(ctx, func() {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			p.logf("%s: GET %s: no answer within %s; its last good document stays", p.what, p.path, localTimeout)
		}
	})
	go func() {
		defer p.requests.end(f)
		defer cancel()
		defer unwatch()
		got, err := p.ask(ctx, known)
		p.settle(got, err)
		close(f.done)
	}()
	return f
}

// last is the newest good answer.
func (p *poll[T]) last() answer[T] {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.good
}

func (p *poll[T]) settle(got answer[T], err error) {
	p.mu.Lock()
	p.flight = nil
	report := false
	switch {
	case err == nil:
		p.good, p.problem = got, ""
	case err == errNothing || err == errLate:
	default:
		// The parser's words for one fault differ from time to time, so a document
		// that does not parse is told apart by its id.
		problem := got.id
		if problem == "" {
			problem = err.Error()
		}
		report, p.problem = p.problem != problem, problem
	}
	p.mu.Unlock()
	if report {
		p.logf("%s: GET %s: %v; its last good document stays", p.what, p.path, err)
	}
}

// ask makes the request. An answer that comes with an error has an id alone.
func (p *poll[T]) ask(ctx context.Context, known answer[T]) (got answer[T], err error) {
	defer func() {
		if r := recover(); r != nil {
			got, err = answer[T]{}, fmt.Errorf("panic: %v", r)
		}
	}()
	ctx = request.WithUser(ctx, &user.DefaultInfo{Name: aggregatorUser})
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.path, nil)
	if err != nil {
		return got, err
	}
	req.Header.Set("Accept", "application/json")
	if known.etag != "" {
		req.Header.Set("If-None-Match", known.etag)
	}
	w := responsewriter.NewInMemoryResponseWriter()
	p.handler.ServeHTTP(w, req)
	if ctx.Err() != nil {
		return got, errLate
	}
	switch w.RespCode() {
	case http.StatusOK:
	case http.StatusNotModified:
		if known.etag == "" {
			return got, errors.New("answered 304 to a request without an ETag")
		}
		return known, nil
	case http.StatusNotFound:
		return got, errNothing
	default:
		return got, fmt.Errorf("answered %d", w.RespCode())
	}
	got.etag = w.Header().Get("Etag")
	if got.id = got.etag; got.id == "" {
		got.id = fmt.Sprintf("%X", sha512.Sum512(w.Data()))
	}
	if got.id == known.id {
		return known, nil
	}
	if got.value, err = p.parse(w.Data()); err != nil {
		return answer[T]{id: got.id}, fmt.Errorf("parse the answer: %w", err)
	}
	return got, nil
}

func parseV2(data []byte) (*spec.Swagger, error) {
	s := &spec.Swagger{}
	return s, s.UnmarshalJSON(data)
}

func parseV3Root(data []byte) (handler3.OpenAPIV3Discovery, error) {
	var d handler3.OpenAPIV3Discovery
	err := json.Unmarshal(data, &d)
	return d, err
}
