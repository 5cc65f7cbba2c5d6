package backend

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// tlsPair is a TLS connection over loopback, both ends.
func tlsPair(t *testing.T) (client, server *tls.Conn) {
	t.Helper()
	s := httptest.NewUnstartedServer(nil)
	s.StartTLS() // for its certificate
	t.Cleanup(s.Close)
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: s.TLS.Certificates})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	accepted := make(chan net.Conn, 1)
	go func() {
		conn, err := listener.Accept()
		if err == nil {
			err = conn.(*tls.Conn).Handshake()
		}
		if err != nil {
			t.Error(err)
			conn = nil
		}
		accepted <- conn
	}()
	raw, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	client = tls.Client(&gate{Conn: raw}, &tls.Config{InsecureSkipVerify: true})
	if err := client.Handshake(); err != nil {
		t.Fatal(err)
	}
	server, ok := (<-accepted).(*tls.Conn)
	if !ok {
		t.FailNow()
	}
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

// gate is a connection whose writes may be held up, or fail.
type gate struct {
	net.Conn
	writes atomic.Int32
	locked sync.Mutex
	broken atomic.Bool
}

func (g *gate) Write(p []byte) (int, error) {
	g.writes.Add(1)
	g.locked.Lock()
	defer g.locked.Unlock()
	if g.broken.Load() {
		return 0, errors.New("broken")
	}
	return g.Conn.Write(p)
}

// frame is a frame of HTTP/2 as the transport writes it.
func frame(t *testing.T, write func(*http2.Framer) error) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := write(http2.NewFramer(&b, nil)); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// request is a frame with all of a request and a header of so many bytes.
func request(t *testing.T, size int, ends bool) []byte {
	return frame(t, func(f *http2.Framer) error {
		return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: make([]byte, size), EndHeaders: true, EndStream: ends})
	})
}

// Requests do not wait until they are written, but where there are too many, and come
// together, in order, before what is written after them.
func TestApartConnQueuesRequests(t *testing.T) {
	client, server := tlsPair(t)
	a := writeApart(client)
	defer a.Close()
	g := client.NetConn().(*gate)
	g.writes.Store(0)
	g.locked.Lock()
	const requests = 30
	one := request(t, 20, true) // all of them fit into the first TLS record, which is a small one
	var want bytes.Buffer
	write := func(p []byte) {
		if n, err := a.Write(p); n != len(p) || err != nil {
			t.Errorf("write of %d bytes: %d, %v", len(p), n, err)
		}
	}
	for range requests {
		write(one)
		want.Write(one)
	}
	last := frame(t, func(f *http2.Framer) error { return f.WriteData(1, true, []byte("last")) })
	want.Write(last)
	done := make(chan struct{})
	go func() {
		write(last)
		close(done)
	}()
	select {
	case <-done:
		t.Error("what is no request was not waited for")
	case <-time.After(50 * time.Millisecond):
	}
	g.locked.Unlock()
	got := make([]byte, want.Len())
	if _, err := io.ReadFull(server, got); err != nil || !bytes.Equal(got, want.Bytes()) {
		t.Errorf("%d other bytes arrived than were written, or less; %v", len(got), err)
	}
	<-done
	if n := g.writes.Load(); n > 4 { // a first one alone, perhaps, then all others
		t.Errorf("%d requests took %d writes", requests, n)
	}
}

func TestApartConnQueueIsBounded(t *testing.T) {
	client, _ := tlsPair(t)
	a := writeApart(client)
	g := client.NetConn().(*gate)
	g.locked.Lock()
	one := request(t, 1000, true)
	waits := make(chan struct{})
	go func() {
		defer close(waits)
		// One queue may be under way while another fills.
		for range 2*maxQueued/len(one) + 1 {
			if _, err := a.Write(one); err != nil {
				return
			}
		}
		t.Error("more was taken than there is room for")
	}()
	select {
	case <-waits:
	case <-time.After(100 * time.Millisecond):
	}
	_ = a.Close()
	g.locked.Unlock() // what is written now fails
	<-waits
}

// A request that cannot be written ends the connection: its reader tells.
func TestApartConnEndsWhenAQueueIsNotWritten(t *testing.T) {
	for name, send := range map[string]func(a *apartConn, request []byte) error{
		"alone": func(a *apartConn, request []byte) error {
			_, err := a.Write(request)
			return err
		},
		"before what is waited for": func(a *apartConn, request []byte) error {
			a.mu.Lock()
			a.queued = append(a.queued, request...) // and run has not come to it yet
			a.mu.Unlock()
			if _, err := a.Write([]byte("waits")); err == nil {
				return errors.New("what comes after the request was written")
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			client, _ := tlsPair(t)
			a := writeApart(client)
			defer a.Close()
			client.NetConn().(*gate).broken.Store(true)
			if err := send(a, request(t, 10, true)); err != nil {
				t.Fatal(err)
			}
			_ = a.SetReadDeadline(time.Now().Add(10 * time.Second))
			if _, err := a.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("reading: %v", err)
			}
			if _, err := a.Write([]byte("later")); err == nil {
				t.Error("a later write succeeded")
			}
		})
	}
}

func TestIsRequest(t *testing.T) {
	whole := request(t, 70_000, true)
	for name, c := range map[string]struct {
		p    []byte
		want bool
	}{
		"whole":     {request(t, 5, true), true},
		"large":     {whole, true},
		"with body": {request(t, 5, false), false},
		"continued": {frame(t, func(f *http2.Framer) error {
			return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte("x"), EndStream: true})
		}), false},
		"a part":      {whole[:4096], false},
		"two":         {append(request(t, 5, true), request(t, 5, true)...), false},
		"data":        {frame(t, func(f *http2.Framer) error { return f.WriteData(1, true, []byte("x")) }), false},
		"reset":       {frame(t, func(f *http2.Framer) error { return f.WriteRSTStream(1, http2.ErrCodeCancel) }), false},
		"preface":     {[]byte(http2.ClientPreface), false},
		"almost none": {[]byte{0, 0, 0, 1}, false},
	} {
		if got := isRequest(c.p); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestApartConnWritesInOrder(t *testing.T) {
	client, server := tlsPair(t)
	a := writeApart(client)
	var want bytes.Buffer
	go func() {
		for i := range 1000 {
			if n, err := a.Write(bytes.Repeat([]byte{byte(i)}, i)); n != i || err != nil {
				t.Errorf("write of %d bytes: %d, %v", i, n, err)
			}
		}
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}()
	for i := range 1000 {
		want.Write(bytes.Repeat([]byte{byte(i)}, i))
	}
	got, err := io.ReadAll(server)
	if err != nil || !bytes.Equal(got, want.Bytes()) {
		t.Errorf("%d bytes arrived of %d, or others; %v", len(got), want.Len(), err)
	}
	if _, err := a.Write([]byte("late")); err == nil {
		t.Error("a write after the end succeeded")
	}
}

// A write that is stuck, as the far end reads nothing, ends with the connection,
// and closing does not wait for it.
func TestApartConnClosesUnderAWrite(t *testing.T) {
	client, _ := tlsPair(t)
	a := writeApart(client)
	failed := make(chan error, 1)
	go func() {
		for {
			if _, err := a.Write(make([]byte, 1<<20)); err != nil {
				failed <- err
				return
			}
		}
	}()
	time.Sleep(100 * time.Millisecond) // until the buffers are full
	closed := make(chan struct{})
	go func() {
		_ = a.Close()
		close(closed)
	}()
	for what, done := range map[string]func() bool{
		"Close": func() bool { <-closed; return true },
		"Write": func() bool { return <-failed != nil },
	} {
		ended := make(chan bool, 1)
		go func() { ended <- done() }()
		select {
		case <-ended:
		case <-time.After(30 * time.Second):
			t.Fatalf("%s does not return", what)
		}
	}
}
