package kubeapiservertest

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/kube-aggregator/pkg/client/clientset_generated/clientset"
)

// Deadline bounds every wait of a test.
const Deadline = 30 * time.Second

// Config returns a client configuration for the user of a token.
func (s *Server) Config(token string) *rest.Config {
	return &rest.Config{
		Host: s.URL, BearerToken: token, QPS: -1,
		TLSClientConfig: rest.TLSClientConfig{CAData: s.CA.PEM},
		WarningHandler:  rest.NoWarnings{},
	}
}

// Kube returns the admin's client for built-in APIs.
func (s *Server) Kube(t testing.TB) kubernetes.Interface {
	t.Helper()
	c, err := kubernetes.NewForConfig(s.Config(Admin))
	if err != nil {
		t.Fatalf("making a client: %v", err)
	}
	return c
}

// Registrations returns the admin's client for APIServices.
func (s *Server) Registrations(t testing.TB) clientset.Interface {
	t.Helper()
	c, err := clientset.NewForConfig(s.Config(Admin))
	if err != nil {
		t.Fatalf("making a client: %v", err)
	}
	return c
}

type bearer struct {
	token string
	next  http.RoundTripper
}

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	if b.token != "" && r.Header.Get("Authorization") == "" {
		r = r.Clone(r.Context())
		r.Header.Set("Authorization", "Bearer "+b.token)
	}
	return b.next.RoundTrip(r)
}

func (b bearer) CloseIdleConnections() { b.next.(*http.Transport).CloseIdleConnections() }

// Client returns an HTTP client for the user of a token. It follows no
// redirects.
func (s *Server) Client(token string) *http.Client {
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: s.CA.Pool()}, ForceAttemptHTTP2: true, IdleConnTimeout: time.Second,
	}
	return &http.Client{
		Transport:     bearer{token, transport},
		Timeout:       Deadline,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Answer is a response with its whole body.
type Answer struct {
	Code   int
	Header http.Header
	Body   string
}

// Get asks for a path as the user of a token. header lists names and values in
// turn.
func (s *Server) Get(t testing.TB, token, path string, header ...string) Answer {
	t.Helper()
	a, err := s.TryGet(context.Background(), token, path, header...)
	if err != nil {
		t.Fatalf("GET %s: %v", path, err)
	}
	return a
}

// TryGet is Get for goroutines of a test.
func (s *Server) TryGet(ctx context.Context, token, path string, header ...string) (Answer, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+path, nil)
	if err != nil {
		return Answer{}, err
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	client := s.Client(token)
	defer client.CloseIdleConnections()
	response, err := client.Do(r)
	if err != nil {
		return Answer{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return Answer{}, fmt.Errorf("reading the body: %w", err)
	}
	return Answer{response.StatusCode, response.Header, string(body)}, nil
}

// Raw is a connection on which a test says what it likes.
type Raw struct {
	*tls.Conn
	reader *bufio.Reader
}

// Dial opens a TLS connection that speaks one protocol: "http/1.1" or "h2".
func (s *Server) Dial(t testing.TB, protocol string) *Raw {
	t.Helper()
	c, err := tls.Dial("tcp", s.Address, &tls.Config{RootCAs: s.CA.Pool(), NextProtos: []string{protocol}})
	if err != nil {
		t.Fatalf("dialling %s: %v", s.Address, err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(Deadline)); err != nil {
		t.Fatal(err)
	}
	return &Raw{c, bufio.NewReader(c)}
}

// Send writes an HTTP/1.1 request byte for byte: the request line, then the
// given header lines, then an empty one.
func (r *Raw) Send(t testing.TB, line string, header ...string) {
	t.Helper()
	text := line + "\r\nHost: " + r.RemoteAddr().String() + "\r\n"
	for _, h := range header {
		text += h + "\r\n"
	}
	if _, err := io.WriteString(r, text+"\r\n"); err != nil {
		t.Fatalf("sending %q: %v", line, err)
	}
}

// Receive reads one response with its body.
func (r *Raw) Receive(t testing.TB) Answer {
	t.Helper()
	response, err := http.ReadResponse(r.reader, &http.Request{Method: http.MethodGet})
	if err != nil {
		t.Fatalf("reading a response: %v", err)
	}
	if response.StatusCode == http.StatusSwitchingProtocols {
		return Answer{Code: response.StatusCode, Header: response.Header}
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatalf("reading the body: %v", err)
	}
	return Answer{response.StatusCode, response.Header, string(body)}
}

// Rest reads until the server closes the connection.
func (r *Raw) Rest(t testing.TB) string {
	t.Helper()
	rest, err := io.ReadAll(r.reader)
	if err != nil && !strings.Contains(err.Error(), "reset by peer") {
		t.Fatalf("the server did not close the connection: %v", err)
	}
	return string(rest)
}

// Read reads what the server sent, after responses that were received.
func (r *Raw) Read(p []byte) (int, error) { return r.reader.Read(p) }

// Eventually polls a condition until it holds; it returns what is missing, or
// nothing.
func Eventually(t testing.TB, condition func() string) {
	t.Helper()
	deadline := time.Now().Add(Deadline)
	for {
		missing := condition()
		if missing == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %v still: %s", Deadline, missing)
		}
		<-time.After(10 * time.Millisecond)
	}
}
