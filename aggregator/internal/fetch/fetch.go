// Package fetch downloads the discovery and OpenAPI documents of extension
// servers, bounded in size and time, each server on its own, and confines them
// to the group versions that the server's APIServices claim.
package fetch

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"k8s.io/klog/v2"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/annex-api/annex/aggregator/internal/backend"
	"github.com/annex-api/annex/aggregator/internal/backend/coalesce"
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
	// eighth shorter: see coalesce.
	Interval time.Duration
	// OpenAPIMax is what Interval grows to for OpenAPI, doubling with each
	// download that finds nothing new. Below Interval it has no effect.
	OpenAPIMax time.Duration
	// Contact bounds how long the first download waits for a probe to have
	// opened a connection. Zero does not wait.
	Contact time.Duration
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
		Contact:          5 * time.Second,
		RetryMin:         500 * time.Millisecond,
		RetryMax:         time.Minute,
	}
}

// openAPIAfter bounds how long the first OpenAPI waits for discovery, which is
// wanted sooner.
const openAPIAfter = 10 * time.Second

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

// server is one extension server with the APIServices that lead to it.
type server struct {
	cancel    context.CancelFunc
	attempted chan struct{} // closed after a first attempt at discovery
	contacted chan struct{} // a probe has ended; one slot

	mu      sync.Mutex
	members []*catalog.APIService
	// changes counts how often the members were others or led elsewhere, joined how
	// often one came or went.
	changes, joined int

	// The first two start a download now. Doubt has the next one of OpenAPI come
	// no later than one Interval after the last.
	kickDiscovery, kickOpenAPI, doubt chan struct{}
}

func newServer(cancel context.CancelFunc, members []*catalog.APIService) *server {
	return &server{
		cancel: cancel, members: members, attempted: make(chan struct{}), contacted: make(chan struct{}, 1),
		kickDiscovery: make(chan struct{}, 1), kickOpenAPI: make(chan struct{}, 1), doubt: make(chan struct{}, 1),
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
		n := f.servers[id]
		if n != nil {
			n.update(list)
		} else {
			serverCtx, cancel := context.WithCancel(ctx)
			n = newServer(cancel, list)
			f.servers[id] = n
			contact := f.timing.Contact
			if !slices.ContainsFunc(list, probedSoon) {
				contact = 0
			}
			f.wait.Go(func() { f.runDiscovery(serverCtx, n, contact) })
			f.wait.Go(func() { f.runOpenAPI(serverCtx, n) })
		}
		for _, a := range list {
			f.byName[a.Name] = n
			// What is known was dropped with an APIService that came back before its
			// absence was seen here.
			if d, ok := f.documents[a.Name]; ok && !same(a.Document, d) {
				f.report(a.Name, d)
			}
		}
	}
	for id, n := range f.servers {
		if members[id] == nil {
			n.cancel()
			delete(f.servers, id)
		}
	}
}

// probedSoon says whether a first probe is to come or under way.
func probedSoon(a *catalog.APIService) bool {
	return a.Target.Unresolved == "" && a.Verdict.Status == ""
}

// Contacted says that a probe of an APIService has ended: where it opened a
// connection, the first downloads use that one.
func (f *Fetcher) Contacted(name string) {
	f.mu.Lock()
	n := f.byName[name]
	f.mu.Unlock()
	if n != nil {
		kick(n.contacted)
	}
}

// Doubt says that an extension server ended a connection: it may come back with
// other documents.
func (f *Fetcher) Doubt(id catalog.BackendID) {
	f.mu.Lock()
	n := f.servers[id]
	f.mu.Unlock()
	if n != nil {
		kick(n.doubt)
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
	joined := !slices.EqualFunc(n.members, members, func(a, b *catalog.APIService) bool { return a.Name == b.Name })
	turned, edited := false, false
	for i := range members {
		if others {
			break
		}
		// A first verdict is no turn: the first download is under way as well.
		known := n.members[i].Verdict.Status != ""
		turned = turned || known && available(members[i]) != available(n.members[i])
		edited = edited || revision(members[i]) != revision(n.members[i])
	}
	n.members = members
	if others {
		n.changes++
	}
	if joined {
		n.joined++
	}
	n.mu.Unlock()
	if others || turned {
		kick(n.kickDiscovery)
		kick(n.kickOpenAPI)
	}
	if edited {
		kick(n.doubt)
	}
}

func revision(a *catalog.APIService) string {
	if a.Object == nil {
		return ""
	}
	return a.Object.ResourceVersion
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

// current returns the members, and how often they have changed.
func (n *server) current() (members []*catalog.APIService, changes, joined int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.members, n.changes, n.joined
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

// pause is the time until the next attempt, after so many that failed, or that
// found nothing new where the interval grows to limit.
func (f *Fetcher) pause(failures, quiet int, limit time.Duration) time.Duration {
	if failures > 0 {
		pause := f.timing.RetryMax
		if shift := failures - 1; shift < 30 {
			pause = min(pause, f.timing.RetryMin<<shift)
		}
		return pause
	}
	pause := f.timing.Interval
	for ; quiet > 0 && pause < limit; quiet-- {
		pause = min(2*pause, limit)
	}
	return coalesce.Shorten(pause + time.Duration((rand.Float64()-0.5)*0.2*float64(pause)))
}

// wait waits for a pause to end, or for a kick. After a doubt it is over no later
// than soonest. It says whether anything but time ended or shortened it; alive is
// false when the loop is to end.
func wait(ctx context.Context, pause time.Duration, kicked, doubt <-chan struct{}, soonest time.Time) (woken, alive bool) {
	end := time.Now().Add(pause)
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return false, false
		case <-kicked:
			return true, true
		case <-doubt:
			woken = true
			if soonest.Before(end) {
				end = soonest
				timer.Reset(coalesce.Shorten(time.Until(end)))
			}
		case <-timer.C:
			return woken, true
		}
	}
}

// hold waits for c for a time; false means that the loop is to end.
func hold(ctx context.Context, c <-chan struct{}, limit time.Duration) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-c:
		return true
	case <-timer.C:
		return true
	}
}

func (f *Fetcher) runDiscovery(ctx context.Context, n *server, contact time.Duration) {
	defer n.cancel()
	if contact > 0 && !hold(ctx, n.contacted, contact) {
		return
	}
	var state discoveryState
	for failures, seen, first := 0, 0, true; ; {
		members, changes, _ := n.current()
		if changes != seen {
			state, seen = discoveryState{}, changes
		}
		before := f.marks(members, discoveryMark)
		if f.discovery(ctx, members, &state) {
			failures = 0
		} else {
			failures++
		}
		if first {
			close(n.attempted)
			first = false
		} else if !slices.Equal(before, f.marks(members, discoveryMark)) {
			kick(n.kickOpenAPI) // what serves other resources has other schemas
		}
		if _, alive := wait(ctx, f.pause(failures, 0, 0), n.kickDiscovery, nil, time.Time{}); !alive {
			return
		}
	}
}

func (f *Fetcher) runOpenAPI(ctx context.Context, n *server) {
	if !hold(ctx, n.attempted, openAPIAfter) {
		return
	}
	state := openAPIState{}
	woken := true
	for failures, quiet, seen := 0, 0, 0; ; {
		members, _, joined := n.current()
		if joined != seen {
			state, seen = openAPIState{}, joined
		}
		began := time.Now()
		before := f.marks(members, openAPIMark)
		ok := f.openAPI(ctx, members, &state, woken)
		switch {
		case !ok:
			failures, quiet = failures+1, 0
		case woken || !slices.Equal(before, f.marks(members, openAPIMark)):
			failures, quiet = 0, 0
		default:
			failures, quiet = 0, min(quiet+1, 16)
		}
		alive := true
		woken, alive = wait(ctx, f.pause(failures, quiet, f.timing.OpenAPIMax), n.kickOpenAPI, n.doubt, began.Add(f.timing.Interval))
		if !alive {
			return
		}
	}
}

// takeTurn waits until no other OpenAPI document is being decoded, or ctx ends.
// Each turn ends: what a document costs is bounded.
func (f *Fetcher) takeTurn(ctx context.Context) error {
	select {
	case f.decoding <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (f *Fetcher) endTurn() { <-f.decoding }

// marks tells documents of members apart.
func (f *Fetcher) marks(members []*catalog.APIService, of func(catalog.Document) any) []any {
	f.mu.Lock()
	defer f.mu.Unlock()
	marks := make([]any, len(members))
	for i, a := range members {
		marks[i] = of(f.documents[a.Name])
	}
	return marks
}

// discoveryMark is kept by a download that finds the same resources.
func discoveryMark(d catalog.Document) any { return d.Discovery }

func openAPIMark(d catalog.Document) any { return [2]string{d.OpenAPIV2.ETag, d.OpenAPIV3.ETag} }
