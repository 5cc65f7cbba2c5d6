package controllers

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	"sigs.k8s.io/controller-runtime/pkg/manager"
)

// settling is how long controllers that may begin have to ask for what they watch. They
// do so at once, and a manager does not say when they have.
const settling = time.Second

// progress is how far controllers of one manager have come. They run once what they watch
// is in their caches, or while another replica leads.
type progress struct {
	mu sync.Mutex
	// report is nil unless the manager runs.
	report func(error)
	// filling are the kinds whose objects are not there yet.
	filling map[string]bool
	// elected is set once they may begin, and have asked for what they watch.
	elected bool
	// standby says that another replica leads. lease is why it is not known who does.
	standby bool
	lease   error
}

// tell changes what is known, and reports what that comes to. As long as it comes to
// nothing, what was reported last stands.
func (p *progress) tell(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
	if p.report == nil {
		return
	}
	switch {
	case len(p.filling) > 0:
		p.report(fmt.Errorf("what they watch cannot be listed yet, for want of a right perhaps: %s", strings.Join(slices.Sorted(maps.Keys(p.filling)), ", ")))
	case p.elected, p.standby:
		p.report(nil)
	case p.lease != nil:
		p.report(fmt.Errorf("lead: %w", p.lease))
	}
}

// cache makes the cache of a manager: one that tells what it waits for.
func (p *progress) cache(config *rest.Config, options cache.Options) (cache.Cache, error) {
	c, err := cache.New(config, options)
	if err != nil {
		return nil, err
	}
	return watched{Cache: c, progress: p, name: func(obj client.Object) string {
		kind, err := apiutil.GVKForObject(obj, options.Scheme)
		if err != nil {
			return fmt.Sprintf("%T", obj)
		}
		return kind.GroupKind().String()
	}}, nil
}

// watched is a cache that tells what it waits for.
type watched struct {
	cache.Cache
	progress *progress
	name     func(client.Object) string
}

// GetInformer is how controllers ask for what they watch. It returns once that is there.
func (w watched) GetInformer(ctx context.Context, obj client.Object, options ...cache.InformerGetOption) (cache.Informer, error) {
	name := w.name(obj)
	w.progress.tell(func() { w.progress.filling[name] = true })
	informer, err := w.Cache.GetInformer(ctx, obj, options...)
	if err == nil {
		w.progress.tell(func() { delete(w.progress.filling, name) })
	}
	return informer, err
}

// managed is a manager that reports.
type managed struct {
	manager  manager.Manager
	progress *progress
}

// Start implements runner.
func (m managed) Start(ctx context.Context, report func(error)) error {
	m.progress.tell(func() { m.progress.report = report })
	running, cancel := context.WithCancel(ctx)
	var waiting sync.WaitGroup
	waiting.Go(func() {
		select {
		case <-m.manager.Elected():
		case <-running.Done():
			return
		}
		if sleep(running, settling) {
			m.progress.tell(func() { m.progress.elected = true })
		}
	})
	err := m.manager.Start(ctx)
	cancel()
	waiting.Wait()
	m.progress.tell(func() { m.progress.report = nil })
	return err
}
