package extension

import (
	"context"
	"io/fs"
	"time"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	"github.com/annex-api/annex/extension/internal/kind"
	"github.com/annex-api/annex/extension/internal/ring"
	"github.com/annex-api/annex/extension/internal/ring/refresh"
	"github.com/annex-api/annex/extension/internal/server"
	"github.com/annex-api/annex/extension/internal/table"
	"github.com/annex-api/annex/extension/internal/view"
)

// Computed is a kind whose objects are not stored: List makes them up. Clients get, list
// and watch them as any others; they write none.
type Computed[T any] struct {
	GroupVersion schema.GroupVersion
	// Names, Scope, Schema and Columns are as in Resource.
	Names   Names
	Scope   Scope
	Schema  fs.FS
	Columns []ColumnOf[T]
	// SelectableFields is as in Resource.
	SelectableFields func(obj *T) fields.Set
	// Sub are actions and streams.
	Sub []Subresource[T]

	// List gives all objects. It is called once at the start, then whenever Changed says so
	// or Every has passed, and never twice at a time. What differs from the last answer
	// becomes events of watches. An error leaves the last answer standing; after Stale
	// the kind answers 503.
	List func(ctx context.Context) ([]T, error)
	// Changed wakes List; a burst costs one call.
	Changed <-chan struct{}
	// Every is how often List is called without being woken; zero means never.
	Every time.Duration
	// Stale is how long List may fail; zero means a minute.
	Stale time.Duration
	// Equal says that two objects are the same to a watcher; nil compares everything but
	// metadata.resourceVersion.
	Equal func(a, b *T) bool

	// Allowed says whether the caller of ctx may see an object, for the verbs get, list and
	// watch. It is asked about every object and every event, after the API server's own
	// authorization. Nil allows all.
	Allowed func(ctx context.Context, verb string, obj *T) bool
}

// addTo implements Part.
func (c Computed[T]) addTo(a *assembly) error {
	r := Resource[T, kind.List[T]]{
		GroupVersion: c.GroupVersion, Names: c.Names, Scope: c.Scope, Schema: c.Schema,
		Columns: c.Columns, SelectableFields: c.SelectableFields, Sub: c.Sub,
	}
	k, err := a.declare(r.definition, r.declare)
	if err != nil {
		return err
	}
	problems := &complaints{about: describe(k)}
	if c.List == nil {
		problems.add("List", "it is missing")
	}
	for _, s := range c.Sub {
		if s.erased.Update != nil {
			problems.add("Sub "+s.erased.Name, "objects that are not stored have no part to update")
		}
	}
	k.Status, k.Scale = nil, nil // they are for what is written
	a.views[k] = func(*rest.Config, runtime.ObjectTyper) (server.View, error) { return c.open(k) }
	return problems.err()
}

func (c Computed[T]) open(k *kind.Kind) (server.View, error) {
	config := ringOf(k)
	if c.Equal != nil {
		config.Equal = func(old, obj runtime.Object) bool { return c.Equal(any(old).(*T), any(obj).(*T)) }
	}
	storage, err := ring.NewStorage(config)
	if err != nil {
		return server.View{}, err
	}
	reading, err := viewOf(k, storage, c.Allowed)
	if err != nil {
		return server.View{}, err
	}
	return server.View{Resource: reading, Run: func(ctx context.Context) error {
		refresh.Run(ctx, refresh.Config{
			List:    func(ctx context.Context) ([]runtime.Object, error) { return pointers(c.List(ctx)) },
			Changed: c.Changed, Every: c.Every, Stale: c.Stale, Target: storage,
		})
		return nil
	}}, nil
}

func pointers[T any](items []T, err error) ([]runtime.Object, error) {
	if err != nil {
		return nil, err
	}
	out := make([]runtime.Object, len(items))
	for i := range items {
		out[i] = any(&items[i]).(runtime.Object)
	}
	return out, nil
}

func ringOf(k *kind.Kind) ring.Config {
	return ring.Config{
		Resource: k.Resource(), Namespaced: k.Namespaced, New: k.New, NewList: k.NewList,
		Attributes: server.Attributes(k), Replica: ring.NewReplica(),
	}
}

func viewOf[T any](k *kind.Kind, storage *ring.Storage, allowed func(context.Context, string, *T) bool) (*view.Resource, error) {
	cache, err := ring.NewCache(storage)
	if err != nil {
		return nil, err
	}
	config := view.Config{
		Kind: k.Names.Kind, Singular: k.Names.Singular, Categories: k.Names.Categories, ShortNames: k.Names.Short,
		Table: table.New(k.Columns),
	}
	if allowed != nil {
		config.Allowed = func(ctx context.Context, verb string, obj runtime.Object) bool {
			return allowed(ctx, verb, any(obj).(*T))
		}
	}
	return view.New(cache, config), nil
}
