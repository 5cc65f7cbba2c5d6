package aggregator

import (
	"sync"

	"github.com/annex-api/annex/aggregator/internal/catalog"
)

// facts holds what the layer knows; the fetcher keeps the documents. changed has a
// value when there is something that no snapshot includes yet.
type facts struct {
	changed chan struct{} // one slot

	mu    sync.Mutex // no other lock is taken while it is held
	all   catalog.Facts
	known bool // a first state has arrived
}

func newFacts(c Config) *facts {
	return &facts{
		changed: make(chan struct{}, 1),
		all: catalog.Facts{
			Resolver:       c.Resolver != nil,
			Self:           c.Self,
			Addressing:     c.Addressing.internal(),
			Zone:           c.Zone,
			ReservedGroups: c.ReservedGroups,
			Verdicts:       map[string]catalog.Verdict{},
			WatchLists:     map[string]catalog.WatchListSupport{},
		},
	}
}

func (f *facts) signal() {
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

// snapshot builds a snapshot from all facts; known says whether a first state is
// among them.
func (f *facts) snapshot(documents map[string]catalog.Document) (s *catalog.Snapshot, known bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all.Documents = documents
	return catalog.Build(f.all), f.known
}

// setState takes over the source's state. What probes and watches have shown is
// forgotten where the registration is gone, local, or leads to another extension
// server, which has not been asked yet.
func (f *facts) setState(s State) {
	f.mu.Lock()
	known := f.all.Registrations // replaced here, never changed
	f.mu.Unlock()
	registrations := make(map[string]catalog.Registration, len(s.APIServices))
	for _, o := range s.APIServices {
		r, ok := known[o.Name]
		if !ok || r.Object != o {
			r = catalog.NewRegistration(o)
		}
		registrations[o.Name] = r
	}
	services := s.services()
	f.mu.Lock()
	defer f.mu.Unlock()
	for name, old := range known {
		r, ok := registrations[name]
		if !ok || r.Local || !r.SameBackend(old) {
			delete(f.all.Verdicts, name)
			delete(f.all.WatchLists, name)
		}
	}
	f.all.Registrations, f.all.Services = registrations, services
	f.known = true
	f.signal()
}

// setVerdict takes over what a probe has found of an APIService, unless that leads
// elsewhere by now, or is gone.
func (f *facts) setVerdict(probed catalog.Registration, v catalog.Verdict) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now, ok := f.all.Registrations[probed.Name]
	if !ok || !now.SameBackend(probed) || f.all.Verdicts[probed.Name] == v {
		return
	}
	f.all.Verdicts[probed.Name] = v
	f.signal()
}

// setWatchList takes over what a watch has shown, while the APIService leads where it
// was tried.
func (f *facts) setWatchList(a *catalog.APIService, support catalog.WatchListSupport) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r, ok := f.all.Registrations[a.Name]
	if !ok || !r.SameBackend(a.Registration) || f.all.WatchLists[a.Name] == support {
		return
	}
	f.all.WatchLists[a.Name] = support
	f.signal()
}

func (f *facts) setZone(zone string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.all.Zone == zone {
		return
	}
	f.all.Zone = zone
	if f.known { // a snapshot without the first state would drop what was remembered
		f.signal()
	}
}
