package extension

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	runtimeschema "k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/annex-api/annex/extension/internal/kind"
	"github.com/annex-api/annex/extension/internal/schema"
)

func isUntyped[T any]() bool {
	return reflect.TypeFor[T]() == reflect.TypeFor[unstructured.Unstructured]()
}

// addUntyped adds a kind without a Go type.
func (r Resource[T, L]) addUntyped(a *assembly) error {
	if reflect.TypeFor[L]() != reflect.TypeFor[unstructured.UnstructuredList]() {
		return fmt.Errorf("a kind without a Go type: L: it is %v; SchemaOnly has the right one", reflect.TypeFor[L]())
	}
	d, err := r.untypedDefinition()
	if err != nil {
		return err
	}
	r.GroupVersion.Group = d.Group
	if r.GroupVersion.Version == "" {
		r.GroupVersion.Version = d.Stored()
	}
	_, err = a.declare(func() (*schema.Definition, error) { return d, nil }, r.declareUntyped)
	return err
}

// untypedDefinition finds the one definition that GroupVersion and Names leave.
func (r Resource[T, L]) untypedDefinition() (*schema.Definition, error) {
	fail := func(format string, args ...any) (*schema.Definition, error) {
		return nil, fmt.Errorf("a kind without a Go type: Schema: %w", fmt.Errorf(format, args...))
	}
	read := r.described
	switch {
	case read == nil && r.Schema == nil:
		return fail("it is missing: nothing else says what the kind is")
	case read == nil:
		read = func() ([]*schema.Definition, error) { return schema.Read(r.Schema) }
	case r.Schema != nil:
		return fail("the kind is described already, by FromCRD or FromOpenAPI")
	}
	all, err := read()
	if err != nil {
		return fail("%w", err)
	}
	var found []*schema.Definition
	var names []string
	for _, d := range all {
		names = append(names, d.Kind+"."+d.Group)
		if (r.Names.Kind == "" || r.Names.Kind == d.Kind) && (r.GroupVersion.Group == "" || r.GroupVersion.Group == d.Group) {
			found = append(found, d)
		}
	}
	switch {
	case len(all) == 0:
		return fail("there is no CustomResourceDefinition in it")
	case len(found) == 0:
		return fail("it defines %q, and none of the kind %q in the group %q", names, r.Names.Kind, r.GroupVersion.Group)
	case len(found) > 1:
		return fail("it defines %q: say which by GroupVersion and Names.Kind", names)
	}
	return found[0], nil
}

// declareUntyped makes a kind of the resource and its definition. The error has all that is
// wrong with it.
func (r Resource[T, L]) declareUntyped(d *schema.Definition) (*kind.Kind, error) {
	k := &kind.Kind{
		Hub:            r.GroupVersion,
		Names:          names(r.Names, d, reflect.TypeFor[T](), reflect.TypeFor[L]()),
		Namespaced:     r.Scope != Cluster,
		StorageVersion: r.StorageVersion,
		Schemas:        map[string]kind.Schema{},
		Hooks:          r.untypedHooks(),
		Fields:         r.selectable(),
		Indexed:        r.Indexed,
		CreateOnUpdate: r.CreateOnUpdate,

		RequireResourceVersion: r.RequireResourceVersion,
	}
	k.New, k.NewList = makers(k.Hub, k.Names)
	if k.StorageVersion == "" {
		k.StorageVersion = k.Hub.Version
	}
	c := &complaints{about: describe(k)}
	c.names(k)
	hub := d.Version(k.Hub.Version)
	switch {
	case hub == nil:
		c.add("GroupVersion", "%s has no version %q", d.Place(), k.Hub.Version)
	case !hub.Served:
		c.add("GroupVersion", "the version %s is the hub, and is not served", k.Hub.Version)
	}
	if err := c.err(); err != nil { // what follows uses them
		return nil, err
	}
	k.Untyped = &kind.Untyped{Members: map[string][]string{}, Has: func(version, path string) bool {
		_, known := d.Version(version).Field(path)
		return known
	}}
	for _, v := range d.Versions {
		k.Untyped.Members[v.Name] = v.Members()
	}
	has := func(path string) bool { return k.Untyped.Has(k.Hub.Version, path) }
	if r.Status || hub.Status {
		k.Status = &kind.StatusHooks{PrepareForUpdate: normalPair(pair(r.PrepareForStatusUpdate)), ValidateUpdate: pairOf(r.ValidateStatusUpdate)}
		if !has("status") {
			c.add("Status", "the schema of %s has no field status", d.Place())
		}
	} else if r.PrepareForStatusUpdate != nil || r.ValidateStatusUpdate != nil {
		c.add("PrepareForStatusUpdate, ValidateStatusUpdate", "these are hooks of a subresource that the kind does not have: set Status, or have the schema say it")
	}
	if r.Scale != nil {
		k.Scale = &kind.Scale{SpecReplicas: r.Scale.SpecReplicas, StatusReplicas: r.Scale.StatusReplicas, Selector: r.Scale.Selector}
	}
	for i, column := range r.Columns {
		k.Columns = append(k.Columns, c.column(i, column.Name, column.Type, column.Description, column.Wide, column.Value == nil, func(obj runtime.Object) any { return column.Value(any(obj).(*T)) }))
	}
	c.untypedSpokes(k, d, spokesOf(r.Versions))
	c.apply(k, d, r.Scope)
	if k.Scale != nil {
		c.untypedScale(k.Scale, hub)
		for i, s := range k.Spokes {
			if s.Replicas == "" && k.Untyped.Has(s.Version, k.Scale.SpecReplicas) {
				k.Spokes[i].Replicas = k.Scale.SpecReplicas // it has them where the hub has them
			}
		}
	}
	c.fields(k)
	if _, _, ok := k.Version(k.StorageVersion); !ok {
		c.add("StorageVersion", "%q is none of the versions of %s", k.StorageVersion, d.Place())
	}
	for _, s := range r.Sub {
		k.Subresources = append(k.Subresources, s.erased)
	}
	c.subresources(k, "the schema", has)
	return k, c.err()
}

// makers give what makes empty objects and lists of a version.
func makers(gv runtimeschema.GroupVersion, names kind.Names) (object, list func() runtime.Object) {
	return func() runtime.Object { return kind.Empty(gv.WithKind(names.Kind)) },
		func() runtime.Object { return kind.EmptyList(gv.WithKind(names.List)) }
}

// conversion is what a user gave to convert a version.
type conversion struct {
	toHub, fromHub func(from, to any) error
	deprecated     string
	notServed      bool
}

func spokesOf[T any](all []SpokeOf[T]) map[string]conversion {
	out := map[string]conversion{}
	for _, s := range all {
		out[s.version] = conversion{s.toHub, s.fromHub, s.deprecated, s.notServed}
	}
	return out
}

// untypedSpokes makes spokes of the versions of a definition. Where the user gave no
// functions, objects differ in what their schemas know.
func (c *complaints) untypedSpokes(k *kind.Kind, d *schema.Definition, given map[string]conversion) {
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if name == k.Hub.Version {
			c.add("Versions "+name, "it is the hub")
		} else if d.Version(name) == nil {
			c.add("Versions "+name, "%s has no such version", d.Place())
		}
	}
	for _, v := range d.Versions {
		if v.Name == k.Hub.Version {
			continue
		}
		conversions, ok := given[v.Name]
		switch {
		case ok:
		case d.Converts:
			c.add("Versions "+v.Name, "%s has a webhook convert it: give its functions by Spoke", d.Place())
		default:
			conversions = conversion{toHub: sameContent, fromHub: sameContent}
		}
		gv := runtimeschema.GroupVersion{Group: k.Hub.Group, Version: v.Name}
		s := kind.Spoke{
			Version: v.Name, Deprecated: v.Warning, NotServed: !v.Served || conversions.notServed,
			ToHub:   between(k, k.Hub, conversions.toHub),
			FromHub: between(k, gv, conversions.fromHub),
		}
		if conversions.deprecated != "" {
			s.Deprecated = conversions.deprecated
		}
		s.New, s.NewList = makers(gv, k.Names)
		k.Spokes = append(k.Spokes, s)
	}
}

// sameContent is the conversion of versions that do not differ.
func sameContent(from, to any) error {
	f, t := from.(*unstructured.Unstructured), to.(*unstructured.Unstructured)
	for name, value := range f.Object {
		if !slices.Contains([]string{"apiVersion", "kind", "metadata"}, name) {
			t.Object[name] = value
		}
	}
	return nil
}

// between makes a conversion of a user's function. That gets a copy, of which the result
// may keep parts. The result is of the version's kind, and has what its schema knows.
func between(k *kind.Kind, to runtimeschema.GroupVersion, convert func(from, to any) error) func(from, to runtime.Object) error {
	if convert == nil {
		return nil // New refuses the kind
	}
	return func(from, out runtime.Object) error {
		if err := convert(from.DeepCopyObject(), out); err != nil {
			return err
		}
		u := out.(*unstructured.Unstructured)
		if err := normalize(u); err != nil {
			return err
		}
		u.SetGroupVersionKind(to.WithKind(k.Names.Kind))
		if prune := k.Schemas[to.Version].Prune; prune != nil {
			prune(u.Object)
		}
		return nil
	}
}

func normalize(u *unstructured.Unstructured) error {
	if u.Object == nil {
		return errors.New("nothing is left of the object")
	}
	_, err := kind.Normal(u.Object)
	return err
}

// untypedHooks are the hooks, those that change an object with what they leave made JSON.
func (r Resource[T, L]) untypedHooks() kind.Hooks {
	h := r.hooks()
	h.PrepareForCreate, h.PrepareForDelete = normalSingle(h.PrepareForCreate), normalSingle(h.PrepareForDelete)
	h.PrepareForUpdate = normalPair(h.PrepareForUpdate)
	if set := h.Default; set != nil {
		h.Default = func(obj runtime.Object) { set(obj); mustBeNormal(obj) }
	}
	return h
}

// mustBeNormal panics where a hook left what is no JSON: that is the hook's fault, and is
// answered as its own panics are.
func mustBeNormal(obj runtime.Object) {
	if err := normalize(obj.(*unstructured.Unstructured)); err != nil {
		panic(fmt.Errorf("what it left is no JSON: %w", err))
	}
}

func normalSingle(f func(context.Context, runtime.Object)) func(context.Context, runtime.Object) {
	if f == nil {
		return nil
	}
	return func(ctx context.Context, obj runtime.Object) { f(ctx, obj); mustBeNormal(obj) }
}

func normalPair(f func(context.Context, runtime.Object, runtime.Object)) func(context.Context, runtime.Object, runtime.Object) {
	if f == nil {
		return nil
	}
	return func(ctx context.Context, obj, old runtime.Object) { f(ctx, obj, old); mustBeNormal(obj) }
}

// untypedSchema is what a version's schema does to objects without a Go type.
func untypedSchema(v *schema.Version) kind.Schema {
	return kind.Schema{
		Default:  func(obj runtime.Object) { v.Default(obj.(*unstructured.Unstructured).Object) },
		Prune:    v.Prune,
		Validate: validateBy(v),
	}
}

func (c *complaints) untypedScale(s *kind.Scale, hub *schema.Version) {
	for field, path := range map[string]string{"SpecReplicas": s.SpecReplicas, "StatusReplicas": s.StatusReplicas, "Selector": s.Selector} {
		want := "integer"
		if field == "Selector" {
			want = "string"
			if path == "" {
				continue
			}
		}
		switch is, known := hub.Field(path); {
		case !known:
			c.add("Scale."+field, "the schema has no field %q", path)
		case is != "" && is != want:
			c.add("Scale."+field, "the field %q is of type %s, and not %s", path, is, want)
		}
	}
}

// typedCell gives what a column reads in the column's type; nil where it is of another.
func typedCell(of string, read func(runtime.Object) any) func(runtime.Object) any {
	return func(obj runtime.Object) any {
		value := read(obj)
		switch of {
		case "integer":
			if n, ok := value.(float64); ok {
				return int64(n)
			}
			return only[int64](value)
		case "number":
			if n, ok := value.(int64); ok {
				return float64(n)
			}
			return only[float64](value)
		case "boolean":
			return only[bool](value)
		case "date":
			text, ok := value.(string)
			if !ok {
				return nil
			}
			var t metav1.Time
			if t.UnmarshalQueryParameter(text) != nil {
				return "<invalid>"
			}
			return t
		}
		return value
	}
}

func only[V any](value any) any {
	if v, ok := value.(V); ok {
		return v
	}
	return nil
}
