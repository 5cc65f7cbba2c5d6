package proxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"k8s.io/apiserver/pkg/endpoints/request"

	"github.com/annex-api/annex/aggregator/internal/backendtest"
)

// panics tells how the handlers that it wraps return: with nil, or with what they
// panic with.
type panics chan any

func (p panics) wrap(_ *Config, f *front) {
	f.wrap = func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			defer func() {
				v := recover()
				p <- v
				if v != nil {
					panic(v)
				}
			}()
			h.ServeHTTP(w, r)
		})
	}
}

// shutdown is a signal that a test gives.
type shutdown chan struct{}

// ShuttingDown implements request.ServerShutdownSignal.
func (s shutdown) ShuttingDown() <-chan struct{} { return s }

// answerEnds are the ways in which an answer ends whose header and first bytes have left.
var answerEnds = []struct {
	what string
	path string
	// what ends it
	server, client, breaks, host, deadline bool
	// clean says that the client finds the end of a body, aborts that the handler does.
	clean, aborts bool
}{
	{what: "a watch, by its server", path: "/things?watch=1", server: true, clean: true},
	{what: "a watch, by its client", path: "/things?watch=1", client: true},
	{what: "a watch, by a server that dies", path: "/things?watch=1", breaks: true, clean: true},
	{what: "a watch, by this server's shutdown", path: "/things?watch=1", host: true, clean: true},
	{what: "a log, by its server", path: logPath, server: true, clean: true},
	{what: "a log, by its client", path: logPath, client: true},
	{what: "a log, by a server that dies", path: logPath, breaks: true},
	{what: "a log, by this server's shutdown", path: logPath, host: true},
	{what: "a list, by its server", path: "/things", server: true, clean: true},
	{what: "a list, by its client", path: "/things", client: true},
	{what: "a list, by a server that dies", path: "/things", breaks: true, aborts: true},
	{what: "a list, by its deadline", path: "/things", deadline: true, aborts: true},
}

const logPath = "/namespaces/x/things/y/log?follow=1"

func TestHowAnswersEnd(t *testing.T) {
	for _, c := range answerEnds {
		for _, http2 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, HTTP/2 %v", c.what, http2), func(t *testing.T) {
				t.Parallel()
				returned, stop, end := make(panics, 1), make(shutdown), make(chan struct{})
				s := backendtest.Start(t, "api", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					_, _ = io.WriteString(w, "event\n")
					_ = http.NewResponseController(w).Flush()
					select {
					case <-r.Context().Done():
					case <-end:
						if c.breaks {
							panic(http.ErrAbortHandler)
						}
					}
				}))
				f := startFront(t, s.Claim(name), returned.wrap, func(_ *Config, f *front) {
					f.http2 = http2
					wrap := f.wrap
					f.wrap = func(h http.Handler) http.Handler {
						return wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
							ctx := request.WithServerShutdownSignal(r.Context(), stop)
							if c.deadline {
								var cancel context.CancelFunc
								ctx, cancel = context.WithTimeout(ctx, 500*time.Millisecond)
								defer cancel()
							}
							h.ServeHTTP(w, r.WithContext(ctx))
						}))
					}
				})
				ctx, leave := context.WithCancel(t.Context())
				defer leave()
				r, err := http.NewRequestWithContext(ctx, "GET", f.URL+base+c.path, nil)
				if err != nil {
					t.Fatal(err)
				}
				response, err := f.client.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				defer response.Body.Close()
				if _, err := io.ReadFull(response.Body, make([]byte, len("event\n"))); err != nil {
					t.Fatal(err)
				}
				switch {
				case c.server, c.breaks:
					close(end)
				case c.client:
					leave()
				case c.host:
					close(stop)
				}
				if _, err := io.ReadAll(response.Body); (err == nil) != c.clean {
					t.Errorf("the client reads %v", err)
				}
				if got := <-returned; (got == http.ErrAbortHandler) != c.aborts || got != nil && !c.aborts {
					t.Errorf("the handler returned with %v", got)
				}
			})
		}
	}
}

// A client that leaves before there is an answer is nobody's failure either.
func TestClientsThatLeaveALongRequestUnanswered(t *testing.T) {
	for _, path := range []string{"/things?watch=1", logPath} {
		returned, begun := make(panics, 1), make(chan struct{})
		s := backendtest.Start(t, "api", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			close(begun)
			<-r.Context().Done()
		}))
		wrote := make(chan int, 1)
		f := startFront(t, s.Claim(name), returned.wrap, func(_ *Config, f *front) {
			wrap := f.wrap
			f.wrap = func(h http.Handler) http.Handler {
				return wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					seen := &codes{ResponseWriter: w}
					h.ServeHTTP(seen, r)
					wrote <- seen.code
				}))
			}
		})
		ctx, leave := context.WithCancel(t.Context())
		go func() {
			<-begun
			leave()
		}()
		r, err := http.NewRequestWithContext(ctx, "GET", f.URL+base+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if response, err := f.client.Do(r); err == nil {
			_ = response.Body.Close()
			t.Errorf("%s: %s", path, response.Status)
		}
		if got := <-wrote; got != 0 {
			t.Errorf("%s: %d is audited", path, got)
		}
		if got := <-returned; got != nil || f.probes.Load() > 0 {
			t.Errorf("%s: %v, %d probes", path, got, f.probes.Load())
		}
	}
}

// codes remembers the first status that is written.
type codes struct {
	http.ResponseWriter
	code int
}

func (c *codes) Unwrap() http.ResponseWriter { return c.ResponseWriter }

func (c *codes) WriteHeader(code int) {
	if c.code == 0 {
		c.code = code
	}
	c.ResponseWriter.WriteHeader(code)
}

// A host that cancels a request whose client is still there does not make a part look
// like the whole.
func TestAHostThatCancelsCutsTheAnswerOff(t *testing.T) {
	s := backendtest.Start(t, "api", http.HandlerFunc(eventThenSilence))
	cancels := make(chan context.CancelFunc, 1)
	f := startFront(t, s.Claim(name), func(_ *Config, f *front) {
		f.wrap = func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				ctx, cancel := context.WithCancel(r.Context())
				cancels <- cancel
				h.ServeHTTP(w, r.WithContext(ctx))
			})
		}
	})
	response := f.do(t, "GET", base+"/things", nil, nil)
	(<-cancels)()
	if body, err := io.ReadAll(response.Body); err == nil {
		t.Errorf("the client read %q and no error", body)
	}
}

// The end of a watch over HTTP/1.1 is the last chunk, and the connection stays.
func TestTheConnectionOfAnEndedWatchStays(t *testing.T) {
	s := backendtest.Start(t, "api", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/second") {
			_, _ = io.WriteString(w, "second")
			return
		}
		eventThenSilence(w, r)
	}))
	f := startFront(t, s.Claim(name))
	f.proxy.Sync(s.Snapshot(name))
	conn := net.Conn(f.dial(t))
	reader := bufio.NewReader(conn)
	for _, path := range []string{"/things?watch=1", "/second"} {
		fmt.Fprintf(conn, "GET %s%s HTTP/1.1\r\nHost: front\r\n\r\n", base, path)
		response, err := http.ReadResponse(reader, nil)
		if err != nil {
			t.Fatal(err)
		}
		if path != "/second" {
			f.proxy.Sync(s.Snapshot("v1.other.example"))
		}
		if body := read(t, response); path == "/second" && body != "second" {
			t.Errorf("%q", body)
		}
	}
}
