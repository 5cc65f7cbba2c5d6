package proxy_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/annex-api/annex/aggregator/internal/backend"
	"github.com/annex-api/annex/aggregator/internal/backend/limit"
)

// as says who asks, and with which priority.
func as(user, priority string) http.Header {
	return http.Header{"Test-User": {user}, "Test-Priority": {priority}}
}

// trickle is a body that begins and goes on when the test says so.
type trickle struct {
	io.Reader
	rest *io.PipeWriter
}

func newTrickle(begin string) *trickle {
	reader, writer := io.Pipe()
	return &trickle{io.MultiReader(strings.NewReader(begin), reader), writer}
}

// pending is a request that has no answer yet.
type pending struct {
	done chan reply
}

// begin sends a request in the background. Its client gives up when the test ends.
func (l *lab) begin(client *http.Client, header http.Header, method, id string, body io.Reader, length int64) *pending {
	l.t.Helper()
	r, err := http.NewRequestWithContext(l.t.Context(), method, l.url+things+"?id="+id, body)
	if err != nil {
		l.t.Fatal(err)
	}
	r.Header, r.ContentLength = header, length
	p := &pending{done: make(chan reply, 1)}
	go func() {
		response, err := client.Do(r)
		if err != nil {
			p.done <- reply{err: err}
			return
		}
		defer response.Body.Close()
		data, err := io.ReadAll(response.Body)
		p.done <- reply{code: response.StatusCode, body: string(data), header: response.Header, err: err}
	}()
	return p
}

// Whatever one user does: another one and an exempt one are answered as if there
// were nobody else.
func TestOneUserLocksNobodyOut(t *testing.T) {
	const requests = 400
	limits := backend.DefaultLimits()
	limits.Wait = soon / 2 // who waits for a place is not answered in time
	for name, method := range map[string]string{"bodies without an end": http.MethodPost, "requests without an answer": http.MethodGet} {
		for _, inFlight := range []int{3, 0} {
			for _, protocol := range []string{"HTTP/1.1", "HTTP/2"} {
				t.Run(fmt.Sprintf("%s, %d in flight, %s", name, inFlight, protocol), func(t *testing.T) {
					l := newLab(t)
					l.limits.Limits = limits
					share := limits.Shared().PerUser
					if inFlight > 0 {
						l.object["aggregation.annex.dev/max-in-flight"] = fmt.Sprint(inFlight)
						share = (limit.Config{InFlight: inFlight}).Shared().PerUser
					}
					held := make(chan struct{})
					l.handler("works", func(w http.ResponseWriter, r *http.Request) {
						if strings.HasPrefix(r.URL.Query().Get("id"), "many") {
							<-held
						}
						_, _ = io.WriteString(w, "whole")
					})
					l.start()
					client := l.client
					if protocol == "HTTP/2" {
						client = l.clientOver2
					}
					b := l.pool.Get(l.service)
					for i := range requests {
						if method == http.MethodGet {
							l.begin(client, as("many", ""), method, fmt.Sprint("many-", i), nil, 0)
							continue
						}
						body := newTrickle("{")
						t.Cleanup(func() { _ = body.rest.Close() })
						length := int64(-1)
						if i%2 == 0 {
							length = 10
						}
						l.begin(client, as("many", ""), method, fmt.Sprint("many-", i), body, length)
					}
					until(t, "the user has all that one user may", func() bool {
						if method == http.MethodGet {
							inFlight, _ := b.Load()
							return inFlight == share
						}
						return b.Sending() >= share
					})
					for _, who := range []http.Header{as("single", ""), as("controller", "high"), as("admin", "exempt")} {
						for method, body := range map[string]io.Reader{http.MethodGet: nil, http.MethodPost: small()} {
							got := l.sendWith(who, method, "other", body)
							if got.code != http.StatusOK || got.err != nil {
								t.Errorf("%s by %s: %d %v %s", method, who.Get("Test-User"), got.code, got.err, got.body)
							}
							if got.took > limits.Wait/2 {
								t.Errorf("%s by %s took %v", method, who.Get("Test-User"), got.took)
							}
						}
					}
					close(held)
				})
			}
		}
	}
}

// While a body trickles, its request has none of the places in which the extension
// server works; it gets one before the end of the body is passed on.
func TestTheEndOfALateBodyWaitsForItsTurn(t *testing.T) {
	for name, length := range map[string]int64{"of known length": 10, "chunked": -1} {
		for _, protocol := range []string{"HTTP/1.1", "HTTP/2"} {
			t.Run(name+", "+protocol, func(t *testing.T) {
				l := newLab(t)
				l.object["aggregation.annex.dev/max-in-flight"] = "1"
				held := make(chan struct{})
				l.handler("works", func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Query().Get("id") == "first" {
						<-held
					}
					_, _ = io.WriteString(w, "whole")
				})
				l.start()
				client := l.client
				if protocol == "HTTP/2" {
					client = l.clientOver2
				}
				b := l.pool.Get(l.service)
				body := newTrickle("01234")
				late := l.begin(client, as("slow", ""), http.MethodPost, "late", body, length)
				until(t, "it is sent without its end", func() bool { return len(l.sightings("late")) == 1 && b.Sending() == 1 })
				if inFlight, _ := b.Load(); inFlight != 0 {
					t.Errorf("%d are under way", inFlight)
				}
				first := l.begin(l.client, as("other", ""), http.MethodGet, "first", nil, 0)
				until(t, "another is under way", func() bool { inFlight, _ := b.Load(); return inFlight == 1 })
				_, _ = io.WriteString(body.rest, "56789")
				_ = body.rest.Close()
				until(t, "the end waits", func() bool { _, queued := b.Load(); return queued == 1 })
				select {
				case got := <-late.done:
					t.Errorf("answered before its turn: %+v", got)
				default:
				}
				close(held)
				if got := <-first.done; got.code != http.StatusOK {
					t.Errorf("the other: %+v", got)
				}
				if got := <-late.done; got.code != http.StatusOK || got.err != nil {
					t.Errorf("%+v", got)
				}
				l.mu.Lock()
				defer l.mu.Unlock()
				if l.body["late"] != sha256.Sum256([]byte("0123456789")) {
					t.Error("another body arrived")
				}
			})
		}
	}
}

// A late body that has arrived takes the place of one that does no longer: as many of a
// user may be worked on while as many others are sending.
func TestALateBodyThatHasArrivedIsNotSending(t *testing.T) {
	for name, client := range map[string]func(*lab) *http.Client{
		"HTTP/1.1": func(l *lab) *http.Client { return l.client }, "HTTP/2": func(l *lab) *http.Client { return l.clientOver2 },
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.limits.Limits = limit.Config{InFlight: 2, PerUser: 2, Wait: time.Second}
			held := make(chan struct{})
			l.handler("works", func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Query().Get("id") == "large" {
					<-held
				}
				_, _ = io.WriteString(w, "whole")
			})
			l.start()
			b := l.pool.Get(l.service)
			data := bytes.Repeat([]byte("x"), 100<<10)
			large := l.begin(client(l), as("one", "exempt"), http.MethodPost, "large", bytes.NewReader(data), int64(len(data)))
			until(t, "it is under way, and not sending", func() bool { inFlight, _ := b.Load(); return inFlight == 1 && b.Sending() == 0 })
			body := newTrickle("{")
			late := l.begin(client(l), as("one", "exempt"), http.MethodPost, "late", body, -1)
			until(t, "another is sending", func() bool { return b.Sending() == 1 })
			if got := l.sendWith(as("one", "exempt"), http.MethodPost, "small", small()); got.code != http.StatusOK {
				t.Errorf("a small one: %+v", got)
			}
			_ = body.rest.Close()
			if got := <-late.done; got.code != http.StatusOK {
				t.Errorf("the late one: %+v", got)
			}
			close(held)
			if got := <-large.done; got.code != http.StatusOK {
				t.Errorf("the large one: %+v", got)
			}
			until(t, "nothing is left", func() bool { inFlight, queued := b.Load(); return inFlight+queued+b.Sending() == 0 })
		})
	}
}

// One that is refused in the end is the client's to repeat; the endpoint is not
// blamed, and has not seen the end of the body.
func TestALateBodyMayBeRefused(t *testing.T) {
	l := newLab(t)
	l.listen()
	l.limits.Limits = limit.Config{InFlight: 1, Queue: 1, QueuePerUser: 1, Wait: 50 * time.Millisecond}
	held := make(chan struct{})
	l.handler("works", func(w http.ResponseWriter, _ *http.Request) {
		<-held
		_, _ = io.WriteString(w, "whole")
	})
	l.start()
	b := l.pool.Get(l.service)
	body := newTrickle("{")
	late := l.begin(l.clientOver2, as("slow", ""), http.MethodPost, "late", body, -1)
	until(t, "it is sent without its end", func() bool { return len(l.sightings("late")) == 1 })
	first := l.begin(l.client, as("other", ""), http.MethodGet, "first", nil, 0)
	until(t, "another is under way", func() bool { inFlight, _ := b.Load(); return inFlight == 1 })
	_ = body.rest.Close()
	got := <-late.done
	if got.code != http.StatusTooManyRequests || got.header.Get("Retry-After") == "" {
		t.Errorf("%+v", got)
	}
	for _, h := range b.Health() {
		if h.Ejected || h.Down {
			t.Errorf("the endpoint is blamed: %+v", h)
		}
	}
	if heard := l.heard(); len(heard) != 1 || heard[0] != refusedHere {
		t.Errorf("the attempts ended so: %q", heard)
	}
	if n := len(l.sightings("late")); n != 1 {
		t.Errorf("it was sent %d times", n)
	}
	close(held)
	if got := <-first.done; got.code != http.StatusOK {
		t.Errorf("the other: %+v", got)
	}
	until(t, "nothing is left", func() bool { inFlight, queued := b.Load(); return inFlight+queued+b.Sending() == 0 })
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, whole := l.body["late"]; whole {
		t.Error("the extension server got the end of the body")
	}
}

// An extension server that answers before the end of a body is heard.
func TestAnEarlyAnswerArrives(t *testing.T) {
	l := newLab(t)
	l.http2(moments{header: func(s *stream) {
		l.saw(s.id(), "early")
		s.respond("413", "too much", true)
	}})
	l.start()
	body := newTrickle("{")
	defer body.rest.Close()
	early := l.begin(l.clientOver2, as("slow", ""), http.MethodPost, "early", body, -1)
	if got := <-early.done; got.code != http.StatusRequestEntityTooLarge || got.body != "too much" {
		t.Errorf("%+v", got)
	}
	b := l.pool.Get(l.service)
	until(t, "nothing is left", func() bool { inFlight, queued := b.Load(); return inFlight+queued+b.Sending() == 0 })
}

// Of requests whose refusals are held back few have a body: what is not read of one is in
// memory.
func TestFewRefusalsOfBodiesAreHeldBack(t *testing.T) {
	const flood = 500
	l := newLab(t)
	over := make(chan struct{})
	l.limits.HoldRefusals = over
	l.limits.Limits = limit.Config{InFlight: 1, Wait: time.Second}
	l.works()
	l.start()
	b := l.pool.Get(l.service)
	for _, place := range []backend.Place{backend.UnderWay, backend.Sending} {
		release, refusal := b.Admit(t.Context(), l.service, backend.Sender{User: "other"}, place)
		if refusal != nil {
			t.Fatal(refusal)
		}
		defer release()
	}
	answers := make(chan reply, flood)
	for i := range flood {
		body := newTrickle("{")
		defer body.rest.Close()
		p := l.begin(l.clientOver2, as("many", ""), http.MethodPost, fmt.Sprint("many-", i), body, []int64{-1, 1000}[i%2])
		go func() { answers <- <-p.done }()
	}
	const most = 200 // are held
	held := 0
	for i := range flood {
		held = max(held, l.pool.HeldRefusals())
		if i == flood-most {
			close(over)
		}
		if got := <-answers; got.code != http.StatusTooManyRequests {
			t.Errorf("%+v", got)
		}
	}
	if held == 0 || held > most {
		t.Errorf("%d were held at a time, want %d at most", held, most)
	}
}

// A body that arrives in time is sent once the extension server may be asked, and
// not before: nothing of a request that waits is sent.
func TestNothingIsSentOfARequestThatWaits(t *testing.T) {
	l := newLab(t)
	l.object["aggregation.annex.dev/max-in-flight"] = "1"
	held := make(chan struct{})
	l.handler("works", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("id") == "first" {
			<-held
		}
		_, _ = io.WriteString(w, "whole")
	})
	l.start()
	b := l.pool.Get(l.service)
	first := l.begin(l.client, as("other", ""), http.MethodGet, "first", nil, 0)
	until(t, "one is under way", func() bool { inFlight, _ := b.Load(); return inFlight == 1 })
	data := bytes.Repeat([]byte("x"), 60<<10)
	second := l.begin(l.client, as("one", ""), http.MethodPost, "second", bytes.NewReader(data), int64(len(data)))
	until(t, "the other one waits", func() bool { _, queued := b.Load(); return queued == 1 })
	if n := len(l.sightings("second")); n != 0 || b.Sending() != 0 {
		t.Errorf("it was sent %d times; %d are sending", n, b.Sending())
	}
	close(held)
	<-first.done
	if got := <-second.done; got.code != http.StatusOK {
		t.Errorf("%+v", got)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.body["second"] != sha256.Sum256(data) {
		t.Error("another body arrived")
	}
}

// Who is refused all the time is told later, and nobody else is.
func TestRefusalsOfAFloodAreHeldBack(t *testing.T) {
	const (
		flood = 200
		// So many may be told at once: 20 in each of the seconds in which they come.
		prompt = 80
	)
	l := newLab(t)
	over := make(chan struct{})
	l.limits.HoldRefusals = over
	l.limits.Limits = limit.Config{InFlight: 1, Wait: time.Second}
	held := make(chan struct{})
	l.handler("busy", func(w http.ResponseWriter, _ *http.Request) {
		<-held
		_, _ = io.WriteString(w, "whole")
	})
	l.start()
	b := l.pool.Get(l.service)
	first := l.begin(l.client, as("other", ""), http.MethodGet, "first", nil, 0)
	until(t, "one is under way", func() bool { inFlight, _ := b.Load(); return inFlight == 1 })
	answers := make(chan reply, flood)
	for i := range flood {
		p := l.begin(l.clientOver2, as("many", ""), http.MethodGet, fmt.Sprint("many-", i), nil, 0)
		go func() { answers <- <-p.done }()
	}
	got := <-answers // they arrive
	for _, who := range []http.Header{as("controller", "high"), as("admin", "exempt")} {
		for range 30 { // which would be held back, were it another's
			if got := l.sendWith(who, http.MethodGet, "other", nil); got.code != http.StatusTooManyRequests || got.took > 2*time.Second {
				t.Fatalf("%s: %+v", who.Get("Test-User"), got)
			}
		}
	}
	if got := l.sendWith(as("single", ""), http.MethodGet, "single", nil); got.code != http.StatusTooManyRequests || got.took > 2*time.Second {
		t.Errorf("another user: %+v", got)
	}
	if n := 1 + len(answers); n > prompt {
		t.Errorf("%d of %d were told at once", n, flood)
	}
	close(over) // the server shuts down
	began := time.Now()
	for i := range flood {
		if got.code != http.StatusTooManyRequests || got.header.Get("Retry-After") == "" {
			t.Errorf("%+v", got)
		}
		if i < flood-1 {
			got = <-answers
		}
	}
	if d := time.Since(began); d > 2*time.Second {
		t.Errorf("after the shutdown refusals were held for %v", d)
	}
	close(held)
	if got := <-first.done; got.code != http.StatusOK {
		t.Errorf("the one that was under way: %+v", got)
	}
}
