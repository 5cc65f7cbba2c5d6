// Package registry serves stored kinds: create, read, update, patch, apply, delete, list
// and watch over k8s.io/apiserver's generic store, with a user's hooks in their places,
// and the subresources beside them.
package registry

import (
	"fmt"
	"maps"
	"runtime/debug"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/registry/generic"
	"k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/names"

	"github.com/annex-api/annex/extension/internal/kind"
	"github.com/annex-api/annex/extension/internal/table"
)

// Options are what a kind is served with.
type Options struct {
	// Scheme holds the kind.
	Scheme *runtime.Scheme
	// Storage says where its objects are kept.
	Storage generic.RESTOptionsGetter
	// Allow is asked where a stream is more than a reading; nil allows.
	Allow authorizer.UnconditionalAuthorizer
	// Sessions are the actions and streams of the server.
	Sessions *Sessions
}

// New opens the store of a kind. The result has the kind's resource and its
// subresources by the paths that serve them: "widgets", "widgets/status".
func New(k *kind.Kind, o Options) (map[string]rest.Storage, error) {
	p, err := partsOf(k)
	if err != nil {
		return nil, err
	}
	main := strategy{ObjectTyper: o.Scheme, NameGenerator: names.SimpleNameGenerator, kind: k, parts: p}
	store := &registry.Store{
		NewFunc:                   k.New,
		NewListFunc:               k.NewList,
		PredicateFunc:             predicate(k),
		DefaultQualifiedResource:  k.Resource(),
		SingularQualifiedResource: schema.GroupResource{Group: k.Hub.Group, Resource: k.Names.Singular},
		CreateStrategy:            main,
		UpdateStrategy:            main,
		DeleteStrategy:            main,
		TableConvertor:            table.New(k.Columns),
	}
	options := &generic.StoreOptions{RESTOptions: o.Storage, AttrFunc: Attributes(k)}
	if k.Indexed != "" {
		options.TriggerFunc = storage.IndexerFuncs{k.Indexed: func(obj runtime.Object) string { return selectable(k, obj)[k.Indexed] }}
	}
	if err := store.CompleteWithOptions(options); err != nil {
		return nil, fmt.Errorf("open the store of %s: %w", k.Resource(), err)
	}
	out := map[string]rest.Storage{k.Names.Plural: &resource{Store: store, kind: k, ResetFieldsFilterStrategy: main, page: deletePage}}
	add := func(name string, s rest.Storage) { out[k.Names.Plural+"/"+name] = s }
	if k.Status != nil {
		add("status", newPartial(k, store, statusStrategy{main}))
	}
	if k.Scale != nil {
		add("scale", &scale{store: store, kind: k})
	}
	for _, s := range k.Subresources {
		switch {
		case s.Update != nil:
			add(s.Name, newPartial(k, store, updateStrategy{strategy: main, update: s.Update}))
		default:
			add(s.Name, ofObject(k, s, store, o))
		}
	}
	return out, nil
}

// Viewed serves a kind that something else keeps.
type Viewed interface {
	rest.Storage
	// ForSubresource gives the objects that the caller may use a subresource of.
	ForSubresource(name string) rest.Getter
}

// View gives what serves a kind that something else keeps, with its subresources. Of the
// options it needs those of subresources.
func View(k *kind.Kind, main Viewed, o Options) map[string]rest.Storage {
	out := map[string]rest.Storage{k.Names.Plural: main}
	for _, s := range k.Subresources {
		out[k.Names.Plural+"/"+s.Name] = ofObject(k, s, main.ForSubresource(s.Name), o)
	}
	return out
}

// ofObject serves an action or a stream.
func ofObject(k *kind.Kind, s kind.Subresource, of rest.Getter, o Options) rest.Storage {
	path := k.Names.Plural + "/" + s.Name
	common := func(most int) subresource {
		return subresource{sessions: o.Sessions, room: newShares(path, most, most/userShare), store: of, kind: k, name: s.Name}
	}
	if s.Action != nil {
		return &action{
			subresource: common(maxActions), typer: o.Scheme, action: s.Action,
			running: newShares(path, maxActions, maxActions/userShare), body: actionBody,
		}
	}
	return &connect{subresource: common(maxStreams), allow: o.Allow, connect: s.Connect}
}

func predicate(k *kind.Kind) func(labels.Selector, fields.Selector) storage.SelectionPredicate {
	attrs := Attributes(k)
	return func(label labels.Selector, field fields.Selector) storage.SelectionPredicate {
		p := storage.SelectionPredicate{Label: label, Field: field, GetAttrs: attrs}
		if k.Indexed != "" {
			p.IndexFields = []string{k.Indexed}
		}
		return p
	}
}

// Attributes gives what label and field selectors are matched against. It runs in the
// watch cache, where a panic would end the process.
func Attributes(k *kind.Kind) storage.AttrFunc {
	return func(obj runtime.Object) (labels.Set, fields.Set, error) {
		m, err := meta.Accessor(obj)
		if err != nil {
			return nil, nil, err
		}
		set := selectable(k, obj)
		set["metadata.name"] = m.GetName()
		if k.Namespaced {
			set["metadata.namespace"] = m.GetNamespace()
		}
		return labels.Set(m.GetLabels()), set, nil
	}
}

// selectable gives the fields that an object can be selected by. Where the user's function
// panics they are empty: an error would have the watch cache lose the object.
func selectable(k *kind.Kind, obj runtime.Object) (set fields.Set) {
	set = fields.Set{}
	if k.Fields == nil {
		return set
	}
	defer func() {
		if p := recover(); p != nil {
			utilruntime.HandleError(fmt.Errorf("the selectable fields of %s: panic: %v\n%s", k.Resource(), p, debug.Stack()))
			set = fields.Set{}
			for _, name := range k.FieldNames {
				set[name] = ""
			}
		}
	}()
	maps.Copy(set, k.Fields(obj))
	return set
}

// partial is a subresource that shows an object and changes a part of it.
type partial struct {
	store *registry.Store
	kind  *kind.Kind
	rest.ResetFieldsFilterStrategy
}

var (
	_ rest.Patcher        = &partial{}
	_ rest.TableConvertor = &partial{}
)

type partialStrategy interface {
	rest.RESTUpdateStrategy
	rest.ResetFieldsFilterStrategy
}

func newPartial(k *kind.Kind, store *registry.Store, s partialStrategy) *partial {
	own := *store
	own.UpdateStrategy = s
	return &partial{store: &own, kind: k, ResetFieldsFilterStrategy: s}
}
