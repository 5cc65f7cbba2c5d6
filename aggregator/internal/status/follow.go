package status

import (
	"context"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/klog/v2"
)

const (
	// followFor bounds a watch of the Lease: one that tells nothing although it
	// should does not last.
	followFor = 5 * time.Minute
	// followAgain is the pause after a watch that has told nothing.
	followAgain = 10 * time.Second
)

// follow watches the Lease until ctx ends, so that its holder learns who waits for
// it without looking.
func (l *lease) follow(ctx context.Context) {
	seconds := int64(followFor / time.Second)
	options := metav1.ListOptions{
		FieldSelector:  fields.OneTermEqualSelector(metav1.ObjectNameField, l.name).String(),
		TimeoutSeconds: &seconds,
	}
	for ctx.Err() == nil {
		pause := followAgain
		events, err := l.client.Watch(ctx, options)
		switch {
		case err != nil:
			klog.FromContext(ctx).V(4).Info("Watching the Lease failed", "lease", l.Describe(), "err", err) // its holder looks
		case l.listen(ctx, events):
			pause = retryPeriod
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// listen takes in what a watch tells until it ends, and says whether that was
// anything.
func (l *lease) listen(ctx context.Context, events watch.Interface) (told bool) {
	defer events.Stop()
	defer l.unfollow()
	for {
		select {
		case <-ctx.Done():
			return told
		case e, ok := <-events.ResultChan():
			if !ok || e.Type == watch.Error {
				return told
			}
			if stored, ok := e.Object.(*coordinationv1.Lease); ok && stored.Name == l.name {
				told = true
				l.learn(stored, e.Type == watch.Deleted)
			}
		}
	}
}

// learn takes in how the Lease is stored, or was before it was deleted. The first
// that a watch tells is how it is at its begin, or was shortly before.
func (l *lease) learn(stored *coordinationv1.Lease, deleted bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.following = !deleted
	if l.stored == nil {
		return
	}
	if order, err := resourceversion.CompareResourceVersion(stored.ResourceVersion, l.stored.ResourceVersion); err == nil && order < 0 {
		return // this server knows better
	}
	switch {
	case deleted || holder(stored) != l.identity:
		l.lose()
	case waitedFor(stored) && !waitedFor(l.stored):
		l.stored, l.called = stored, time.Now()
		l.wake()
	}
}

// unfollow has the holder look again.
func (l *lease) unfollow() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.following = false
	l.wake()
}
