package extension

import (
	"context"
	"io/fs"
	"slices"
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
	// GroupVersion, Names, Scope, Schema, Columns and SelectableFields are as in Resource.
	// Markers of status and scale do nothing here.
	GroupVersion     schema.GroupVersion
	Names            Names
	Scope            Scope
	Schema           fs.FS
	Columns          []ColumnOf[T]
	SelectableFields func(obj *T) fields.Set
	// Sub are actions and streams; there is no part to Update.
	Sub []Subresource[T]

	// List gives all objects, each with a name, and a namespace if the kind has them. It is
	// called once at the start, then whenever Changed says so or Every has passed, and never
	// twice at a time; it runs for nobody in particular, so that ctx has no caller. What
	// differs from the last answer becomes events of watches. An error, a panic, or an answer
	// that cannot be served leaves the last one standing; before the first one and after Stale
	// the kind answers 503.
	List func(ctx context.Context) ([]T, error)
	// Changed wakes List; a burst costs one call. Nil and a closed channel wake nobody.
	Changed <-chan struct{}
	// Every is how often List is called without being woken; zero means never.
	Every time.Duration
	// OnDemand has List called only while somebody reads. While there are watches it is called
	// as Changed and Every say. A get, a list or a new watch waits for an answer, for a second
	// at most, where the last one is older than Every, or Changed has said something since.
	OnDemand bool
	// Stale is how long List may fail; zero means a minute.
	Stale time.Duration
	// Equal says that two objects are the same to a watcher, who is told nothing then. A get and
	// a list show the newer one all the same. It has to heed labels, annotations, and what
	// SelectableFields gives. Nil compares everything but metadata.resourceVersion.
	Equal func(a, b *T) bool

	// Allowed says whether the caller of ctx may see an object, for the verbs get, list and
	// watch, or use an action or a stream of it, whose name is the verb then, after get. It is
	// asked about every object and every event, after the API server's own authorization. What
	// may not be got is answered 404, and an action that is not allowed 403. It must not change
	// obj. Nil allows all.
	Allowed func(ctx context.Context, verb string, obj *T) bool

	// History bounds what is remembered for watches.
	History History
}

// History bounds the events that a kind remembers which is not stored, so that watches can go
// on where they were cut off. A client that is behind it lists again.
//
// The watch cache in front keeps the last hundred events whatever their size, and up to twice
// Bytes.
type History struct {
	// Age is how long an event is remembered; zero means 5 minutes.
	Age time.Duration
	// Bytes is about how much they may take, beside the objects that there are; zero means
	// 64 MiB. It does not count what came in the last 2 seconds.
	Bytes int64
}

func (h History) check(c *complaints) {
	if h.Age < 0 || h.Bytes < 0 {
		c.add("History", "it is negative")
	}
}

func (h History) window() ring.Window {
	w := ring.DefaultWindow()
	if h.Age > 0 {
		w.Age = h.Age
	}
	if h.Bytes > 0 {
		w.Bytes = h.Bytes
	}
	return w
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
	c.History.check(problems)
	if c.Allowed != nil {
		checkVerbs(k, problems)
	}
	k.Status, k.Scale = nil, nil // they are for what is written
	a.views[k] = func(*rest.Config, runtime.ObjectTyper) (server.View, error) { return c.open(k) }
	return problems.err()
}

func (c Computed[T]) open(k *kind.Kind) (server.View, error) {
	config := ringOf(k, c.History)
	if c.Equal != nil {
		config.Equal = func(old, obj runtime.Object) bool { return c.Equal(any(old).(*T), any(obj).(*T)) }
	}
	storage, err := ring.NewStorage(config)
	if err != nil {
		return server.View{}, err
	}
	var demand *refresh.Demand
	var read func(context.Context) func()
	if c.OnDemand {
		demand = refresh.NewDemand(c.Every)
		read = demand.Read
	}
	reading, err := viewOf(k, storage, c.Allowed, read)
	if err != nil {
		return server.View{}, err
	}
	return server.View{Resource: reading, Run: func(ctx context.Context) error {
		refresh.Run(ctx, refresh.Config{
			List:    func(ctx context.Context) ([]runtime.Object, error) { return pointers(c.List(ctx)) },
			Changed: c.Changed, Every: c.Every, Demand: demand, Stale: c.Stale, Target: storage,
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

// checkVerbs refuses subresources that Allowed could not tell from what is done with the object
// itself.
func checkVerbs(k *kind.Kind, c *complaints) {
	for _, s := range k.Subresources {
		if slices.Contains([]string{"get", "list", "watch", "create", "update", "delete"}, s.Name) {
			c.add("Sub "+s.Name, "Allowed is asked with its name for a verb, and this is one already: name it otherwise")
		}
	}
}

func ringOf(k *kind.Kind, h History) ring.Config {
	return ring.Config{
		Resource: k.Resource(), Namespaced: k.Namespaced, New: k.New, NewList: k.NewList,
		Attributes: server.Attributes(k), Replica: ring.NewReplica(), Window: h.window(),
	}
}

func viewOf[T any](k *kind.Kind, storage *ring.Storage, allowed func(context.Context, string, *T) bool, read func(context.Context) func()) (*view.Resource, error) {
	cache, err := ring.NewCache(storage)
	if err != nil {
		return nil, err
	}
	config := view.Config{
		Kind: k.Names.Kind, Singular: k.Names.Singular, Categories: k.Names.Categories, ShortNames: k.Names.Short,
		Table: table.New(k.Columns), Read: read,
	}
	if allowed != nil {
		config.Allowed = func(ctx context.Context, verb string, obj runtime.Object) bool {
			return allowed(ctx, verb, any(obj).(*T))
		}
	}
	return view.New(cache, config), nil
}
