package handlerchain

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	genericapiserver "k8s.io/apiserver/pkg/server"
)

// call is one request of a client, or the same several times.
type call struct {
	name           string
	method, target string
	header         http.Header
	body           string
	// as names the certificate that the client shows.
	as string
	// times is how often the request is sent over one connection, 0 is once.
	times int
	// late calls end with their time-out or their client, and the handler after it.
	late bool
	// leaves says that the client goes when the handler has begun.
	leaves bool
	// long calls take so long that audit events say where the time went.
	long bool
	// behind calls are sent while another request is being served.
	behind bool
	// only is the protocol for which this makes sense, if not for both.
	only string
	// differs makes of the reference's outcome what ours is meant to be. The
	// call's name says how they differ.
	differs func(*genericapiserver.Config, *observation)
	// session calls ask for another protocol, which makes them long-running in ours
	// alone, in the usual chain too.
	session bool
	// core calls are sent in every setting.
	core bool
}

// with sets headers; several values of one name are separated by commas.
func with(pairs ...string) http.Header {
	h := http.Header{}
	for i := 0; i < len(pairs); i += 2 {
		h.Add(pairs[i], pairs[i+1])
	}
	return h
}

func bearer(token string, pairs ...string) http.Header {
	h := with(pairs...)
	h.Set("Authorization", "Bearer "+token)
	return h
}

func (c call) request(ctx context.Context, t *testing.T) *http.Request {
	t.Helper()
	var body io.Reader
	if c.body != "" {
		body = strings.NewReader(c.body)
	}
	method := c.method
	if method == "" {
		method = http.MethodGet
	}
	r, err := http.NewRequestWithContext(ctx, method, "https://server"+c.target, body)
	if err != nil {
		t.Fatalf("making the request: %v", err)
	}
	r.Header.Set("User-Agent", "client/1")
	for k, v := range c.header {
		r.Header[k] = v
	}
	return r
}

// observe sends a call to the world. It returns when nothing more can happen,
// or, where it has to be like another, once like finds no difference or long after.
func (w *world) observe(t *testing.T, proto string, c call, like func(*observation) string) observation {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	w.idle(t)
	w.inner.reset()
	w.waits.reset()
	w.sink.reset()
	w.spans.Reset()
	accessLog.reset()
	before := gather(t)

	holder := func() {}
	if c.behind {
		holder = w.hold(ctx, t, proto)
	}
	o := observation{}
	conn := dial(t, w.address, proto, w.ids.shown[c.as])
	defer conn.close()
	for range max(1, c.times) {
		a := answer{}
		if c.leaves {
			a = w.leave(ctx, t, conn, c)
		} else {
			a = conn.exchange(c.request(ctx, t))
		}
		o.Answers = append(o.Answers, a.same())
		if a.Goodbye {
			conn.close()
			conn = dial(t, w.address, proto, w.ids.shown[c.as])
		}
	}
	close(w.inner.answer())
	holder()
	w.idle(t)
	collect := func() {
		o.Metrics = delta(before, gather(t))
		o.Seen, o.Spans, o.Log, o.Audit = w.inner.all(), w.spanLines(), accessLog.sorted(), nil
		o.Waits = w.waits.all()
		for _, e := range w.sink.all() {
			o.Audit = append(o.Audit, auditLine(t, e, c.long))
		}
	}
	if like != nil {
		poll(ctx, 300*time.Millisecond, func() bool {
			collect()
			return like(&o) == ""
		})
		return o
	}
	o.Uncounted = !poll(ctx, 5*time.Second, func() bool {
		late := accessLog.late.Load() // the reference logs it last
		collect()
		return !c.late || len(o.Seen) == 0 || late > 0
	})
	return o
}

// leave closes the connection while the handler serves the call. It returns when
// the server is done with it, but for a handler that a filter has left, with
// the answer if one comes before the handler is reached.
func (w *world) leave(ctx context.Context, t *testing.T, conn wire, c call) answer {
	t.Helper()
	done := make(chan answer, 1)
	r := c.request(ctx, t)
	go func() { done <- conn.exchange(r) }()
	select {
	case <-w.inner.entered:
	case a := <-done:
		return a
	case <-ctx.Done():
		t.Fatal("the handler is not reached")
	}
	conn.close()
	<-done // what a client finds that closed its connection is its own affair
	if !until(ctx, func() bool { return w.active.Load() == 0 }) {
		t.Fatal("the server does not notice that the client has left")
	}
	return answer{}
}

// hold occupies the server with a request until the result is called.
func (w *world) hold(ctx context.Context, t *testing.T, proto string) func() {
	t.Helper()
	conn := dial(t, w.address, proto, w.ids.shown["alice"])
	done := make(chan answer, 1)
	go func() {
		r := call{target: "/apis/g.example.com/v1/widgets/held", header: with("X-Do", "hold")}.request(ctx, t)
		done <- conn.exchange(r)
	}()
	select {
	case <-w.inner.entered:
	case a := <-done:
		t.Fatalf("the request that should be held got %+v", a)
	case <-ctx.Done():
		t.Fatal("no request is held")
	}
	return func() {
		w.inner.release <- struct{}{}
		if a := <-done; a.Status != http.StatusOK {
			t.Errorf("the held request ended with %+v", a)
		}
		conn.close()
	}
}

// diff tells how two observations differ, in no words if they do not.
func diff(reference, ours observation) string {
	return cmp.Diff(reference, ours, cmpopts.EquateEmpty())
}
