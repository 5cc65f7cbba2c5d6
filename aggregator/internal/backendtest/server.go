package backendtest

import (
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"

	"github.com/annex-api/annex/internal/testcerts"
)

// Namespace is that of all Services here.
const Namespace = "extensions"

// Server is an extension server behind the Service of the same name in
// Namespace. It speaks HTTP/2 and HTTP/1.1.
type Server struct {
	// Service is the Service's name; the certificate carries it.
	Service string
	// Address is host:port, on loopback.
	Address string
	// CA is what its certificate is verified with.
	CA []byte

	http *httptest.Server

	mu       sync.Mutex
	requests []Request
}

// Request is what a Server remembers of a request.
type Request struct {
	Method, Path, Proto string
	Header              http.Header
}

// Start runs a server with a certificate of its own authority until the test
// ends.
func Start(t testing.TB, service string, handler http.Handler) *Server {
	t.Helper()
	ca := testcerts.New(service)
	config := &tls.Config{Certificates: []tls.Certificate{ca.Issue(testcerts.Subject{Hosts: []string{ServerName(service)}}).TLS()}}
	return StartTLS(t, service, ca.PEM, config, handler)
}

// StartTLS is Start with TLS settings of the test's own.
func StartTLS(t testing.TB, service string, ca []byte, config *tls.Config, handler http.Handler) *Server {
	t.Helper()
	s := &Server{Service: service, CA: ca}
	s.http = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.requests = append(s.requests, Request{r.Method, r.URL.RequestURI(), r.Proto, r.Header.Clone()})
		s.mu.Unlock()
		handler.ServeHTTP(w, r)
	}))
	s.http.TLS = config
	s.http.EnableHTTP2 = true
	s.http.Config.ErrorLog = log.New(io.Discard, "", 0) // refused handshakes are part of tests
	s.http.StartTLS()
	s.Address = s.http.Listener.Addr().String()
	t.Cleanup(s.Close)
	return s
}

// ServerName is the DNS name of a Service in Namespace.
func ServerName(service string) string { return service + "." + Namespace + ".svc" }

// Close cuts all connections and stops the server; handlers see their requests
// cancelled and are waited for.
func (s *Server) Close() {
	s.http.CloseClientConnections()
	s.http.Close()
}

// Cut closes all connections; the server goes on.
func (s *Server) Cut() { s.http.CloseClientConnections() }

// Requests lists what was received so far.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Request(nil), s.requests...)
}

// Count is how many requests for the path, query included, were received.
func (s *Server) Count(path string) int {
	n := 0
	for _, r := range s.Requests() {
		if r.Path == path {
			n++
		}
	}
	return n
}

// Dead is a Server's stand-in at an address where nobody listens. It is that of
// a client, so that nobody else gets it during the test.
func Dead(t testing.TB, service string) *Server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return &Server{Service: service, Address: client.LocalAddr().String(), CA: testcerts.New(service).PEM}
}

func splitAddress(address string) (host string, port int32) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		panic(err)
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		panic(err)
	}
	return host, int32(n)
}
