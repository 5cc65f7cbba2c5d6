package proxy_test

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/annex-api/annex/aggregator/internal/backend"
	"github.com/annex-api/annex/aggregator/internal/backend/limit"
)

const shortHeaderTimeout = 500 * time.Millisecond

// pass waits until a header timeout would be over, and more.
func pass() {
	timer := time.NewTimer(3 * shortHeaderTimeout)
	defer timer.Stop()
	<-timer.C
}

// A client that takes its time over its body, and a request that waits for its turn, are
// not an endpoint's fault, however little the header of an answer may take.
func TestTheHeaderTimeoutLeavesOutTheBody(t *testing.T) {
	readsAndAnswers := func(l *lab) {
		l.handler("h2", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "whole") })
	}
	overHTTP1 := func(l *lab) {
		l.http1("h1", func(c net.Conn, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			_, _ = io.WriteString(c, "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
		})
	}
	upgrade := http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}}
	for name, c := range map[string]struct {
		endpoint func(*lab)
		header   http.Header
		code     int
		queued   bool
	}{
		"a slow body, h2":                 {readsAndAnswers, nil, http.StatusOK, false},
		"a slow body, h1":                 {overHTTP1, nil, http.StatusForbidden, false},
		"a slow body of an upgrade":       {overHTTP1, upgrade, http.StatusForbidden, false},
		"a body that waits for its turn":  {readsAndAnswers, nil, http.StatusOK, true},
		"one over h1 that waits likewise": {overHTTP1, nil, http.StatusForbidden, true},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.object["aggregation.annex.dev/header-timeout"] = shortHeaderTimeout.String()
			l.limits.Limits = limit.Config{InFlight: 1, Queue: 1, QueuePerUser: 1, Wait: soon}
			c.endpoint(l)
			l.start()
			body := newTrickle(strings.Repeat("x", 70<<10))
			header := as("slow", "")
			for name, values := range c.header {
				header[name] = values
			}
			one := l.begin(l.client, header, http.MethodPost, "one", body, -1)
			until(t, "it is sent without its end", func() bool { return len(l.sightings("one")) == 1 })
			if c.queued {
				b := l.pool.Get(l.service)
				release, refusal := b.Admit(t.Context(), l.service, backend.Sender{User: "other"}, backend.UnderWay)
				if refusal != nil {
					t.Fatal(refusal)
				}
				_ = body.rest.Close()
				until(t, "the end waits", func() bool { _, queued := b.Load(); return queued == 1 })
				pass()
				release()
			} else {
				pass()
				_ = body.rest.Close()
			}
			if got := <-one.done; got.code != c.code || got.err != nil {
				t.Errorf("%+v", got)
			}
			if failed := l.failures(l.servers[0].Address); failed != 0 {
				t.Errorf("%d failures are held against the endpoint", failed)
			}
		})
	}
}

// An endpoint that takes no more of a body says nothing either: that is its own fault.
func TestTheHeaderTimeoutEndsWhatAnEndpointDoesNotRead(t *testing.T) {
	for name, add := range map[string]func(*lab){
		"h2": silently,
		"h1": func(l *lab) { l.http1("silent", func(net.Conn, *http.Request) { <-l.t.Context().Done() }) },
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.object["aggregation.annex.dev/header-timeout"] = shortHeaderTimeout.String()
			add(l)
			l.start()
			start := time.Now()
			got := <-l.begin(l.clientOver2, as("one", ""), http.MethodPost, "one", strings.NewReader(strings.Repeat("x", 32<<20)), 32<<20).done
			if took := time.Since(start); got.code != http.StatusServiceUnavailable || took < shortHeaderTimeout {
				t.Errorf("%d %v after %v", got.code, got.err, took)
			}
			if failed := l.failures(l.servers[0].Address); failed != 1 {
				t.Errorf("%d failures are held against the endpoint", failed)
			}
		})
	}
}
