package projection

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"github.com/annex-api/annex/extension/internal/kind"
	"github.com/annex-api/annex/extension/internal/ring"
)

// DefaultStale is how long the source may be out of reach before its objects are
// withdrawn.
const DefaultStale = time.Minute

// Config is what a Source must know.
type Config struct {
	// Kind is what the objects are shown as.
	Kind *kind.Kind
	// Resource and SourceKind name the objects that are shown. Namespace confines them,
	// Labels and Fields select them.
	Resource   schema.GroupVersionResource
	SourceKind string
	Namespace  string
	Labels     labels.Selector
	Fields     fields.Selector
	// NewSource makes what an object is read into: a pointer to a struct.
	NewSource func() any
	// To fills an object of Kind, which has the source's metadata, and is false where the
	// source is not shown. It is a pure function.
	To func(source any, into runtime.Object) (shown bool, err error)
	// From fills a source, which is a copy. Nil: nothing is written.
	From func(ctx context.Context, object runtime.Object, into any) error
	// Client reaches the API server of the source.
	Client dynamic.Interface
	// Ring gets what is shown.
	Ring *ring.Storage
	// Stale is how long the source may be out of reach; zero means DefaultStale.
	Stale time.Duration
}

// Source are the objects behind a kind.
type Source struct {
	Config
	seen *seen
}

// New makes a Source. It reaches nothing before Run.
func New(config Config) (*Source, error) {
	switch {
	case config.Kind == nil, config.Ring == nil, config.Client == nil:
		return nil, errors.New("a projection needs a kind, a ring and a client")
	case config.To == nil, config.NewSource == nil:
		return nil, fmt.Errorf("%s: To and NewSource are needed", config.Kind.Resource())
	}
	if config.Labels == nil {
		config.Labels = labels.Everything()
	}
	if config.Fields == nil {
		config.Fields = fields.Everything()
	}
	if config.Stale <= 0 {
		config.Stale = DefaultStale
	}
	return &Source{Config: config, seen: newSeen()}, nil
}

// client is for objects of one namespace, or of the only one that there is.
func (s *Source) client(namespace string) dynamic.ResourceInterface {
	if s.Namespace != "" {
		namespace = s.Namespace
	}
	if namespace == "" {
		return s.Client.Resource(s.Resource)
	}
	return s.Client.Resource(s.Resource).Namespace(namespace)
}

// choose has a list or a watch select what is shown.
func (s *Source) choose(o metav1.ListOptions) metav1.ListOptions {
	o.LabelSelector, o.FieldSelector = s.Labels.String(), s.Fields.String()
	return o
}

// Run keeps the ring at what the source is, until ctx ends.
func (s *Source) Run(ctx context.Context) error {
	f := &follower{source: s, log: klog.FromContext(ctx).WithValues("resource", s.Kind.Resource().String())}
	watcher := &cache.ListWatch{ListWithContextFunc: f.list, WatchFuncWithContext: f.watch}
	cache.NewReflectorWithOptions(watcher, &unstructured.Unstructured{}, f, cache.ReflectorOptions{
		Name:            "projection of " + s.Kind.Resource().String(),
		TypeDescription: s.Resource.String(),
	}).RunWithContext(ctx)
	return nil
}

// follower takes what a reflector brings. The reflector calls it once at a time.
type follower struct {
	source *Source
	log    klog.Logger

	// failing is since when the source has been out of reach; zero while it is not.
	failing time.Time
	// withdrawn says that the ring's objects no longer count.
	withdrawn bool
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
	var objects []runtime.Object
	var shown []*unstructured.Unstructured
	for _, item := range items {
		u, err := read(item)
		if err != nil {
			return err
		}
		if object := f.show(u); object != nil {
			objects, shown = append(objects, object), append(shown, u)
		}
	}
	if err := f.source.Ring.Update(objects); err != nil {
		return err
	}
	f.withdrawn = false
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
	if object == nil {
		return f.Delete(item)
	}
	if err := f.source.Ring.Put(object); err != nil {
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
	f.source.Ring.Remove(f.source.namespaceOf(u), u.GetName())
	f.source.seen.gone(u.GetUID(), u.GetResourceVersion())
	return nil
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
	if err != nil {
		f.log.Error(err, "An object cannot be shown", "source", klog.KObj(u))
		return nil
	}
	return object
}

func (f *follower) sighting(u *unstructured.Unstructured) sighting {
	return sighting{
		moment:  moment{u.GetUID(), u.GetResourceVersion()},
		version: f.source.Ring.VersionOf(f.source.namespaceOf(u), u.GetName()),
	}
}

// namespaceOf is the namespace in which a source is shown.
func (s *Source) namespaceOf(u *unstructured.Unstructured) string {
	if !s.Kind.Namespaced {
		return ""
	}
	return u.GetNamespace()
}

func read(item any) (*unstructured.Unstructured, error) {
	u, ok := item.(*unstructured.Unstructured)
	if !ok {
		return nil, fmt.Errorf("%T is no object of a dynamic client", item)
	}
	return u, nil
}
