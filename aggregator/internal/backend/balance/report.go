package balance

import (
	"time"

	"github.com/annex-api/annex/aggregator/internal/backend/stats"
)

// State of an endpoint, in a word.
type State int

const (
	// Healthy endpoints get their share.
	Healthy State = iota
	// Ejected ones failed, and are left out for a while.
	Ejected
	// Draining ones are about to leave.
	Draining
	// Unreachable ones failed their last probe.
	Unreachable
)

// Request is what a client's request to an endpoint came to.
type Request struct {
	// Took is how long the endpoint took to begin its answer; zero where that tells
	// nothing of the endpoint, as with a watch.
	Took time.Duration
	// Error says why the request failed there; empty if it did not.
	Error string
}

// LastError is the last failure at an endpoint, of a request or of a probe.
type LastError struct {
	Message string
	Time    time.Time
}

// record is what is kept of an endpoint for reports alone.
type record struct {
	known     bool // state and since are set
	state     State
	since     time.Time
	requests  *stats.Requests // nil before the first
	lastError LastError
}

// request takes note of what a request came to.
func (r *record) request(now time.Time, request *Request) {
	if r.requests == nil {
		r.requests = &stats.Requests{}
	}
	r.requests.Record(now, stats.Result{Took: request.Took, Failed: request.Error != ""})
	if request.Error != "" {
		r.lastError = LastError{request.Error, now}
	}
}

func (e *endpoint) stateAt(now time.Time) State {
	switch {
	case e.down:
		return Unreachable
	case now.Before(e.ejected):
		return Ejected
	case e.Terminating:
		return Draining
	}
	return Healthy
}

// settle takes note of the state of an endpoint. It is called before what that depends
// on changes, as an ejection ends by itself, and after it.
func (e *endpoint) settle(now time.Time) (changed bool) {
	state := e.stateAt(now)
	if e.record.known && state == e.record.state {
		return false
	}
	since := now
	if e.record.state == Ejected && !e.ejected.IsZero() && e.ejected.Before(now) {
		since = e.ejected
	}
	e.record.known, e.record.state, e.record.since = true, state, since
	return true
}

// settle tells if the state of an endpoint has changed.
func (s *Set) settle(now time.Time, e *endpoint) {
	if !e.settle(now) {
		return
	}
	again := time.Duration(0)
	if e.record.state == Ejected {
		again = e.ejected.Sub(now)
	}
	s.changed(again)
}

// Health of one endpoint, for reports.
type Health struct {
	Member
	InFlight int
	Failures int
	// Ejected is true while the endpoint is left out after failures; Down when
	// its last probe failed.
	Ejected, Down bool
	// State is that in a word, and Since when it began.
	State State
	Since time.Time
	// Requests counts those of clients since the endpoint joined, and Failed those of
	// them that failed there.
	Requests, Failed uint64
	// Ejections is how often it was left out because requests failed there.
	Ejections uint64
	LastError LastError
}

func (e *endpoint) health(now time.Time) Health {
	e.settle(now)
	h := Health{
		Member: e.Member, InFlight: e.inFlight, Failures: e.failures, Ejected: now.Before(e.ejected), Down: e.down,
		State: e.record.state, Since: e.record.since, Ejections: e.ejections, LastError: e.record.lastError,
	}
	if r := e.record.requests; r != nil {
		h.Requests, h.Failed = r.Count()
	}
	return h
}

// Health lists the members.
func (s *Set) Health(now time.Time) []Health {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Health, len(s.endpoints))
	for i, e := range s.endpoints {
		out[i] = e.health(now)
	}
	return out
}

// Traffic is the health of an endpoint with what clients' requests came to there.
type Traffic struct {
	Health
	// Recent is nil where there were none in the last minute.
	Recent *stats.Recent
}

// Traffic lists the members.
func (s *Set) Traffic(now time.Time) []Traffic {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Traffic, len(s.endpoints))
	for i, e := range s.endpoints {
		out[i].Health = e.health(now)
		if e.record.requests != nil {
			out[i].Recent = e.record.requests.Recent(now)
		}
	}
	return out
}

// Totals is the health of an endpoint with what all of clients' requests came to there.
type Totals struct {
	Health
	// Total is nil where there were none.
	Total *stats.Total
}

// Totals lists the members, for metrics.
func (s *Set) Totals(now time.Time) []Totals {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Totals, len(s.endpoints))
	for i, e := range s.endpoints {
		out[i].Health = e.health(now)
		if e.record.requests != nil {
			total := e.record.requests.Total()
			out[i].Total = &total
		}
	}
	return out
}
