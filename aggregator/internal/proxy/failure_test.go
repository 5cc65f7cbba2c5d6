package proxy_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/request"

	"github.com/annex-api/annex/aggregator/internal/catalog"
	"github.com/annex-api/annex/aggregator/internal/proxy"
)

// endingCase is a request that brings an attempt to an end, at an endpoint that is
// tried first. Another one, which works, is tried next.
type endingCase struct {
	name   string // of the row
	what   string
	bad    func(*lab) // adds the endpoint
	do     func(*lab) reply
	code   int // that the client gets; 0 is none
	failed int // what is held against the endpoint
	alone  bool
}

func get(l *lab) reply  { return l.send(http.MethodGet, "one", nil) }
func post(l *lab) reply { return l.send(http.MethodPost, "one", small()) }

// broken is what is wrong with an endpoint, by the names of breaks and refusals.
func broken(name string) func(*lab) {
	return func(l *lab) {
		if f := breaks(l)[name]; f != nil {
			f()
			return
		}
		refusals(l)[name]()
	}
}

// silently adds an endpoint that takes requests and says nothing.
func silently(l *lab) {
	l.http2(moments{header: func(s *stream) {
		if s.id() == "warm" {
			s.respond("200", "whole", true)
			return
		}
		l.saw(s.id(), "silent")
	}})
}

// inGroups makes the user one of many groups, some 50 bytes each.
func (l *lab) inGroups(n int) {
	groups := make([]string, n)
	for i := range groups {
		groups[i] = fmt.Sprintf("a-group-of-people-with-a-long-name-%015d", i)
	}
	l.change = func(r *http.Request) *http.Request {
		return r.WithContext(request.WithUser(r.Context(), &user.DefaultInfo{Name: "many", Groups: groups}))
	}
}

// raw sends bytes over a connection of HTTP/1.1, ends its sending side, and reads the
// answer.
func (l *lab) cutOff(text string) reply {
	conn, err := tls.Dial("tcp", strings.TrimPrefix(l.url, "https://"), l.client.Transport.(*http.Transport).TLSClientConfig)
	if err != nil {
		l.t.Fatal(err)
	}
	defer conn.Close()
	start := time.Now()
	_ = conn.SetDeadline(start.Add(soon))
	_, _ = io.WriteString(conn, text)
	_ = conn.CloseWrite()
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return reply{err: err}
	}
	body, err := io.ReadAll(response.Body)
	return reply{response.StatusCode, string(body), response.Header, time.Since(start), err}
}

const head = "POST " + things + "?id=one HTTP/1.1\r\nHost: front\r\nContent-Type: application/json\r\n"

// Bodies that are sent while they come, as they are too large to be waited for, and then
// end. Others are cut off before anything is sent.
var (
	part       = strings.Repeat("x", 70<<10)
	tooShort   = head + "Content-Length: 200000\r\n\r\n" + part
	noChunk    = head + fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\nZZ\r\n", len(part), part)
	unfinished = head + fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n", len(part), part)
)

func endingCases() []endingCase {
	reads := func(l *lab) { l.handler("reads", func(http.ResponseWriter, *http.Request) {}) }
	reads1 := func(l *lab) {
		l.http1("reads", func(c net.Conn, r *http.Request) {
			if _, err := io.Copy(io.Discard, r.Body); err == nil {
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			}
		})
	}
	cut := func(text string) func(*lab) reply { return func(l *lab) reply { return l.cutOff(text) } }
	annotated := func(name, value string, bad func(*lab)) func(*lab) {
		return func(l *lab) { l.object["aggregation.annex.dev/"+name] = value; bad(l) }
	}
	const (
		client    = "the client's body broke off, or is malformed"
		moved     = "the APIService leads elsewhere now"
		overtaken = "another attempt was answered first"
		late      = "no header of an answer came in the time that the APIService allows"
		left      = "the client left"
		time      = "the request's own time is over"
		refused   = "the endpoint refused the stream"
		retired   = "the endpoint retired the connection before it began"
		no        = "the header has what HTTP does not allow"
		exhausted = "this server can open no more connections"
		dead      = "no connection could be made"
		untried   = "the transport did not try"
		limit     = "the header is larger than the endpoint announced to take"
		large     = "the connection ended upon a large header"
		early     = "the connection ended before the request was sent"
		lost      = "the connection was lost, with all requests on it"
		unclear   = "the request was ended, or its connection, without a whole answer"
	)
	return []endingCase{
		{client, "a body that is too short, h2", reads, cut(tooShort), 400, 0, true},
		{client, "a body that is too short, h1", reads1, cut(tooShort), 400, 0, true},
		{client, "a malformed chunk, h2", reads, cut(noChunk), 400, 0, true},
		{client, "a malformed chunk, h1", reads1, cut(noChunk), 400, 0, true},
		{client, "chunks without an end, h2", reads, cut(unfinished), 400, 0, true},
		{client, "chunks without an end, h1", reads1, cut(unfinished), 400, 0, true},

		{moved, "a watch", silently, moves(things+"?watch=true&id=one", nil), 503, 0, true},
		{overtaken, "h2", silently, get, 200, 1, false},
		{late, "h2", annotated("header-timeout", "300ms", silently), post, 503, 1, true},
		{left, "h2", silently, leaves, 0, 0, true},
		{left, "h1", func(l *lab) { l.http1("silent", func(c net.Conn, _ *http.Request) { _, _ = io.Copy(io.Discard, c) }) }, leaves, 0, 0, true},
		{time, "h2", func(l *lab) {
			silently(l)
			l.change = func(r *http.Request) *http.Request {
				ctx, cancel := context.WithTimeout(r.Context(), 100*millisecond)
				l.t.Cleanup(cancel)
				return r.WithContext(ctx)
			}
		}, get, 503, 0, true},

		{refused, "at the header", broken("streams are refused at the header"), post, 201, 1, false},
		{refused, "a write without a body", broken("streams are refused at the header"), deletes, 201, 1, false},
		{retired, "h2", broken("the connection goes away without the request"), post, 201, 0, false},
		{retired, "a write without a body", broken("the connection goes away without the request"), deletes, 201, 0, false},

		{no, "h2", func(l *lab) { l.works(); l.malform() }, get, 400, 0, true},
		{no, "h1", func(l *lab) {
			l.http1("works", func(net.Conn, *http.Request) {})
			l.malform()
		}, get, 400, 0, true},
		{limit, "h2", func(l *lab) {
			l.http2(moments{headerLimit: 6000, body: func(s *stream) { l.saw(s.id(), "limits"); s.respond("200", "whole", true) }})
			l.inGroups(200)
		}, warmed(get), 431, 0, true},
		{limit, "a write", func(l *lab) {
			l.http2(moments{headerLimit: 6000, body: func(s *stream) { l.saw(s.id(), "limits"); s.respond("200", "whole", true) }})
			l.inGroups(200)
		}, warmed(post), 431, 0, true},

		{exhausted, "no port is left", func(l *lab) {
			l.works()
			l.limits.Dial = func(context.Context, string, string) (net.Conn, error) {
				return nil, &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.EADDRNOTAVAIL)}
			}
		}, get, 503, 0, true},
		{untried, "what observes round trips fails", func(l *lab) {
			l.works()
			l.limits.Wrap = func(http.RoundTripper) http.RoundTripper { return failing{} }
		}, get, 503, 0, true},

		{dead, "nobody listens", broken("nobody listens"), post, 201, 1, false},
		{dead, "an unknown authority", broken("an unknown authority"), post, 201, 1, false},
		{dead, "an old TLS version", broken("an old TLS version"), get, 200, 1, false},

		{large, "h1", func(l *lab) {
			l.closesAfter("http/1.1", 1000)
			l.inGroups(200)
		}, get, 200, 0, false}, // the other one takes it, which says nothing: its limit may be another
		{large, "h1, a write", func(l *lab) {
			broken("h1 closes after the body")(l)
			l.inGroups(200)
		}, post, 503, 0, false},
		{large, "h2, a write", func(l *lab) {
			l.closesAfter("h2", 5000)
			l.inGroups(200)
		}, post, 503, 0, false},

		{lost, "h2 closes after the header", broken("h2 closes after the header"), get, 200, 1, false},
		{lost, "h2 closes, a write", broken("h2 closes after the body"), post, 503, 1, false},
		{lost, "h2 goes away for its own faults", broken("h2 goes away for its own faults"), post, 503, 1, false},
		{lost, "h2 breaks off in the body", func(l *lab) {
			l.http2(moments{header: func(s *stream) {
				l.saw(s.id(), "breaks")
				s.respond("200", "part", false, "content-length", "100")
				_ = s.conn.Close()
			}})
		}, get, 200, 1, false},

		// A read is answered elsewhere: it was the endpoint.
		{unclear, "h1 closes", broken("h1 closes after the header"), get, 200, 1, false},
		{unclear, "h1 answers nonsense", broken("h1 answers nonsense"), get, 200, 1, false},
		{unclear, "h2 resets", broken("h2 resets after the header"), get, 200, 1, false},
		{unclear, "h2 wants calm", broken("h2 wants calm"), get, 200, 1, false},
		{unclear, "h2 says protocol error", broken("h2 says protocol error"), get, 200, 1, false},
		// A write is not sent twice, and nobody knows.
		{unclear, "h1 closes, a write", broken("h1 closes after the body"), post, 503, 0, false},
		{unclear, "h1 breaks off in the header, a write", broken("h1 breaks off in the header"), post, 503, 0, false},
		{unclear, "h2 resets, a write", broken("h2 resets after the body"), post, 503, 0, false},
		{unclear, "h2 resets, a write without a body", broken("h2 resets after the body"), deletes, 503, 0, false},
		{unclear, "h2 cancels, a write", broken("h2 cancels after the body"), post, 503, 0, false},
		{unclear, "h2 says protocol error, a write", broken("h2 says protocol error"), post, 503, 0, false},
		{unclear, "h2 says protocol error, a write without a body", broken("h2 says protocol error"), deletes, 503, 0, false},
		// A read that fares the same everywhere says nothing of any of them.
		{unclear, "h2 resets everywhere", func(l *lab) { broken("h2 resets after the header")(l); broken("h2 resets after the header")(l) }, get, 503, 0, true},
		{unclear, "h1 closes everywhere", func(l *lab) { broken("h1 closes after the header")(l); broken("h1 closes after the header")(l) }, get, 503, 0, true},
		{unclear, "too many interim answers, h1", func(l *lab) { l.http1("talks", func(c net.Conn, _ *http.Request) { interimForEver(c) }) }, post, 503, 0, true},

		{early, "h2", func(l *lab) { l.closesAfter("h2", 0) }, earlyEnd, 503, some, true},
	}
}

const (
	millisecond = time.Millisecond
	some        = -1 // failures, one or more
)

// refusedHere is how an attempt ends whose body was late.
const refusedHere = "the request was refused here before the end of its body"

func TestWhoseFaultItIsThatAnAttemptEnds(t *testing.T) {
	var mu sync.Mutex
	seen := map[string]bool{refusedHere: true} // see TestALateBodyMayBeRefused
	t.Run("all", func(t *testing.T) {
		for _, c := range endingCases() {
			t.Run(c.name+"/"+c.what, func(t *testing.T) {
				t.Parallel()
				l := newLab(t)
				l.listen()
				c.bad(l)
				if !c.alone {
					l.works()
				}
				l.start()
				got := c.do(l)
				until(t, "the attempt is told of", func() bool { return len(l.heard()) > 0 })
				names := l.heard()
				if names[0] != c.name {
					t.Errorf("the attempt ended so: %q", names)
				}
				if got.code != c.code || (got.err == nil) != (c.code != 0) {
					t.Errorf("the client got %d %s %v, want %d", got.code, got.body, got.err, c.code)
				}
				if failed := l.failures(l.servers[0].Address); failed != c.failed && (c.failed != some || failed == 0) {
					t.Errorf("%d failures are held against the endpoint, want %d", failed, c.failed)
				}
				for _, other := range l.servers[1:] {
					if failed := l.failures(other.Address); failed != 0 {
						t.Errorf("%d failures are held against another endpoint", failed)
					}
				}
				if at := l.sightings("one"); c.code >= 300 && !strings.Contains(c.what, "everywhere") && len(at) > 1 {
					t.Errorf("seen by %v", at)
				}
				// Clients are told the APIService, and no address.
				if got.code >= 500 && !strings.Contains(got.body, "APIService") || strings.Contains(got.body, "127.0.0.1") {
					t.Errorf("the client was told %s", got.body)
				}
				mu.Lock()
				defer mu.Unlock()
				seen[names[0]] = true
			})
		}
	})
	for _, name := range proxy.Endings() {
		if !seen[name] {
			t.Errorf("no attempt ended so: %q", name)
		}
	}
}

// failures are those in a row that are held against an endpoint.
func (l *lab) failures(address string) int {
	for _, h := range l.pool.Get(l.service).Health() {
		if h.Address == address {
			return h.Failures
		}
	}
	l.t.Fatalf("there is no endpoint %s", address)
	return 0
}

// listen has it noted how attempts end, by what is logged of them. None of it is to be seen where nobody
// has asked for more than changes of state.
func (l *lab) listen() {
	var loud []string
	l.t.Cleanup(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if len(loud) > 0 {
			l.t.Errorf("of requests there are lines in the log of who has asked for none: %q", loud)
		}
	})
	logger := funcr.NewJSON(func(line string) {
		// Errors have no level.
		if !strings.Contains(line, `"level":`) || strings.Contains(line, `"level":0`) {
			l.mu.Lock()
			loud = append(loud, line)
			l.mu.Unlock()
		}
		if _, how, ok := strings.Cut(line, `"how":"`); ok {
			how, _, _ = strings.Cut(how, `","`)
			l.mu.Lock()
			defer l.mu.Unlock()
			l.ends = append(l.ends, how)
		}
	}, funcr.Options{Verbosity: 4})
	l.logger = &logger
}

// heard are the ends of attempts so far.
func (l *lab) heard() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.ends...)
}

// moves is a request whose APIService is gone before there is an answer.
func moves(path string, header http.Header) func(*lab) reply {
	return func(l *lab) reply {
		l.proxy.Sync(l.snapshot(l.servers...))
		r, err := http.NewRequestWithContext(l.t.Context(), http.MethodGet, l.url+path, nil)
		if err != nil {
			l.t.Fatal(err)
		}
		maps.Copy(r.Header, header)
		ended := make(chan reply, 1)
		go func() {
			response, err := l.client.Do(r)
			if err != nil {
				ended <- reply{err: err}
				return
			}
			defer response.Body.Close()
			body, err := io.ReadAll(response.Body)
			ended <- reply{code: response.StatusCode, body: string(body), err: err}
		}()
		until(l.t, "the endpoint has the request", func() bool { return len(l.sightings("one")) > 0 })
		l.proxy.Sync(catalog.Build(catalog.Facts{}))
		return <-ended
	}
}

// An upgrade that has no answer when its APIService is gone is told so, as a watch is.
func TestAnUpgradeWhoseAPIServiceIsGoneIsToldSo(t *testing.T) {
	l := newLab(t)
	l.http1("silent", func(c net.Conn, _ *http.Request) { _, _ = io.Copy(io.Discard, c) })
	l.start()
	got := moves(things+"/x/exec?id=one", http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}})(l)
	if got.code != http.StatusServiceUnavailable || !strings.Contains(got.body, "APIServiceMoved") {
		t.Errorf("%d %s %v", got.code, got.body, got.err)
	}
	if failed := l.failures(l.servers[0].Address); failed != 0 {
		t.Errorf("%d failures are held against the endpoint", failed)
	}
}

// A body that is broken off before it was sent on is the client's fault at once: nothing
// of the request reaches the extension server.
func TestABrokenBodyIsRefusedBeforeAnythingIsSent(t *testing.T) {
	for what, text := range map[string]string{
		"too short": head + "Content-Length: 100\r\n\r\npart", "no chunk": head + "Transfer-Encoding: chunked\r\n\r\n4\r\npart\r\nZZ\r\n",
	} {
		t.Run(what, func(t *testing.T) {
			l := newLab(t)
			l.works()
			l.start()
			if got := l.cutOff(text); got.code != http.StatusBadRequest || got.took > soon/2 {
				t.Errorf("%d %s %v after %s", got.code, got.body, got.err, got.took)
			}
			if at := l.sightings("one"); len(at) != 0 {
				t.Errorf("it was sent to %v", at)
			}
		})
	}
}

func deletes(l *lab) reply { return l.send(http.MethodDelete, "one", nil) }

// warmed connects first, so that what the endpoint announces is known.
func warmed(do func(*lab) reply) func(*lab) reply {
	return func(l *lab) reply { l.warm(); return do(l) }
}

// leaves is a client that goes when the endpoint has its request.
func leaves(l *lab) reply {
	ctx, cancel := context.WithCancel(l.t.Context())
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, l.url+things+"?id=one", small())
	if err != nil {
		l.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		response, err := l.client.Do(r)
		if err == nil {
			_ = response.Body.Close()
		}
		ended <- err
	}()
	until(l.t, "the endpoint has the request", func() bool { return len(l.sightings("one")) > 0 })
	cancel()
	return reply{err: <-ended}
}

// malform gives the client an address that makes a header that is none.
func (l *lab) malform() {
	l.change = func(r *http.Request) *http.Request {
		r.RemoteAddr = "a\nb:1"
		return r
	}
}

type failing struct{}

func (failing) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, errors.New("not today, 127.0.0.1")
}

// closesAfter adds an endpoint that closes each connection after so many bytes.
func (l *lab) closesAfter(protocol string, bytes int64) {
	l.raw(&tls.Config{Certificates: []tls.Certificate{l.pair}, NextProtos: []string{protocol}}, func(c *tls.Conn) {
		_, _ = io.CopyN(io.Discard, c, bytes)
	})
}

func interimForEver(c net.Conn) {
	for {
		if _, err := io.WriteString(c, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"); err != nil {
			return
		}
	}
}

// earlyEnd sends until a connection had ended before a request was sent on it: it may
// also end just after.
func earlyEnd(l *lab) (got reply) {
	const name = "the connection ended before the request was sent"
	until(l.t, "a connection ends early", func() bool {
		l.mu.Lock()
		l.ends = nil
		l.mu.Unlock()
		got = post(l)
		names := l.heard()
		return len(names) > 0 && names[0] == name
	})
	return got
}
