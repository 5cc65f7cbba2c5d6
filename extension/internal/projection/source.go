package projection

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
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
	// Resources gives what the API server of the source serves in a group version. Nil: it is
	// not asked whether the source fits the kind.
	Resources func(context.Context, schema.GroupVersion) (*metav1.APIResourceList, error)
}

// Source are the objects behind a kind.
type Source struct {
	Config
	seen *seen
	// fits says that Fit has found nothing wrong.
	fits atomic.Bool
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
	f := newFollower(s, klog.FromContext(ctx).WithValues("resource", s.Kind.Resource().String()))
	if !f.awaitFit(ctx) {
		return nil
	}
	watcher := &cache.ListWatch{ListWithContextFunc: f.list, WatchFuncWithContext: f.watch}
	cache.NewReflectorWithOptions(watcher, &unstructured.Unstructured{}, f, cache.ReflectorOptions{
		Name:            "projection of " + s.Kind.Resource().String(),
		TypeDescription: s.Resource.String(),
	}).RunWithContext(ctx)
	return nil
}

// moment is that of a source, where what is shown of it can be written: by it clients' writes
// are told from outdated ones at every replica.
func (s *Source) moment(version string) ring.Moment {
	if s.From == nil {
		return 0
	}
	return ring.ParseMoment(version)
}

// namespaceOf is the namespace in which a source is shown.
func (s *Source) namespaceOf(u *unstructured.Unstructured) string {
	if !s.Kind.Namespaced {
		return ""
	}
	return u.GetNamespace()
}
