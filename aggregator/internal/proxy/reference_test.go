package proxy_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/proxy"

	"github.com/annex-api/annex/aggregator/internal/backendtest"
)

// refer runs the proxy that kube-apiserver puts in front of extension servers, and sends
// to it from now on. It leads to the first endpoint.
func (l *lab) refer() {
	l.t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(l.authority.PEM)
	transport := &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: roots, ServerName: backendtest.ServerName(serviceName)},
		ForceAttemptHTTP2: true,
	}
	l.t.Cleanup(transport.CloseIdleConnections)
	l.front(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		location := &url.URL{Scheme: "https", Host: l.servers[0].Address, Path: r.URL.Path, RawQuery: r.URL.RawQuery}
		proxy.NewUpgradeAwareHandler(location, transport, false, false, referenceErrors{}).ServeHTTP(w, r)
	}))
}

// referenceErrors are answered as kube-apiserver answers them.
type referenceErrors struct{}

func (referenceErrors) Error(w http.ResponseWriter, _ *http.Request, err error) {
	http.Error(w, err.Error(), http.StatusServiceUnavailable)
}

// front runs the server that clients send to.
func (l *lab) front(h http.Handler) {
	l.t.Helper()
	front := httptest.NewUnstartedServer(h)
	front.Config.ErrorLog = log.New(io.Discard, "", 0)
	front.EnableHTTP2 = true
	front.StartTLS()
	roots := x509.NewCertPool()
	roots.AddCert(front.Certificate())
	l.client = &http.Client{Timeout: soon, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true}}
	over2 := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}
	l.clientOver2 = &http.Client{Transport: over2, Timeout: soon}
	l.url = front.URL
	l.t.Cleanup(func() {
		over2.CloseIdleConnections()
		front.CloseClientConnections()
		front.Close()
	})
}

// protocols are those of endpoints that note what arrives: how long the body is said to
// be, and what it is.
var protocols = map[string]func(l *lab, arrived chan<- string){
	"h1": func(l *lab, arrived chan<- string) {
		l.raw(&tls.Config{Certificates: []tls.Certificate{l.pair}, NextProtos: []string{"http/1.1"}}, func(c *tls.Conn) {
			var wire strings.Builder
			r, err := http.ReadRequest(bufio.NewReader(io.TeeReader(c, &wire)))
			if err != nil {
				return
			}
			header, _, _ := strings.Cut(wire.String(), "\r\n\r\n")
			body, err := io.ReadAll(r.Body)
			arrived <- fmt.Sprintf("%s of length %s%s: %q %v", r.Method, field(header, "Content-Length"), field(header, "Transfer-Encoding"), body, err)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
		})
	},
	"h2": func(l *lab, arrived chan<- string) {
		l.http2(moments{body: func(s *stream) {
			end := "after the header"
			if s.alone {
				end = "with the header"
			}
			arrived <- fmt.Sprintf("%s of length %s, ended %s: %q", s.fields[":method"], s.fields["content-length"], end, s.body.Bytes())
			s.respond("200", "", true)
		}})
	},
}

// field is the value of a header field in the text of a header.
func field(header, name string) string {
	for line := range strings.SplitSeq(header, "\r\n") {
		if n, value, _ := strings.Cut(line, ": "); strings.EqualFold(n, name) {
			return value
		}
	}
	return ""
}

// What a request says of its body's length arrives as the client said it, and is the
// same as behind kube-apiserver. In the reference a write without a body is one of length
// 0, and not of an unknown one.
func TestABodyArrivesWithTheLengthThatItsClientSaid(t *testing.T) {
	for protocol, endpoint := range protocols {
		t.Run(protocol, func(t *testing.T) {
			got := map[bool][]string{}
			for _, reference := range []bool{true, false} {
				l := newLab(t)
				arrived := make(chan string, 1)
				endpoint(l, arrived)
				if reference {
					l.refer()
				} else {
					l.start()
				}
				for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
					for _, body := range []io.Reader{nil, small(), struct{ io.Reader }{small()}, http.NoBody} {
						if answer := l.send(method, "one", body); answer.code != http.StatusOK {
							t.Fatalf("%s: %d %s %v", method, answer.code, answer.body, answer.err)
						}
						got[reference] = append(got[reference], <-arrived)
					}
				}
			}
			for i, want := range got[true] {
				if got[false][i] != want {
					t.Errorf("%s\nin the reference: %s", got[false][i], want)
				}
			}
			none := "POST of length 0: \"\" <nil>"
			if protocol == "h2" {
				none = "POST of length 0, ended with the header: \"\""
			}
			if !slices.Contains(got[false], none) {
				t.Errorf("a POST without a body: %q", got[false])
			}
		})
	}
}

// talk is what a client says, in parts that are each sent when the endpoint has had the
// one before.
type talk struct {
	name  string
	parts []string
	// closes says that the client then ends its sending side.
	closes bool
	code   int // that the client gets here, where it is another one than in the reference
}

func talks() []talk {
	length := func(n int, more string) string {
		return fmt.Sprintf("POST %s?id=one HTTP/1.1\r\nHost: front\r\nConnection: close\r\nContent-Length: %d\r\n%s\r\n", things, n, more)
	}
	chunked := func(more string) string {
		return "POST " + things + "?id=one HTTP/1.1\r\nHost: front\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n" + more + "\r\n"
	}
	return []talk{
		{name: "a body", parts: []string{length(5, "") + "whole"}},
		{name: "expect 100-continue", parts: []string{length(5, "Expect: 100-continue\r\n"), "whole"}},
		{name: "expect 100-continue, chunked", parts: []string{chunked("Expect: 100-continue\r\n"), "5\r\nwhole\r\n0\r\n\r\n"}},
		{name: "expect something else", parts: []string{length(5, "Expect: miracles\r\n") + "whole"}},
		{name: "trailers", parts: []string{chunked("Trailer: X-Sum\r\nTe: trailers\r\n") + "5\r\nwhole\r\n0\r\nX-Sum: 42\r\n\r\n"}},
		{name: "trailers that were not announced", parts: []string{chunked("") + "5\r\nwhole\r\n0\r\nX-Sum: 42\r\n\r\n"}},
		{name: "a body that ends early", parts: []string{length(100, "") + "part"}, closes: true, code: 400},
		{name: "chunks that end early", parts: []string{chunked("") + "4\r\npart\r\n"}, closes: true, code: 400},
		{name: "a malformed chunk", parts: []string{chunked("") + "4\r\npart\r\nZZ\r\n"}, code: 400},
	}
}

// exchanged is what came of a talk.
type exchanged struct {
	continued bool
	code      int
	header    map[string]string
	body      string
	arrived   string // at the endpoint; of a request that is not whole, nothing
}

// hold has a talk with the front.
func (l *lab) hold(c talk, arrived <-chan string) (got exchanged) {
	l.t.Helper()
	conn, err := tls.Dial("tcp", strings.TrimPrefix(l.url, "https://"), l.client.Transport.(*http.Transport).TLSClientConfig)
	if err != nil {
		l.t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(soon))
	reader := bufio.NewReader(conn)
	_, _ = io.WriteString(conn, c.parts[0])
	for _, part := range c.parts[1:] {
		response, err := http.ReadResponse(reader, nil)
		if err != nil {
			l.t.Fatal(err)
		}
		if response.StatusCode != http.StatusContinue {
			l.t.Fatalf("the client got %s in place of 100", response.Status)
		}
		got.continued = true
		_, _ = io.WriteString(conn, part)
	}
	if c.closes {
		_ = conn.CloseWrite()
	}
	for got.code < 200 {
		response, err := http.ReadResponse(reader, nil)
		if err != nil {
			l.t.Fatalf("%s: %v", c.name, err)
		}
		got.code = response.StatusCode
		if got.code < 200 {
			continue
		}
		got.header = map[string]string{"X-Seen": response.Header.Get("X-Seen"), "Content-Length": response.Header.Get("Content-Length")}
		body, _ := io.ReadAll(response.Body)
		got.body = string(body)
	}
	if got.code < 300 {
		got.arrived = <-arrived
	}
	return got
}

// Requests come out as they do behind kube-apiserver, with what HTTP has beside header and
// body. A client that breaks off its body is told so with 400 here; in the reference with
// 503, or 504 and words about a time limit.
func TestRequestsComeOutAsInTheReference(t *testing.T) {
	for protocol, next := range map[string][]string{"h1": {"http/1.1"}, "h2": {"h2"}} {
		for _, c := range talks() {
			t.Run(protocol+"/"+c.name, func(t *testing.T) {
				t.Parallel()
				got := map[bool]exchanged{}
				for _, reference := range []bool{true, false} {
					l := newLab(t)
					arrived := make(chan string, 4)
					config := &tls.Config{Certificates: []tls.Certificate{l.pair}, NextProtos: next}
					l.servers = append(l.servers, backendtest.StartTLS(t, serviceName, l.authority.PEM, config,
						http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
							body, err := io.ReadAll(r.Body)
							if err != nil {
								return
							}
							arrived <- fmt.Sprintf("%s %s %q, expect %q, te %q, trailers %q", r.Method, r.Header.Get("Content-Length"), body, r.Header.Get("Expect"), r.Header.Get("Te"), values(r.Trailer))
							w.Header().Set("X-Seen", "yes")
							w.WriteHeader(http.StatusAccepted)
						})))
					if reference {
						l.refer()
					} else {
						l.start()
					}
					got[reference] = l.hold(c, arrived)
					if !reference && c.code != 0 {
						if failed := l.failures(l.servers[0].Address); failed != 0 {
							t.Errorf("%d failures are held against the endpoint", failed)
						}
					}
				}
				here, there := got[false], got[true]
				if c.code != 0 {
					t.Logf("in the reference: %d %s", there.code, there.body)
					if here.code != c.code {
						t.Errorf("%d %s, want %d", here.code, here.body, c.code)
					}
					return
				}
				if fmt.Sprint(here) != fmt.Sprint(there) {
					t.Errorf("%+v\nin the reference: %+v", here, there)
				}
			})
		}
	}
}

// values are those of trailers, by name; names without any are left out.
func values(h http.Header) map[string]string {
	all := map[string]string{}
	for name := range h {
		if v := h.Get(name); v != "" {
			all[name] = v
		}
	}
	return all
}

// An answer that comes before the body has been sent arrives, and the rest of the body is
// nobody's request.
func TestAnEarlyAnswerArrivesAsInTheReference(t *testing.T) {
	for _, protocol := range []string{"http/1.1", "h2"} {
		for _, code := range []int{200, 413} {
			for _, reference := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s/%d/reference %t", protocol, code, reference), func(t *testing.T) {
					t.Parallel()
					l := newLab(t)
					s := l.early(protocol, code)
					if reference {
						l.refer()
					} else {
						l.start()
					}
					got := l.send(http.MethodPost, "one", bytes.NewReader(make([]byte, 100<<10)))
					if got.code != code || got.body != "early" || got.err != nil {
						t.Errorf("%d %q %v", got.code, got.body, got.err)
					}
					if n := len(s.Requests()); n != 1 {
						t.Errorf("the endpoint saw %d requests", n)
					}
					if !reference {
						if failed := l.failures(s.Address); failed != 0 {
							t.Errorf("%d failures are held against the endpoint", failed)
						}
					}
				})
			}
		}
	}
}

// early adds an endpoint that answers when it has read the beginning of a body.
func (l *lab) early(protocol string, code int) *backendtest.Server {
	config := &tls.Config{Certificates: []tls.Certificate{l.pair}, NextProtos: []string{protocol}}
	s := backendtest.StartTLS(l.t, serviceName, l.authority.PEM, config, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadFull(r.Body, make([]byte, 4))
		w.WriteHeader(code)
		_, _ = io.WriteString(w, "early")
	}))
	l.servers = append(l.servers, s)
	return s
}

// A client that pauses in the middle of its body has an early answer at once. In the
// reference it has it when it goes on.
func TestAnEarlyAnswerDoesNotWaitForItsClient(t *testing.T) {
	for _, code := range []int{200, 413} {
		l := newLab(t)
		s := l.early("h2", code)
		l.start()
		transport := &http.Transport{
			TLSClientConfig:   &tls.Config{RootCAs: l.client.Transport.(*http.Transport).TLSClientConfig.RootCAs},
			ForceAttemptHTTP2: true, // over HTTP/1.1 net/http's server waits too
		}
		t.Cleanup(transport.CloseIdleConnections)
		l.client = &http.Client{Transport: transport, Timeout: soon}
		body, more := io.Pipe()
		defer more.Close()
		go func() { _, _ = io.WriteString(more, "part") }()
		got := l.send(http.MethodPost, "one", body)
		if got.code != code || got.body != "early" || got.err != nil {
			t.Errorf("%d %q %v", got.code, got.body, got.err)
		}
		if n := len(s.Requests()); n != 1 {
			t.Errorf("the endpoint saw %d requests", n)
		}
	}
}
