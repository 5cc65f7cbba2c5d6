package proxy_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
)

// kept adds an endpoint of HTTP/1.1 that keeps connections, and answers what it has read.
// Requests whose id is "one" it does not answer: it closes their connection.
func (l *lab) kept() {
	l.raw(&tls.Config{Certificates: []tls.Certificate{l.pair}, NextProtos: []string{"http/1.1"}}, func(c *tls.Conn) {
		requests := bufio.NewReader(c)
		for {
			r, err := http.ReadRequest(requests)
			if err != nil {
				return
			}
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				return
			}
			id := r.URL.Query().Get("id")
			l.saw(id, "keeps")
			if id == "one" {
				return
			}
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwhole")
		}
	})
}

// The transport sends a request again by itself when a connection of HTTP/1.1 that it has
// used before ends, if it takes the request for one that does no harm: by its method, or
// by a header of the client's.
func TestTheEndOfAKeptConnectionIsNoReasonToSendARequestTwice(t *testing.T) {
	type request struct {
		method, path string
		header       http.Header
		body         bool
	}
	var requests []request
	for _, header := range []http.Header{nil, {"Idempotency-Key": {"1"}}, {"X-Idempotency-Key": {"1"}}} {
		for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
			requests = append(requests, request{method, things, header, true}, request{method, things, header, false})
		}
	}
	for _, path := range []string{things + "/x/exec", things + "/x/log", things + "/x/unheard-of", "/apis/a.example/v1/others"} {
		requests = append(requests, request{method: http.MethodGet, path: path}, request{method: http.MethodHead, path: path})
	}
	for _, c := range requests {
		t.Run(fmt.Sprintf("%s %s %v body %t", c.method, c.path, c.header, c.body), func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			l.kept()
			l.kept()
			l.start()
			l.warm()
			var body io.Reader
			if c.body {
				body = small()
			}
			got := l.sendTo(c.path, c.header, c.method, "one", body)
			if at := l.sightings("one"); len(at) != 1 || got.code != http.StatusServiceUnavailable {
				t.Errorf("seen by %v; the client was told %d %v", at, got.code, got.err)
			}
		})
	}
	t.Run("a plain read is sent again", func(t *testing.T) {
		l := newLab(t)
		l.kept()
		l.works()
		l.start()
		l.warm()
		if got := l.send(http.MethodGet, "one", nil); got.body != "whole" || len(l.sightings("one")) != 2 {
			t.Errorf("%d %q %v, seen by %v", got.code, got.body, got.err, l.sightings("one"))
		}
	})
}

// unwritable is a connection that is closed when its next write is to fail.
type unwritable struct {
	net.Conn
	fail *atomic.Bool
}

func (c unwritable) Write(p []byte) (int, error) {
	if c.fail.CompareAndSwap(true, false) {
		_ = c.Conn.Close()
		return 0, net.ErrClosed
	}
	return c.Conn.Write(p)
}

// The transport sends a request again by itself that it could write nothing of. It does
// so over another kept connection, though it is told to end the attempt: it must not be
// written there, and by the proxy too.
func TestARequestThatCouldNotBeWrittenIsSentOnce(t *testing.T) {
	l := newLab(t)
	var fail atomic.Bool
	l.limits.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
		return unwritable{conn, &fail}, err
	}
	arrived, answer := make(chan struct{}), make(chan struct{})
	l.raw(&tls.Config{Certificates: []tls.Certificate{l.pair}, NextProtos: []string{"http/1.1"}}, func(c *tls.Conn) {
		requests := bufio.NewReader(c)
		for {
			r, err := http.ReadRequest(requests)
			if err != nil {
				return
			}
			if id := r.URL.Query().Get("id"); id == "opens" {
				arrived <- struct{}{}
				<-answer
			} else {
				l.saw(id, "keeps")
			}
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwhole")
		}
	})
	l.start()
	for i := range 30 {
		var opening sync.WaitGroup
		for range 3 { // so that there are three kept connections
			opening.Go(func() { l.send(http.MethodGet, "opens", nil) })
		}
		for range 3 {
			<-arrived
		}
		for range 3 {
			answer <- struct{}{}
		}
		opening.Wait()
		id := fmt.Sprint("sent-", i)
		fail.Store(true)
		got := l.send([]string{http.MethodPost, http.MethodDelete}[i%2], id, nil)
		if at := l.sightings(id); got.body != "whole" || len(at) != 1 {
			t.Fatalf("request %d: %d %q %v, seen %d times", i, got.code, got.body, got.err, len(at))
		}
	}
}

// A GET may do something: of what is not known to be a plain read no second attempt is
// made, neither beside a late one nor after one that has been sent.
func TestOnlyPlainReadsAreSentTwice(t *testing.T) {
	for path, plain := range map[string]bool{
		things:                           true,
		things + "/x":                    true,
		things + "/x/status":             true,
		"/apis/a.example/v1":             true,
		things + "/x/exec":               false,
		things + "/x/attach":             false,
		things + "/x/portforward":        false,
		things + "/x/proxy/a/path":       false,
		things + "/x/log":                false,
		things + "/x/scale":              false, // discovery does not list it
		things + "/x/unheard-of":         false,
		"/apis/a.example/v1/others":      false,
		"/apis/a.example/v1/others/x":    false,
		"/apis/a.example/v1/proxy/a/b/c": false,
	} {
		for what, bad := range map[string]func(*lab){
			"late": silently, "reset": broken("h2 resets after the header"), "lost": broken("h2 closes after the header"), "closed": broken("h1 closes after the header"),
		} {
			t.Run(what+path, func(t *testing.T) {
				t.Parallel()
				l := newLab(t)
				l.object["aggregation.annex.dev/header-timeout"] = "2s" // past the time of a hedge
				bad(l)
				l.works()
				l.start()
				got := l.sendTo(path, nil, http.MethodGet, "one", nil)
				at := l.sightings("one")
				if plain && (got.body != "whole" || len(at) != 2) {
					t.Errorf("%d %s %v, seen by %v", got.code, got.body, got.err, at)
				}
				if !plain && (got.code != http.StatusServiceUnavailable || len(at) != 1) {
					t.Errorf("%d %s %v, seen by %v", got.code, got.body, got.err, at)
				}
			})
		}
	}
}
