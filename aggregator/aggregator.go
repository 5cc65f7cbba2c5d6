package aggregator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/annex-api/annex/aggregator/internal/announce"
	"github.com/annex-api/annex/aggregator/internal/backend"
	"github.com/annex-api/annex/aggregator/internal/catalog"
	"github.com/annex-api/annex/aggregator/internal/discovery"
	"github.com/annex-api/annex/aggregator/internal/fetch"
	"github.com/annex-api/annex/aggregator/internal/openapi"
	"github.com/annex-api/annex/aggregator/internal/probe"
	"github.com/annex-api/annex/aggregator/internal/proxy"
	"github.com/annex-api/annex/aggregator/internal/status"
	"github.com/annex-api/annex/aggregator/internal/watchlist"
)

// Aggregator is one aggregation layer. Facts go in (from the source, the
// probes and the downloads), snapshots come out, and requests are answered
// from the latest snapshot.
//
// Its methods may be called at any time, from any goroutine, unless they say
// otherwise.
type Aggregator struct {
	config     Config
	facts      *facts
	lost       *lostConnections
	backends   *backend.Pool
	fetcher    *fetch.Fetcher
	prober     *probe.Prober
	watchLists *watchlist.Finder
	proxy      *proxy.Proxy
	discovery  *discovery.Service
	openapi    *openapi.Service
	writer     *status.Writer // nil without Config.Status
	observer   *observer
	announcer  *announce.Announcer

	snapshot atomic.Pointer[catalog.Snapshot]
	routes   chan struct{}                                       // closed when the first state is routed
	recalled chan map[string]*apidiscoveryv2.APIVersionDiscovery // what the memory held of the first state; one slot
	newer    chan struct{}                                       // for the memory: a snapshot was published

	stopReporting    func()        // closes reportingStops
	reportingStops   chan struct{} // closed when the status writer is to end
	reportingStopped chan struct{} // closed when it has ended
}

// New returns an Aggregator that knows no APIServices until Run. It fails where
// the Config lacks what it needs.
func New(config Config) (*Aggregator, error) {
	if err := config.validate(); err != nil {
		return nil, err
	}
	config.setDefaults()
	// In this order each part is given only parts that exist already.
	facts, lost, observer := newFacts(config), newLostConnections(), newObserver()
	backends := config.backends(lost.add, observer.stir)
	fetcher := config.fetcher(backends, facts.signal, observer.stir)
	prober := config.prober(backends, func(probed *catalog.APIService, v catalog.Verdict) {
		fetcher.ProbeEnded(probed.Name)
		facts.setVerdict(probed.Registration, v)
	})
	reportingStops := make(chan struct{})
	a := &Aggregator{
		config:     config,
		facts:      facts,
		lost:       lost,
		backends:   backends,
		fetcher:    fetcher,
		prober:     prober,
		watchLists: config.watchLists(backends, facts.setWatchList),
		proxy:      config.proxy(backends, func(s *catalog.APIService) { prober.ProbeNow(s.Name) }),
		discovery:  config.discovery(),
		openapi:    config.openAPI(),
		writer:     config.writer(observer.stir),
		observer:   observer,
		routes:     make(chan struct{}),
		recalled:   make(chan map[string]*apidiscoveryv2.APIVersionDiscovery, 1),
		newer:      make(chan struct{}, 1),

		stopReporting:    sync.OnceFunc(func() { close(reportingStops) }),
		reportingStops:   reportingStops,
		reportingStopped: make(chan struct{}),
	}
	empty, _ := facts.snapshot(nil)
	a.snapshot.Store(empty)
	a.announcer = announce.New(a.announcements())
	return a, nil
}

// Run does the layer's work until ctx ends, or the Source or the writing of
// conditions fails, then waits until all of it has stopped. It returns the error of
// ctx, or that of what failed; a Source that ends before ctx has failed. Run is
// called once.
func (a *Aggregator) Run(ctx context.Context) error {
	if m := a.config.Metrics; m != nil {
		defer m.watch(a)()
	}
	working, cancel := context.WithCancel(ctx)
	defer cancel()
	var group sync.WaitGroup
	group.Go(func() { a.build(working) })
	group.Go(func() { a.checkLost(working) })
	group.Go(func() { a.watchStandings(working) })
	group.Go(func() { a.showCertificates(working) })
	group.Go(func() { a.announcer.Run(working) })
	reporting := make(chan error, 1)
	group.Go(func() {
		err := a.report(working)
		if err != nil {
			cancel()
		}
		reporting <- err
	})
	if a.config.Memory != nil {
		group.Go(func() { a.remember(working) })
	}
	first := true
	err := a.config.Source.Run(working, func(s State) {
		if first && a.config.Memory != nil { // before a first snapshot could call its resources unknown
			a.recalled <- a.recall(working, s)
		}
		first = false
		a.facts.setState(s)
	})
	cancel()
	group.Wait()
	a.prober.Wait()
	a.fetcher.Wait()
	a.watchLists.Wait()
	a.openapi.Close()
	a.discovery.Close()
	a.backends.Close()
	reportingFailed := <-reporting
	switch {
	case reportingFailed != nil:
		return fmt.Errorf("aggregator: writing conditions: %w", reportingFailed)
	case ctx.Err() != nil && (err == nil || errors.Is(err, ctx.Err())):
		return ctx.Err()
	case err == nil:
		return errors.New("aggregator: the Source ended before its context")
	default:
		return fmt.Errorf("aggregator: running the Source: %w", err)
	}
}

// report writes conditions until ctx ends or StopReporting is called. It returns an
// error where it ends before.
func (a *Aggregator) report(ctx context.Context) error {
	defer close(a.reportingStopped)
	if a.writer == nil {
		return nil
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
	err := a.writer.Run(ctx)
	asked := ctx.Err() != nil
	cancel()
	stopping.Wait()
	if asked {
		return nil
	}
	return err
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

// Routes is closed when everything that the source knew at first is routed. It
// stays open if Run ends before that.
func (a *Aggregator) Routes() <-chan struct{} { return a.routes }

// AwaitDiscovery blocks until discovery was attempted once at every extension
// server that is routed, or ctx ends. Call it after Routes is closed.
func (a *Aggregator) AwaitDiscovery(ctx context.Context) { a.fetcher.AwaitFirstAttempt(ctx) }

// ReloadClientCertificate makes new connections to extension servers present what
// Config.ClientCertificate returns now. Requests under way finish on the old ones.
func (a *Aggregator) ReloadClientCertificate() { a.backends.ReloadClientCertificate() }

// SetZone replaces Config.Zone, for hosts that learn their zone while they run.
func (a *Aggregator) SetZone(zone string) { a.facts.setZone(zone) }

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
