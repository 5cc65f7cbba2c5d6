package projection

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"github.com/annex-api/annex/extension/internal/ring"
)

// follower takes what a reflector brings. The reflector calls it once at a time.
type follower struct {
	source *Source
	log    klog.Logger

	// failing is since when the source has been out of reach; zero while it is not.
	failing time.Time
	// withdrawn says that the ring's objects no longer count.
	withdrawn bool

	// broken has all objects, and which of them cannot be shown; why is the last error of one.
	broken map[string]bool
	why    error
	// blind says that all are broken. What the ring has then is not what there is.
	blind bool
}

func newFollower(s *Source, log klog.Logger) *follower {
	return &follower{source: s, log: log, broken: map[string]bool{}}
}

var (
	_ cache.ReflectorStore         = &follower{}
	_ cache.ReflectorBookmarkStore = &follower{}
)

func (f *follower) list(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
	list, err := f.source.client("").List(ctx, f.source.choose(o))
	f.reached(err)
	if err != nil {
		return nil, err
	}
	return list, nil
}

func (f *follower) watch(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
	w, err := f.source.client("").Watch(ctx, f.source.choose(o))
	f.reached(err)
	if err != nil {
		return nil, err
	}
	if f.withdrawn && o.SendInitialEvents == nil {
		w.Stop() // the ring counts again once it has got all objects
		return nil, apierrors.NewResourceExpired("the objects were withdrawn: list again")
	}
	return w, nil
}

// reached withdraws the objects where the source has been out of reach for too long.
func (f *follower) reached(err error) {
	switch now := time.Now(); {
	case err == nil, apierrors.IsResourceExpired(err), apierrors.IsGone(err):
		f.failing = time.Time{}
	case f.failing.IsZero():
		f.failing = now
	case now.Sub(f.failing) >= f.source.Stale:
		f.withdrawn = true
		f.source.Ring.Unavailable(fmt.Errorf("%s have been out of reach since %s: %w", f.source.Resource.GroupResource(), f.failing.UTC().Format(time.RFC3339), err))
	}
}

// Replace implements cache.ReflectorStore.
func (f *follower) Replace(items []any, version string) error {
	var objects []ring.Sourced
	var shown []*unstructured.Unstructured
	f.broken = make(map[string]bool, len(items))
	for _, item := range items {
		u, err := read(item)
		if err != nil {
			return err
		}
		if object := f.show(u); object != nil {
			objects, shown = append(objects, f.sourced(object, u)), append(shown, u)
		}
	}
	if f.blind = f.allBroken(); f.blind {
		f.withdrawn = false // it was reached
		f.withdraw()
		f.source.seen.replace(nil, version)
		return nil
	}
	return f.complete(objects, shown, version)
}

// complete makes objects all that there is.
func (f *follower) complete(objects []ring.Sourced, shown []*unstructured.Unstructured, version string) error {
	if err := f.source.Ring.UpdateAt(objects, f.source.moment(version)); err != nil {
		return err
	}
	f.withdrawn, f.blind = false, false
	sightings := make([]sighting, len(shown))
	for i, u := range shown {
		sightings[i] = f.sighting(u)
	}
	f.source.seen.replace(sightings, version)
	return nil
}

// Add implements cache.ReflectorStore.
func (f *follower) Add(item any) error { return f.Update(item) }

// Update implements cache.ReflectorStore.
func (f *follower) Update(item any) error {
	u, err := read(item)
	if err != nil {
		return err
	}
	object := f.show(u)
	switch {
	case f.allBroken():
		f.blind = true
		f.withdraw()
		f.source.seen.gone(u.GetUID(), u.GetResourceVersion())
		return nil
	case f.blind && object == nil: // all others are broken
		return f.complete(nil, nil, u.GetResourceVersion())
	case f.blind:
		return f.complete([]ring.Sourced{f.sourced(object, u)}, []*unstructured.Unstructured{u}, u.GetResourceVersion())
	case object == nil:
		f.remove(u)
		return nil
	}
	if err := f.source.Ring.PutAt(f.sourced(object, u)); err != nil {
		return err
	}
	f.source.seen.put(f.sighting(u))
	return nil
}

// Delete implements cache.ReflectorStore.
func (f *follower) Delete(item any) error {
	u, err := read(item)
	if err != nil {
		return err
	}
	delete(f.broken, keyOf(u))
	if f.blind && len(f.broken) == 0 {
		return f.complete(nil, nil, u.GetResourceVersion())
	}
	f.remove(u)
	if f.blind = f.allBroken(); f.blind {
		f.withdraw()
	}
	return nil
}

func (f *follower) remove(u *unstructured.Unstructured) {
	version := u.GetResourceVersion()
	f.source.Ring.RemoveAt(f.source.namespaceOf(u), u.GetName(), f.source.moment(version))
	f.source.seen.gone(u.GetUID(), version)
}

// allBroken says that there are objects, and none that can be shown. Then nothing is known of
// what there is, and an empty list would say otherwise.
func (f *follower) allBroken() bool {
	for _, broken := range f.broken {
		if !broken {
			return false
		}
	}
	return len(f.broken) > 0
}

func (f *follower) withdraw() {
	f.source.Ring.Unavailable(fmt.Errorf("none of the %d %s can be shown: %w", len(f.broken), f.source.Resource.GroupResource(), f.why))
}

// Bookmark implements cache.ReflectorBookmarkStore.
func (f *follower) Bookmark(version string) error {
	f.source.seen.advance(version)
	return nil
}

// Resync implements cache.ReflectorStore.
func (f *follower) Resync() error { return nil }

// show gives what is shown of a source, or nil. An object that cannot be shown is logged,
// and does not keep the others from being shown.
func (f *follower) show(u *unstructured.Unstructured) runtime.Object {
	object, err := f.source.show(u)
	if err == nil && object != nil {
		err = f.source.Ring.Check(object)
	}
	if f.broken[keyOf(u)] = err != nil; err != nil {
		f.why = err
		f.log.Error(err, "An object cannot be shown", "source", klog.KObj(u))
		return nil
	}
	return object
}

func (f *follower) sourced(object runtime.Object, u *unstructured.Unstructured) ring.Sourced {
	return ring.Sourced{Object: object, Moment: f.source.moment(u.GetResourceVersion())}
}

func (f *follower) sighting(u *unstructured.Unstructured) sighting {
	return sighting{
		moment:  momentOf(u),
		version: f.source.Ring.VersionOf(f.source.namespaceOf(u), u.GetName()),
	}
}

func keyOf(u *unstructured.Unstructured) string { return u.GetNamespace() + "/" + u.GetName() }

func read(item any) (*unstructured.Unstructured, error) {
	u, ok := item.(*unstructured.Unstructured)
	if !ok {
		return nil, fmt.Errorf("%T is no object of a dynamic client", item)
	}
	return u, nil
}
