package backend

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/annex-api/annex/aggregator/internal/backendtest"
)

// deafConn is a connection whose far end stops to read, but goes on to send.
type deafConn struct {
	net.Conn
	deaf   *atomic.Bool
	closed chan struct{}
	over   atomic.Bool
}

func (c *deafConn) Write(b []byte) (int, error) {
	if c.deaf.Load() {
		<-c.closed
		return 0, net.ErrClosed
	}
	return c.Conn.Write(b)
}

func (c *deafConn) Close() error {
	if c.over.CompareAndSwap(false, true) {
		close(c.closed)
	}
	return c.Conn.Close()
}

// A far end that reads nothing is given up though it goes on to send: what is
// written to it hangs, for all requests of the connection.
func TestDeafConnectionsAreGivenUp(t *testing.T) {
	t.Parallel()
	s := backendtest.Start(t, "api", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			if _, err := w.Write([]byte{'x'}); err != nil {
				return
			}
			_ = http.NewResponseController(w).Flush()
			select {
			case <-tick.C:
			case <-r.Context().Done():
				return
			}
		}
	}))
	var deaf atomic.Bool
	p, a := newPool(t, Config{Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &deafConn{Conn: c, deaf: &deaf, closed: make(chan struct{})}, nil
	}}), s.Claim(name)
	b, address := p.Get(a), a.Target.Endpoints[0].Address
	watch, err := b.open(t.Context(), address, http.MethodGet, "/", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Body.Close()
	n := only(t, b)
	deaf.Store(true)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := b.open(ctx, address, http.MethodGet, "/", nil); err == nil {
		t.Fatal("a request reached a server that reads nothing")
	}
	ended := make(chan error, 1)
	go func() { _, err := io.Copy(io.Discard, watch.Body); ended <- err }()
	select {
	case err := <-ended:
		if err == nil {
			t.Error("the watch ended as if it were complete")
		}
	case <-time.After(3*pingAfter + pingTimeout + time.Second):
		t.Error("the connection still stands")
		_ = n.h2.Close()
	}
	// The question that was stuck ends with the connection.
	waitFor(t, func() bool { return n.asked.Load() == 0 })
}

// A connection is closed between its dial and its first request, as when the
// client certificate changes in that moment: the request gets another one.
func TestRequestAfterUnusedConnectionWasClosed(t *testing.T) {
	t.Parallel()
	s := backendtest.Start(t, "api", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	p, a := newPool(t, Config{}), s.Claim(name)
	b, address := p.Get(a), a.Target.Endpoints[0].Address
	w := b.current.Load()
	raw, err := w.dial(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	config := w.tls.Clone()
	config.NextProtos = []string{"h2"}
	conn := tls.Client(raw, config)
	if err := conn.HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	if rt := w.conns.take(address, conn); rt != w.conns.h2 {
		t.Fatalf("the connection was not taken: %v", rt)
	}
	unused := only(t, b)
	b.CloseIdle(address)
	if !unused.h2.State().Closed {
		t.Error("a connection without a request was not closed")
	}
	if _, err := get(t, p, a); err != nil {
		t.Errorf("the request was given a connection that was closed: %v", err)
	}
	if n := len(s.Requests()); n != 1 {
		t.Errorf("%d requests arrived, want 1", n)
	}
}

// Connections that are opened, used and closed in any order leave nothing
// behind in the pool.
func TestPoolForgetsConnections(t *testing.T) {
	t.Parallel()
	s := backendtest.Start(t, "api", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	p, a := newPool(t, Config{}), s.Claim(name)
	b, address := p.Get(a), a.Target.Endpoints[0].Address
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 50 {
			b.CloseIdle(address)
		}
	}()
	for range 50 {
		if _, err := get(t, p, a); err != nil {
			t.Error(err)
		}
	}
	<-done
	b.CloseIdle(address)
	pool := b.current.Load().conns
	waitFor(t, func() bool {
		pool.mu.Lock()
		defer pool.mu.Unlock()
		return len(pool.conns) == 0
	})
}
