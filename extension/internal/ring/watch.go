package ring

import (
	"context"
	"errors"
	"fmt"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/storage"
)

// batch is how many events a watch takes at once, so that it holds the lock shortly.
const batch = 500

// Watch implements storage.Interface for the watch cache: all events of the kind after a Known
// resourceVersion. Selectors, names and initial events are the cache's affair, and refused here.
func (s *Storage) Watch(ctx context.Context, key string, opts storage.ListOptions) (watch.Interface, error) {
	if !opts.Predicate.Empty() || !opts.Recursive || key != s.Prefix() || opts.SendInitialEvents != nil && *opts.SendInitialEvents {
		return nil, errors.New("a watch of the ring is for all objects and without initial events")
	}
	from, err := s.Versioner().ParseResourceVersion(opts.ResourceVersion)
	if err != nil {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("invalid resource version: %v", err))
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	switch {
	case s.isClosed():
		return nil, unavailable(errClosed)
	case !s.answered: // but one that is withdrawn does: watches go on in silence
		return nil, unavailable(s.readyLocked())
	}
	if from == 0 {
		from = s.state.Last()
	}
	if s.state.Known(from) != Known {
		return nil, expired(from)
	}
	w := &watcher{
		ring: s, at: from, told: s.progress, wantsProgress: opts.ProgressNotify,
		wantsTimes: opts.RecordTimestamps, times: recorder{window: s.config.Window},
		events: make(chan watch.Event), done: make(chan struct{}),
	}
	s.watches.Go(func() { w.run(ctx) })
	return w, nil
}

// RequestWatchProgress implements storage.Interface: every watch that asked for it
// tells soon how far it is.
func (s *Storage) RequestWatchProgress(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.progress++
	s.tell()
	return nil
}

func expired(version uint64) *apierrors.StatusError {
	return apierrors.NewResourceExpired(fmt.Sprintf("The events after the resourceVersion %d are forgotten.", version))
}

// watcher reads on in the ring. It has no queue: one that is too slow finds its
// events forgotten, and ends with 410.
type watcher struct {
	ring *Storage
	// at is the resourceVersion of the last event that was sent.
	at uint64
	// told is the last request for progress that was answered.
	told          uint64
	wantsProgress bool
	// times are those of events, if they are wanted.
	wantsTimes bool
	times      recorder

	events   chan watch.Event
	done     chan struct{}
	stopping sync.Once
}

// ResultChan implements watch.Interface.
func (w *watcher) ResultChan() <-chan watch.Event { return w.events }

// Stop implements watch.Interface.
func (w *watcher) Stop() { w.stopping.Do(func() { close(w.done) }) }

func (w *watcher) run(ctx context.Context) {
	defer close(w.events)
	for {
		events, progress, changed, ok := w.ring.since(w.at)
		if !ok {
			w.send(ctx, watch.Event{Type: watch.Error, Object: &expired(w.at).ErrStatus})
			return
		}
		for _, e := range events {
			object := e.Object
			if w.wantsTimes {
				object = w.times.record(e)
			}
			if !w.send(ctx, watch.Event{Type: e.Type, Object: object}) {
				return
			}
			w.at = e.ResourceVersion
		}
		switch {
		case len(events) == batch: // there may be more
		case w.wantsProgress && progress != w.told:
			if !w.send(ctx, watch.Event{Type: watch.Bookmark, Object: w.bookmark()}) {
				return
			}
			w.told = progress
		default:
			select {
			case <-changed:
			case <-w.done:
				return
			case <-w.ring.closed:
				return
			case <-ctx.Done():
				return
			}
		}
	}
}

func (w *watcher) bookmark() runtime.Object {
	object := w.ring.config.New()
	setVersion(object, w.at)
	return object
}

func (w *watcher) send(ctx context.Context, e watch.Event) bool {
	select {
	case w.events <- e:
		return true
	case <-w.done:
	case <-w.ring.closed:
	case <-ctx.Done():
	}
	return false
}

// since gives what a watch needs to go on, all of one moment.
func (s *Storage) since(version uint64) (events []Event, progress uint64, changed <-chan struct{}, ok bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	events, ok = s.state.Since(version, batch)
	return events, s.progress, s.changed, ok
}
