package extension

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/annex-api/annex/extension/internal/kind"
	"github.com/annex-api/annex/extension/internal/path"
	"github.com/annex-api/annex/extension/internal/schema"
)

// addTo implements Part.
func (r Resource[T, L]) addTo(a *assembly) error {
	if isUntyped[T]() {
		return r.addUntyped(a)
	}
	_, err := a.declare(r.definition, r.declare)
	return err
}

// declare adds a kind that a definition and a declaration make.
func (a *assembly) declare(definition func() (*schema.Definition, error), declare func(*schema.Definition) (*kind.Kind, error)) (*kind.Kind, error) {
	d, err := definition()
	if err != nil {
		return nil, err
	}
	k, err := declare(d)
	if err != nil {
		return nil, err
	}
	a.kinds = append(a.kinds, k)
	if d != nil {
		a.definitions[k] = d
	}
	return k, nil
}

// declare makes a kind of the resource and its definition, which may be nil. The error has
// all that is wrong with it.
func (r Resource[T, L]) declare(d *schema.Definition) (*kind.Kind, error) {
	k := &kind.Kind{
		Hub:            r.GroupVersion,
		Names:          names(r.Names, d, reflect.TypeFor[T](), reflect.TypeFor[L]()),
		Namespaced:     r.Scope != Cluster,
		New:            func() runtime.Object { return any(new(T)).(runtime.Object) },
		NewList:        func() runtime.Object { return any(new(L)).(runtime.Object) },
		StorageVersion: r.StorageVersion,
		Schemas:        map[string]kind.Schema{},
		Hooks:          r.hooks(),
		Fields:         r.selectable(),
		Indexed:        r.Indexed,
		CreateOnUpdate: r.CreateOnUpdate,

		RequireResourceVersion: r.RequireResourceVersion,
	}
	if k.StorageVersion == "" {
		k.StorageVersion = k.Hub.Version
	}
	c := &complaints{about: describe(k)}
	c.names(k)
	c.object("T", new(T))
	c.list("L", new(L), reflect.TypeFor[T]())
	if len(c.errs) > 0 { // what follows uses the types
		return nil, errors.Join(c.errs...)
	}
	if r.Status || hasStatus(d, r.GroupVersion.Version) {
		k.Status = &kind.StatusHooks{PrepareForUpdate: pair(r.PrepareForStatusUpdate), ValidateUpdate: pairOf(r.ValidateStatusUpdate)}
		if path.TypeOf(reflect.TypeFor[T](), "status") == nil {
			c.add("Status", "%v has no field with the JSON name status: add one, or leave Status false and take the marker +kubebuilder:subresource:status away", reflect.TypeFor[T]())
		}
	} else if r.PrepareForStatusUpdate != nil || r.ValidateStatusUpdate != nil {
		c.add("PrepareForStatusUpdate, ValidateStatusUpdate", "these are hooks of a subresource that the kind does not have: set Status, or the marker +kubebuilder:subresource:status")
	}
	if r.Scale != nil {
		k.Scale = &kind.Scale{SpecReplicas: r.Scale.SpecReplicas, StatusReplicas: r.Scale.StatusReplicas, Selector: r.Scale.Selector}
	}
	for i, column := range r.Columns {
		k.Columns = append(k.Columns, c.column(i, column.Name, column.Type, column.Description, column.Wide, column.Value == nil, func(obj runtime.Object) any { return column.Value(any(obj).(*T)) }))
	}
	for _, s := range r.Versions {
		k.Spokes = append(k.Spokes, c.spoke(k, s.version, s.example, s.list, s.deprecated, s.notServed, s.newFromSpoke,
			func(from, to runtime.Object) error { return s.toHub(from, to) },
			func(from, to runtime.Object) error { return s.fromHub(from, to) }))
	}
	if d != nil {
		c.apply(k, d, r.Scope)
	}
	if k.Scale != nil {
		c.scale(k.Scale, reflect.TypeFor[T]())
		for i, s := range k.Spokes {
			if s.Replicas == "" && path.TypeOf(reflect.TypeOf(s.New()).Elem(), k.Scale.SpecReplicas) != nil {
				k.Spokes[i].Replicas = k.Scale.SpecReplicas // it has them where the hub has them
			}
		}
	}
	c.fields(k)
	if _, _, ok := k.Version(k.StorageVersion); !ok {
		c.add("StorageVersion", "%q is neither the hub, %s, nor one of Versions, which are %q: name one of these, or leave it empty", k.StorageVersion, k.Hub.Version, spokeNames(k))
	}
	for _, s := range r.Sub {
		k.Subresources = append(k.Subresources, s.erased)
	}
	c.subresources(k, reflect.TypeFor[T]().String(), func(field string) bool { return path.TypeOf(reflect.TypeFor[T](), field) != nil })
	return k, errors.Join(c.errs...)
}

// names fills what is empty.
func names(n Names, d *schema.Definition, object, list reflect.Type) kind.Names {
	out := kind.Names{Kind: n.Kind, List: n.List, Plural: n.Plural, Singular: n.Singular, Short: slices.Clone(n.Short), Categories: slices.Clone(n.Categories)}
	if d != nil {
		out.Kind, out.List = cmp.Or(out.Kind, d.Kind), cmp.Or(out.List, d.ListKind)
		out.Plural, out.Singular = cmp.Or(out.Plural, d.Plural), cmp.Or(out.Singular, d.Singular)
		if out.Short == nil {
			out.Short = d.ShortNames
		}
		if out.Categories == nil {
			out.Categories = d.Categories
		}
	}
	if out.Kind == "" {
		out.Kind = object.Name()
	}
	if out.List == "" {
		out.List = list.Name()
		if strings.Contains(out.List, "[") { // a generic one
			out.List = out.Kind + "List"
		}
	}
	if out.Singular == "" {
		out.Singular = strings.ToLower(out.Kind)
	}
	if out.Plural == "" {
		guess, _ := meta.UnsafeGuessKindToResource(metav1.SchemeGroupVersion.WithKind(out.Kind))
		out.Plural = guess.Resource
	}
	return out
}

// complaints are what is wrong with a kind's declaration, each with its field.
type complaints struct {
	about string
	errs  []error
}

func (c *complaints) add(field, format string, args ...any) {
	c.errs = append(c.errs, fmt.Errorf("%s: %s: %s", c.about, field, fmt.Sprintf(format, args...)))
}

func (c *complaints) err() error { return errors.Join(c.errs...) }

func (c *complaints) names(k *kind.Kind) {
	switch problems := validation.IsDNS1123Subdomain(k.Hub.Group); {
	case k.Hub.Group == "":
		c.add("GroupVersion", "it names no group, such as %q", "widgets.example.com")
	case len(problems) > 0:
		c.add("GroupVersion", "%q is no group: %s", k.Hub.Group, strings.Join(problems, "; "))
	case !strings.Contains(k.Hub.Group, "."):
		c.add("GroupVersion", "the group %q has no dot: groups without one are Kubernetes' own; one below a domain of yours is right, such as %q", k.Hub.Group, k.Hub.Group+".example.com")
	}
	c.version("GroupVersion", k.Hub.Version)
	label := func(field, value string, lower string) {
		if problems := validation.IsDNS1035Label(lower); len(problems) > 0 {
			c.add(field, "%q is no name: %s", value, strings.Join(problems, "; "))
		}
	}
	for field, value := range map[string]string{"Names.Kind": k.Names.Kind, "Names.List": k.Names.List} {
		label(field, value, strings.ToLower(value))
		if value != "" && strings.ToUpper(value[:1]) != value[:1] {
			c.add(field, "%q does not begin with a capital letter", value)
		}
	}
	if k.Names.Kind == k.Names.List {
		c.add("Names.List", "the list has the name of the kind, %q", k.Names.Kind)
	}
	label("Names.Plural", k.Names.Plural, k.Names.Plural)
	label("Names.Singular", k.Names.Singular, k.Names.Singular)
	for _, s := range k.Names.Short {
		label("Names.Short", s, s)
	}
	for _, s := range k.Names.Categories {
		label("Names.Categories", s, s)
	}
}

func (c *complaints) version(field, v string) {
	switch {
	case v == runtime.APIVersionInternal:
		c.add(field, "%q is no version that clients can use", v)
	case len(validation.IsDNS1035Label(v)) > 0:
		c.add(field, "%q is no version, such as v1alpha1, v1beta1 or v1", v)
	}
}

// object checks that a type is one of Kubernetes objects.
func (c *complaints) object(field string, value any) bool {
	t := reflect.TypeOf(value).Elem()
	before := len(c.errs)
	if t.Kind() != reflect.Struct {
		c.add(field, "%v is no struct", t)
		return false
	}
	for _, embedded := range []reflect.Type{reflect.TypeFor[metav1.TypeMeta](), reflect.TypeFor[metav1.ObjectMeta]()} {
		f, ok := t.FieldByName(embedded.Name())
		if !ok || f.Type != embedded || !f.Anonymous {
			c.add(field, "%v does not embed %v", t, embedded)
		}
	}
	if _, ok := value.(runtime.Object); !ok {
		c.add(field, "*%v has no method DeepCopyObject: run controller-gen object, with the marker +kubebuilder:object:root=true above the type", t)
	}
	return len(c.errs) == before
}

func (c *complaints) list(field string, value any, item reflect.Type) {
	t := reflect.TypeOf(value).Elem()
	if t.Kind() != reflect.Struct {
		c.add(field, "%v is no struct", t)
		return
	}
	for _, embedded := range []reflect.Type{reflect.TypeFor[metav1.TypeMeta](), reflect.TypeFor[metav1.ListMeta]()} {
		f, ok := t.FieldByName(embedded.Name())
		if !ok || f.Type != embedded || !f.Anonymous {
			c.add(field, "%v does not embed %v", t, embedded)
		}
	}
	if f, ok := t.FieldByName("Items"); !ok || f.Type != reflect.SliceOf(item) {
		c.add(field, "%v has no field Items of type []%v", t, item)
	}
	if _, ok := value.(runtime.Object); !ok {
		c.add(field, "*%v has no method DeepCopyObject: run controller-gen object, with the marker +kubebuilder:object:root=true above the type", t)
	}
}

func (c *complaints) scale(s *kind.Scale, t reflect.Type) {
	for name, field := range map[string]string{"SpecReplicas": s.SpecReplicas, "StatusReplicas": s.StatusReplicas} {
		switch at := path.TypeOf(t, field); {
		case at == nil:
			c.add("Scale."+name, "%v has no field %q", t, field)
		case !slices.Contains([]reflect.Kind{reflect.Int32, reflect.Int64, reflect.Int}, deref(at).Kind()):
			c.add("Scale."+name, "the field %q of %v is %v, and no integer", field, t, at)
		}
	}
	if s.Selector != "" {
		if at := path.TypeOf(t, s.Selector); at == nil || deref(at).Kind() != reflect.String {
			c.add("Scale.Selector", "%v has no field %q of type string", t, s.Selector)
		}
	}
}

func (c *complaints) column(i int, name, kindOf, description string, wide, noValue bool, value func(runtime.Object) any) kind.Column {
	at := fmt.Sprintf("Columns[%d]", i)
	if name == "" {
		c.add(at, "it has no Name")
	}
	if noValue {
		c.add(at, "it has no Value")
	}
	if kindOf == "" {
		kindOf = "string"
	}
	if !slices.Contains([]string{"string", "integer", "number", "boolean", "date"}, kindOf) {
		c.add(at, "%q is no type: string, integer, number, boolean, date are", kindOf)
	}
	priority := int32(0)
	if wide {
		priority = 1
	}
	return kind.Column{
		TableColumnDefinition: metav1.TableColumnDefinition{Name: name, Type: kindOf, Description: description, Priority: priority},
		Value:                 value,
	}
}

// fields finds out which fields a kind can be selected by, from an empty object.
func (c *complaints) fields(k *kind.Kind) {
	if k.Fields != nil {
		set, err := tryFields(k.Fields, k.New())
		if err != nil {
			c.add("SelectableFields", "of an empty object: %v", err)
		}
		k.FieldNames = slices.Sorted(maps.Keys(set))
	}
	if k.Indexed != "" && !slices.Contains(k.FieldNames, k.Indexed) {
		c.add("Indexed", "%q is not one of SelectableFields, which are %q", k.Indexed, k.FieldNames)
	}
}

func tryFields(f func(runtime.Object) fields.Set, obj runtime.Object) (set fields.Set, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return f(obj), nil
}

func (c *complaints) spoke(k *kind.Kind, version string, example any, list func() runtime.Object, warning string, hidden bool,
	fresh func() any, toHub, fromHub func(from, to runtime.Object) error,
) kind.Spoke {
	field := "Versions " + version
	c.version(field, version)
	if _, _, taken := k.Version(version); taken {
		c.add(field, "there is already a version %s", version)
	}
	c.object(field, example)
	if _, ok := reflect.TypeOf(example).MethodByName("DeepCopyInto"); !ok {
		c.add(field, "%T has no method DeepCopyInto: run controller-gen object", example)
	}
	return kind.Spoke{
		Version: version,
		New:     func() runtime.Object { return fresh().(runtime.Object) },
		NewList: list,
		ToHub:   toHub, FromHub: fromHub,
		Deprecated: warning, NotServed: hidden,
	}
}

func (c *complaints) subresources(k *kind.Kind, of string, has func(path string) bool) {
	seen := map[string]bool{"status": true, "scale": true}
	for _, s := range k.Subresources {
		field := fmt.Sprintf("Sub %q", s.Name)
		if problems := validation.IsDNS1123Label(s.Name); len(problems) > 0 {
			c.add(field, "it is no name of a path: %s", strings.Join(problems, "; "))
		}
		if seen[s.Name] {
			c.add(field, "there is already a subresource of this name, or it is one of Kubernetes' own (status, scale)")
		}
		seen[s.Name] = true
		if s.Action != nil {
			if err := tryAnswer(s.Action.NewOut()); err != nil {
				c.add(field, "its answer has no form in JSON: %v", err)
			}
		}
		if s.Update == nil {
			continue
		}
		if len(s.Update.Fields) == 0 {
			c.add(field, "UpdateOf.Fields is empty: it would change nothing")
		}
		for _, changed := range s.Update.Fields {
			if !has(changed) {
				c.add(field, "%s has no field %q", of, changed)
			}
		}
	}
}

// tryAnswer says whether values of an answer's type can be JSON. How an empty one is written
// by a method of its own says nothing about others.
func tryAnswer(out any) (err error) {
	defer func() { _ = recover() }() // a method that cannot bear the empty value
	_, err = json.Marshal(out)
	if errors.As(err, new(*json.UnsupportedTypeError)) {
		return err
	}
	return nil
}

func deref(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t
}
