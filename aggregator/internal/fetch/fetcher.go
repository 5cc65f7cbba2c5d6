// Package fetch downloads the discovery and OpenAPI documents of extension
// servers, bounded in size and time, each server on its own, and confines them
// to the group versions that the server's APIServices claim.
package fetch

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"k8s.io/klog/v2"

	"github.com/annex-api/annex/aggregator/internal/backend"
	"github.com/annex-api/annex/aggregator/internal/catalog"
	"github.com/annex-api/annex/aggregator/internal/pace"
)

// Bounds of one document, in bytes after decompression.
const (
	maxDiscovery   = 4 << 20
	maxOpenAPIV2   = 8 << 20
	maxOpenAPIRoot = 1 << 20
	maxOpenAPIV3   = 8 << 20
)

// Timing of the downloads from one extension server.
type Timing struct {
	// DiscoveryTimeout and OpenAPITimeout bound one download. An APIService may set
	// a DiscoveryTimeout of its own.
	DiscoveryTimeout, OpenAPITimeout time.Duration
	// Interval between downloads that succeed; see pace.Regular.
	Interval time.Duration
	// OpenAPIMax is what Interval grows to for OpenAPI, doubling with each
	// download that finds nothing new. Below Interval it has no effect.
	OpenAPIMax time.Duration
	// ProbeWait bounds how long the first download waits for a probe to have
	// opened a connection. Zero does not wait.
	ProbeWait time.Duration
	// RetryMin and RetryMax bound the pause after one that failed; it doubles
	// in between.
	RetryMin, RetryMax time.Duration
}

// DefaultTiming refreshes every minute, and OpenAPI that does not change every
// five.
func DefaultTiming() Timing {
	return Timing{
		DiscoveryTimeout: 5 * time.Second,
		OpenAPITimeout:   time.Minute,
		Interval:         time.Minute,
		OpenAPIMax:       5 * time.Minute,
		ProbeWait:        5 * time.Second,
		RetryMin:         500 * time.Millisecond,
		RetryMax:         time.Minute,
	}
}

// Fetcher keeps the documents of extension servers. It runs two loops for each
// server: one for discovery, one for OpenAPI, so that a slow document delays no
// other.
type Fetcher struct {
	timing   Timing
	backends *backend.Pool
	changed  func()
	noted    func()
	loops    sync.WaitGroup

	mu        sync.Mutex // no other lock is taken while it is held
	servers   map[catalog.BackendID]*server
	byName    map[string]*server // nil before the first Sync
	documents map[string]catalog.Document
	downloads map[string]Downloads

	// decoding is done one OpenAPI document at a time: each takes many times its size
	// meanwhile. Each turn ends: what a document costs is bounded.
	decoding pace.Turns
	logf     func(format string, args ...any)
}

// New returns a Fetcher. From several goroutines it calls changed after Documents have
// changed, and noted after a problem of Downloads has.
func New(timing Timing, backends *backend.Pool, changed, noted func()) *Fetcher {
	return &Fetcher{
		timing: timing, backends: backends, changed: changed, noted: noted,
		servers: map[catalog.BackendID]*server{}, documents: map[string]catalog.Document{}, downloads: map[string]Downloads{},
		decoding: pace.NewTurns(), logf: klog.Warningf,
	}
}

// Documents returns what is known now, by APIService name, of those that were
// seeded or part of the last Sync.
func (f *Fetcher) Documents() map[string]catalog.Document {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.documents)
}

// Seed sets what is known of an APIService before a first download. Call it
// before the first Sync.
func (f *Fetcher) Seed(name string, d catalog.Document) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.measure(name, f.documents[name], d)
	f.documents[name] = d
}

// Sync starts, keeps and stops loops so that they fit the snapshot, and forgets
// the documents of APIServices that it does not have. Loops end with ctx; Wait
// waits for them.
func (f *Fetcher) Sync(ctx context.Context, s *catalog.Snapshot) {
	members := map[catalog.BackendID][]*catalog.APIService{}
	names := map[string]bool{}
	for _, a := range s.Remotes() {
		members[a.Backend] = append(members[a.Backend], a)
		names[a.Name] = true
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	maps.DeleteFunc(f.documents, func(name string, _ catalog.Document) bool { return !names[name] })
	maps.DeleteFunc(f.downloads, func(name string, _ Downloads) bool { return !names[name] })
	f.byName = make(map[string]*server, len(names))
	for id, list := range members {
		srv := f.servers[id]
		if srv != nil {
			srv.setMembers(list)
		} else {
			srv = f.start(ctx, list)
			f.servers[id] = srv
		}
		for _, a := range list {
			f.byName[a.Name] = srv
		}
	}
	for id, srv := range f.servers {
		if members[id] == nil {
			srv.cancel()
			delete(f.servers, id)
		}
	}
}

// start begins the loops of an extension server.
func (f *Fetcher) start(ctx context.Context, members []*catalog.APIService) *server {
	ctx, cancel := context.WithCancel(ctx)
	srv := newServer(cancel, members)
	probeWait := f.timing.ProbeWait
	if !slices.ContainsFunc(members, probedSoon) {
		probeWait = 0
	}
	f.loops.Go(func() { f.runDiscovery(ctx, srv, probeWait) })
	f.loops.Go(func() { f.runOpenAPI(ctx, srv) })
	return srv
}

// probedSoon says whether a first probe is due or under way.
func probedSoon(a *catalog.APIService) bool {
	return a.Target.Unresolved == "" && a.Verdict.Status == ""
}

// Wait returns when all loops have ended.
func (f *Fetcher) Wait() { f.loops.Wait() }

// ProbeEnded says that a probe of an APIService has ended: where it opened a
// connection, the first downloads use that one.
func (f *Fetcher) ProbeEnded(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if srv := f.byName[name]; srv != nil {
		wake(srv.probeEnded)
	}
}

// RefreshSoon has the next download of OpenAPI come no later than one Interval
// after the last, because the extension server ended a connection: it may come
// back with other documents.
func (f *Fetcher) RefreshSoon(id catalog.BackendID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if srv := f.servers[id]; srv != nil {
		wake(srv.refreshSoon)
	}
}

// AwaitFirstAttempt blocks until discovery was attempted once at each extension
// server of the last Sync, or ctx ends.
func (f *Fetcher) AwaitFirstAttempt(ctx context.Context) {
	f.mu.Lock()
	var attempts []chan struct{}
	for _, srv := range f.servers {
		attempts = append(attempts, srv.attempted)
	}
	f.mu.Unlock()
	for _, c := range attempts {
		select {
		case <-c:
		case <-ctx.Done():
			return
		}
	}
}

// update changes what is known of one APIService. A loop that has been stopped, or
// whose server the APIService no longer leads to, changes nothing any more: another one
// may have done so since.
func (f *Fetcher) update(loop context.Context, a *catalog.APIService, change func(*catalog.Document)) {
	name := a.Name
	f.mu.Lock()
	stopped := loop.Err() != nil || f.leadsElsewhere(a)
	before := f.documents[name]
	after := before
	if !stopped {
		change(&after)
		f.documents[name] = after
		f.measure(name, before, after)
	}
	f.mu.Unlock()
	if !stopped && after.Warning != "" && after.Warning != before.Warning {
		f.logf("Discovery of APIService %s is taken though it is not as it should be: %s", name, after.Warning)
	}
	if !stopped && !(sameDiscovery(before, after) && sameOpenAPI(before, after)) {
		f.changed()
	}
}

// leadsElsewhere says whether an APIService, as a loop knows it, is gone or leads to
// another server by now. Before the first Sync none does.
func (f *Fetcher) leadsElsewhere(a *catalog.APIService) bool {
	srv := f.byName[a.Name]
	return f.byName != nil && (srv == nil || srv != f.servers[a.Backend])
}

// known lists the documents of the members, in their order.
func (f *Fetcher) known(members []*catalog.APIService) []catalog.Document {
	f.mu.Lock()
	defer f.mu.Unlock()
	documents := make([]catalog.Document, len(members))
	for i, a := range members {
		documents[i] = f.documents[a.Name]
	}
	return documents
}

// members are the APIServices that lead to a server, and how often they have
// changed.
func (f *Fetcher) members(srv *server) (members []*catalog.APIService, changes, nameChanges int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return srv.members, srv.changes, srv.nameChanges
}

func sameDiscovery(a, b catalog.Document) bool {
	return sameResources(a, b) && a.Stale == b.Stale && a.Problem == b.Problem && a.Warning == b.Warning
}

// sameResources goes by the pointer: a download that finds the same resources
// keeps it.
func sameResources(a, b catalog.Document) bool { return a.Discovery == b.Discovery }

func sameOpenAPI(a, b catalog.Document) bool {
	return a.OpenAPIV2.ETag == b.OpenAPIV2.ETag && a.OpenAPIV3.ETag == b.OpenAPIV3.ETag
}
