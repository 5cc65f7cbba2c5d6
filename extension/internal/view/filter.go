package view

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

// filtered is a watch of which the caller may see only a part. What becomes visible is
// ADDED, what ceases to be is DELETED with the last object that was visible.
//
// A right that is lost or won without an event changes nothing until the next event
// of the object.
type filtered struct {
	resource *Resource
	from     watch.Interface
	events   chan watch.Event
	done     chan struct{}
	stopping sync.Once

	// complete says that the client learns of every object from this watch. Otherwise it has
	// some from a list, and what it has of an object that is not in seen is found
	// by asking for the one before the event.
	complete bool
	// seen are the objects that the client has, and if not complete also those that it has not.
	seen map[string]bool
}

// filter begins a filtered watch. Its goroutine ends with from, by Stop, with ctx and
// by Destroy.
func (r *Resource) filter(ctx context.Context, from watch.Interface, complete bool) watch.Interface {
	f := &filtered{
		resource: r, from: from, complete: complete, seen: map[string]bool{},
		events: make(chan watch.Event), done: make(chan struct{}),
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped {
		from.Stop()
		return failed(apierrors.NewServiceUnavailable("the server is stopping"))
	}
	r.watches.Go(func() { f.run(ctx) })
	return f
}

// ResultChan implements watch.Interface.
func (f *filtered) ResultChan() <-chan watch.Event { return f.events }

// Stop implements watch.Interface.
func (f *filtered) Stop() { f.stopping.Do(func() { close(f.done) }) }

func (f *filtered) run(ctx context.Context) {
	defer close(f.events)
	defer f.from.Stop()
	for {
		var e watch.Event
		var open bool
		select {
		case e, open = <-f.from.ResultChan():
		case <-f.done:
			return
		case <-f.resource.stop:
			return
		case <-ctx.Done():
			return
		}
		if !open {
			return
		}
		shown, err := f.next(ctx, e)
		if err != nil {
			f.send(ctx, errorEvent(err))
			return
		}
		if shown != nil && !f.send(ctx, *shown) {
			return
		}
	}
}

func (f *filtered) send(ctx context.Context, e watch.Event) bool {
	select {
	case f.events <- e:
		return true
	case <-f.done:
	case <-f.resource.stop:
	case <-ctx.Done():
	}
	return false
}

// next gives what the client sees of an event, or nil.
func (f *filtered) next(ctx context.Context, e watch.Event) (*watch.Event, error) {
	if e.Type == watch.Bookmark || e.Type == watch.Error {
		return &e, nil
	}
	key, version, err := f.resource.identify(e.Object)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	// What the ring remembers of the event needs no copy, unlike what is in the cache's wrapping.
	object, previous := e.Object, runtime.Object(nil)
	if event, remembered := f.resource.cache.Ring.EventAt(version); remembered {
		object, previous = event.Object, event.Previous
	} else if wrapped, ok := object.(runtime.CacheableObject); ok {
		object = wrapped.GetObject()
	}
	had, err := f.had(ctx, key, e.Type, object, previous)
	if err != nil {
		return nil, err
	}
	has := false
	if e.Type != watch.Deleted {
		if has, err = f.resource.visible(ctx, "watch", object); err != nil {
			return nil, err
		}
	}
	f.remember(key, has, e.Type)
	switch {
	case had && has:
		return &watch.Event{Type: watch.Modified, Object: e.Object}, nil
	case has:
		return &watch.Event{Type: watch.Added, Object: e.Object}, nil
	case had && e.Type == watch.Deleted:
		return &e, nil
	case had && previous == nil:
		return nil, tooFarBehind()
	case had:
		gone := previous.DeepCopyObject()
		if err := (storage.APIObjectVersioner{}).UpdateObject(gone, version); err != nil {
			return nil, apierrors.NewInternalError(err)
		}
		return &watch.Event{Type: watch.Deleted, Object: gone}, nil
	}
	return nil, nil
}

func tooFarBehind() error {
	return apierrors.NewResourceExpired("The watch is so far behind that what it showed last is forgotten: list again.")
}

// had says whether the client has the object as it was before an event. object is
// that of the event, and previous the one before, if it is remembered. The cache says ADDED of
// what the client's selectors did not match before.
func (f *filtered) had(ctx context.Context, key string, kind watch.EventType, object, previous runtime.Object) (bool, error) {
	seen, known := f.seen[key]
	switch {
	case known || f.complete:
		return seen, nil
	case kind == watch.Added:
		return false, nil
	case previous == nil && kind == watch.Deleted: // the object is the last one
		previous = object
	case previous == nil:
		return false, tooFarBehind()
	}
	return f.resource.visible(ctx, "watch", previous)
}

func (f *filtered) remember(key string, has bool, kind watch.EventType) {
	switch {
	case has:
		f.seen[key] = true
	case kind == watch.Deleted || f.complete:
		delete(f.seen, key)
	default:
		f.seen[key] = false
	}
}

// failed is a watch that ends with an error.
func failed(err error) watch.Interface {
	events := make(chan watch.Event, 1)
	events <- errorEvent(err)
	close(events)
	return ended{events}
}

type ended struct{ events <-chan watch.Event }

func (e ended) ResultChan() <-chan watch.Event { return e.events }
func (ended) Stop()                            {}

func errorEvent(err error) watch.Event {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		status = apierrors.NewInternalError(fmt.Errorf("watching: %w", err))
	}
	s := status.Status()
	return watch.Event{Type: watch.Error, Object: &s}
}
