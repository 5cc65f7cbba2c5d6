// Package kind says what a kind is: its names, its versions, its hooks and its
// subresources, without generics and without anything of k8s.io/apiserver.
//
// Package extension makes a Kind of each Resource that a user declares. All that
// serves kinds knows them by this type alone. A Kind is not changed once it is made.
package kind

import (
	"context"
	"net/http"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Names are what a kind is called.
type Names struct {
	Kind, List       string // in objects: Widget, WidgetList
	Plural, Singular string // in paths and on the command line: widgets, widget
	Short            []string
	Categories       []string
}

// Kind is a stored kind. The hub is the version that its hooks see and that all others
// are converted to.
type Kind struct {
	Hub        schema.GroupVersion
	Names      Names
	Namespaced bool
	// New and NewList make empty objects of the hub.
	New, NewList func() runtime.Object
	// Untyped is nil for a kind with a Go type.
	Untyped *Untyped
	// Spokes are the other versions.
	Spokes []Spoke
	// StorageVersion is the version that objects are stored in; that of the hub, or of a spoke.
	StorageVersion string
	// Schemas are those of versions, by name; a version may have none.
	Schemas map[string]Schema
	// Lists are the lists of the hub whose items are told apart by fields.
	Lists *Lists

	Hooks Hooks
	// Status is nil where a kind has no such subresource.
	Status *StatusHooks
	// Scale is nil where a kind has no such subresource.
	Scale *Scale
	// Columns are those between Name and Age.
	Columns []Column
	// Fields are what field selectors may name beside metadata.name and
	// metadata.namespace; FieldNames are its keys. Nil where there are none.
	Fields     func(runtime.Object) fields.Set
	FieldNames []string
	// Indexed is one of FieldNames, or empty.
	Indexed        string
	Subresources   []Subresource
	CreateOnUpdate bool
	// RequireResourceVersion refuses a PUT that names no resourceVersion.
	RequireResourceVersion bool
}

// Resource is the kind's name with its group, as errors and rules name it.
func (k *Kind) Resource() schema.GroupResource {
	return schema.GroupResource{Group: k.Hub.Group, Resource: k.Names.Plural}
}

// Served are the versions that clients can use, the hub's first.
func (k *Kind) Served() []string {
	served := []string{k.Hub.Version}
	for _, s := range k.Spokes {
		if !s.NotServed {
			served = append(served, s.Version)
		}
	}
	return served
}

// Version gives what New and NewList make in a version.
func (k *Kind) Version(name string) (object, list func() runtime.Object, ok bool) {
	if name == k.Hub.Version {
		return k.New, k.NewList, true
	}
	if i := slices.IndexFunc(k.Spokes, func(s Spoke) bool { return s.Version == name }); i >= 0 {
		return k.Spokes[i].New, k.Spokes[i].NewList, true
	}
	return nil, nil, false
}

// Spoke is a version beside the hub.
type Spoke struct {
	Version      string
	New, NewList func() runtime.Object
	// ToHub and FromHub fill an empty object of the other type.
	ToHub, FromHub func(from, to runtime.Object) error
	// Deprecated is the warning that answers carry; empty where it is none.
	Deprecated string
	// NotServed versions are read from storage only.
	NotServed bool
	// Replicas is where the spoke has what Scale.SpecReplicas is in the hub; empty where it
	// has no such field.
	Replicas string
}

// Schema is what a version's schema does. Each function may be nil.
type Schema struct {
	// Default sets defaults in an object of the version.
	Default func(runtime.Object)
	// Prune removes what the version does not know, and gives the paths of it. It is for
	// untyped kinds alone.
	Prune func(content map[string]any) (unknown []string)
	// Validate checks an object of the version; old is nil at a creation.
	Validate func(ctx context.Context, obj, old runtime.Object) field.ErrorList
}

// Hooks are what a user adds to how a kind is served. Each may be nil. Their context
// is that of a request, and obj and old are objects of the hub.
type Hooks struct {
	PrepareForCreate func(ctx context.Context, obj runtime.Object)
	PrepareForUpdate func(ctx context.Context, obj, old runtime.Object)
	PrepareForDelete func(ctx context.Context, obj runtime.Object)
	Validate         func(ctx context.Context, obj runtime.Object) field.ErrorList
	ValidateUpdate   func(ctx context.Context, obj, old runtime.Object) field.ErrorList
	ValidateDelete   func(ctx context.Context, obj runtime.Object) error
	WarningsOnCreate func(ctx context.Context, obj runtime.Object) []string
	WarningsOnUpdate func(ctx context.Context, obj, old runtime.Object) []string
	Default          func(obj runtime.Object)
}

// StatusHooks are those of the subresource status.
type StatusHooks struct {
	PrepareForUpdate func(ctx context.Context, obj, old runtime.Object)
	ValidateUpdate   func(ctx context.Context, obj, old runtime.Object) field.ErrorList
}

// Scale says where the replicas of a kind are, by paths such as ".spec.replicas".
type Scale struct{ SpecReplicas, StatusReplicas, Selector string }

// Column is a column of tables.
type Column struct {
	metav1.TableColumnDefinition
	Value func(obj runtime.Object) any
}

// Subresource is a path below an object. Just one of Update, Action and Connect is set.
type Subresource struct {
	Name    string
	Update  *Update
	Action  *Action
	Connect *Connect
}

// Update changes a part of an object.
type Update struct {
	// Keep undoes in obj what the subresource may not change.
	Keep     func(ctx context.Context, obj, old runtime.Object)
	Validate func(ctx context.Context, obj, old runtime.Object) field.ErrorList
	// Fields are the paths that it may change, such as ".spec.nodeName".
	Fields []string
}

// Action does something with an object.
type Action struct {
	// NewIn makes what a body is decoded into, NewOut an empty answer.
	NewIn, NewOut func() any
	Do            func(ctx context.Context, obj runtime.Object, in any) (out any, err error)
}

// Connect gives a request away.
type Connect struct {
	Methods []string
	Serve   func(ctx context.Context, obj runtime.Object) (http.Handler, error)
}
