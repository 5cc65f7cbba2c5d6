package extension

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	runtimeschema "k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/annex-api/annex/extension/internal/kind"
	"github.com/annex-api/annex/extension/internal/openapi"
	"github.com/annex-api/annex/extension/internal/path"
	"github.com/annex-api/annex/extension/internal/schema"
)

// definition finds a kind's own among those of its Schema; nil where it has none.
func (r Resource[T, L]) definition() (*schema.Definition, error) {
	if r.Schema == nil {
		return nil, nil
	}
	name := r.Names.Kind
	if name == "" {
		name = reflect.TypeFor[T]().Name()
	}
	all, err := schema.Read(r.Schema)
	if err != nil {
		return nil, fmt.Errorf("kind %s of %s: Schema: %w", name, r.GroupVersion, err)
	}
	var found []string
	for _, d := range all {
		if d.Group == r.GroupVersion.Group && d.Kind == name {
			return d, nil
		}
		found = append(found, d.Kind+"."+d.Group)
	}
	return nil, fmt.Errorf("kind %s of %s: Schema: no file defines it; those that there are define %q", name, r.GroupVersion, found)
}

// apply has a kind be what its definition says, where the user has not said otherwise.
func (c *complaints) apply(k *kind.Kind, d *schema.Definition, say Scope) {
	switch {
	case say == FromSchema:
		k.Namespaced = d.Namespaced
	case (say == Namespaced) != d.Namespaced:
		is, says := "Cluster", "Namespaced"
		if say == Namespaced {
			is, says = says, is
		}
		c.add("Scope", "it is %s, and %s says %s: leave Scope empty, or set the marker +kubebuilder:resource:scope=%s and run go generate", is, d.Place(), says, is)
	}
	hub := d.Version(k.Hub.Version)
	if hub == nil {
		c.add("Schema", "%s:%d has no version %s: run go generate over the package of that version, or set GroupVersion to one that it has", d.File, d.Line, k.Hub.Version)
		return
	}
	if k.Scale == nil && hub.Scale != nil {
		k.Scale = &kind.Scale{SpecReplicas: hub.Scale.SpecReplicas, StatusReplicas: hub.Scale.StatusReplicas, Selector: hub.Scale.Selector}
	}
	for i, s := range k.Spokes {
		if v := d.Version(s.Version); v != nil && v.Scale != nil {
			k.Spokes[i].Replicas = v.Scale.SpecReplicas
		}
	}
	if k.Columns == nil {
		for _, column := range hub.Columns {
			c.addColumn(k, column)
		}
	}
	if k.Fields == nil && len(hub.SelectableFields) > 0 {
		c.selectBy(k, hub.SelectableFields)
	}
	for _, v := range append([]string{k.Hub.Version}, spokeNames(k)...) {
		c.fit(k, d, v)
	}
}

// hasStatus says whether a definition makes status a subresource of a version.
func hasStatus(d *schema.Definition, version string) bool {
	return d != nil && d.Version(version) != nil && d.Version(version).Status
}

func spokeNames(k *kind.Kind) []string {
	var names []string
	for _, s := range k.Spokes {
		names = append(names, s.Version)
	}
	return names
}

// fit takes over what a version's schema does to objects of its Go type.
func (c *complaints) fit(k *kind.Kind, d *schema.Definition, name string) {
	v := d.Version(name)
	if v == nil {
		c.add("Versions "+name, "%s:%d has no such version: run go generate over its package, which needs the marker +groupName=%s", d.File, d.Line, d.Group)
		return
	}
	if name == k.Hub.Version {
		k.Lists = listsOf(v.Schema)
	}
	if k.Untyped != nil {
		k.Schemas[name] = untypedSchema(v)
		return
	}
	object, _, _ := k.Version(name)
	fit, err := v.Fit(reflect.TypeOf(object()).Elem())
	if err != nil {
		c.add("Schema", "it does not fit the Go type of %s: %v", name, err)
		return
	}
	for _, at := range fit.NeedsRaw {
		c.add("Schema", "%s: in the Go type of %s the field has a default, and is written though it is empty: add omitempty, or make it a pointer, so that what a client left out can be told", at, name)
	}
	if len(fit.NeedsRaw) > 0 {
		return
	}
	s := kind.Schema{}
	if fit.Default != nil {
		s.Default = func(obj runtime.Object) { fit.Default(obj) }
	}
	if fit.Validates {
		s.Validate = validateBy(v)
	}
	k.Schemas[name] = s
}

func validateBy(v *schema.Version) func(ctx context.Context, obj, old runtime.Object) field.ErrorList {
	return func(ctx context.Context, obj, old runtime.Object) field.ErrorList {
		now, err := runtime.DefaultUnstructuredConverter.ToUnstructured(obj)
		if err != nil {
			return field.ErrorList{field.InternalError(nil, err)}
		}
		var before map[string]any
		if old != nil {
			if before, err = runtime.DefaultUnstructuredConverter.ToUnstructured(old); err != nil {
				return field.ErrorList{field.InternalError(nil, err)}
			}
		}
		return v.Validate(ctx, now, before)
	}
}

// addColumn adds a column of the definition. Every table has Name and Age already.
func (c *complaints) addColumn(k *kind.Kind, d apiextensionsv1.CustomResourceColumnDefinition) {
	if d.Name == "Name" || d.Name == "Age" {
		return
	}
	read, err := path.Compile(reflect.TypeOf(k.New()).Elem(), d.JSONPath)
	if err != nil {
		c.add("Schema: column "+d.Name, "%v", err)
		return
	}
	if k.Untyped != nil {
		read = typedCell(d.Type, read)
	}
	k.Columns = append(k.Columns, kind.Column{
		TableColumnDefinition: metav1.TableColumnDefinition{Name: d.Name, Type: d.Type, Format: d.Format, Description: d.Description, Priority: d.Priority},
		Value:                 read,
	})
}

// selectBy has objects be selected by fields of their schema.
func (c *complaints) selectBy(k *kind.Kind, paths []string) {
	readers := map[string]func(runtime.Object) any{}
	for _, p := range paths {
		read, err := path.Compile(reflect.TypeOf(k.New()).Elem(), p)
		if err != nil {
			c.add("Schema: selectable field "+p, "%v", err)
			continue
		}
		readers[strings.TrimPrefix(p, ".")] = read
	}
	k.Fields = func(obj runtime.Object) fields.Set {
		set := fields.Set{}
		for name, read := range readers {
			set[name] = ""
			if value := read(obj); value != nil {
				set[name] = fmt.Sprint(value)
			}
		}
		return set
	}
}

// documents describe the kinds in OpenAPI.
func (a *assembly) documents() (*openapi.Definitions, error) {
	var all []openapi.Kind
	for _, k := range a.kinds {
		for _, name := range k.Served() {
			one, err := a.document(k, name)
			if err != nil {
				return nil, err
			}
			all = append(all, one)
		}
	}
	return openapi.New(all)
}

func (a *assembly) document(k *kind.Kind, version string) (openapi.Kind, error) {
	object, list, _ := k.Version(version)
	out := openapi.Kind{
		GroupVersion: runtimeschema.GroupVersion{Group: k.Hub.Group, Version: version},
		Kind:         k.Names.Kind, ListKind: k.Names.List, Plural: k.Names.Plural,
		Type: reflect.TypeOf(object()).Elem(), List: reflect.TypeOf(list()).Elem(),
	}
	for _, name := range slices.Sorted(slices.Values(k.FieldNames)) {
		out.SelectableFields = append(out.SelectableFields, "."+name)
	}
	if d := a.definitions[k]; d != nil {
		out.Schema, out.Description = d.Version(version).Schema, d.Version(version).Description
		return out, nil
	}
	s, err := schema.FromType(out.Type)
	if err != nil {
		return out, fmt.Errorf("%s: version %s: %w", describe(k), version, err)
	}
	out.Schema = s
	return out, nil
}
