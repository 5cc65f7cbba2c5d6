// Package balance chooses, for each request, the endpoint of an extension
// server: by load, by zone and by what is known of its health.
//
// A Set is driven by values (members, results, probes and the time) and does
// no I/O. Its methods may be called from several goroutines.
package balance

import (
	"errors"
	"sync"
	"time"
)

// Limits of the choice.
const (
	// slowStart is how long a new endpoint gets less than its share.
	slowStart = 10 * time.Second
	// slowStartFloor is the share that a new endpoint begins with.
	slowStartFloor = 0.1
	// ejectMin and ejectMax bound how long an endpoint is left out after it
	// failed; the time doubles with each failure in a row.
	ejectMin = time.Second
	ejectMax = 30 * time.Second
)

// ErrNone means that there is no endpoint at all.
var ErrNone = errors.New("no endpoints")

// Member is an endpoint that a Set may choose.
type Member struct {
	// Address is host:port.
	Address string
	// OtherZone endpoints are meant for clients in other zones than this server's.
	OtherZone bool
	// Terminating endpoints still serve, and are chosen when no other can be.
	Terminating bool
	// Fallback is chosen when no real endpoint is healthy.
	Fallback bool
}

// endpoint is a member with its load and health.
type endpoint struct {
	Member
	joined   time.Time
	inFlight int
	failures int       // in a row
	ejected  time.Time // left out until then
	down     bool      // the last probe failed
	streams  map[*Stream]struct{}
	// ejections is how often it was left out.
	ejections uint64
	record    record
}

// Set is the endpoints of one extension server.
type Set struct {
	random  func(n int) int
	changed func(again time.Duration)

	mu        sync.Mutex
	endpoints []*endpoint
	byAddress map[string]*endpoint
	settled   bool // the first members need no slow start
	ejections uint64
}

// New returns an empty Set. Random returns a number in [0, n). Changed is called when
// the state of a member has changed, and says after which time it changes again by
// itself; zero for not at all. It must neither block nor call the Set.
func New(random func(n int) int, changed func(again time.Duration)) *Set {
	return &Set{random: random, changed: changed, byAddress: map[string]*endpoint{}}
}

// Update replaces the members. Those that stay keep their load and health. It
// returns the long-running requests of those that leave: they are to end, and
// begin anew elsewhere.
func (s *Set) Update(now time.Time, members []Member) (leaving []*Stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	byAddress := make(map[string]*endpoint, len(members))
	list := make([]*endpoint, 0, len(members))
	for _, m := range members {
		if byAddress[m.Address] != nil {
			continue
		}
		e := s.byAddress[m.Address]
		if e == nil {
			e = &endpoint{joined: now}
			if !s.settled {
				e.joined = now.Add(-slowStart)
			}
		}
		e.settle(now)
		e.Member = m
		e.settle(now)
		byAddress[m.Address] = e
		list = append(list, e)
	}
	for address, e := range s.byAddress {
		if byAddress[address] == nil {
			for stream := range e.streams {
				leaving = append(leaving, stream)
			}
		}
	}
	s.endpoints, s.byAddress = list, byAddress
	s.settled = s.settled || len(list) > 0
	return leaving
}

// Fixed is a choice made elsewhere: nothing is known or noted of it.
func Fixed(address string) Choice { return Choice{Address: address} }

// Stream is a long-running request.
type Stream struct {
	// End ends the request so that its client begins a new one.
	End func()
}

// Hold registers a long-running request with its endpoint; the caller calls
// forget when it has ended.
func (c Choice) Hold(stream *Stream) (forget func()) {
	if c.set == nil {
		return func() {}
	}
	c.set.mu.Lock()
	if c.set.byAddress[c.e.Address] != c.e { // it has left since the choice
		c.set.mu.Unlock()
		stream.End()
		return func() {}
	}
	defer c.set.mu.Unlock()
	if c.e.streams == nil {
		c.e.streams = map[*Stream]struct{}{}
	}
	c.e.streams[stream] = struct{}{}
	return func() {
		c.set.mu.Lock()
		defer c.set.mu.Unlock()
		delete(c.e.streams, stream)
	}
}

// Choice is one request's endpoint. Done must be called once.
type Choice struct {
	Address string
	set     *Set
	e       *endpoint
}

// Pick chooses an endpoint that is not in avoid. Where all are in avoid, or
// none is healthy, it chooses among what there is: a request is better tried
// than failed unseen.
func (s *Set) Pick(now time.Time, avoid []string) (Choice, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.endpoints) == 0 {
		return Choice{}, ErrNone
	}
	var candidates []*endpoint
	for rank := best; rank <= worst && len(candidates) == 0; rank++ {
		for _, e := range s.endpoints {
			if e.rank(now, avoid) == rank {
				candidates = append(candidates, e)
			}
		}
	}
	e := s.lessLoaded(now, candidates)
	e.inFlight++
	return Choice{Address: e.Address, set: s, e: e}, nil
}

// Ranks of endpoints, the best first; only endpoints of one rank compete.
const (
	best        = iota // healthy, in this zone
	otherZone          // healthy, in another zone
	terminating        // healthy, about to leave
	fallback           // the Service's own address
	ejected            // failed a short while ago
	down               // the last probe failed
	avoided            // this request has tried it
	worst       = avoided
)

func (e *endpoint) rank(now time.Time, avoid []string) int {
	for _, a := range avoid {
		if a == e.Address {
			return avoided
		}
	}
	switch {
	case e.down:
		return down
	case now.Before(e.ejected):
		return ejected
	case e.Fallback:
		return fallback
	case e.Terminating:
		return terminating
	case e.OtherZone:
		return otherZone
	}
	return best
}

// lessLoaded compares two random candidates. The better of two random choices
// is nearly as good as the best of all, and does not make all servers of a
// cluster fall on the same endpoint at once.
func (s *Set) lessLoaded(now time.Time, candidates []*endpoint) *endpoint {
	n := len(candidates)
	if n == 1 {
		return candidates[0]
	}
	i := s.random(n)
	j := s.random(n - 1)
	if j >= i {
		j++
	}
	a, b := candidates[i], candidates[j]
	if b.load(now) < a.load(now) {
		return b
	}
	return a
}

// load is what one more request would mean, weighed by the slow start.
func (e *endpoint) load(now time.Time) float64 {
	share := 1.0
	if age := now.Sub(e.joined); age < slowStart {
		share = max(slowStartFloor, float64(age)/float64(slowStart))
	}
	return float64(e.inFlight+1) / share
}

// Outcome of a request, as far as it speaks of the endpoint.
type Outcome int

const (
	// Neutral says nothing: the client left, for example.
	Neutral Outcome = iota
	// Answered means that the endpoint sent a response, whatever its status.
	Answered
	// Failed means that the connection could not be made, broke, or stayed
	// silent.
	Failed
)

// Done returns the endpoint's load and takes note of the outcome. It reports
// whether the endpoint was ejected by it.
func (c Choice) Done(now time.Time, o Outcome) bool { return c.note(now, o, nil, true) }

// Note takes note of an outcome without a request of its own, such as that of
// an attempt that is still under way but too slow.
func (c Choice) Note(now time.Time, o Outcome) bool { return c.note(now, o, nil, false) }

// DoneRequest is Done for a client's request that brought no answer.
func (c Choice) DoneRequest(now time.Time, o Outcome, r Request) bool {
	return c.note(now, o, &r, true)
}

// NoteRequest is Note for a client's request that has an answer.
func (c Choice) NoteRequest(now time.Time, o Outcome, r Request) bool {
	return c.note(now, o, &r, false)
}

func (c Choice) note(now time.Time, o Outcome, r *Request, done bool) (ejected bool) {
	s := c.set
	if s == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if done {
		c.e.inFlight--
	}
	if r != nil {
		c.e.record.request(now, r)
	}
	return s.note(now, c.e, o)
}

func (s *Set) note(now time.Time, e *endpoint, o Outcome) bool {
	switch o {
	case Answered:
		if e.failures > 0 || e.down { // else there is nothing to change: nobody is ejected without a failure
			e.settle(now)
			e.failures, e.ejected, e.down = 0, time.Time{}, false
			s.settle(now, e)
		}
	case Failed:
		if now.Before(e.ejected) {
			return false // the requests that fail together are one failure
		}
		e.failures++
		if s.lastHealthy(now, e) {
			// Passive evidence alone does not leave the extension server without
			// any endpoint; the probe that follows decides.
			return false
		}
		e.settle(now)
		e.ejected = now.Add(backoff(e.failures))
		s.ejections++
		e.ejections++
		s.settle(now, e)
		return true
	}
	return false
}

func backoff(failures int) time.Duration {
	if failures > 10 {
		return ejectMax
	}
	return min(ejectMax, ejectMin<<(failures-1))
}

func (s *Set) lastHealthy(now time.Time, e *endpoint) bool {
	for _, other := range s.endpoints {
		if other != e && !other.Fallback && other.rank(now, nil) < ejected {
			return false
		}
	}
	return true
}

// Probed takes note of an active probe. One that passes takes the endpoint
// back at once. Failure says what failed, if anything did; an answer that is none of
// an extension server at work shows all the same that the endpoint lives.
func (s *Set) Probed(now time.Time, address string, passed bool, failure string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.byAddress[address]
	if e == nil {
		return
	}
	if failure != "" {
		e.record.lastError = LastError{failure, now}
	}
	e.settle(now)
	e.down = !passed
	if passed {
		e.failures, e.ejected = 0, time.Time{}
	}
	s.settle(now, e)
}

// Alternatives says whether there is an endpoint other than this choice that a
// request may be sent to instead.
func (c Choice) Alternatives(now time.Time) bool {
	if c.set == nil {
		return false
	}
	c.set.mu.Lock()
	defer c.set.mu.Unlock()
	for _, e := range c.set.endpoints {
		if e != c.e && e.rank(now, nil) < ejected {
			return true
		}
	}
	return false
}

// Ejections is how often an endpoint was left out after it failed.
func (s *Set) Ejections() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ejections
}
