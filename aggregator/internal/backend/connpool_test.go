package backend

import (
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/annex-api/annex/aggregator/internal/backendtest"
)

const patience = 20 * time.Second

// freezer is a network whose connections can be made to pass nothing on in
// either direction, without an error, as when the far end's process is stopped.
type freezer struct {
	mu     sync.Mutex
	frozen chan struct{} // closed while it is not frozen
	dials  atomic.Int32
	wrote  atomic.Int64 // bytes that reached the far end
}

func newFreezer() *freezer {
	f := &freezer{frozen: make(chan struct{})}
	close(f.frozen)
	return f
}

func (f *freezer) freeze() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.frozen = make(chan struct{})
}

func (f *freezer) thawed() chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.frozen
}

func (f *freezer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	f.dials.Add(1)
	c, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &frozenConn{Conn: c, freezer: f, closed: make(chan struct{})}, nil
}

type frozenConn struct {
	net.Conn
	freezer *freezer
	once    sync.Once
	closed  chan struct{}
}

func (c *frozenConn) pass() error {
	select {
	case <-c.freezer.thawed():
		return nil
	case <-c.closed:
		return net.ErrClosed
	}
}

func (c *frozenConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if stop := c.pass(); stop != nil {
		return 0, stop
	}
	return n, err
}

func (c *frozenConn) Write(b []byte) (int, error) {
	if err := c.pass(); err != nil {
		return 0, err
	}
	c.freezer.wrote.Add(int64(len(b)))
	return c.Conn.Write(b)
}

func (c *frozenConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

func (b *Backend) open(ctx context.Context, address, method, path string, body io.Reader) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, method, "https://"+address+path, body)
	if err != nil {
		return nil, err
	}
	return b.RoundTrip(r)
}

// A watch on a connection whose far end freezes ends within five seconds, and
// so does a request whose body nobody takes any more.
func TestSilentConnectionsAreGivenUp(t *testing.T) {
	t.Parallel()
	for what, stuck := range map[string]bool{"a watch": false, "a watch beside an upload": true} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s := backendtest.Start(t, "api", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_ = http.NewResponseController(w).Flush()
				_, _ = io.Copy(io.Discard, r.Body)
				<-r.Context().Done()
			}))
			f := newFreezer()
			p, a := newPool(t, Config{Dial: f.dial}), s.Claim(name)
			b, address := p.Get(a), a.Target.Endpoints[0].Address
			watch, err := b.open(t.Context(), address, http.MethodGet, "/", nil)
			if err != nil {
				t.Fatal(err)
			}
			defer watch.Body.Close()
			if stuck {
				reader, writer := io.Pipe()
				defer writer.Close()
				go func() {
					for _, err := writer.Write(make([]byte, 1<<10)); err == nil; {
						_, err = writer.Write(make([]byte, 1<<10))
					}
				}()
				upload, err := b.open(t.Context(), address, http.MethodPost, "/", reader)
				if err != nil {
					t.Fatal(err)
				}
				defer upload.Body.Close()
			}
			f.freeze()
			began := time.Now()
			ended := make(chan error, 1)
			go func() { _, err := io.ReadAll(watch.Body); ended <- err }()
			select {
			case err := <-ended:
				if err == nil {
					t.Error("the watch ended as if it were complete")
				}
				if text := ErrorText(err); text != givenUp {
					t.Errorf("it is said of it: %s", text)
				}
			case <-time.After(20 * time.Second): // unless it is given up, it stands for good
				t.Errorf("a frozen connection still stands after %v", time.Since(began))
			}
		})
	}
}

// A slow server is not a silent one: it answers pings.
func TestSlowAnswersAreWaitedFor(t *testing.T) {
	t.Parallel()
	s := backendtest.Start(t, "api", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(pingAfter + pingTimeout + time.Second):
		case <-r.Context().Done():
		}
	}))
	f := newFreezer()
	if _, err := get(t, newPool(t, Config{Dial: f.dial}), s.Claim(name)); err != nil {
		t.Errorf("after %d dials: %v", f.dials.Load(), err)
	}
}

// A connection that carries no request costs nothing. The reference's are
// pinged all the time.
func TestIdleConnectionsAreLeftAlone(t *testing.T) {
	t.Parallel()
	s := backendtest.Start(t, "api", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	f := newFreezer()
	p, a := newPool(t, Config{Dial: f.dial}), s.Claim(name)
	if _, err := get(t, p, a); err != nil {
		t.Fatal(err)
	}
	n := only(t, p.Get(a))
	deadline := time.Now().Add(patience)
	for n.armed.Load() {
		if time.Now().After(deadline) {
			t.Fatal("an idle connection goes on being checked")
		}
		<-time.After(10 * time.Millisecond)
	}
	// What was written before the check is all: no ping, and no timer for one.
	wrote := f.wrote.Load()
	if n.timer.Stop() || f.wrote.Load() != wrote {
		t.Errorf("%d bytes were written to an idle connection, or more are to be", f.wrote.Load()-wrote)
	}
	// The next request uses the same connection, and has it checked again.
	if _, err := get(t, p, a); err != nil {
		t.Fatal(err)
	}
	if d := f.dials.Load(); d != 1 || !n.armed.Load() {
		t.Errorf("%d dials; the connection is to be checked: %v", d, n.armed.Load())
	}
}

func only(t *testing.T, b *Backend) *sharedConn {
	t.Helper()
	pool := b.current.Load().conns
	pool.mu.Lock()
	defer pool.mu.Unlock()
	for _, list := range pool.conns {
		if len(list) == 1 && len(pool.conns) == 1 {
			return list[0]
		}
	}
	t.Fatalf("connections: %v", pool.conns)
	return nil
}

// First requests at once end up on one connection, and another one is made when
// its streams are used up.
func TestConnectionsAreShared(t *testing.T) {
	var under atomic.Int32
	proceed := make(chan struct{})
	s := backendtest.Start(t, "api", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		under.Add(1)
		select {
		case <-proceed:
		case <-r.Context().Done():
		}
	}))
	p, a := newPool(t, Config{}), s.Claim(name)
	b, address := p.Get(a), a.Target.Endpoints[0].Address
	var wg sync.WaitGroup
	begin := func(requests int) {
		t.Helper()
		want := under.Load() + int32(requests)
		for range requests {
			wg.Go(func() {
				if _, err := b.Get(t.Context(), address, Call{Path: "/"}); err != nil {
					t.Error(err)
				}
			})
		}
		waitFor(t, func() bool { return under.Load() == want })
	}
	begin(10)
	if n := only(t, b).h2.State().StreamsActive; n != 10 {
		t.Errorf("%d of 10 requests are on the first connection", n)
	}
	begin(245) // the server allows 250 streams
	pool := b.current.Load().conns
	pool.mu.Lock()
	conns := len(pool.conns[address])
	pool.mu.Unlock()
	if conns < 2 || conns > 5 {
		t.Errorf("%d connections for 255 requests", conns)
	}
	close(proceed)
	wg.Wait()
}

// A connection with a request stays, and takes others, when idle ones are closed; one
// that is retired ends after it, and takes no other.
func TestClosingIdleConnections(t *testing.T) {
	t.Parallel()
	proceed := make(chan struct{})
	s := backendtest.Start(t, "api", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			<-proceed
		}
	}))
	p, a := newPool(t, Config{}), s.Claim(name)
	b, address := p.Get(a), a.Target.Endpoints[0].Address
	slow := make(chan error, 1)
	go func() {
		_, err := b.Get(t.Context(), address, Call{Path: "/slow"})
		slow <- err
	}()
	waitFor(t, func() bool { return s.Count("/slow") == 1 })
	old := only(t, b)
	b.CloseIdle(address)
	if _, err := get(t, p, a); err != nil {
		t.Fatal(err)
	}
	if only(t, b) != old {
		t.Error("a connection with a request was left for another one")
	}
	b.current.Load().retire()
	if old.h2.CanTakeNewRequest() || old.h2.State().Closed {
		t.Error("a retired connection with a request takes more, or was closed")
	}
	if _, err := get(t, p, a); err != nil {
		t.Fatal(err)
	}
	idle := only(t, b)
	b.CloseIdle("192.0.2.1:443")
	if idle.h2.State().Closed {
		t.Error("a connection to another address was closed")
	}
	b.CloseIdle(address)
	if !idle.h2.State().Closed {
		t.Error("a connection without a request was not closed")
	}
	close(proceed)
	if err := <-slow; err != nil {
		t.Errorf("the request under way failed: %v", err)
	}
	pool := b.current.Load().conns
	waitFor(t, func() bool {
		pool.mu.Lock()
		defer pool.mu.Unlock()
		return len(pool.conns) == 0
	})
}

func waitFor(t *testing.T, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !done(); <-time.After(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("waited in vain")
		}
	}
}
