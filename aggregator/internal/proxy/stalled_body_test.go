package proxy_test

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

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/annex-api/annex/aggregator/internal/backendtest"
)

// stalled begins a request over HTTP/1.1 whose body stops after 10 KiB.
var stalled = "POST " + things + "?id=one HTTP/1.1\r\nHost: front\r\nContent-Length: 100000\r\n%s\r\n" + strings.Repeat("x", 10<<10)

// reader adds an endpoint over one protocol. It tells when the body of a request has ended
// there, or its connection has.
func (l *lab) reader(protocol string) (ended chan struct{}) {
	ended = make(chan struct{}, 1)
	config := &tls.Config{Certificates: []tls.Certificate{l.pair}, NextProtos: []string{protocol}}
	s := backendtest.StartTLS(l.t, serviceName, l.authority.PEM, config, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		ended <- struct{}{}
	}))
	l.servers = append(l.servers, s)
	return ended
}

// dial opens a connection to the front.
func (l *lab) dial(protocol string) *tls.Conn {
	l.t.Helper()
	config := l.client.Transport.(*http.Transport).TLSClientConfig.Clone()
	config.NextProtos = []string{protocol}
	conn, err := tls.Dial("tcp", strings.TrimPrefix(l.url, "https://"), config)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(soon))
	return conn
}

// stallWithoutWindow sends a request over HTTP/2 on a connection that takes no byte of an
// answer. The body of a POST stops after ten bytes; a GET has none.
func (l *lab) stallWithoutWindow(method string) {
	conn := l.dial("h2")
	_, _ = io.WriteString(conn, http2.ClientPreface)
	framer := http2.NewFramer(conn, conn)
	_ = framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	var block strings.Builder
	encoder := hpack.NewEncoder(&block)
	for _, f := range [][2]string{{":method", method}, {":scheme", "https"}, {":authority", "front"}, {":path", things + "?id=one"}} {
		_ = encoder.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte(block.String()), EndHeaders: true, EndStream: method == http.MethodGet})
	if method != http.MethodGet {
		_ = framer.WriteData(1, false, []byte("0123456789"))
	}
	go func() { _, _ = io.Copy(io.Discard, conn) }()
}

// A body that stops keeps nothing beyond the time of its request: neither the extension
// server's handler, nor the place, nor the client's answer.
func TestAStalledBodyEndsWithItsRequest(t *testing.T) {
	for _, endpoint := range []string{"http/1.1", "h2"} {
		for _, client := range []string{"http/1.1", "h2"} {
			t.Run(client+" to "+endpoint, func(t *testing.T) {
				l := newLab(t)
				l.listen()
				ended := l.reader(endpoint)
				l.change = func(r *http.Request) *http.Request {
					ctx, cancel := context.WithTimeout(r.Context(), time.Second)
					t.Cleanup(cancel)
					return r.WithContext(ctx)
				}
				l.start()
				if client == "h2" {
					l.stallWithoutWindow(http.MethodPost)
				} else {
					conn := l.dial("http/1.1")
					fmt.Fprintf(conn, stalled, "")
					response, err := http.ReadResponse(bufio.NewReader(conn), nil)
					if err != nil {
						t.Fatalf("no answer: %v", err)
					}
					if body, err := io.ReadAll(response.Body); response.StatusCode != http.StatusServiceUnavailable || err != nil {
						t.Errorf("%d %s %v", response.StatusCode, body, err)
					}
				}
				select {
				case <-ended:
				case <-time.After(soon):
					t.Error("the extension server still waits for the body")
				}
				b := l.pool.Get(l.service)
				until(t, "nothing is left", func() bool { inFlight, queued := b.Load(); return inFlight+queued+b.Sending() == 0 })
				if heard := l.heard(); len(heard) != 1 || heard[0] != "the request's own time is over" {
					t.Errorf("the attempts ended so: %q", heard)
				}
			})
		}
	}
}

// An answer that comes before the end of a body is its client's at once, however large it
// is, whether or not its length is known.
func TestAnEarlyAnswerArrivesWhileTheBodyStalls(t *testing.T) {
	answer := strings.Repeat("x", 40<<10)
	const upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n"
	for name, c := range map[string]struct {
		path, header string
		code         int // of the extension server
		want         int
	}{
		"a write":             {"", "", http.StatusForbidden, http.StatusForbidden},
		"a long-running one":  {"/x/log", "", http.StatusForbidden, http.StatusForbidden},
		"one that asks first": {"", "Expect: 100-continue\r\n", http.StatusForbidden, http.StatusForbidden},
		"a refused upgrade":   {"/x/exec", upgrade, http.StatusForbidden, http.StatusForbidden},
		"an invalid upgrade":  {"/x/exec", upgrade, http.StatusOK, http.StatusServiceUnavailable},
	} {
		for _, length := range []string{"known", "unknown"} {
			t.Run(name+", "+length+" length", func(t *testing.T) {
				l := newLab(t)
				config := &tls.Config{Certificates: []tls.Certificate{l.pair}}
				l.servers = append(l.servers, backendtest.StartTLS(t, serviceName, l.authority.PEM, config, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					_ = http.NewResponseController(w).EnableFullDuplex()
					_, _ = io.ReadFull(r.Body, make([]byte, 10))
					if length == "known" {
						w.Header().Set("Content-Length", fmt.Sprint(len(answer)))
					}
					w.WriteHeader(c.code)
					_, _ = io.WriteString(w, answer)
				})))
				l.start()
				conn := l.dial("http/1.1")
				fmt.Fprintf(conn, strings.Replace(stalled, things, things+c.path, 1), c.header)
				in := bufio.NewReader(conn)
				response, err := http.ReadResponse(in, nil)
				for err == nil && response.StatusCode == http.StatusContinue {
					response, err = http.ReadResponse(in, nil)
				}
				if err != nil {
					t.Fatalf("no answer: %v", err)
				}
				if body, err := io.ReadAll(response.Body); response.StatusCode != c.want || c.want == c.code && string(body) != answer || err != nil {
					t.Errorf("%d, %d bytes, %v", response.StatusCode, len(body), err)
				}
				if !response.Close {
					t.Error("the connection is to take more requests")
				}
			})
		}
	}
}

// A client that takes nothing of its answer keeps no place beyond the time of its request.
func TestAClientThatTakesNothingKeepsNoPlace(t *testing.T) {
	l := newLab(t)
	l.handler("large", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 1<<20)) })
	l.change = func(r *http.Request) *http.Request {
		ctx, cancel := context.WithTimeout(r.Context(), time.Second)
		t.Cleanup(cancel)
		return r.WithContext(ctx)
	}
	l.start()
	b := l.pool.Get(l.service)
	l.stallWithoutWindow(http.MethodGet)
	until(t, "the request is under way", func() bool { inFlight, _ := b.Load(); return inFlight == 1 })
	until(t, "nothing is left", func() bool { inFlight, queued := b.Load(); return inFlight+queued == 0 })
}
