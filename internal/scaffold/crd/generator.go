package crd

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
)

type schema = apiextensionsv1.JSONSchemaProps

// generator makes the types of one version.
type generator struct {
	kind, version string
	warn          func(field, format string, args ...any)

	taken   map[string]bool // names of types
	imports map[string]bool
	decls   []string
	errs    []error
}

// The imports that types may need, as lines.
const (
	importMeta     = `metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"`
	importJSON     = `apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"`
	importRaw      = `"k8s.io/apimachinery/pkg/runtime"`
	importQuantity = `"k8s.io/apimachinery/pkg/api/resource"`
	importIntStr   = `"k8s.io/apimachinery/pkg/util/intstr"`
)

// refuse notes an error, and goes on to find more.
func (g *generator) refuse(at, format string, args ...any) {
	g.errs = append(g.errs, fmt.Errorf("%s %s: %s", g.version, at, fmt.Sprintf(format, args...)))
}

// lose notes that something is not carried.
func (g *generator) lose(at, format string, args ...any) {
	g.warn(strings.TrimSpace(g.version+" "+at), format, args...)
}

// file is the Go file of a version.
func (g *generator) file(spec *apiextensionsv1.CustomResourceDefinitionSpec, v *apiextensionsv1.CustomResourceDefinitionVersion) ([]byte, error) {
	g.taken = map[string]bool{g.kind: true, g.kind + "List": true, "GroupVersion": true, "AddToScheme": true}
	g.imports = map[string]bool{importMeta: true}
	root := schemaOf(v)
	g.root(spec, v, root)
	if err := errors.Join(g.errs...); err != nil {
		return nil, err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "package %s\n\nimport (\n", v.Name)
	for _, line := range slices.SortedFunc(maps.Keys(g.imports), func(x, y string) int { return strings.Compare(pathOf(x), pathOf(y)) }) {
		fmt.Fprintf(&b, "\t%s\n", line)
	}
	b.WriteString(")\n")
	for _, d := range g.decls {
		b.WriteString("\n" + d)
	}
	return []byte(b.String()), nil
}

// pathOf is the path in a line of imports.
func pathOf(line string) string { return line[strings.Index(line, `"`):] }

// root declares the kind and its list.
func (g *generator) root(spec *apiextensionsv1.CustomResourceDefinitionSpec, v *apiextensionsv1.CustomResourceDefinitionVersion, s *schema) {
	if s.Type != "object" {
		g.refuse("type", "%q is none of a kind; object would be right", s.Type)
		return
	}
	var fields []string
	for _, name := range sortedKeys(s.Properties) {
		if name != "apiVersion" && name != "kind" && name != "metadata" {
			fields = append(fields, name)
		}
	}
	if len(fields) == 0 {
		g.refuse("properties", "there are none, and a Go type keeps no field that it does not have: describe them in the schema")
		return
	}
	if m, ok := s.Properties["metadata"]; ok {
		m.Description, m.Type = "", ""
		if !isEmpty(&m) {
			g.lose("metadata", "what it asks of names and labels is not carried: no marker says it; write it in Validate")
		}
	}
	place := len(g.decls)
	g.decls = append(g.decls, "")
	var b strings.Builder
	comment(&b, "", g.description("", s.Description), slices.Concat(kindMarkers(spec, v), g.structMarkers("", s)))
	fmt.Fprintf(&b, "type %s struct {\n\tmetav1.TypeMeta   `json:\",inline\"`\n\tmetav1.ObjectMeta `json:\"metadata,omitempty\"`\n", g.kind)
	used := methods(true)
	for _, name := range fields {
		property := s.Properties[name]
		b.WriteString("\n" + g.field(name, name, g.kind, &property, slices.Contains(s.Required, name), used, true))
	}
	b.WriteString("}\n")
	g.decls[place] = b.String()
	g.decls = append(g.decls, fmt.Sprintf("// %[1]sList is a list of them.\n//\n// +kubebuilder:object:root=true\ntype %[1]sList struct {\n"+
		"\tmetav1.TypeMeta `json:\",inline\"`\n\tmetav1.ListMeta `json:\"metadata,omitempty\"`\n\tItems           []%[1]s `json:\"items\"`\n}\n", g.kind))
}

// field is a field of a struct, whose name begins the names of types below it.
func (g *generator) field(name, at, owner string, s *schema, required bool, used map[string]bool, root bool) string {
	goName := unique(used, goFieldName(name))
	if !validTag(name) {
		g.refuse(at, "the name %q cannot be that of a Go field: letters, digits and the like can", name)
		return ""
	}
	t := g.typeOf(at, owner+goName, s, false)
	markers := t.markers
	tag := name
	goType := t.expr
	switch {
	case required:
		markers = append(markers, "+required")
		if s.Nullable && !t.nilable {
			goType = "*" + goType
		}
	case root && t.isStruct && !hasDefaults(s):
		markers = append(markers, "+optional")
		tag += ",omitempty,omitzero" // an object without it has it not
	default:
		markers = append(markers, "+optional")
		tag += ",omitempty"
		if !t.nilable && (!t.plain || saysZero(s)) {
			goType = "*" + goType
		}
	}
	var b strings.Builder
	comment(&b, "\t", g.description(at, s.Description), markers)
	fmt.Fprintf(&b, "\t%s %s `json:%q`\n", goName, goType, tag)
	return b.String()
}

// goType is the Go type of a schema.
type goType struct {
	expr string
	// markers go to the field that has the type.
	markers []string
	// nilable types need no pointer to be left out, isStruct is a struct of ours, plain a
	// scalar whose zero value is left out.
	nilable, isStruct, plain bool
}

// typeOf is the type of a schema. name is for a type that is declared for it. inside says
// that it is that of an item or a value: there is no field then that has its markers.
func (g *generator) typeOf(at, name string, s *schema, inside bool) goType {
	g.refuseForbidden(at, s)
	t := g.base(at, name, s)
	if !t.isStruct {
		t.markers = append(t.markers, g.valueMarkers(at, s, t)...)
	}
	if !inside {
		t.markers = append(t.markers, g.fieldMarkers(at, s)...)
		return t
	}
	g.loseOfItems(at, s)
	if t.isStruct || (len(t.markers) == 0 && s.Description == "" && s.Title == "") {
		return t
	}
	if strings.Contains(t.expr, ".") && !t.nilable {
		// A type of its own would not have the methods.
		if len(t.markers) > 0 {
			g.lose(at, "what is asked of it is not carried: no marker says it of items; write it in Validate")
		} else {
			g.lose(at, "its description is not carried: no marker says it of items")
		}
		t.markers = nil
		return t
	}
	named := unique(g.taken, name)
	var b strings.Builder
	if s.Title != "" {
		t.markers = append(t.markers, "+kubebuilder:title="+quoted(s.Title))
	}
	comment(&b, "", g.description(at, s.Description), t.markers)
	fmt.Fprintf(&b, "type %s %s\n", named, t.expr)
	g.decls = append(g.decls, b.String())
	return goType{expr: named, nilable: t.nilable, plain: t.plain}
}

// base is the type without what is asked of its values.
func (g *generator) base(at, name string, s *schema) goType {
	if s.XIntOrString {
		return g.intOrString(at, s)
	}
	switch s.Type {
	case "string":
		return g.text(at, s)
	case "boolean":
		return goType{expr: "bool", plain: true}
	case "integer":
		return integer(s)
	case "number":
		t := goType{expr: "float64", plain: true}
		if s.Format != "" {
			t.markers = []string{"+kubebuilder:validation:Format=" + quoted(s.Format)}
		}
		return t
	case "array":
		return g.list(at, name, s)
	case "object":
		return g.object(at, name, s)
	case "":
		if preserves(s) {
			g.imports[importJSON] = true
			return goType{expr: "apiextensionsv1.JSON"}
		}
		g.refuse(at, "it has no type: object, array, string, integer, number or boolean would be right, or x-kubernetes-preserve-unknown-fields: true for any value")
	default:
		g.refuse(at, "the type %q is none: object, array, string, integer, number or boolean would be right", s.Type)
	}
	return goType{expr: "string"}
}

func (g *generator) text(at string, s *schema) goType {
	free := s.MaxLength == nil && s.MinLength == nil && s.Pattern == "" && len(s.Enum) == 0
	switch {
	case s.Format == "date-time" && free:
		g.imports[importMeta] = true
		g.lose(at, "date-time becomes metav1.Time, which cuts fractions of a second and writes every time as UTC: a string with +kubebuilder:validation:Format=date-time keeps what was written")
		return goType{expr: "metav1.Time"}
	case s.Format == "byte" && len(s.Enum) == 0:
		return goType{expr: "[]byte", nilable: true}
	case s.Format != "":
		return goType{expr: "string", plain: true, markers: []string{"+kubebuilder:validation:Format=" + quoted(s.Format)}}
	}
	return goType{expr: "string", plain: true}
}

func integer(s *schema) goType {
	t := goType{expr: "int64", plain: true}
	switch s.Format {
	case "int64":
	case "int32":
		t.expr = "int32"
	case "":
		t.expr = "int"
	default:
		t.markers = []string{"+kubebuilder:validation:Format=" + quoted(s.Format)}
	}
	return t
}

func (g *generator) intOrString(at string, s *schema) goType {
	for _, a := range s.AnyOf {
		if a.Type != "integer" && a.Type != "string" {
			g.lose(at, "anyOf is not carried: no marker says it; write it in Validate")
		}
	}
	if isQuantity(s) {
		g.imports[importQuantity] = true
		return goType{expr: "resource.Quantity"}
	}
	g.imports[importIntStr] = true
	t := goType{expr: "intstr.IntOrString"}
	if s.Pattern != "" || s.MinLength != nil || s.MaxLength != nil {
		t.markers = []string{"+kubebuilder:validation:XIntOrString"} // else they are for strings only
	}
	return t
}

func (g *generator) list(at, name string, s *schema) goType {
	if s.Items == nil || s.Items.Schema == nil {
		g.refuse(at+".items", "it is not one schema, and the items have one type")
		return goType{expr: "[]string", nilable: true}
	}
	if isCondition(s.Items.Schema) {
		g.imports[importMeta] = true
		return goType{expr: "[]metav1.Condition", nilable: true}
	}
	item := g.typeOf(at+"[]", singular(name), s.Items.Schema, true)
	if s.Items.Schema.Nullable && !item.nilable {
		item.expr = "*" + item.expr
	}
	return goType{expr: "[]" + item.expr, nilable: true}
}

func (g *generator) object(at, name string, s *schema) goType {
	additional := s.AdditionalProperties
	switch {
	case len(s.Properties) > 0 && additional != nil:
		g.refuse(at, "properties and additionalProperties exclude each other")
		return goType{expr: "map[string]string", nilable: true}
	case len(s.Properties) > 0:
		return g.structure(at, name, s)
	case additional != nil && additional.Schema != nil:
		value := g.typeOf(at+"[]", singular(name), additional.Schema, true)
		if additional.Schema.Nullable && !value.nilable {
			value.expr = "*" + value.expr
		}
		return goType{expr: "map[string]" + value.expr, nilable: true}
	case additional != nil && additional.Allows:
		g.imports[importJSON] = true
		g.lose(at, "additionalProperties: true becomes a map of any values")
		return goType{expr: "map[string]apiextensionsv1.JSON", nilable: true}
	case preserves(s) || s.XEmbeddedResource:
		g.imports[importRaw] = true
		return goType{expr: "runtime.RawExtension"}
	}
	return g.structure(at, name, s)
}

// structure declares a struct.
func (g *generator) structure(at, name string, s *schema) goType {
	named := unique(g.taken, name)
	place := len(g.decls)
	g.decls = append(g.decls, "") // before the types of its fields
	if preserves(s) {
		g.lose(at, "unknown fields beside the known ones are not kept: a Go type has the fields that it has")
	}
	var b strings.Builder
	comment(&b, "", g.description("", s.Description), g.structMarkers(at, s))
	fmt.Fprintf(&b, "type %s struct {\n", named)
	used := methods(false)
	for i, property := range sortedKeys(s.Properties) {
		if i > 0 {
			b.WriteString("\n")
		}
		p := s.Properties[property]
		b.WriteString(g.field(property, strings.TrimPrefix(at+"."+property, "."), named, &p, slices.Contains(s.Required, property), used, false))
	}
	b.WriteString("}\n")
	if len(s.Properties) == 0 {
		g.decls[place] = strings.Replace(b.String(), "{\n}", "{}", 1)
	} else {
		g.decls[place] = b.String()
	}
	for _, r := range s.Required {
		if _, ok := s.Properties[r]; !ok {
			g.lose(at, "required names %q, which is no field of it", r)
		}
	}
	return goType{expr: named, isStruct: true}
}
