package status

import (
	"context"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/klog/v2"
)

// followAgain is the pause after a watch of the Lease that did not begin. One that
// did ends every few minutes, by the API server's own doing.
const followAgain = 10 * time.Second

// follow watches the Lease until ctx ends, so that its holder learns who waits for
// it without looking.
func (l *lease) follow(ctx context.Context) {
	for ctx.Err() == nil {
		pause := retryPeriod
		events, err := l.client.Watch(ctx, metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector(metav1.ObjectNameField, l.name).String()})
		if err == nil {
			l.listen(ctx, events)
		} else {
			klog.FromContext(ctx).V(4).Info("Watching the Lease failed", "lease", l.Describe(), "err", err) // its holder looks
			pause = followAgain
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// listen takes in what a watch tells until it ends.
func (l *lease) listen(ctx context.Context, events watch.Interface) {
	defer events.Stop()
	defer l.unfollow()
	for {
		select {
		case <-ctx.Done():
			return
		case e, ok := <-events.ResultChan():
			if !ok || e.Type == watch.Error {
				return
			}
			if stored, ok := e.Object.(*coordinationv1.Lease); ok && stored.Name == l.name {
				l.learn(stored, e.Type == watch.Deleted)
			}
		}
	}
}

// learn takes in how the Lease is stored, or was before it was deleted. The
// first that a watch tells is how it is at its begin. What this server wrote
// meanwhile may be newer: then the next renewal reads the Lease again.
func (l *lease) learn(stored *coordinationv1.Lease, deleted bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.following = !deleted
	switch {
	case l.stored == nil:
		return
	case deleted || holder(stored) != l.identity:
		l.moved = true
	case waitedFor(stored) && !waitedFor(l.stored):
		l.stored, l.called = stored, time.Now()
	default:
		return
	}
	l.wake()
}

// unfollow has the holder look again.
func (l *lease) unfollow() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.following = false
	l.wake()
}
