package handlerchain

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"testing"
	"time"
)

// TestSameEffectsDuringStart sends requests while paths are still missing, and
// after that.
func TestSameEffectsDuringStart(t *testing.T) {
	ids := newIdentities(t)
	change := func(_ *testing.T, w *world) { w.installed = make(chan struct{}) }
	p := pair{newWorld(t, ids, reference, change), newWorld(t, ids, ours, change)}
	defer p.stop()
	phase := setting{slow: true}
	for _, c := range credentials {
		c.name = "before, " + c.name
		p.compare(t, phase, c)
	}
	for _, w := range []*world{p.reference, p.ours} {
		if seen := w.inner.all(); len(seen) > 0 && seen[0].MuxComplete {
			t.Error("a request finds all paths installed before they are")
		}
		close(w.installed)
	}
	p.warm(t)
	for _, c := range credentials {
		c.name = "after, " + c.name
		p.compare(t, setting{}, c)
	}
	if p.ours.inner.claimed.Load() == 0 {
		t.Error("no request went through the claimed chain after the start")
	}
}

// TestSameEffectsDuringShutdown follows both servers through the phases of their
// end, with connections, a request and a watch that began before it.
func TestSameEffectsDuringShutdown(t *testing.T) {
	ids := newIdentities(t)
	for _, retryAfter := range []bool{true, false} {
		name := "new requests are refused"
		if retryAfter {
			name = "new requests are told to come back"
		}
		t.Run(name, func(t *testing.T) {
			ends := make([]map[string]answer, 2)
			t.Run("both", func(t *testing.T) {
				for i, build := range []chain{reference, ours} {
					t.Run([]string{"reference", "ours"}[i], func(t *testing.T) {
						t.Parallel()
						ends[i] = shutDown(t, newWorld(t, ids, build, func(_ *testing.T, w *world) {
							w.config.ShutdownSendRetryAfter = retryAfter
							w.config.ShutdownDelayDuration = 3 * time.Second
							w.config.ShutdownWatchTerminationGracePeriod = 5 * time.Second
						}))
					})
				}
			})
			for step, want := range ends[0] {
				got := ends[1][step]
				if d := diff(observation{Answers: []answer{want}}, observation{Answers: []answer{got}}); d != "" {
					t.Errorf("%s (-reference +ours):\n%s", step, d)
				}
			}
			if len(ends[0]) != len(ends[1]) || len(ends[0]) < 5 {
				t.Errorf("the steps were %d and %d", len(ends[0]), len(ends[1]))
			}
		})
	}
}

// shutDown ends the server while a request and a watch are being served, and
// returns the answers in each phase.
func shutDown(t *testing.T, w *world) map[string]answer {
	t.Helper()
	w.warm(t)
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	answers := map[string]answer{}
	keep := func(step string, a answer) {
		answers[step] = a.same()
	}
	held := dial(t, w.address, "h2", w.ids.shown["alice"])
	defer held.close()
	watching := dial(t, w.address, "h2", w.ids.shown["alice"])
	defer watching.close()
	one, watch := make(chan answer, 1), make(chan answer, 1)
	go func() {
		one <- held.exchange(call{target: widget, header: does("hold")}.request(ctx, t))
	}()
	go func() {
		watch <- watching.exchange(call{target: widgets + "?watch=1", header: does("write flush signal end")}.request(ctx, t))
	}()
	select {
	case <-w.inner.entered:
	case <-ctx.Done():
		t.Fatal("no request is held")
	}
	if !until(ctx, func() bool { return w.inner.active.Load() == 2 }) {
		t.Fatal("no watch is open")
	}
	old := dial(t, w.address, "h2", w.ids.shown["alice"])
	defer old.close()
	get := func(c call) answer { return old.exchange(c.request(ctx, t)) }
	keep("before", get(call{target: widget}))

	w.stop()
	select {
	case <-w.config.ShutdownInitiatedNotify():
	case <-ctx.Done():
		t.Fatal("no shutdown begins")
	}
	// The delay has begun: everything is served as ever.
	keep("during the delay", get(call{target: widget}))
	keep("a denied request during the delay", get(call{target: api + "/namespaces/ns/forbidden/x"}))

	ended := receive(ctx, t, watch)
	ended.Goodbye = false // the connection may be told so at once, or later
	keep("the watch", ended)
	var refused answer
	if !until(ctx, func() bool {
		conn := w.dialOrNil(ctx)
		if conn == nil {
			refused = answer{}
			return true
		}
		defer conn.close()
		refused = conn.exchange(call{target: widget}.request(ctx, t))
		return refused.Status != http.StatusOK
	}) {
		t.Fatal("the server does not refuse anything")
	}
	if refused.Status == 0 {
		refused = answer{Broken: "no answer"} // the listener or its connections are closed
	}
	keep("after the delay, anew", refused)
	if w.config.ShutdownSendRetryAfter {
		for _, c := range []call{
			{name: "a watch", target: widgets + "?watch=1"},
			{name: "health", target: "/readyz"},
			{name: "an API server", target: widget, header: with("User-Agent", "kube-apiserver/v1")},
			{name: "a bad token", target: widget, header: bearer("wrong")},
		} {
			conn := dial(t, w.address, "h2", w.ids.shown["alice"])
			keep("after the delay, "+c.name, conn.exchange(c.request(ctx, t)))
			conn.close()
		}
	}
	w.inner.release <- struct{}{}
	ended = receive(ctx, t, one)
	ended.Goodbye = false
	keep("the held request", ended)
	select {
	case <-w.ended:
	case <-ctx.Done():
		t.Fatal("the server does not end")
	}
	return answers
}

// TestWatchesLastThroughTheShutdownDelay has watches end when the server stops
// to accept requests, and not when it is told to: in the delay between, clients
// are still led to it.
func TestWatchesLastThroughTheShutdownDelay(t *testing.T) {
	const delay = 700 * time.Millisecond
	ids := newIdentities(t)
	for i, build := range []chain{reference, ours} {
		t.Run([]string{"reference", "ours"}[i], func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, ids, build, func(_ *testing.T, w *world) {
				w.config.ShutdownDelayDuration, w.config.ShutdownWatchTerminationGracePeriod = delay, 5*time.Second
			})
			w.warm(t)
			ctx, cancel := context.WithTimeout(t.Context(), deadline)
			defer cancel()
			conn := dial(t, w.address, "h2", w.ids.shown["alice"])
			defer conn.close()
			if a := conn.exchange(call{target: widgets + "?watch=1", header: does("write end")}.request(ctx, t)); a.Status != http.StatusOK {
				t.Fatalf("the first watch: %+v", a)
			}
			w.inner.claimed.Store(0)
			watch := make(chan answer, 1)
			go func() {
				watch <- conn.exchange(call{target: widgets + "?watch=1", header: does("write flush signal end")}.request(ctx, t))
			}()
			if !until(ctx, func() bool { return w.inner.active.Load() == 1 && w.inner.claimed.Load() == int64(i) }) {
				t.Fatalf("no watch is open, or not through the claimed chain: %d are", w.inner.claimed.Load())
			}
			began := time.Now()
			w.stop()
			if a := receive(ctx, t, watch); a.Status != http.StatusOK || a.Broken != "" {
				t.Errorf("the watch ended with %+v", a)
			}
			if lasted := time.Since(began); lasted < delay {
				t.Errorf("the watch ended after %v, before the delay of %v", lasted, delay)
			}
		})
	}
}

func receive(ctx context.Context, t *testing.T, from <-chan answer) answer {
	t.Helper()
	select {
	case a := <-from:
		return a
	case <-ctx.Done():
		t.Fatal("no answer comes")
		return answer{}
	}
}

// dialOrNil connects, if anything listens.
func (w *world) dialOrNil(ctx context.Context) wire {
	config := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}}
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return w.ids.shown["alice"], nil }
	dialer := tls.Dialer{NetDialer: &net.Dialer{Timeout: deadline}, Config: config}
	conn, err := dialer.DialContext(ctx, "tcp", w.address)
	if err != nil {
		return nil
	}
	return newWire1(conn)
}
