// Package gather sees the facts of package diagnosis in a cluster, with the caller's own rights and
// no others.
//
// It reads, and asks questions: nothing is changed in the cluster, unless a probe Pod is wanted.
// What may not be seen, does not answer in time or does not exist is said in its place, and the
// rest goes on. Every answer is bounded in size and time, and requests are few at a time.
package gather

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/annex-api/annex/apis/aggregation/v1alpha1"
	"github.com/annex-api/annex/diagnosis"
)

// maxTogether is how many APIServices are looked at at once. Most of the time each waits for answers:
// how many requests are under way is bounded by itself.
const maxTogether = 100

// Options say what to look at, and how closely.
type Options struct {
	// Config reaches the API server as the caller.
	Config *rest.Config
	// Names are the APIServices to look at. Where there are none it is every remote one with All,
	// and otherwise those that are not well: not available, or, where Annex says so, degraded.
	Names []string
	All   bool
	// Most is how many are looked at where there are no Names, the first by name; 0 means all.
	Most int
	// Manifests are APIServices that are not applied yet, with what belongs to them. They are
	// looked at in place of those of the cluster.
	Manifests *Manifests
	// RequestTimeout bounds each request; 0 means 15 seconds.
	RequestTimeout time.Duration
	// WatchList opens a watch that shows whether initial events end, and WatchListWait is how
	// long it waits for that; 0 means 5 seconds.
	WatchList     bool
	WatchListWait time.Duration
	// Direct also connects to endpoints, and to each API server, from where the caller is.
	Direct bool
	// ProbePod creates a Pod beside each extension server, and deletes it; nil means none.
	ProbePod *ProbePod
	// Progress is told how many of all have been looked at; nil means nobody is. It is called from
	// several goroutines, one at a time.
	Progress func(looked, all int)
	// Now is the clock; nil means the system's.
	Now func() time.Time
}

// Facts gathers. The error says why the APIServices themselves could not be read: then nothing is
// known. Everything else that could not be seen is said in the facts.
//
// Where ctx ends it, the error is [Stopped], and the facts are of those APIServices that had been
// looked at whole.
func Facts(ctx context.Context, o Options) (diagnosis.Facts, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	c, err := connect(o.Config, o.RequestTimeout)
	if err != nil {
		return diagnosis.Facts{}, err
	}
	defer c.client.CloseIdleConnections()
	g := &gathering{Options: o, cluster: c, facts: diagnosis.Facts{Now: o.Now(), APIServices: map[string]*diagnosis.APIServiceFacts{}}}
	objects, err := g.registered(ctx)
	if err != nil {
		return diagnosis.Facts{}, err
	}
	if why := g.facts.Cluster.APIServices.Why(); o.Manifests != nil && why != nil && !errors.Is(why, diagnosis.ErrForbidden) {
		return Offline(o.Manifests, g.facts.Now, why), ctx.Err()
	}
	chosen := g.chosen(objects, g.unwell(ctx))
	// What all share comes first: what is known of one APIService rests on it.
	g.shared(ctx, chosen)
	if ctx.Err() == nil {
		g.each(ctx, chosen)
	}
	if err := ctx.Err(); err != nil && len(g.facts.APIServices) < len(chosen) {
		return g.facts, Stopped{Looked: len(g.facts.APIServices), All: len(chosen), Cause: err}
	}
	return g.facts, nil
}

// Stopped is the error where the context ended before all was looked at.
type Stopped struct {
	// Looked is how many of All were looked at.
	Looked, All int
	// Cause is the context's error.
	Cause error
}

func (s Stopped) Error() string {
	return fmt.Sprintf("stopped when %d of %d were looked at", s.Looked, s.All)
}

func (s Stopped) Unwrap() error { return s.Cause }

// each looks at those that were chosen, a few at a time.
func (g *gathering) each(ctx context.Context, chosen registrations) {
	// The turn is for the facts, and for Progress.
	var turn sync.Mutex
	slots := make(chan struct{}, maxTogether)
	var group sync.WaitGroup
	for _, name := range slices.Sorted(maps.Keys(chosen)) {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			break
		}
		group.Go(func() {
			defer func() { <-slots }()
			f := &diagnosis.APIServiceFacts{Object: chosen[name]}
			g.apiService(ctx, name, f)
			turn.Lock()
			defer turn.Unlock()
			if ctx.Err() != nil {
				return // what the end cut short shows nothing
			}
			g.facts.APIServices[name] = f
			if g.Progress != nil {
				g.Progress(len(g.facts.APIServices), len(chosen))
			}
		})
	}
	group.Wait()
}

// Offline are the facts of manifests alone, where there is no cluster to ask, and why.
func Offline(m *Manifests, now time.Time, why error) diagnosis.Facts {
	g := &gathering{Options: Options{Manifests: m}, facts: diagnosis.Facts{Now: now, APIServices: map[string]*diagnosis.APIServiceFacts{}}}
	g.facts.Cluster.APIServices = diagnosis.Unseen[[]apiregistrationv1.APIService](why)
	for name, object := range g.chosen(nil, nil) {
		f := &diagnosis.APIServiceFacts{Object: object, File: true}
		g.facts.APIServices[name] = f
		if to := object.Value.Spec.Service; to != nil {
			f.Service = diagnosis.Unseen[*corev1.Service](why)
			g.fromManifests(to, f)
		}
	}
	return g.facts
}

// gathering is one run.
type gathering struct {
	Options
	*cluster
	memo
	facts diagnosis.Facts
	// metrics and log are of API servers, for all APIServices.
	metrics diagnosis.Known[metrics]
	// servers are the others, where the caller wants them asked.
	servers []server
	log     diagnosis.Known[[]diagnosis.Line]
}

// registered are all APIServices, or those with a name where only these may be read.
func (g *gathering) registered(ctx context.Context) (registrations, error) {
	found := registrations{}
	const path = "/apis/apiregistration.k8s.io/v1/apiservices"
	// Beyond what a page holds there are thousands: cluster.list ends after maxPages.
	every, err := list(ctx, g.cluster, path, nil, pageSize*maxPages, all[apiregistrationv1.APIService])
	g.facts.Cluster.APIServices = diagnosis.Look(every, err)
	if err == nil {
		for i := range every {
			found[every[i].Name] = diagnosis.Saw(&every[i])
		}
		return found, nil
	}
	if g.Manifests != nil {
		return found, nil
	}
	seen := 0
	for _, name := range g.Names {
		if found[name] = optional[apiregistrationv1.APIService](ctx, g.cluster, path+"/"+name); found[name].Seen {
			seen++
		}
	}
	if seen == 0 {
		return nil, fmt.Errorf("read the APIServices: %w", err)
	}
	return found, nil
}

// chosen are those to look at closely.
func (g *gathering) chosen(objects registrations, unwell []string) registrations {
	chosen := registrations{}
	switch {
	case g.Manifests != nil:
		for i := range g.Manifests.APIServices {
			a := &g.Manifests.APIServices[i]
			if len(g.Names) == 0 || slices.Contains(g.Names, a.Name) {
				chosen[a.Name] = diagnosis.Saw(a)
			}
		}
	case len(g.Names) > 0:
		for _, name := range g.Names {
			object, found := objects[name]
			if !found {
				object = diagnosis.Saw[*apiregistrationv1.APIService](nil)
			}
			chosen[name] = object
		}
	default:
		for _, name := range slices.Sorted(maps.Keys(objects)) {
			a := objects[name].Value
			if a == nil || !Remote(a) || !g.All && Available(a) && !slices.Contains(unwell, name) {
				continue
			}
			if g.Most == 0 || len(chosen) < g.Most {
				chosen[name] = objects[name]
			}
		}
	}
	return chosen
}

// unwell are those that Annex says are not well, though they may be available. Without Annex, or
// the right to ask, there are none.
func (g *gathering) unwell(ctx context.Context) []string {
	if g.All || g.Manifests != nil || len(g.Names) > 0 {
		return nil
	}
	names, err := list(ctx, g.cluster, remoteAPIServices, nil, pageSize*maxPages,
		func(r v1alpha1.RemoteAPIService) (string, bool) {
			return r.Name, r.Status.State == v1alpha1.Degraded || r.Status.State == v1alpha1.Unavailable
		})
	if err != nil {
		return nil // the conditions say enough to begin with
	}
	return names
}

// Remote says whether an APIService leads to a Service. The others are served in process.
func Remote(a *apiregistrationv1.APIService) bool { return a.Spec.Service != nil }

// Available says whether the condition of that name is True.
func Available(a *apiregistrationv1.APIService) bool {
	for _, c := range a.Status.Conditions {
		if c.Type == apiregistrationv1.Available {
			return c.Status == apiregistrationv1.ConditionTrue
		}
	}
	return false
}

// together runs all and waits for them.
func together(all ...func()) {
	var group sync.WaitGroup
	for _, f := range all {
		group.Go(f)
	}
	group.Wait()
}
