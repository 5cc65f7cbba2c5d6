package status

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/annex-api/annex/apis/aggregation/v1alpha1"
)

// update is something new. One of its fields is set.
type update struct {
	// all are all that there are.
	all *listed
	// changed is one that is new or has changed; deleted is one that is gone.
	changed, deleted *v1alpha1.RemoteAPIService
	// lost is why the API server cannot be asked now. It is tried again and again.
	lost error
	// back is that it answers again.
	back bool
}

const (
	// The pauses between two tries, while the API server cannot be asked.
	firstPause, longestPause = 500 * time.Millisecond, 10 * time.Second
	// shortest is the least time from one watch to the next: a server may end them at once.
	shortest = time.Second
	// openLimit is how long a watch may take to begin, and watchGrace how much longer it may last than
	// the API server was asked for: a server that hangs says nothing, as one where nothing changes.
	openLimit, watchGrace = 30 * time.Second, time.Minute
)

// follow sends what changes after a list, until ctx ends. What it sent last is what is true, as far as
// the API server tells.
func follow(ctx context.Context, src source, first listed, updates chan<- update) {
	f := follower{src: src, updates: updates, version: first.resourceVersion, pause: firstPause}
	for ctx.Err() == nil {
		begin := time.Now()
		err := f.once(ctx)
		pause := max(shortest-time.Since(begin), 0)
		if err != nil {
			pause, f.pause = f.pause, min(2*f.pause, longestPause)
			if !f.lost {
				f.lost = true
				f.send(ctx, update{lost: err})
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

type follower struct {
	src     source
	updates chan<- update

	version string        // where the next watch begins; empty where a list must come first
	pause   time.Duration // before the next try after an error
	lost    bool
}

func (f *follower) send(ctx context.Context, u update) {
	select {
	case f.updates <- u:
	case <-ctx.Done():
	}
}

// answered is called when the API server has answered.
func (f *follower) answered(ctx context.Context) {
	f.pause = firstPause
	if f.lost {
		f.lost = false
		f.send(ctx, update{back: true})
	}
}

// list sends all.
func (f *follower) list(ctx context.Context) error {
	all, err := f.src.list(ctx)
	if err != nil {
		return err
	}
	f.version = all.resourceVersion
	f.answered(ctx)
	f.send(ctx, update{all: &all})
	return nil
}

// once is one watch, and a list before it where the last one is too old.
func (f *follower) once(ctx context.Context) error {
	if f.version == "" {
		if err := f.list(ctx); err != nil {
			return err
		}
	}
	var again <-chan time.Time
	if every := f.src.refresh(); every > 0 {
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		again = ticker.C
	}
	watching, end := context.WithTimeout(ctx, watchTimeout+watchGrace)
	defer end()
	opening := time.AfterFunc(openLimit, end)
	w, err := f.src.watch(watching, f.version)
	switch inTime := opening.Stop(); {
	case err != nil && !inTime && ctx.Err() == nil:
		return fmt.Errorf("open a watch: %w", context.DeadlineExceeded)
	case err != nil:
		return f.tooOld(err)
	}
	begin := time.Now()
	defer stop(w)
	f.answered(ctx)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-again:
			// Events that come meanwhile tell the same, or what is newer.
			if err := f.list(ctx); err != nil {
				return err
			}
		case event, ok := <-w.ResultChan():
			if !ok {
				if time.Since(begin) < shortest {
					// So client-go says that the connection was cut before an answer. A list tells why.
					f.version = ""
				}
				return nil
			}
			if err := f.event(ctx, event); err != nil {
				return f.tooOld(err)
			}
		}
	}
}

// stop ends a watch, whose sender may wait for somebody to take an event.
func stop(w watch.Interface) {
	w.Stop()
	for range w.ResultChan() {
	}
}

// tooOld has a list come first, where a watch cannot go on.
func (f *follower) tooOld(err error) error {
	if apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
		f.version = ""
		return nil
	}
	return err
}

func (f *follower) event(ctx context.Context, event watch.Event) error {
	item, ok := event.Object.(*v1alpha1.RemoteAPIService)
	switch {
	case event.Type == watch.Error:
		return apierrors.FromObject(event.Object)
	case !ok:
		return errors.New("the API server sent an event of another kind")
	}
	f.version = item.ResourceVersion
	received(item)
	switch event.Type {
	case watch.Added, watch.Modified:
		f.send(ctx, update{changed: item})
	case watch.Deleted:
		f.send(ctx, update{deleted: item})
	}
	return nil
}
