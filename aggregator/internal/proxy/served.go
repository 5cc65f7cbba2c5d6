package proxy

import (
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/annex-api/annex/aggregator/internal/backend/balance"
	"github.com/annex-api/annex/aggregator/internal/catalog"
	"github.com/annex-api/annex/aggregator/internal/respond"
)

// servedOver is the time over which those are ended that are no longer served: their
// clients do not all come back in the same moment, and none is left for long.
const servedOver = time.Second

// place is what a watch or a session depends on: that its APIService leads where it
// did when it began. The certificate authority may change, as it does for other
// requests under way.
type place struct {
	apiService string
	service    catalog.ServiceRef
	endpoints  string
	// watchList is true for watches that ask for initial events and their end.
	watchList bool
}

func placeOf(a *catalog.APIService) place {
	return place{apiService: a.Name, service: a.Service, endpoints: a.Backend.Endpoints}
}

// served knows the places that there are now, and ends the watches and sessions at
// those that are gone: what an extension server says does not outlive its claim.
type served struct {
	mu      sync.Mutex
	places  map[place]bool // nil until the first update
	streams map[place]map[*balance.Stream]struct{}
}

// update takes over the places of a snapshot.
func (s *served) update(snapshot *catalog.Snapshot) {
	places := make(map[place]bool, 2*len(snapshot.Remotes()))
	for _, a := range snapshot.Remotes() {
		p := placeOf(a)
		places[p] = true
		if !a.RefusesWatchList() {
			p.watchList = true
			places[p] = true
		}
	}
	s.mu.Lock()
	s.places = places
	var gone []*balance.Stream
	for p, streams := range s.streams {
		if places[p] {
			continue
		}
		for stream := range streams {
			gone = append(gone, stream)
		}
		delete(s.streams, p)
	}
	s.mu.Unlock()
	for i, stream := range gone {
		time.AfterFunc(servedOver*time.Duration(i)/time.Duration(len(gone)), stream.End)
	}
}

// hold ends the stream when its place is gone; the caller calls forget when it has
// ended.
func (s *served) hold(p place, stream *balance.Stream) (forget func()) {
	s.mu.Lock()
	if s.places != nil && !s.places[p] { // it has gone since the request was routed
		s.mu.Unlock()
		stream.End()
		return func() {}
	}
	defer s.mu.Unlock()
	if s.streams == nil {
		s.streams = map[place]map[*balance.Stream]struct{}{}
	}
	if s.streams[p] == nil {
		s.streams[p] = map[*balance.Stream]struct{}{}
	}
	s.streams[p][stream] = struct{}{}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.streams[p], stream)
		if len(s.streams[p]) == 0 {
			delete(s.streams, p)
		}
	}
}

// has says whether there is such a place now.
func (s *served) has(p place) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.places[p]
}

// errMoved ends what has no answer yet when its place is gone.
var errMoved = errors.New("the APIService leads elsewhere now")

// Sync takes over where APIServices lead. Call it before requests are routed by the
// snapshot.
func (p *Proxy) Sync(s *catalog.Snapshot) {
	p.served.update(s)
	p.traffic.Sync(s)
}

// place is that of a watch.
func (x *exchange) place(r *http.Request) place {
	p := placeOf(x.apiService)
	p.watchList = asksForWatchList(r)
	return p
}

// refuseEnded answers a watch that was ended before the extension server had answered.
//
//go:noinline
func (p *Proxy) refuseEnded(w http.ResponseWriter, r *http.Request, x *exchange) {
	if p.served.has(placeOf(x.apiService)) && refuseWatchList(w, r) {
		x.counts.Refused(x.kind.verb, http.StatusUnprocessableEntity)
		return
	}
	p.fail(w, r, respond.Fail{Reason: respond.Moved, APIService: x.apiService.Name})
}
