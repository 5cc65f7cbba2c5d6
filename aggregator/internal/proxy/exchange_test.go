package proxy_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/annex-api/annex/aggregator/internal/backendtest"
	"github.com/annex-api/annex/internal/testcerts"
)

type apiService = apiregistrationv1.APIService

// breaks are what a server may do once it holds the header of a request. What
// it did with the request nobody else can know.
func breaks(l *lab) map[string]func() {
	drain := func(r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }
	write := func(c net.Conn, text string) { _, _ = io.WriteString(c, text) }
	h1 := func(do func(net.Conn, *http.Request)) func() { return func() { l.http1("breaks", do) } }
	h2 := func(m moments) func() {
		header := m.header
		m.header = func(s *stream) {
			l.saw(s.id(), "breaks")
			if header != nil {
				header(s)
			}
		}
		return func() { l.http2(m) }
	}
	reset := func(code http2.ErrCode) func(*stream) {
		return func(s *stream) { _ = s.WriteRSTStream(s.number, code) }
	}
	cut := func(s *stream) { _ = s.conn.Close() }
	return map[string]func(){
		"h1 closes after the header":  h1(func(net.Conn, *http.Request) {}),
		"h1 closes after the body":    h1(func(_ net.Conn, r *http.Request) { drain(r) }),
		"h1 breaks off in the header": h1(func(c net.Conn, r *http.Request) { drain(r); write(c, "HTTP/1.1 201 Crea") }),
		"h1 answers nonsense":         h1(func(c net.Conn, r *http.Request) { drain(r); write(c, "nonsense\r\n\r\n") }),
		"h1 breaks off in the body": h1(func(c net.Conn, r *http.Request) {
			drain(r)
			write(c, "HTTP/1.1 201 Created\r\nContent-Length: 100\r\n\r\npart")
		}),
		"h2 closes after the header":      h2(moments{header: cut}),
		"h2 closes after the body":        h2(moments{body: cut}),
		"h2 resets after the header":      h2(moments{header: reset(http2.ErrCodeInternal)}),
		"h2 resets after the body":        h2(moments{body: reset(http2.ErrCodeInternal)}),
		"h2 cancels after the body":       h2(moments{body: reset(http2.ErrCodeCancel)}),
		"h2 says protocol error":          h2(moments{body: reset(http2.ErrCodeProtocol)}),
		"h2 wants calm":                   h2(moments{body: reset(http2.ErrCodeEnhanceYourCalm)}),
		"h2 goes away with the request":   h2(moments{body: func(s *stream) { _ = s.WriteGoAway(s.number, http2.ErrCodeNo, nil); cut(s) }}),
		"h2 goes away for its own faults": h2(moments{body: func(s *stream) { _ = s.WriteGoAway(s.number, http2.ErrCodeInternal, nil); cut(s) }}),
		"h2 breaks off in the body":       h2(moments{body: func(s *stream) { s.respond("201", "part", false); cut(s) }}),
		"h2 is silent":                    h2(moments{}),
	}
}

func TestRequestsThatChangeSomethingAreNeverSentTwice(t *testing.T) {
	for name := range breaks(nil) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
				for _, withBody := range []bool{true, false} {
					l := newLab(t)
					if name == "h2 is silent" {
						l.object["aggregation.annex.dev/header-timeout"] = "3s" // past the time of a hedge
					}
					breaks(l)[name]()
					l.works()
					l.start()
					var body io.Reader
					if withBody {
						body = small()
					}
					got := l.send(method, "one", body)
					if at := l.sightings("one"); len(at) != 1 {
						t.Errorf("%s, with a body: %t: seen %d times, by %v", method, withBody, len(at), at)
					}
					if got.err == nil && got.code < 500 {
						t.Errorf("%s, with a body: %t: the client was told %d", method, withBody, got.code)
					}
				}
			}
		})
	}
}

// refusals are the ways not to begin with a request that the client can know of.
func refusals(l *lab) map[string]func() {
	stranger := func(change func(*tls.Config)) func() {
		return func() {
			other := testcerts.New("other")
			c := &tls.Config{Certificates: []tls.Certificate{other.Issue(testcerts.Subject{Hosts: []string{backendtest.ServerName(serviceName)}}).TLS()}}
			change(c)
			l.raw(c, func(c *tls.Conn) { l.t.Error("a connection to a stranger was used"); _ = c.Close() })
		}
	}
	return map[string]func(){
		"nobody listens": func() {
			l.servers = append(l.servers, &backendtest.Server{Service: serviceName, Address: backendtest.Dead(l.t, serviceName).Address, CA: l.authority.PEM})
		},
		"an unknown authority": stranger(func(*tls.Config) {}),
		"an old TLS version":   stranger(func(c *tls.Config) { c.MaxVersion = tls.VersionTLS11; c.MinVersion = tls.VersionTLS10 }),
		"streams are refused at the header": func() {
			l.http2(moments{header: func(s *stream) { _ = s.WriteRSTStream(s.number, http2.ErrCodeRefusedStream) }})
		},
		"streams are refused after the body": func() {
			l.http2(moments{body: func(s *stream) { _ = s.WriteRSTStream(s.number, http2.ErrCodeRefusedStream) }})
		},
		"the connection goes away without the request": func() {
			l.http2(moments{body: func(s *stream) { _ = s.WriteGoAway(0, http2.ErrCodeNo, nil) }})
		},
	}
}

func TestRequestsThatNobodyBeganWithAreSentElsewhere(t *testing.T) {
	for name := range refusals(nil) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, method := range []string{http.MethodPost, http.MethodDelete, http.MethodGet} {
				for _, size := range []int{0, 16, 64 << 10} {
					l := newLab(t)
					refusals(l)[name]()
					l.works()
					l.start()
					body := bytes.Repeat([]byte("0123456789abcdef"), size/16)
					got := l.send(method, "one", bytes.NewReader(body))
					if got.err != nil || got.code/100 != 2 {
						t.Fatalf("%s with %d bytes: %d %s %v after %s", method, size, got.code, got.body, got.err, got.took)
					}
					if at := l.sightings("one"); len(at) != 1 {
						t.Errorf("%s with %d bytes: handled by %v", method, size, at)
					}
					if l.body["one"] != sha256.Sum256(body) {
						t.Errorf("%s with %d bytes: the body arrived changed", method, size)
					}
				}
			}
		})
	}
}

func TestABodyThatIsNoLongerInMemoryIsNotSentAgain(t *testing.T) {
	big := bytes.Repeat([]byte("x"), 64<<10+1)
	t.Run("read", func(t *testing.T) {
		l := newLab(t)
		refusals(l)["streams are refused after the body"]()
		l.works()
		l.start()
		got := l.send(http.MethodPost, "one", bytes.NewReader(big))
		if got.err != nil || got.code != http.StatusServiceUnavailable || len(l.sightings("one")) != 0 {
			t.Fatalf("%d %s %v; handled by %v", got.code, got.body, got.err, l.sightings("one"))
		}
	})
	t.Run("not read yet", func(t *testing.T) {
		l := newLab(t)
		refusals(l)["nobody listens"]()
		l.works()
		l.start()
		got := l.send(http.MethodPost, "one", bytes.NewReader(big))
		if got.code != http.StatusCreated || l.body["one"] != sha256.Sum256(big) {
			t.Fatalf("%d %s %v", got.code, got.body, got.err)
		}
	})
}

// A server that retires a connection tells which requests it leaves out. With
// one endpoint they go to the same one, over a new connection.
func TestTheOnlyEndpointMayRetireAConnection(t *testing.T) {
	for _, method := range []string{http.MethodPost, http.MethodGet} {
		l := newLab(t)
		l.http2(moments{body: func(s *stream) {
			if s.nth == 1 && s.number > 1 {
				_ = s.WriteGoAway(1, http2.ErrCodeNo, nil)
				return
			}
			l.saw(s.id(), "only")
			s.respond("200", "whole", true)
		}})
		l.start()
		for _, id := range []string{"first", "second"} {
			var body io.Reader
			if method == http.MethodPost {
				body = small()
			}
			got := l.send(method, id, body)
			if got.code != http.StatusOK || got.body != "whole" || len(l.sightings(id)) != 1 {
				t.Errorf("%s %s: %d %s %v; handled %d times", method, id, got.code, got.body, got.err, len(l.sightings(id)))
			}
		}
	}
}

func TestReadsAreSentAgain(t *testing.T) {
	for name := range breaks(nil) {
		if name == "h2 is silent" {
			continue // see the test of hedged requests
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			breaks(l)[name]()
			l.works()
			l.start()
			got := l.send(http.MethodGet, "one", nil)
			at := l.sightings("one")
			if name == "h2 breaks off in the body" {
				// A body of unknown length is streamed: the client sees that it broke off.
				if got.err == nil || len(at) != 1 {
					t.Fatalf("%d %q, seen by %v", got.code, got.body, at)
				}
				return
			}
			if got.err != nil || got.code != http.StatusOK || got.body != "whole" {
				t.Fatalf("%d %q %v", got.code, got.body, got.err)
			}
			if len(at) > 8 || at[len(at)-1] != "works" || at[0] != "breaks" {
				t.Fatalf("seen by %v", at)
			}
			if name != "h2 says protocol error" && len(at) != 2 {
				t.Fatalf("seen %d times, by %v", len(at), at)
			}
		})
	}
}

func TestALargeBodyThatBreaksOffIsNotTakenForWhole(t *testing.T) {
	l := newLab(t)
	l.http1("breaks", func(c net.Conn, _ *http.Request) {
		_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", 1<<20, strings.Repeat("x", 1<<19))
	})
	l.works()
	l.start()
	got := l.send(http.MethodGet, "one", nil)
	if got.err == nil {
		t.Fatalf("the client took %d of %d bytes for the whole", len(got.body), 1<<20)
	}
	if at := l.sightings("one"); len(at) != 1 {
		t.Fatalf("seen by %v when the client has a part", at)
	}
}

func TestASilentEndpointIsHedgedAgainst(t *testing.T) {
	l := newLab(t)
	cancelled := make(chan string, 10)
	l.http2(moments{
		header: func(s *stream) { l.saw(s.id(), "silent") },
		reset:  func(s *stream) { cancelled <- s.id() },
	})
	l.works()
	l.start()
	began := time.Now()
	got := l.send(http.MethodGet, "one", nil)
	if got.code != http.StatusOK || got.body != "whole" {
		t.Fatalf("%d %q %v", got.code, got.body, got.err)
	}
	if got.took > soon/2 { // without a second attempt there is no answer at all
		t.Errorf("answered after %s", got.took)
	}
	if at := l.sightings("one"); len(at) != 2 || at[0] != "silent" || at[1] != "works" {
		t.Errorf("seen by %v", at)
	}
	select {
	case id := <-cancelled:
		if id != "one" {
			t.Errorf("%q was cancelled", id)
		}
	case <-time.After(soon):
		t.Error("the attempt that lost was not cancelled")
	}
	// The silent endpoint is left out now: for a second since it lost, which is at
	// least 800 ms after the request, and twice as long each time it loses again. A
	// request that came later than that, as long before its answer, says nothing.
	for id, left := 2, time.Second; ; id, left = id+1, 2*left {
		again := time.Now()
		got = l.send(http.MethodGet, fmt.Sprint(id), nil)
		at := l.sightings(fmt.Sprint(id))
		if len(at) == 1 && at[0] == "works" {
			break
		}
		if time.Since(began) < 2*800*time.Millisecond+left || id > 5 {
			t.Fatalf("request %d (%d) was seen by %v", id, got.code, at)
		}
		began = again
	}
}

func TestTheFirstAnswerWinsWhicheverItIs(t *testing.T) {
	l := newLab(t)
	other, gone := make(chan struct{}), make(chan struct{})
	l.handler("late", func(w http.ResponseWriter, r *http.Request) {
		select { // answers once the other has the request too
		case <-other:
			_, _ = io.WriteString(w, "la")
			_ = http.NewResponseController(w).Flush()
		case <-r.Context().Done():
			return
		}
		select { // and ends once it has it no more
		case <-gone:
			_, _ = io.WriteString(w, "te")
		case <-r.Context().Done():
		}
	})
	l.handler("never", func(_ http.ResponseWriter, r *http.Request) {
		close(other)
		<-r.Context().Done()
		close(gone)
	})
	l.start()
	got := l.send(http.MethodGet, "one", nil)
	if got.code != http.StatusOK || got.body != "late" {
		t.Fatalf("%d %q %v", got.code, got.body, got.err)
	}
	select {
	case <-gone:
	case <-time.After(soon):
		t.Fatal("the attempt that lost was not cancelled")
	}
	until(t, "no request is counted as under way", func() bool {
		for _, h := range l.pool.Get(l.service).Health() {
			if h.InFlight != 0 {
				return false
			}
		}
		return true
	})
}

func TestReadsWithABodyAreNotSplitBetweenTwoEndpoints(t *testing.T) {
	l := newLab(t)
	l.object["aggregation.annex.dev/header-timeout"] = "3s" // past the time of a hedge
	l.http2(moments{header: func(s *stream) { l.saw(s.id(), "silent") }})
	l.works()
	l.start()
	body := bytes.Repeat([]byte("x"), 1000)
	got := l.send(http.MethodGet, "one", bytes.NewReader(body))
	if got.code != http.StatusOK || l.body["one"] != sha256.Sum256(body) {
		t.Fatalf("%d %q %v: the body arrived changed", got.code, got.body, got.err)
	}
}
