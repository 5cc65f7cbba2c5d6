// Package fetch downloads the discovery and OpenAPI documents of extension
// servers, bounded in size and time, each server on its own, and confines them
// to the group versions that the server's APIServices claim.
package fetch

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

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
	// Interval between downloads that succeed; jittered by a tenth.
	Interval time.Duration
	// RetryMin and RetryMax bound the pause after one that failed; it doubles
	// in between.
	RetryMin, RetryMax time.Duration
}

// DefaultTiming refreshes every minute.
func DefaultTiming() Timing {
	return Timing{
		DiscoveryTimeout: 5 * time.Second,
		OpenAPITimeout:   time.Minute,
		Interval:         time.Minute,
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
	documents map[string]catalog.Document
	wait      sync.WaitGroup

	// parsing is held while an OpenAPI document is decoded, which takes many
	// times its size: one at a time.
	parsing sync.Mutex
}

// New returns a Fetcher; report gets each document that changed, from several
// goroutines, in order for each name.
func New(timing Timing, backends *backend.Pool, report func(name string, d catalog.Document)) *Fetcher {
	return &Fetcher{
		timing: timing, backends: backends, report: report,
		servers: map[catalog.BackendID]*server{}, documents: map[string]catalog.Document{},
	}
}

// server is one extension server with the APIServices that lead to it.
type server struct {
	cancel    context.CancelFunc
	attempted chan struct{} // closed after a first attempt at discovery

	mu      sync.Mutex
	members []*catalog.APIService
	changed bool // since the discovery loop last looked

	kickDiscovery, kickOpenAPI chan struct{}
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
	for id, list := range members {
		if known := f.servers[id]; known != nil {
			known.update(list)
			continue
		}
		serverCtx, cancel := context.WithCancel(ctx)
		n := &server{
			cancel: cancel, attempted: make(chan struct{}), members: list,
			kickDiscovery: make(chan struct{}, 1), kickOpenAPI: make(chan struct{}, 1),
		}
		f.servers[id] = n
		f.wait.Go(func() { f.runDiscovery(serverCtx, n) })
		f.wait.Go(func() { f.runOpenAPI(serverCtx, n) })
	}
	for id, n := range f.servers {
		if members[id] == nil {
			n.cancel()
			delete(f.servers, id)
		}
	}
}

// update takes over the members, and starts a download at once where they are
// others, lead elsewhere, or have just become available or unavailable: that a
// document is stale is known by trying.
func (n *server) update(members []*catalog.APIService) {
	n.mu.Lock()
	others := !slices.EqualFunc(n.members, members, func(a, b *catalog.APIService) bool {
		return a.Name == b.Name && slices.Equal(a.Target.Endpoints, b.Target.Endpoints) && a.Target.Unresolved == b.Target.Unresolved
	})
	turned := false
	for i := range members {
		turned = turned || !others && available(members[i]) != available(n.members[i])
	}
	n.members = members
	n.changed = n.changed || others
	n.mu.Unlock()
	if others || turned {
		kick(n.kickDiscovery)
		kick(n.kickOpenAPI)
	}
}

func available(a *catalog.APIService) bool {
	return a.Verdict.Status == apiregistrationv1.ConditionTrue
}

func kick(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// current returns the members, and whether they are others than last time.
func (n *server) current() ([]*catalog.APIService, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	changed := n.changed
	n.changed = false
	return n.members, changed
}

// Attempted blocks until discovery was attempted once at each extension server
// of the last Sync, or ctx ends.
func (f *Fetcher) Attempted(ctx context.Context) {
	f.mu.Lock()
	var waits []chan struct{}
	for _, n := range f.servers {
		waits = append(waits, n.attempted)
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
func (f *Fetcher) learn(loop context.Context, name string, change func(*catalog.Document)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if loop.Err() != nil {
		return
	}
	d := f.documents[name]
	before := d
	change(&d)
	f.documents[name] = d
	if same(before, d) {
		return
	}
	f.report(name, d)
}

func same(a, b catalog.Document) bool {
	return a.Discovery == b.Discovery && a.Stale == b.Stale && a.Problem == b.Problem &&
		a.OpenAPIV2.ETag == b.OpenAPIV2.ETag && a.OpenAPIV3.ETag == b.OpenAPIV3.ETag
}

// pause waits for the next attempt; false means that the loop is to end.
func (f *Fetcher) pause(ctx context.Context, kicked <-chan struct{}, failures int) bool {
	pause := f.timing.Interval + time.Duration((rand.Float64()-0.5)*0.2*float64(f.timing.Interval))
	if failures > 0 {
		pause = f.timing.RetryMax
		if shift := failures - 1; shift < 30 {
			pause = min(pause, f.timing.RetryMin<<shift)
		}
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-kicked:
		return true
	case <-timer.C:
		return true
	}
}

func (f *Fetcher) runDiscovery(ctx context.Context, n *server) {
	defer n.cancel()
	var state discoveryState
	for failures, first := 0, true; ; {
		members, changed := n.current()
		if changed {
			state = discoveryState{}
		}
		if f.discovery(ctx, members, &state) {
			failures = 0
		} else {
			failures++
		}
		if first {
			close(n.attempted)
			first = false
		}
		if !f.pause(ctx, n.kickDiscovery, failures) {
			return
		}
	}
}

func (f *Fetcher) runOpenAPI(ctx context.Context, n *server) {
	state := openAPIState{}
	for failures := 0; ; {
		n.mu.Lock()
		members := n.members
		n.mu.Unlock()
		if key := memberKey(members); key != state.members {
			state = openAPIState{members: key}
		}
		if f.openAPI(ctx, members, &state) {
			failures = 0
		} else {
			failures++
		}
		if !f.pause(ctx, n.kickOpenAPI, failures) {
			return
		}
	}
}

func memberKey(members []*catalog.APIService) string {
	names := make([]string, len(members))
	for i, a := range members {
		names[i] = a.Name
	}
	return strings.Join(names, " ")
}
