package extension

import (
	"context"
	"io/fs"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	schemas "github.com/annex-api/annex/extension/internal/schema"
)

// Resource is a kind that is stored. T is its type in the hub version and L the type of
// its list, which has Items []T; *T and *L are Kubernetes objects with deep copies. The
// zero value of every field but GroupVersion is useful.
//
// The context of a hook is that of the request: [CallerOf] and [RequestOf] read it. A hook
// must not keep the objects that it gets, and Value of a column and SelectableFields must
// not change them: others read them at the same time.
type Resource[T, L any] struct {
	// GroupVersion is that of the hub.
	GroupVersion schema.GroupVersion
	// Names are the kind's; what is empty comes from the Schema, then from T's name.
	Names Names
	// Scope is Namespaced unless the Schema or this says Cluster.
	Scope Scope
	// Schema holds the CustomResourceDefinitions that controller-gen wrote from T's
	// markers, as YAML files in any folder. Defaults, validation, CEL rules, columns,
	// selectable fields, scale and status come from it, and OpenAPI with its comments.
	// Without it the kind is validated by its hooks alone, and OpenAPI comes from T.
	Schema fs.FS

	// PrepareForCreate and PrepareForUpdate normalize what a client sent, before it is
	// validated. They may change obj only. Status and metadata have been dealt with.
	PrepareForCreate func(ctx context.Context, obj *T)
	PrepareForUpdate func(ctx context.Context, obj, old *T)
	// PrepareForDelete may change an object that is about to be marked as being deleted
	// because its finalizers keep it. It may be called more than once for one deletion.
	PrepareForDelete func(ctx context.Context, obj *T)

	// Validate and ValidateUpdate run after the schema's own validation has passed.
	// Without ValidateUpdate, Validate is asked about updates too.
	Validate       func(ctx context.Context, obj *T) field.ErrorList
	ValidateUpdate func(ctx context.Context, obj, old *T) field.ErrorList
	// ValidateDelete refuses a deletion by an error: one of apimachinery's is sent as it
	// is, any other as 403 Forbidden.
	ValidateDelete func(ctx context.Context, obj *T) error

	// WarningsOnCreate and WarningsOnUpdate are sent to the client as warnings.
	WarningsOnCreate func(ctx context.Context, obj *T) []string
	WarningsOnUpdate func(ctx context.Context, obj, old *T) []string

	// Default sets what markers cannot say. It runs after the schema's defaults, on what
	// clients send and on what is read from storage, and must not depend on time.
	Default func(obj *T)

	// Status makes the field "status" a subresource: the main resource ignores it,
	// /status changes nothing else, and generation does not grow with it.
	Status bool
	// PrepareForStatusUpdate and ValidateStatusUpdate are the hooks of /status.
	PrepareForStatusUpdate func(ctx context.Context, obj, old *T)
	ValidateStatusUpdate   func(ctx context.Context, obj, old *T) field.ErrorList

	// Scale makes the subresource scale; nil means as the Schema says.
	Scale *Scale
	// Columns are those of `kubectl get` between Name and Age; nil means as the Schema
	// says.
	Columns []ColumnOf[T]
	// SelectableFields are what field selectors may name beside metadata.name and
	// metadata.namespace; nil means as the Schema says. It always has the same keys.
	SelectableFields func(obj *T) fields.Set
	// Indexed is the one of SelectableFields by which watches are looked up, if many
	// clients watch with it.
	Indexed string

	// Versions are the other versions.
	Versions []SpokeOf[T]
	// StorageVersion is the name of a spoke to be stored in place of the hub, while a
	// release that cannot read the hub still runs. What the spoke cannot say is stored
	// with it, in an annotation that the older release keeps and shows; such objects take
	// up to twice the space.
	StorageVersion string
	// Sub are further subresources.
	Sub []Subresource[T]
	// CreateOnUpdate lets PUT create an object. Apply always may.
	CreateOnUpdate bool
	// RequireResourceVersion refuses a PUT that does not say by a resourceVersion which
	// state it replaces, with 422, as custom resources do. Without it such a PUT replaces
	// whatever there is, as that of most of Kubernetes' own kinds does.
	RequireResourceVersion bool

	// described gives the definitions that take the place of Schema; see FromCRD.
	described func() ([]*schemas.Definition, error)
}

// Names are what a kind is called.
type Names struct {
	// Kind is as in objects, such as Widget; List is its list's, WidgetList.
	Kind, List string
	// Plural is its name in paths, Singular that on the command line: widgets, widget.
	Plural, Singular string
	// Short are short forms for the command line.
	Short []string
	// Categories are groups of resources that it is listed with, such as all.
	Categories []string
}

// Scope says whether a kind's objects are in namespaces.
type Scope int

// The scopes. FromSchema is Namespaced where there is no schema.
const (
	FromSchema Scope = iota
	Namespaced
	Cluster
)

// Scale says where the replicas of a kind are, by paths like ".spec.replicas". Selector
// may be empty.
type Scale struct{ SpecReplicas, StatusReplicas, Selector string }

// ColumnOf is a column of `kubectl get`.
type ColumnOf[T any] struct {
	Name        string
	Description string
	// Type is string, integer, number, boolean or date; empty means string. A date is
	// shown as how long ago it was.
	Type string
	// Wide shows the column with `-o wide` only.
	Wide  bool
	Value func(obj *T) any
}

// Column is a ColumnOf with a name and a value.
func Column[T any](name string, value func(obj *T) any) ColumnOf[T] {
	return ColumnOf[T]{Name: name, Value: value}
}

// Columns is a list of columns; it lets the compiler infer T.
func Columns[T any](columns ...ColumnOf[T]) []ColumnOf[T] { return columns }
