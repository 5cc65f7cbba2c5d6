package backend

//lint:file-ignore SA1019 This server ends single connections, which net/http's does not.

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/annex-api/annex/aggregator/internal/backendtest"
	"github.com/annex-api/annex/aggregator/internal/catalog"
	"github.com/annex-api/annex/internal/testcerts"
)

// peer is an extension server whose connections the test ends one by one.
type peer struct {
	*backendtest.Server
	conns   chan *tls.Conn // those with a request
	proceed chan struct{}  // lets requests for /slow be answered
	over    *http.Server   // of the HTTP/2 connections
}

// startPeer runs a peer that speaks that protocol alone.
func startPeer(t *testing.T, protocol string) *peer {
	ca := testcerts.New("api")
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{ca.Issue(testcerts.Subject{Hosts: []string{backendtest.ServerName("api")}}).TLS()},
		NextProtos:   []string{protocol},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	p := &peer{
		Server:  &backendtest.Server{Service: "api", Address: listener.Addr().String(), CA: ca.PEM},
		conns:   make(chan *tls.Conn, 10),
		proceed: make(chan struct{}),
		over:    &http.Server{},
	}
	h2 := &http2.Server{}
	if err := http2.ConfigureServer(p.over, h2); err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			accepted, err := listener.Accept()
			if err != nil {
				return
			}
			conn := accepted.(*tls.Conn)
			t.Cleanup(func() { _ = conn.NetConn().Close() })
			if conn.HandshakeContext(t.Context()) != nil {
				continue
			}
			if protocol == http2.NextProtoTLS {
				go h2.ServeConn(conn, &http2.ServeConnOpts{BaseConfig: p.over, Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					p.took(conn, r)
				})})
			} else {
				go p.serveHTTP1(conn)
			}
		}
	}()
	return p
}

func (p *peer) took(conn *tls.Conn, r *http.Request) {
	p.conns <- conn
	if r.URL.Path == "/slow" {
		<-p.proceed
	}
}

func (p *peer) serveHTTP1(conn *tls.Conn) {
	for reader := bufio.NewReader(conn); ; {
		r, err := http.ReadRequest(reader)
		if err != nil {
			return
		}
		p.took(conn, r)
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	}
}

var protocols = []string{http2.NextProtoTLS, "http/1.1"}

// However an extension server ends a connection that no request is on, that is noticed
// then, and not by the next request.
func TestEndsOfIdleConnectionsAreNoticed(t *testing.T) {
	t.Parallel()
	for _, protocol := range protocols {
		for how, end := range map[string]func(*tls.Conn){
			"properly":                  func(c *tls.Conn) { _ = c.Close() },
			"without a word":            func(c *tls.Conn) { _ = c.NetConn().Close() },
			"by a reset":                func(c *tls.Conn) { _ = c.NetConn().(*net.TCPConn).SetLinger(0); _ = c.NetConn().Close() },
			"with a word and no more":   func(c *tls.Conn) { _ = c.CloseWrite() },
			"in one direction, plainly": func(c *tls.Conn) { _ = c.NetConn().(*net.TCPConn).CloseWrite() },
		} {
			t.Run(protocol+" "+how, func(t *testing.T) {
				t.Parallel()
				s := startPeer(t, protocol)
				lost := make(chan catalog.BackendID, 10)
				p, a := newPool(t, Config{ConnectionLost: func(id catalog.BackendID) { lost <- id }}), s.Claim(name)
				if _, err := get(t, p, a); err != nil {
					t.Fatal(err)
				}
				end(<-s.conns)
				select {
				case id := <-lost:
					if id != a.Backend {
						t.Errorf("%v was noticed", id)
					}
				case <-time.After(patience):
					t.Fatal("nobody noticed")
				}
				if _, err := get(t, p, a); err != nil {
					t.Errorf("the next request: %v", err)
				}
			})
		}
	}
}

// beginSlow has a request under way, and tells how it ended.
func (p *peer) beginSlow(t *testing.T, b *Backend) <-chan error {
	t.Helper()
	ended := make(chan error, 1)
	go func() {
		_, err := b.Get(t.Context(), p.Address, Call{Path: "/slow"})
		ended <- err
	}()
	select {
	case <-p.conns:
	case err := <-ended:
		t.Fatalf("the request under way ended: %v", err)
	}
	return ended
}

// An extension server that says good-bye, and answers what is under way, is noticed
// before the last answer: it is this side that ends the connection then.
func TestGoodByesAreNoticed(t *testing.T) {
	t.Parallel()
	s := startPeer(t, http2.NextProtoTLS)
	lost := make(chan catalog.BackendID, 10)
	p, a := newPool(t, Config{ConnectionLost: func(id catalog.BackendID) { lost <- id }}), s.Claim(name)
	slow := s.beginSlow(t, p.Get(a))
	if err := s.over.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	select {
	case <-lost:
	case <-time.After(patience):
		t.Error("nobody noticed")
	}
	close(s.proceed)
	if err := <-slow; err != nil {
		t.Errorf("the request under way: %v", err)
	}
}

// What this side ends was not lost.
func TestOwnEndsAreNotNoticed(t *testing.T) {
	t.Parallel()
	for _, protocol := range protocols {
		for how, end := range map[string]func(*testing.T, *Backend, *peer){
			"idle connections are closed": func(_ *testing.T, b *Backend, s *peer) { b.CloseIdle(s.Address) },
			"the certificate changes":     func(_ *testing.T, b *Backend, _ *peer) { b.reload() },
			"a request is given up, which ends the connection of HTTP/1.1": func(t *testing.T, b *Backend, s *peer) {
				ctx, cancel := context.WithCancel(t.Context())
				given := make(chan error, 1)
				go func() {
					_, err := b.Get(ctx, s.Address, Call{Path: "/slow"})
					given <- err
				}()
				<-s.conns
				cancel()
				if err := <-given; err == nil {
					t.Error("the request was answered")
				}
				close(s.proceed)
				if _, err := b.Get(t.Context(), s.Address, Call{Path: "/"}); err != nil { // what was given up is over
					t.Error(err)
				}
				<-s.conns
				pool := b.current.Load().conns
				waitFor(t, func() bool { // what was given up may be on its way out
					b.CloseIdle(s.Address)
					pool.mu.Lock()
					defer pool.mu.Unlock()
					return len(pool.conns) == 0
				})
			},
		} {
			t.Run(protocol+" "+how, func(t *testing.T) {
				t.Parallel()
				s := startPeer(t, protocol)
				lost := make(chan catalog.BackendID, 10)
				p, a := newPool(t, Config{ConnectionLost: func(id catalog.BackendID) { lost <- id }}), s.Claim(name)
				if _, err := get(t, p, a); err != nil {
					t.Fatal(err)
				}
				own := <-s.conns
				end(t, p.Get(a), s)
				if _, err := get(t, p, a); err != nil {
					t.Fatal(err)
				}
				other := <-s.conns
				if other == own {
					t.Fatal("the connection still stands")
				}
				_ = other.Close()
				select {
				case <-lost:
				case <-time.After(patience):
					t.Error("the other connection's end was not noticed")
				}
				if len(lost) > 0 {
					t.Error("an end of this side's own was noticed")
				}
			})
		}
	}
}

// What is known of the far end's certificate goes with an answer over either protocol.
func TestAnswersSayWhoGaveThem(t *testing.T) {
	t.Parallel()
	for _, protocol := range protocols {
		s := startPeer(t, protocol)
		p, a := newPool(t, Config{}), s.Claim(name)
		for range 2 { // over a new connection, and over the same
			response, err := p.Get(a).open(t.Context(), s.Address, http.MethodGet, "/", nil)
			if err != nil {
				t.Fatal(err)
			}
			_ = response.Body.Close()
			if response.TLS == nil || len(response.TLS.PeerCertificates) == 0 || response.TLS.NegotiatedProtocol != protocol {
				t.Errorf("%s: %+v", protocol, response.TLS)
			}
		}
	}
}

// What is under way on a connection that takes no more requests is looked after as before:
// a far end that has said good-bye may fall silent.
func TestSilenceAfterAGoodByeIsNoticed(t *testing.T) {
	t.Parallel()
	s := startPeer(t, http2.NextProtoTLS)
	f := newFreezer()
	lost := make(chan catalog.BackendID, 10)
	p, a := newPool(t, Config{Dial: f.dial, ConnectionLost: func(id catalog.BackendID) { lost <- id }}), s.Claim(name)
	slow := s.beginSlow(t, p.Get(a))
	if err := s.over.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-lost
	f.freeze()
	select {
	case err := <-slow:
		if err == nil {
			t.Error("an answer through a frozen connection")
		}
	case <-time.After(2*(pingAfter+pingTimeout) + patience):
		t.Error("the connection still stands")
	}
	close(s.proceed)
}
