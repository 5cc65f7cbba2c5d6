package view

import (
	"context"
	"fmt"
	"reflect"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validate/content"
	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/features"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/sharding"
	"k8s.io/apiserver/pkg/storage"
	storeerr "k8s.io/apiserver/pkg/storage/errors"
	utilfeature "k8s.io/apiserver/pkg/util/feature"

	"github.com/annex-api/annex/extension/internal/ring"
)

// Config is what a Resource must know beside its cache.
type Config struct {
	// Kind and Singular are what the kind and one of its objects are called.
	Kind, Singular string
	// Categories and ShortNames are those of discovery.
	Categories, ShortNames []string
	// Table makes rows of objects; nil gives name and age.
	Table rest.TableConvertor
	// Allowed says whether the caller of ctx may see an object, for the verb get, list
	// or watch, write it, for create, update and delete, and use a subresource, whose name
	// is the verb then. Nil allows all. It must not change the object, and is asked from
	// many goroutines. A panic of it is a 500 for that request.
	Allowed func(ctx context.Context, verb string, object runtime.Object) bool
	// Read is called before a get, a list or a watch is served, and what it gives when that is
	// over. Nil does nothing.
	Read func(ctx context.Context) (done func())
}

// Resource serves one kind for reading. Writers do not exist, so that discovery says
// get, list and watch.
type Resource struct {
	rest.TableConvertor

	config Config
	cache  *ring.Cache

	// watches are those that are filtered.
	watches sync.WaitGroup
	mu      sync.Mutex
	stopped bool
	stop    chan struct{}
}

var (
	_ rest.StorageWithReadiness = &Resource{}
	_ rest.Getter               = &Resource{}
	_ rest.Lister               = &Resource{}
	_ rest.Watcher              = &Resource{}
	_ rest.Scoper               = &Resource{}
	_ rest.KindProvider         = &Resource{}
	_ rest.SingularNameProvider = &Resource{}
	_ rest.ShortNamesProvider   = &Resource{}
	_ rest.CategoriesProvider   = &Resource{}
)

// New serves what is in a cache. Destroy ends the cache with it.
func New(cache *ring.Cache, config Config) *Resource {
	if config.Table == nil {
		config.Table = rest.NewDefaultTableConvertor(cache.Resource())
	}
	if config.Read == nil {
		config.Read = func(context.Context) func() { return func() {} }
	}
	return &Resource{TableConvertor: config.Table, config: config, cache: cache, stop: make(chan struct{})}
}

// New makes an empty object.
func (r *Resource) New() runtime.Object { return r.cache.New() }

// NewList makes an empty list.
func (r *Resource) NewList() runtime.Object { return r.cache.NewList() }

// NamespaceScoped says whether objects have namespaces.
func (r *Resource) NamespaceScoped() bool { return r.cache.Namespaced() }

// Kind is what the kind is called.
func (r *Resource) Kind() string { return r.config.Kind }

// GetSingularName is what one object is called.
func (r *Resource) GetSingularName() string { return r.config.Singular }

// ShortNames are other names for kubectl.
func (r *Resource) ShortNames() []string { return r.config.ShortNames }

// Categories are the groups of kinds that this one is in.
func (r *Resource) Categories() []string { return r.config.Categories }

// ReadinessCheck says why nothing can be read now.
func (r *Resource) ReadinessCheck() error { return r.cache.ReadinessCheck() }

// Destroy ends all watches, waits for them, and ends the cache. It may be called again.
func (r *Resource) Destroy() {
	r.mu.Lock()
	if !r.stopped {
		r.stopped = true
		close(r.stop)
	}
	r.mu.Unlock()
	r.cache.Stop()
	r.watches.Wait()
}

// Get implements rest.Getter. What the caller may not see is not there.
func (r *Resource) Get(ctx context.Context, name string, options *metav1.GetOptions) (runtime.Object, error) {
	if options == nil {
		options = &metav1.GetOptions{}
	}
	if wrong := content.IsPathSegmentName(name); len(wrong) > 0 {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("the name %q is invalid: %v", name, wrong))
	}
	a, err := ofVersion(notOlder, options.ResourceVersion)
	if err != nil {
		return nil, err
	}
	if err := r.available(ctx); err != nil {
		return nil, err
	}
	defer r.config.Read(ctx)()
	if err := r.admit(ctx, a); err != nil {
		return nil, err
	}
	object := r.New()
	key := r.cache.Ring.Key(r.namespace(ctx), name)
	if err := r.cache.Get(ctx, key, storage.GetOptions{ResourceVersion: options.ResourceVersion}, object); err != nil {
		return nil, storeerr.InterpretGetError(err, r.cache.Resource(), name)
	}
	r.bringUpToDate(reflect.ValueOf(object).Elem())
	switch visible, err := r.visible(ctx, "get", object); {
	case err != nil:
		return nil, err
	case !visible:
		return nil, apierrors.NewNotFound(r.cache.Resource(), name)
	}
	return own(object), nil
}

// ForSubresource gives the objects that the caller may use a subresource of. Who may see one and
// not use it gets 403.
func (r *Resource) ForSubresource(name string) rest.Getter { return forSubresource{r, name} }

type forSubresource struct {
	*Resource
	verb string
}

// Get implements rest.Getter.
func (s forSubresource) Get(ctx context.Context, name string, options *metav1.GetOptions) (runtime.Object, error) {
	object, err := s.Resource.Get(ctx, name, options)
	if err != nil {
		return nil, err
	}
	return object, s.may(ctx, s.verb, name, object)
}

// List implements rest.Lister.
func (r *Resource) List(ctx context.Context, options *metainternalversion.ListOptions) (runtime.Object, error) {
	if options == nil {
		options = &metainternalversion.ListOptions{}
	}
	root := r.root(ctx)
	a, err := ofList(options, root)
	if err != nil {
		return nil, err
	}
	predicate, err := r.predicate(options)
	if err != nil {
		return nil, err
	}
	if err := r.available(ctx); err != nil {
		return nil, err
	}
	defer r.config.Read(ctx)()
	if err := r.admit(ctx, a); err != nil {
		return nil, err
	}
	list, err := r.visibleList(ctx, root, storage.ListOptions{
		ResourceVersion:      options.ResourceVersion,
		ResourceVersionMatch: options.ResourceVersionMatch,
		Predicate:            predicate,
		Recursive:            true,
	})
	if err != nil {
		return nil, storeerr.InterpretListError(err, r.cache.Resource())
	}
	return own(list), nil
}

// Watch implements rest.Watcher. What is wrong with its resourceVersion is said by
// an event, as the API does it.
func (r *Resource) Watch(ctx context.Context, options *metainternalversion.ListOptions) (watch.Interface, error) {
	if options == nil {
		options = &metainternalversion.ListOptions{}
	}
	a, err := ofWatch(options)
	if err != nil {
		return nil, err
	}
	predicate, err := r.predicate(options)
	if err != nil {
		return nil, err
	}
	if err := r.available(ctx); err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, r.config.Read(ctx)) // a watch is over when its request is
	if err := r.admit(ctx, a); err != nil {
		return failed(err), nil
	}
	w, err := r.cache.Watch(ctx, r.root(ctx), storage.ListOptions{
		ResourceVersion:   options.ResourceVersion,
		Predicate:         predicate,
		Recursive:         true,
		SendInitialEvents: options.SendInitialEvents,
	})
	if err != nil {
		return nil, storeerr.InterpretWatchError(err, r.cache.Resource(), "")
	}
	if r.config.Allowed == nil {
		return w, nil
	}
	return r.filter(ctx, w, a.need != following && (withInitialEvents(options) || options.SendInitialEvents == nil)), nil
}

// available waits shortly for the first objects, and for a cache that is about to be ready,
// and gives 503.
func (r *Resource) available(ctx context.Context) error {
	if r.cache.ReadinessCheck() == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := r.cache.Ring.Await(ctx); err != nil {
		return apierrors.NewServiceUnavailable(err.Error())
	}
	if err := r.cache.Wait(ctx); err != nil {
		return apierrors.NewServiceUnavailable(fmt.Sprintf("%s are not known yet: %v", r.cache.Resource(), err))
	}
	return nil
}

// predicate makes selectors of a request's options.
func (r *Resource) predicate(options *metainternalversion.ListOptions) (storage.SelectionPredicate, error) {
	p := storage.SelectionPredicate{
		Label: labels.Everything(), Field: fields.Everything(), GetAttrs: r.cache.Ring.Attributes,
		Limit: options.Limit, Continue: options.Continue, AllowWatchBookmarks: options.AllowWatchBookmarks,
	}
	if options.LabelSelector != nil {
		p.Label = options.LabelSelector
	}
	if options.FieldSelector != nil {
		p.Field = options.FieldSelector
	}
	if options.ShardSelector != "" && utilfeature.DefaultFeatureGate.Enabled(features.ShardedListAndWatch) {
		selector, err := sharding.Parse(options.ShardSelector)
		if err != nil {
			return p, apierrors.NewBadRequest(fmt.Sprintf("invalid shard selector: %v", err))
		}
		p.ShardSelector = selector
	}
	return p, nil
}

func (r *Resource) namespace(ctx context.Context) string {
	if !r.NamespaceScoped() {
		return ""
	}
	return request.NamespaceValue(ctx)
}

// root is the key below which the objects of a request are.
func (r *Resource) root(ctx context.Context) string {
	if namespace := r.namespace(ctx); namespace != "" {
		return r.cache.Ring.Prefix() + namespace + "/"
	}
	return r.cache.Ring.Prefix()
}

// own gives an answer that the handlers may write into. They set the kind of what
// they send; in a struct that is a copy's, in unstructured content the cache's.
func own(object runtime.Object) runtime.Object {
	if _, shared := object.(runtime.Unstructured); shared {
		return object.DeepCopyObject()
	}
	return object
}
