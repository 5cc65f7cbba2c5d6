// Package fetch downloads the discovery and OpenAPI documents of extension
// servers, bounded in size and time, each server on its own, and confines them
// to the group versions that the server's APIServices claim.
package fetch

import (
	"context"
	"slices"
	"sync"
	"time"

	"k8s.io/klog/v2"

	"github.com/annex-api/annex/aggregator/internal/backend"
	"github.com/annex-api/annex/aggregator/internal/catalog"
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
	// DiscoveryTimeout and OpenAPITimeout bound one download.
	DiscoveryTimeout, OpenAPITimeout time.Duration
	// Interval between downloads that succeed; jittered by a tenth, and up to an
	// eighth shorter: see align.
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

// Fetcher runs two loops for each extension server: one for discovery, one for
// OpenAPI, so that a slow document delays no other.
type Fetcher struct {
	timing   Timing
	backends *backend.Pool
	report   func(name string, d catalog.Document)

	mu        sync.Mutex
	servers   map[catalog.BackendID]*server
	byName    map[string]*server
	documents map[string]catalog.Document
	wait      sync.WaitGroup

	// decoding has room for one: an OpenAPI document takes many times its size
	// while it is decoded.
	decoding chan struct{}
	logf     func(format string, args ...any)
}

// New returns a Fetcher; report gets each document that changed, from several
// goroutines, in order for each name.
func New(timing Timing, backends *backend.Pool, report func(name string, d catalog.Document)) *Fetcher {
	return &Fetcher{
		timing: timing, backends: backends, report: report,
		servers: map[catalog.BackendID]*server{}, byName: map[string]*server{}, documents: map[string]catalog.Document{},
		decoding: make(chan struct{}, 1), logf: klog.Warningf,
	}
}

// Sync starts, keeps and stops loops so that they fit the snapshot. They end
// with ctx; Wait waits for them.
func (f *Fetcher) Sync(ctx context.Context, s *catalog.Snapshot) {
	members := map[catalog.BackendID][]*catalog.APIService{}
	names := map[string]bool{}
	for _, a := range s.Remotes() {
		members[a.Backend] = append(members[a.Backend], a)
		names[a.Name] = true
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for name := range f.documents {
		if !names[name] {
			delete(f.documents, name)
		}
	}
	clear(f.byName)
	for id, list := range members {
		srv := f.servers[id]
		if srv != nil {
			srv.setMembers(list)
		} else {
			serverCtx, cancel := context.WithCancel(ctx)
			srv = newServer(cancel, list)
			f.servers[id] = srv
			probeWait := f.timing.ProbeWait
			if !slices.ContainsFunc(list, probedSoon) {
				probeWait = 0
			}
			f.wait.Go(func() { f.runDiscovery(serverCtx, srv, probeWait) })
			f.wait.Go(func() { f.runOpenAPI(serverCtx, srv) })
		}
		for _, a := range list {
			f.byName[a.Name] = srv
			// What is known was dropped with an APIService that came back before its
			// absence was seen here.
			if d, ok := f.documents[a.Name]; ok && !sameDocument(a.Document, d) {
				f.report(a.Name, d)
			}
		}
	}
	for id, srv := range f.servers {
		if members[id] == nil {
			srv.cancel()
			delete(f.servers, id)
		}
	}
}

// probedSoon says whether a first probe is to come or under way.
func probedSoon(a *catalog.APIService) bool {
	return a.Target.Unresolved == "" && a.Verdict.Status == ""
}

// ProbeEnded says that a probe of an APIService has ended: where it opened a
// connection, the first downloads use that one.
func (f *Fetcher) ProbeEnded(name string) {
	f.mu.Lock()
	srv := f.byName[name]
	f.mu.Unlock()
	if srv != nil {
		wake(srv.probeEnded)
	}
}

// RefreshSoon has the next download of OpenAPI come no later than one Interval
// after the last, because the extension server ended a connection: it may come
// back with other documents.
func (f *Fetcher) RefreshSoon(id catalog.BackendID) {
	f.mu.Lock()
	srv := f.servers[id]
	f.mu.Unlock()
	if srv != nil {
		wake(srv.refreshSoon)
	}
}

// AwaitFirstAttempt blocks until discovery was attempted once at each extension server
// of the last Sync, or ctx ends.
func (f *Fetcher) AwaitFirstAttempt(ctx context.Context) {
	f.mu.Lock()
	var waits []chan struct{}
	for _, srv := range f.servers {
		waits = append(waits, srv.attempted)
	}
	f.mu.Unlock()
	for _, c := range waits {
		select {
		case <-c:
		case <-ctx.Done():
			return
		}
	}
}

// Seed sets what is known of an APIService before a first download. Call it
// before the first Sync.
func (f *Fetcher) Seed(name string, d catalog.Document) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.documents[name] = d
}

// Wait returns when all loops have ended.
func (f *Fetcher) Wait() { f.wait.Wait() }

// learn changes what is known of one APIService and reports it. A loop that has
// been stopped has no say any more: another one may have spoken since.
func (f *Fetcher) update(loop context.Context, name string, change func(*catalog.Document)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if loop.Err() != nil {
		return
	}
	d := f.documents[name]
	before := d
	change(&d)
	f.documents[name] = d
	if sameDocument(before, d) {
		return
	}
	f.report(name, d)
}

func sameDocument(a, b catalog.Document) bool {
	return a.Discovery == b.Discovery && a.Stale == b.Stale && a.Problem == b.Problem &&
		a.OpenAPIV2.ETag == b.OpenAPIV2.ETag && a.OpenAPIV3.ETag == b.OpenAPIV3.ETag
}
