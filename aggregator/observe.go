package aggregator

import (
	"context"
	"crypto/sha256"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/annex-api/annex/aggregator/internal/backend"
	"github.com/annex-api/annex/aggregator/internal/catalog"
	"github.com/annex-api/annex/aggregator/internal/fetch"
	"github.com/annex-api/annex/aggregator/internal/observe"
	"github.com/annex-api/annex/aggregator/internal/pace"
	"github.com/annex-api/annex/apis/aggregation/v1alpha1"
)

const (
	// lookInterval is how often the layer looks how APIServices stand though nothing has
	// happened: certificates expire by themselves.
	lookInterval = 30 * time.Second
	// lookPause is the least time between two looks.
	lookPause = 100 * time.Millisecond
)

// observer is what is remembered from one look at all APIServices to the next.
type observer struct {
	stirred chan struct{} // one slot: something may have changed
	changed chan struct{} // one slot: for Changed

	mu        sync.Mutex // no other lock is taken while it is held
	began     uint64     // how many looks have begun
	noted     uint64     // which of them was noted last
	standings map[string]observe.Standing
	bundles   map[[sha256.Size]byte][]v1alpha1.Certificate // what CA bundles hold
}

func newObserver() *observer {
	return &observer{
		stirred: make(chan struct{}, 1), changed: make(chan struct{}, 1),
		standings: map[string]observe.Standing{}, bundles: map[[sha256.Size]byte][]v1alpha1.Certificate{},
	}
}

// stir says that something may have changed.
func (o *observer) stir() {
	select {
	case o.stirred <- struct{}{}:
	default:
	}
}

// judged is a subject with what is to be said of it.
type judged struct {
	observe.Subject
	assessment observe.Assessment
	standing   observe.Standing
}

// begin gives a look its number. It is called before the look sees anything.
func (o *observer) begin() (look uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.began++
	return o.began
}

// stand gives each subject its standing, and says whether any has changed. What is not
// among them is forgotten. A look that began before one that was noted already sees what was
// so before that: it is overtaken, and nothing is noted.
func (o *observer) stand(look uint64, now time.Time, all []judged) (changed, overtaken bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if look < o.noted {
		return false, true
	}
	o.noted = look
	standings := make(map[string]observe.Standing, len(all))
	for i := range all {
		j := &all[i]
		before := o.standings[j.Name]
		j.standing = before.Next(now, &j.Subject, j.assessment)
		standings[j.Name] = j.standing
		changed = changed || j.standing != before
	}
	changed = changed || len(standings) != len(o.standings)
	o.standings = standings
	return changed, false
}

// readBundles gives each subject what its CA bundle holds, which is read once.
func (o *observer) readBundles(all []judged) {
	o.mu.Lock()
	known := o.bundles
	o.mu.Unlock()
	bundles := make(map[[sha256.Size]byte][]v1alpha1.Certificate, len(known))
	for i := range all {
		j := &all[i]
		if len(j.CABundle) == 0 || j.Invalid != "" {
			continue
		}
		id := j.Backend.CA
		read, ok := bundles[id]
		if !ok {
			if read, ok = known[id]; !ok {
				read = observe.ReadBundle(j.CABundle)
			}
			bundles[id] = read
		}
		j.Certificates.CABundle = read
	}
	o.mu.Lock()
	o.bundles = bundles // replaced, never changed
	o.mu.Unlock()
}

// Observe says how each remote APIService fares as this server sees it, by name: what
// aggregation.annex.dev/v1alpha1 serves. Status.Affected is left to who knows the
// namespaces. Numbers and ages are those of the moment.
func (a *Aggregator) Observe() []v1alpha1.RemoteAPIService {
	all, now := a.glance()
	server := a.config.server()
	objects := make([]v1alpha1.RemoteAPIService, len(all))
	for i := range all {
		j := &all[i]
		objects[i] = observe.RemoteAPIService(now, server, &j.Subject, j.assessment, j.standing)
	}
	return objects
}

// Changed has a value after Observe may have something new to say: of an APIService, a
// verdict, a document, a certificate or the state of an endpoint. Changes that follow each
// other closely are told once. The numbers of requests, and ages, change without it. It is
// meant for one reader.
func (a *Aggregator) Changed() <-chan struct{} { return a.observer.changed }

// watchStandings keeps since when APIServices stand as they do, whether anybody observes
// them or not, and tells of changes, until ctx ends.
func (a *Aggregator) watchStandings(ctx context.Context) {
	timer := time.NewTicker(lookInterval)
	defer timer.Stop()
	for {
		stirred := false
		select {
		case <-ctx.Done():
			return
		case <-a.observer.stirred:
			stirred = true
		case <-timer.C:
		}
		if _, _, changed := a.look(); changed || stirred {
			a.announcer.Wake()
			select {
			case a.observer.changed <- struct{}{}:
			default:
			}
		}
		if !pace.Wait(ctx, lookPause, nil) {
			return
		}
	}
}

// showCertificates has endpoints show their certificates again when the ones that they showed
// are about to expire, until ctx ends.
func (a *Aggregator) showCertificates(ctx context.Context) {
	for pace.Wait(ctx, lookInterval, nil) {
		now := time.Now()
		due := func(s backend.Shown) bool { return observe.ShowAgain(now, s.Certificate, s.At) }
		asked := map[catalog.BackendID]bool{}
		for _, s := range a.snapshot.Load().Remotes() {
			if s.InsecureSkipTLSVerify || asked[s.Backend] { // nobody minds
				continue
			}
			asked[s.Backend] = true
			if b := a.backends.Find(s.Backend); b != nil {
				b.ShowCertificate(ctx, due) // no longer than to connect
			}
		}
	}
}

// glance is look for who is not there to tell of changes: those that it finds are told all
// the same.
func (a *Aggregator) glance() (all []judged, now time.Time) {
	all, now, changed := a.look()
	if changed {
		a.observer.stir()
	}
	return all, now
}

// look judges every remote APIService, by name, and says whether one stands otherwise
// than at the last look. One that was overtaken looks again, so that what is seen never goes
// back to what was before.
func (a *Aggregator) look() (all []judged, now time.Time, changed bool) {
	for {
		number := a.observer.begin()
		now = time.Now()
		all = a.judge(now)
		changed, overtaken := a.observer.stand(number, now, all)
		if !overtaken {
			return all, now, changed
		}
	}
}

func (a *Aggregator) judge(now time.Time) (all []judged) {
	downloads := a.fetcher.Downloads()
	for _, s := range a.snapshot.Load().APIServices() {
		if !s.Local {
			all = append(all, judged{Subject: a.subject(s, downloads[s.Name])})
		}
	}
	slices.SortFunc(all, func(x, y judged) int { return strings.Compare(x.Name, y.Name) })
	a.observer.readBundles(all)
	for i := range all {
		all[i].assessment = observe.Assess(now, &all[i].Subject)
		for f := range all[i].assessment.Faults {
			fault := &all[i].assessment.Faults[f]
			fault.Code = a.config.FaultCode(fault.Reason)
		}
	}
	return all
}

// subject gathers what the parts know of an APIService.
func (a *Aggregator) subject(s *catalog.APIService, d fetch.Downloads) observe.Subject {
	subject := observe.Subject{APIService: s}
	if s.Invalid != "" {
		return subject
	}
	subject.Downloads = observe.Downloads{
		Discovery: observe.Download(d.Discovery), OpenAPIV2: observe.Download(d.OpenAPIV2), OpenAPIV3: observe.Download(d.OpenAPIV3),
	}
	if a.writer != nil {
		for _, v := range a.writer.Dissent(s) {
			subject.Dissent = append(subject.Dissent, observe.View(v))
		}
	}
	if b := a.backends.Find(s.Backend); b != nil {
		subject.Endpoints = b.Traffic()
		subject.Load = loadOf(b)
		shown := b.Certificate()
		subject.Certificates.Serving, subject.Certificates.ServingShown = observe.Read(shown.Certificate), shown.At
		subject.Certificates.FrontProxy = observe.Read(b.ClientCertificate())
	}
	return subject
}

func loadOf(b *backend.Backend) observe.Load {
	inFlight, queued := b.Load()
	return observe.Load{Max: b.MaxInFlight(), InFlight: inFlight, Queued: queued}
}

// server is what this server is called.
func (c *Config) server() string {
	if c.Status != nil && c.Status.Server != "" {
		return c.Status.Server
	}
	if c.Self == "" && c.Status != nil {
		return c.Status.Identity
	}
	return c.Self
}
