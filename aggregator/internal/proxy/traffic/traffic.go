// Package traffic counts the requests for extension servers and how they were answered, by
// APIService. To count costs a few additions and no allocation; metrics are made of the counts
// when they are collected.
package traffic

import (
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/annex-api/annex/aggregator/internal/backend/histogram"
	"github.com/annex-api/annex/aggregator/internal/catalog"
)

// Verb is a class of requests. Neither a client nor an extension server can add one.
type Verb uint8

// The classes of requests.
const (
	Get Verb = iota
	List
	Watch
	Write   // create, update, patch, delete, deletecollection
	Connect // upgrades, and what lasts as long as its client wants and is no watch
	Other   // discovery, and whatever else is no request for a resource

	verbs = iota
)

var verbNames = [verbs]string{"get", "list", "watch", "write", "connect", "other"}

// VerbOf is the class of a request for a resource, by the verb of its RequestInfo.
func VerbOf(verb string) Verb {
	switch verb {
	case "get":
		return Get
	case "list":
		return List
	case "watch":
		return Watch
	case "create", "update", "patch", "delete", "deletecollection":
		return Write
	case "connect", "proxy":
		return Connect
	}
	return Other
}

// NoAnswer is counted as the code of a request that got none: its client left.
const NoAnswer = 0

// knownCodes are counted each by itself; of others the class is.
var knownCodes = [...]int{
	NoAnswer,
	http.StatusSwitchingProtocols, http.StatusOK, http.StatusCreated, http.StatusAccepted, http.StatusNoContent, http.StatusNotModified,
	http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotAcceptable,
	http.StatusConflict, http.StatusGone, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity,
	http.StatusTooManyRequests, http.StatusRequestHeaderFieldsTooLarge,
	http.StatusInternalServerError, http.StatusNotImplemented, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout,
}

// classes are those of other codes: 1xx to 5xx, and what is no code at all.
const (
	classes = 6
	codes   = len(knownCodes) + classes
)

// codeIndexes finds the place of a code, from 0 to 599.
var codeIndexes = func() (at [600]uint8) {
	for code := range at {
		class := code / 100
		if class == 0 {
			class = classes
		}
		at[code] = uint8(len(knownCodes) + class - 1)
	}
	for i, code := range knownCodes {
		at[code] = uint8(i)
	}
	return at
}()

func indexOf(code int) int {
	if code < 0 || code >= len(codeIndexes) {
		return codes - 1
	}
	return int(codeIndexes[code])
}

func codeName(index int) string {
	switch {
	case index < len(knownCodes):
		return strconv.Itoa(knownCodes[index])
	case index == codes-1:
		return "other"
	}
	return strconv.Itoa(index-len(knownCodes)+1) + "xx"
}

var (
	durations = histogram.Durations(5*time.Millisecond, 10*time.Millisecond, 25*time.Millisecond, 50*time.Millisecond, 100*time.Millisecond,
		250*time.Millisecond, 500*time.Millisecond, time.Second, 2500*time.Millisecond, 5*time.Second, 10*time.Second, 30*time.Second)
	sizes = histogram.Sizes(1<<10, 8<<10, 64<<10, 512<<10, 4<<20, 32<<20)
)

// Counts are those of one APIService. Nil counts nothing.
type Counts struct {
	verbs           [verbs]atomic.Pointer[verbCounts] // those that were used
	retries, hedges atomic.Uint64
	sizes           *histogram.Histogram
}

type verbCounts struct {
	codes    [codes]atomic.Uint64
	duration *histogram.Histogram
}

func newCounts() *Counts { return &Counts{sizes: sizes.New()} }

func (c *Counts) of(v Verb) *verbCounts {
	if counts := c.verbs[v].Load(); counts != nil {
		return counts
	}
	c.verbs[v].CompareAndSwap(nil, &verbCounts{duration: durations.New()})
	return c.verbs[v].Load()
}

// Refused counts a request that the extension server has not answered, by the code that
// its client got, or NoAnswer.
func (c *Counts) Refused(v Verb, code int) {
	if c != nil {
		c.of(v).codes[indexOf(code)].Add(1)
	}
}

// Answered counts a request by the extension server's answer, whose header was there after
// a while. How long watches and sessions take to begin is not counted: an event may be
// what they wait for.
func (c *Counts) Answered(v Verb, code int, after time.Duration) {
	if c == nil {
		return
	}
	counts := c.of(v)
	counts.codes[indexOf(code)].Add(1)
	if v != Watch && v != Connect {
		counts.duration.Count(int64(after))
	}
}

// Sent counts the bytes of an answer's body that were sent to its client.
func (c *Counts) Sent(bytes int64) {
	if c != nil {
		c.sizes.Count(bytes)
	}
}

// Retried counts an attempt after one that failed.
func (c *Counts) Retried() {
	if c != nil {
		c.retries.Add(1)
	}
}

// Hedged counts an attempt beside one that is slow.
func (c *Counts) Hedged() {
	if c != nil {
		c.hedges.Add(1)
	}
}

// Traffic has the Counts of all APIServices that lead to extension servers. The zero
// Traffic has none.
type Traffic struct {
	byName atomic.Pointer[map[string]*Counts] // replaced, never changed
}

// Of returns the Counts of an APIService; nil where the latest snapshot has none of that name.
func (t *Traffic) Of(name string) *Counts {
	if m := t.byName.Load(); m != nil {
		return (*m)[name]
	}
	return nil
}

// Sync begins counting for the APIServices that are new in a snapshot, and forgets the
// counts of those that are gone. Call it from one goroutine.
func (t *Traffic) Sync(s *catalog.Snapshot) {
	old := t.byName.Load()
	now := make(map[string]*Counts, len(s.Remotes()))
	same := old != nil && len(*old) == len(s.Remotes())
	for _, a := range s.Remotes() {
		c := t.Of(a.Name)
		if c == nil {
			c, same = newCounts(), false
		}
		now[a.Name] = c
	}
	if !same {
		t.byName.Store(&now)
	}
}
