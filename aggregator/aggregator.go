package aggregator

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/util/validation/field"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/annex-api/annex/aggregator/internal/backend"
	"github.com/annex-api/annex/aggregator/internal/catalog"
	"github.com/annex-api/annex/aggregator/internal/discovery"
	"github.com/annex-api/annex/aggregator/internal/fetch"
	"github.com/annex-api/annex/aggregator/internal/openapi"
	"github.com/annex-api/annex/aggregator/internal/probe"
	"github.com/annex-api/annex/aggregator/internal/proxy"
	"github.com/annex-api/annex/aggregator/internal/status"
)

// Aggregator is one aggregation layer. Facts go in (from the source, the
// probes and the downloads), snapshots come out, and requests are answered
// from the latest snapshot.
type Aggregator struct {
	config    Config
	backends  *backend.Pool
	proxy     *proxy.Proxy
	prober    *probe.Prober
	fetcher   *fetch.Fetcher
	discovery *discovery.Service
	openapi   *openapi.Service
	writer    *status.Writer

	snapshot atomic.Pointer[catalog.Snapshot]
	routes   chan struct{} // closed when the first state is routed
	recalled chan struct{} // closed when the memory was read

	stopReporting    func()        // closes reportingStops
	reportingStops   chan struct{} // closed when the status writer is to end
	reportingStopped chan struct{} // closed when it has ended

	mu    sync.Mutex
	facts catalog.Facts
	known bool // a first state has arrived
	dirty chan struct{}
	newer chan struct{} // for the memory: a snapshot was published
}

// New returns an Aggregator that knows no APIServices until Run.
func New(config Config) (*Aggregator, error) {
	if err := config.validate(); err != nil {
		return nil, err
	}
	config.setDefaults()
	a := &Aggregator{
		config:   config,
		routes:   make(chan struct{}),
		recalled: make(chan struct{}),
		dirty:    make(chan struct{}, 1),
		newer:    make(chan struct{}, 1),
		facts: catalog.Facts{
			Resolver:       config.Resolver != nil,
			Self:           config.Self,
			Addressing:     config.Addressing,
			Zone:           config.Zone,
			ReservedGroups: config.ReservedGroups,
			Verdicts:       map[string]catalog.Verdict{},
		},
		reportingStops:   make(chan struct{}),
		reportingStopped: make(chan struct{}),
	}
	a.backends = config.backends(a.lostConnection)
	a.proxy = config.proxy(a.backends, func(s *catalog.APIService) { a.prober.ProbeNow(s.Name) })
	a.prober = config.prober(a.backends, a.learnVerdict)
	a.fetcher = config.fetcher(a.backends, a.signal)
	a.discovery = config.discovery()
	a.openapi = config.openAPI()
	if config.Status != nil {
		a.writer = status.New(*config.Status)
	}
	a.stopReporting = sync.OnceFunc(func() { close(a.reportingStops) })
	a.snapshot.Store(catalog.Build(a.facts))
	return a, nil
}

// Run does the layer's work until ctx ends, then waits for all of it to stop.
// It is called once.
func (a *Aggregator) Run(ctx context.Context) error {
	if m := a.config.Metrics; m != nil {
		m.endpoints.Watch(a.backends)
		defer m.endpoints.Forget(a.backends)
	}
	var group sync.WaitGroup
	group.Go(func() { a.build(ctx) })
	group.Go(func() { a.report(ctx) })
	if a.config.Memory != nil {
		group.Go(func() { a.remember(ctx) })
		<-a.recalled // before a first snapshot could call its resources unknown
	}
	err := a.config.Source.Run(ctx, a.learnState)
	<-ctx.Done()
	group.Wait()
	a.prober.Wait()
	a.fetcher.Wait()
	a.backends.Close()
	return err
}

// report writes conditions until ctx ends or StopReporting is called.
func (a *Aggregator) report(ctx context.Context) {
	defer close(a.reportingStopped)
	if a.writer == nil {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	var stopping sync.WaitGroup
	stopping.Go(func() {
		select {
		case <-a.reportingStops:
		case <-ctx.Done():
		}
		cancel()
	})
	_ = a.writer.Run(ctx) // ends with its context
	cancel()
	stopping.Wait()
}

// StopReporting ends the writing of conditions and gives up its Lease, so that
// another server takes over at its next look. It blocks until that is done or ctx ends.
// Call it before the API that conditions are written to goes away.
func (a *Aggregator) StopReporting(ctx context.Context) {
	a.stopReporting()
	select {
	case <-a.reportingStopped:
	case <-ctx.Done():
	}
}

// Routes is closed when everything that the source knew at first is routed.
func (a *Aggregator) Routes() <-chan struct{} { return a.routes }

// AwaitDiscovery blocks until discovery was attempted once at every extension
// server that is routed, or ctx ends. Call it after Routes is closed.
func (a *Aggregator) AwaitDiscovery(ctx context.Context) { a.fetcher.AwaitFirstAttempt(ctx) }

// ReloadClientCertificate makes requests use Config.ClientCertificate anew.
func (a *Aggregator) ReloadClientCertificate() { a.backends.ReloadClientCertificate() }

// learnState takes over the source's state. Verdicts are forgotten where the
// registration is gone, local, or leads to another extension server: the next
// probe speaks of that one.
func (a *Aggregator) learnState(s State) {
	a.mu.Lock()
	known := a.facts.Registrations // replaced here, never changed
	a.mu.Unlock()
	registrations := make(map[string]catalog.Registration, len(s.APIServices))
	for _, o := range s.APIServices {
		r, ok := known[o.Name]
		if !ok || r.Object != o {
			r = catalog.NewRegistration(o)
		}
		registrations[o.Name] = r
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for name, old := range known {
		r, ok := registrations[name]
		if ok && r.Object == old.Object {
			continue
		}
		if !ok || r.Local || !r.SameBackend(old) {
			delete(a.facts.Verdicts, name)
		}
	}
	a.facts.Registrations, a.facts.Services = registrations, s.Services
	a.known = true
	a.signal()
}

func (a *Aggregator) learnVerdict(name string, v catalog.Verdict) {
	a.fetcher.ProbeEnded(name)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.facts.Verdicts[name] == v {
		return
	}
	a.facts.Verdicts[name] = v
	a.signal()
}

// lostConnection has the APIServices of an extension server probed, and its
// documents downloaded sooner, because it ended a connection.
func (a *Aggregator) lostConnection(id catalog.BackendID) {
	a.fetcher.RefreshSoon(id)
	for _, s := range a.snapshot.Load().Remotes() {
		if s.Backend == id {
			a.prober.ProbeNow(s.Name)
		}
	}
}

// Claims says whether an extension server answers the path, and the bound that
// its APIService sets for requests; zero where it sets none.
func (a *Aggregator) Claims(path string) (timeout time.Duration, remote bool) {
	route := a.snapshot.Load().Route(path)
	if route.Kind != catalog.Remote {
		return 0, false
	}
	return route.APIService.Settings.RequestTimeout, true
}

// IsRemote says whether an extension server answers the path.
func (a *Aggregator) IsRemote(path string) bool {
	return a.snapshot.Load().Route(path).Kind == catalog.Remote
}

// ValidateSettings checks the annotations of an APIService that hold settings
// of the layer; path is that of the annotations.
func ValidateSettings(annotations map[string]string, path *field.Path) field.ErrorList {
	_, errs := catalog.ParseSettings(annotations, path)
	return errs
}

// SetZone replaces Config.Zone: endpoints are chosen by it from the next
// snapshot on.
func (a *Aggregator) SetZone(zone string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.facts.Zone == zone {
		return
	}
	a.facts.Zone = zone
	if a.known { // a snapshot without the first state would drop what was remembered
		a.signal()
	}
}

func (a *Aggregator) signal() {
	select {
	case a.dirty <- struct{}{}:
	default:
	}
}

const (
	// After a snapshot there is a rest of buildRest times what it cost, between
	// minRest and maxRest: building takes at most a fifth of a processor, however
	// many facts arrive, and the first fact after a quiet time never waits.
	buildRest = 4
	minRest   = 10 * time.Millisecond
	maxRest   = 250 * time.Millisecond
)

// build turns facts into snapshots; a burst of facts costs one.
func (a *Aggregator) build(ctx context.Context) {
	first := true
	rest := time.NewTimer(0)
	defer rest.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-rest.C:
		}
		select {
		case <-ctx.Done():
			return
		case <-a.dirty:
		}
		began := time.Now()
		documents := a.fetcher.Documents()
		a.mu.Lock()
		a.facts.Documents = documents
		snapshot, known := catalog.Build(a.facts), a.known
		a.mu.Unlock()
		a.publish(ctx, snapshot)
		if first && known {
			close(a.routes)
			first = false
		}
		rest.Reset(min(max(buildRest*time.Since(began), minRest), maxRest))
	}
}

func (a *Aggregator) publish(ctx context.Context, s *catalog.Snapshot) {
	a.backends.Sync(s) // before requests see endpoints that it has to know
	a.snapshot.Store(s)
	a.discovery.Sync(s)
	a.openapi.Sync(s)
	a.fetcher.Sync(ctx, s) // before the probes, which it is told of
	a.prober.Sync(ctx, s)
	if a.config.Metrics != nil {
		a.config.Metrics.availability.Sync(s)
	}
	if a.writer != nil {
		a.writer.Sync(s)
	}
	select {
	case a.newer <- struct{}{}:
	default:
	}
}

// Handler routes requests in front of local, the host's own handler, which
// gets every request that neither the layer nor an extension server answers.
// A nil local answers those with 404.
func (a *Aggregator) Handler(local http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		snapshot := a.snapshot.Load()
		route := snapshot.Route(r.URL.Path)
		switch {
		case route.Kind == catalog.Remote:
			a.proxy.Serve(w, r, route.APIService)
		case route.Kind == catalog.GroupList:
			a.discovery.ServeGroupList(w, r, snapshot)
		case route.Kind == catalog.GroupVersions:
			a.discovery.ServeGroup(w, r, route.Group)
		case route.Kind == catalog.OpenAPIV2:
			a.openapi.ServeV2(w, r)
		case route.Kind == catalog.OpenAPIV3:
			a.openapi.ServeV3(w, r)
		case route.Kind == catalog.Index && a.config.LocalPaths != nil:
			a.serveIndex(w, snapshot)
		case local == nil:
			http.NotFound(w, r)
		default:
			local.ServeHTTP(w, r)
		}
	})
}

// serveIndex lists the host's paths and those that APIServices claim.
func (a *Aggregator) serveIndex(w http.ResponseWriter, s *catalog.Snapshot) {
	paths := a.config.LocalPaths()
	paths = append(paths, "/apis", "/openapi/v2", "/openapi/v3")
	for _, group := range s.Groups() {
		paths = append(paths, "/apis/"+group.Name)
		for _, version := range group.Versions {
			paths = append(paths, version.Path())
		}
	}
	slices.Sort(paths)
	w.Header().Set("Content-Type", "application/json")
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	_ = encoder.Encode(metav1.RootPaths{Paths: slices.Compact(paths)}) // the client may be gone
}
