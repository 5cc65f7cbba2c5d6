package proxy_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/annex-api/annex/aggregator/internal/backend/limit"
)

func TestRetriesDoNotMultiplyAnOverload(t *testing.T) {
	closes := func(fails func(n int64) bool) func(*lab) {
		return func(l *lab) {
			var n atomic.Int64
			l.http1("closes", func(c net.Conn, _ *http.Request) {
				if !fails(n.Add(1)) {
					_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nwhole")
				}
			})
		}
	}
	resets := func(code http2.ErrCode) func(*lab) {
		return func(l *lab) {
			l.http2(moments{header: func(s *stream) {
				l.saw(s.id(), code.String())
				_ = s.WriteRSTStream(s.number, code)
			}})
		}
	}
	tests := []struct {
		name string
		add  func(*lab)
	}{
		{"all close", closes(func(int64) bool { return true })},
		{"most close", closes(func(n int64) bool { return n%4 != 0 })}, // and are taken for healthy again and again
		{"all reset", resets(http2.ErrCodeInternal)},
		// What Go's HTTP/2 transport sends again by itself counts like the rest.
		{"all refuse streams", resets(http2.ErrCodeRefusedStream)},
		{"all say protocol error", resets(http2.ErrCodeProtocol)},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			for range 3 {
				test.add(l)
			}
			l.start()
			const workers, each = 10, 40
			start := time.Now()
			var all sync.WaitGroup
			for w := range workers {
				all.Go(func() {
					for i := range each {
						l.send(http.MethodGet, fmt.Sprintf("%d-%d", w, i), nil)
					}
				})
			}
			all.Wait()
			const requests = workers * each
			allowed := requests + requests/5 + 100 + int(10*time.Since(start).Seconds()) + 1
			if n := l.total(); n < requests || n > allowed {
				t.Fatalf("%d requests were sent %d times, allowed are %d", requests, n, allowed)
			}
			for w := range workers {
				for i := range each {
					// Three attempts, each of which may be hedged.
					if n := len(l.sightings(fmt.Sprintf("%d-%d", w, i))); n > 6 {
						t.Fatalf("one request was sent %d times", n)
					}
				}
			}
		})
	}
}

func TestAFullExtensionServerAnswers429(t *testing.T) {
	tests := []struct {
		name   string
		limits limit.Config
		// queued is how many wait when the next request comes.
		queued int
		most   time.Duration
	}{
		{"the queue is full", limit.Config{InFlight: 1, Queue: 1, QueuePerUser: 1, Wait: time.Minute}, 1, 20 * time.Second}, // and not the queue's minute
		{"the wait is over", limit.Config{InFlight: 1, Queue: 5, QueuePerUser: 5, Wait: 50 * time.Millisecond}, 0, 20 * time.Second},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			l := newLab(t)
			l.limits.Limits = test.limits
			held := make(chan struct{})
			l.handler("busy", func(w http.ResponseWriter, _ *http.Request) {
				<-held
				_, _ = io.WriteString(w, "whole")
			})
			l.start()
			b := l.pool.Get(l.service)
			var under sync.WaitGroup
			for i := range 1 + test.queued {
				under.Go(func() {
					if got := l.send(http.MethodGet, fmt.Sprint("held-", i), nil); got.code != http.StatusOK {
						t.Errorf("%d %s %v", got.code, got.body, got.err)
					}
				})
				until(t, "the request is held", func() bool {
					inFlight, queued := b.Load()
					return inFlight+queued == i+1
				})
			}
			got := l.send(http.MethodGet, "refused", nil)
			close(held)
			under.Wait()
			if got.code != http.StatusTooManyRequests || got.header.Get("Retry-After") == "" {
				t.Fatalf("%d, Retry-After %q, %v", got.code, got.header.Get("Retry-After"), got.err)
			}
			var status metav1.Status
			if err := json.Unmarshal([]byte(got.body), &status); err != nil || status.Reason != metav1.StatusReasonTooManyRequests || status.Details.RetryAfterSeconds < 1 {
				t.Errorf("%v: %s", err, got.body)
			}
			if got.took > test.most {
				t.Errorf("refused after %s", got.took)
			}
			if n := len(l.sightings("refused")); n != 0 {
				t.Errorf("the extension server saw the refused request %d times", n)
			}
			until(t, "nothing is counted as under way", func() bool {
				inFlight, queued := b.Load()
				return inFlight == 0 && queued == 0
			})
			if got := l.send(http.MethodGet, "after", nil); got.code != http.StatusOK {
				t.Errorf("afterwards: %d %v", got.code, got.err)
			}
		})
	}
}

func TestTheAnnotationBoundsRequestsInFlight(t *testing.T) {
	l := newLab(t)
	l.object["aggregation.annex.dev/max-in-flight"] = "3"          // one of which is reserved
	l.object["aggregation.annex.dev/max-in-flight-per-user"] = "2" // all others
	var under, highest atomic.Int32
	held := make(chan struct{})
	l.handler("counts", func(w http.ResponseWriter, _ *http.Request) {
		n := under.Add(1)
		for h := highest.Load(); n > h && !highest.CompareAndSwap(h, n); h = highest.Load() {
		}
		<-held
		under.Add(-1)
		_, _ = io.WriteString(w, "whole")
	})
	l.start()
	var all sync.WaitGroup
	for i := range 6 {
		all.Go(func() {
			if got := l.send(http.MethodGet, fmt.Sprint(i), nil); got.code != http.StatusOK {
				t.Errorf("%d %v", got.code, got.err)
			}
		})
	}
	until(t, "two are under way and four wait", func() bool {
		_, queued := l.pool.Get(l.service).Load()
		return queued == 4 && under.Load() == 2
	})
	close(held)
	all.Wait()
	if n := highest.Load(); n != 2 {
		t.Errorf("%d requests at a time", n)
	}
}

func TestHeaderTimeout(t *testing.T) {
	// The timeout begins before there is a connection: each exists before. Without
	// a timeout the client gives up, and has no answer.
	silent := func(l *lab) {
		l.http2(moments{header: func(s *stream) {
			if s.id() == "warm" {
				s.respond("200", "whole", true)
				return
			}
			l.saw(s.id(), "silent")
		}})
	}
	t.Run("a read goes elsewhere", func(t *testing.T) {
		l := newLab(t)
		l.object["aggregation.annex.dev/header-timeout"] = "600ms" // before a hedge
		silent(l)
		l.works()
		l.start()
		l.warm()
		got := l.send(http.MethodGet, "one", nil)
		if got.code != http.StatusOK || len(l.sightings("one")) != 2 || got.took < 600*time.Millisecond {
			t.Fatalf("%d %v after %s, seen by %v", got.code, got.err, got.took, l.sightings("one"))
		}
	})
	t.Run("the only endpoint", func(t *testing.T) {
		const limit = 2 * time.Second
		l := newLab(t)
		l.object["aggregation.annex.dev/header-timeout"] = limit.String()
		silent(l)
		l.start()
		l.warm()
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			got := l.send(method, method, nil)
			if got.code != http.StatusServiceUnavailable || got.took < limit {
				t.Fatalf("%s: %d %s %v after %s", method, got.code, got.body, got.err, got.took)
			}
			if n := len(l.sightings(method)); n != 1 {
				t.Errorf("%s: sent %d times", method, n)
			}
		}
	})
	t.Run("a body may take longer", func(t *testing.T) {
		l := newLab(t)
		l.object["aggregation.annex.dev/header-timeout"] = "2s"
		l.handler("streams", func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, "first ")
			if r.URL.Query().Get("id") == "warm" {
				return
			}
			_ = http.NewResponseController(w).Flush()
			timer := time.NewTimer(3 * time.Second)
			defer timer.Stop()
			select {
			case <-timer.C:
			case <-r.Context().Done():
			}
			_, _ = io.WriteString(w, "second")
		})
		l.start()
		l.warm()
		if got := l.send(http.MethodGet, "one", nil); got.body != "first second" || got.err != nil {
			t.Fatalf("%d %q %v", got.code, got.body, got.err)
		}
	})
}

// watcher reads a watch line by line.
type watcher struct {
	response *http.Response
	lines    *bufio.Reader
}

func (l *lab) watch(id string) *watcher {
	l.t.Helper()
	return l.open(things + "?watch=true&id=" + id)
}

func (l *lab) open(path string) *watcher {
	l.t.Helper()
	client := &http.Client{Transport: l.client.Transport} // without a time-out
	response, err := client.Get(l.url + path)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = response.Body.Close() })
	if response.StatusCode != http.StatusOK {
		l.t.Fatalf("a watch: %s", response.Status)
	}
	return &watcher{response, bufio.NewReader(response.Body)}
}

// next is the next event, or how the watch ended.
func (w *watcher) next() (string, error) { return w.lines.ReadString('\n') }

// events is a handler that sends one event to a watch and then waits; ended
// gets the watch's id when its request is over.
func events(ended chan<- string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "event\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		ended <- r.URL.Query().Get("id")
	}
}

func (w *watcher) expectEvent(t testing.TB) {
	t.Helper()
	if line, err := w.next(); line != "event\n" || err != nil {
		t.Fatalf("%q %v", line, err)
	}
}

func TestAWatchWhoseEndpointLeavesEndsCleanly(t *testing.T) {
	l := newLab(t)
	ended := make(chan string, 4)
	leaves := l.handler("leaves", events(ended))
	stays := l.handler("stays", events(ended))
	l.start()
	moved := l.watch("moved")
	moved.expectEvent(t)
	l.sync(l.snapshot(stays))
	if line, err := moved.next(); line != "" || err != io.EOF {
		t.Fatalf("%q and %v, want a clean end", line, err)
	}
	select {
	case id := <-ended:
		if id != "moved" {
			t.Fatalf("%q ended", id)
		}
	case <-time.After(soon):
		t.Fatal("the endpoint that left still has the watch")
	}
	again := l.watch("again")
	again.expectEvent(t)
	if at := l.sightings("again"); len(at) != 1 || at[0] != "stays" {
		t.Fatalf("the new watch is at %v", at)
	}
	if n := leaves.Count(things + "?watch=true&id=moved"); n != 1 {
		t.Errorf("the first watch was sent %d times", n)
	}
}

// A log goes on to its end at an endpoint that leaves, whatever is the longest that a
// watch may last.
func TestALogWhoseEndpointLeavesGoesOn(t *testing.T) {
	l := newLab(t)
	end := make(chan struct{})
	l.handler("leaves", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "event\n")
		_ = http.NewResponseController(w).Flush()
		select {
		case <-end:
			_, _ = io.WriteString(w, "last\n")
		case <-r.Context().Done():
		}
	})
	watched := make(chan string, 4)
	stays := l.handler("stays", events(watched))
	l.start()
	l.service.Settings.MaxWatch = 100 * time.Millisecond
	l.sync(l.snapshot(l.servers[0]))
	log := l.open(things + "/x/log?follow=true")
	log.expectEvent(t)
	l.sync(l.snapshot(stays))
	// Those of watches are ended after backend's drainAfter, 2 s.
	timer := time.NewTimer(3 * time.Second)
	defer timer.Stop()
	<-timer.C
	close(end)
	if line, err := log.next(); line != "last\n" || err != nil {
		t.Fatalf("%q and %v, want the end of the log", line, err)
	}
}

func TestAWatchIsEndedAtItsLongest(t *testing.T) {
	l := newLab(t)
	ended := make(chan string, 1)
	l.handler("watches", events(ended))
	l.start()
	l.service.Settings.MaxWatch = 2 * time.Second // an annotation may not say less than a minute
	start := time.Now()
	w := l.watch("one")
	w.expectEvent(t)
	if line, err := w.next(); line != "" || err != io.EOF {
		t.Fatalf("%q and %v, want a clean end", line, err)
	}
	if d := time.Since(start); d < 2*time.Second || d > soon/2 {
		t.Errorf("ended after %s", d)
	}
	select {
	case <-ended:
	case <-time.After(soon):
		t.Error("the extension server still has the watch")
	}
}

func TestAWatchWhoseServerDiesEndsCleanly(t *testing.T) {
	l := newLab(t)
	ended := make(chan string, 1)
	dies := l.handler("dies", events(ended))
	l.start()
	w := l.watch("one")
	w.expectEvent(t)
	dies.Cut()
	if line, err := w.next(); line != "" || err != io.EOF {
		t.Fatalf("%q and %v, want a clean end: the client begins a new watch", line, err)
	}
}

func TestAWatchIsSentAgainBeforeItsFirstByte(t *testing.T) {
	l := newLab(t)
	ended := make(chan string, 1)
	l.http2(moments{header: func(s *stream) {
		l.saw(s.id(), "breaks")
		_ = s.WriteRSTStream(s.number, http2.ErrCodeInternal)
	}})
	l.handler("works", events(ended))
	l.start()
	l.watch("one").expectEvent(t)
	if at := l.sightings("one"); len(at) != 2 || at[1] != "works" {
		t.Errorf("seen by %v", at)
	}
}

// The transport takes a header that is all of a request for one that it may send again
// by itself.
func TestOnlyWhatMayBeRepeatedIsAHeaderAlone(t *testing.T) {
	l := newLab(t)
	alone := make(chan bool, 1)
	l.http2(moments{body: func(s *stream) {
		alone <- s.alone
		s.respond("200", "done", true)
	}})
	l.start()
	for method, want := range map[string]bool{
		http.MethodGet: true, http.MethodDelete: false, http.MethodPost: false, http.MethodPut: false, http.MethodPatch: false,
	} {
		if got := l.send(method, method, nil); got.err != nil || got.code != http.StatusOK {
			t.Fatalf("%s: %d %s %v", method, got.code, got.body, got.err)
		}
		if got := <-alone; got != want {
			t.Errorf("%s without a body is a header alone: %v, want %v", method, got, want)
		}
	}
}
