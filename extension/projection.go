package extension

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"reflect"
	"time"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/annex-api/annex/extension/internal/host"
	"github.com/annex-api/annex/extension/internal/kind"
	"github.com/annex-api/annex/extension/internal/projection"
	"github.com/annex-api/annex/extension/internal/registry"
	"github.com/annex-api/annex/extension/internal/ring"
	"github.com/annex-api/annex/extension/internal/server"
	"github.com/annex-api/annex/extension/internal/view"
)

// Projection is a kind whose objects are those of another API, O, shown as T. Clients get,
// list and watch them as any others; where there is From they also create, update, patch,
// apply and delete them.
//
// The server reads and writes with its own rights, whoever its client is: Allowed says who
// may do what. Names, namespaces, uids, finalizers, and when an object was created and
// deleted are those of the source.
//
// Who manages which field of a T is kept in the annotation PLURAL.managed-fields of the
// source, in the group of T. It knows nothing of what others write to the source.
type Projection[T, O any] struct {
	// GroupVersion, Names, Scope, Schema, Columns and SelectableFields are as in Resource.
	// Markers of status and scale do nothing here: the source is written as a whole.
	GroupVersion     schema.GroupVersion
	Names            Names
	Scope            Scope
	Schema           fs.FS
	Columns          []ColumnOf[T]
	SelectableFields func(obj *T) fields.Set
	// Sub are actions and streams; there is no part to Update.
	Sub []Subresource[T]

	// Source selects the objects that are shown.
	Source Source
	// To fills an empty T that has the metadata of the source; it may change labels,
	// annotations and owners. False shows nothing for it. An error is logged, and shows
	// nothing; where no object at all can be shown the kind answers 503. It must be a pure function of from: it is asked for every event, and again
	// for every write.
	To func(from *O, into *T) (shown bool, err error)
	// From writes what a client sent into the source, which is a copy of what is there, or
	// empty at a creation. Metadata has been dealt with, and From may change labels and
	// annotations. What it does not touch stays as it is, and so do fields that O does not
	// have, and labels, annotations and owners that To does not show: a client that sends one
	// of those gets 422. An error of apimachinery's is sent as it is, any other as 422 Invalid.
	//
	// Where there is From, resourceVersions are those of the source with a few bits more, so
	// that what one replica has shown can be written by another; every change of the source is
	// an event then, also one that To does not show.
	From func(ctx context.Context, obj *T, into *O) error

	// Allowed says whether the caller of ctx may get, list or watch an object, or create,
	// update or delete it; patches and apply are updates or creations. For an action or a
	// stream the verb is its name, after get. It is asked after the API server's own
	// authorization: about every object and event that is read, before a write about what is
	// there, and again about what would be there, also with all the metadata that the client
	// sent. What may not be got is answered 404, and anything else that is not allowed 403. It
	// must not change obj. Nil allows all.
	Allowed func(ctx context.Context, verb string, obj *T) bool

	// History bounds what is remembered for watches.
	History History

	// Validate and ValidateUpdate are as in Resource; old is what is shown now.
	Validate       func(ctx context.Context, obj *T) field.ErrorList
	ValidateUpdate func(ctx context.Context, obj, old *T) field.ErrorList
}

// Source are the objects behind a Projection.
type Source struct {
	// Resource is what they are called. The name of the type O is their kind.
	Resource schema.GroupVersionResource
	// Namespace confines them; empty means all. A Projection of scope Cluster shows objects
	// without a namespace, or those of one. Whether they have namespaces is asked at the start:
	// what does not fit is an error of New, or where the host could not be asked, 503.
	Namespace string
	// Labels and Fields are selectors, as kubectl takes them. New objects get the labels
	// that Labels asks for by "=".
	Labels, Fields string
	// Host leads to the API server that has them, as whoever may read and write them. Nil:
	// Config.Host.
	Host *rest.Config
	// Stale is how long they may be out of reach before the kind answers 503; zero means a
	// minute.
	Stale time.Duration
}

// addTo implements Part.
func (p Projection[T, O]) addTo(a *assembly) error {
	r := Resource[T, kind.List[T]]{
		GroupVersion: p.GroupVersion, Names: p.Names, Scope: p.Scope, Schema: p.Schema,
		Columns: p.Columns, SelectableFields: p.SelectableFields, Sub: p.Sub,
		Validate: p.Validate, ValidateUpdate: p.ValidateUpdate,
	}
	k, err := a.declare(r.definition, r.declare)
	if err != nil {
		return err
	}
	problems := &complaints{about: describe(k)}
	p.check(problems)
	p.History.check(problems)
	if p.Allowed != nil {
		checkVerbs(k, problems)
	}
	k.Status, k.Scale = nil, nil // the source is written as a whole
	a.views[k] = func(host *rest.Config, typer runtime.ObjectTyper) (server.View, error) {
		return p.open(k, host, typer)
	}
	if p.Source.Host == nil {
		a.rights = append(a.rights, p.right())
	}
	return problems.err()
}

func (p Projection[T, O]) check(c *complaints) {
	if p.To == nil {
		c.add("To", "it is missing")
	}
	if p.From == nil && (p.Validate != nil || p.ValidateUpdate != nil) {
		c.add("Validate, ValidateUpdate", "these are hooks of writes, and there are none without From")
	}
	for _, s := range p.Sub {
		if s.erased.Update != nil {
			c.add("Sub "+s.erased.Name, "a projection has no part to update: its source is written as a whole")
		}
	}
	c.object("O", new(O))
	if p.Source.Resource.Version == "" || p.Source.Resource.Resource == "" {
		c.add("Source.Resource", "it names no version or no resource, such as configmaps of v1")
	}
	if _, err := labels.Parse(p.Source.Labels); err != nil {
		c.add("Source.Labels", "%v", err)
	}
	if _, err := fields.ParseSelector(p.Source.Fields); err != nil {
		c.add("Source.Fields", "%v", err)
	}
}

// right is what the server must be allowed to do with the source.
func (p Projection[T, O]) right() host.Right {
	r := host.Right{
		For:   host.Feature("the projection of " + p.Source.Resource.GroupResource().String()),
		Group: p.Source.Resource.Group, Version: p.Source.Resource.Version, Resource: p.Source.Resource.Resource,
		Namespace: p.Source.Namespace, Verbs: []string{"list", "watch"},
	}
	if p.From != nil {
		r.Verbs = append(r.Verbs, "create", "update", "delete")
	}
	return r
}

func (p Projection[T, O]) open(k *kind.Kind, at *rest.Config, typer runtime.ObjectTyper) (server.View, error) {
	if p.Source.Host != nil {
		at = p.Source.Host
	}
	if at == nil {
		return server.View{}, fmt.Errorf("%s: Source.Host: it is missing, and the server has no Host", describe(k))
	}
	fast := rest.CopyConfig(at)
	fast.QPS = -1 // the host's own priority and fairness is the limit
	client, err := dynamic.NewForConfig(fast)
	if err != nil {
		return server.View{}, fmt.Errorf("%s: Source.Host: make a client: %w", describe(k), err)
	}
	selected, err := labels.Parse(p.Source.Labels)
	if err != nil {
		return server.View{}, err
	}
	fieldsSelected, err := fields.ParseSelector(p.Source.Fields)
	if err != nil {
		return server.View{}, err
	}
	resources, err := projection.Resources(fast)
	if err != nil {
		return server.View{}, fmt.Errorf("%s: Source.Host: make a client: %w", describe(k), err)
	}
	remembering := ringOf(k, p.History)
	remembering.ByMoment = p.From != nil
	storage, err := ring.NewStorage(remembering)
	if err != nil {
		return server.View{}, err
	}
	config := projection.Config{
		Kind: k, Resource: p.Source.Resource, SourceKind: reflect.TypeFor[O]().Name(),
		Namespace: p.Source.Namespace, Labels: selected, Fields: fieldsSelected,
		NewSource: func() any { return new(O) },
		To:        func(from any, into runtime.Object) (bool, error) { return p.To(from.(*O), any(into).(*T)) },
		Client:    client, Ring: storage, Stale: p.Source.Stale, Resources: resources,
	}
	if p.From != nil {
		config.From = func(ctx context.Context, obj runtime.Object, into any) error {
			return p.From(ctx, any(obj).(*T), into.(*O))
		}
	}
	source, err := projection.New(config)
	if err != nil {
		return server.View{}, err
	}
	// A host that cannot be asked now is asked again by Run.
	if misfit := (*projection.MisfitError)(nil); errors.As(source.Fit(context.Background()), &misfit) {
		return server.View{}, fmt.Errorf("%s: %w", describe(k), misfit)
	}
	reading, err := viewOf(k, storage, p.Allowed, nil)
	if err != nil {
		return server.View{}, err
	}
	if p.From == nil {
		return server.View{Resource: reading, Run: source.Run}, nil
	}
	strategy, err := registry.StrategyOf(k, typer)
	if err != nil {
		reading.Destroy()
		return server.View{}, errors.Join(fmt.Errorf("%s", describe(k)), err)
	}
	return server.View{Resource: view.NewWritable(reading, strategy, source), Run: source.Run}, nil
}
