package status

import (
	"context"
	"sync"

	"github.com/annex-api/annex/apis/aggregation/v1alpha1"
	"github.com/annex-api/annex/internal/cli/kubeconfig"
)

// maxKept bounds how many APIServices a watch keeps in mind.
const maxKept = 100_000

// watch shows what changes until ctx ends, which is no error.
func (o *Options) watch(ctx context.Context, c *kubeconfig.Connection, src source, first listed, p *printer) error {
	ctx, cancel := context.WithCancel(ctx)
	updates := make(chan update)
	var following sync.WaitGroup
	following.Go(func() { follow(ctx, src, first, updates) })
	defer following.Wait()
	defer cancel()
	w := &watcher{
		printer: p, server: c.Server, known: map[string]v1alpha1.RemoteAPIService{},
		explain: func(err error) string { return c.Explain("watch APIServices", err).Error() },
	}
	w.replace(first.items)
	if p.display.terminal && !p.display.fixed && !p.structured() {
		return w.live(ctx, updates)
	}
	return w.appended(ctx, updates)
}

// watcher shows what is known, as it changes.
type watcher struct {
	*printer
	server  string
	explain func(error) string
	known   map[string]v1alpha1.RemoteAPIService
	lost    string // why the API server cannot be asked now; empty while it can
}

// take applies an update, and gives the APIServices that it is about; those that are gone are in the
// state Deleted.
func (w *watcher) take(u update) []v1alpha1.RemoteAPIService {
	switch {
	case u.all != nil:
		return w.replace(u.all.items)
	case u.changed != nil:
		if _, ok := w.known[u.changed.Name]; !ok && len(w.known) >= maxKept {
			return nil
		}
		w.known[u.changed.Name] = *u.changed
		return []v1alpha1.RemoteAPIService{*u.changed}
	case u.deleted != nil:
		old, ok := w.known[u.deleted.Name]
		if !ok {
			return nil
		}
		return []v1alpha1.RemoteAPIService{w.forget(old)}
	case u.lost != nil:
		w.lost = w.explain(u.lost)
	case u.back:
		w.lost = ""
	}
	return nil
}

// replace takes a list for all that there is, and gives what it says beside what is gone.
func (w *watcher) replace(items []v1alpha1.RemoteAPIService) []v1alpha1.RemoteAPIService {
	listed := map[string]bool{}
	var all []v1alpha1.RemoteAPIService
	for _, item := range items[:min(len(items), maxKept)] {
		listed[item.Name] = true
		w.known[item.Name] = item
		all = append(all, item)
	}
	for name, item := range w.known {
		if !listed[name] {
			all = append(all, w.forget(item))
		}
	}
	return all
}

func (w *watcher) forget(item v1alpha1.RemoteAPIService) v1alpha1.RemoteAPIService {
	delete(w.known, item.Name)
	item.Status.State, item.Status.Reason, item.Status.Message = gone, "", ""
	return item
}
