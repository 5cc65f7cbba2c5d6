package schema_test

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"pgregory.net/rapid"

	"github.com/annex-api/annex/extension/internal/schema"
)

// drawn is a Go type with a schema that fits it.
type drawn struct {
	typ    reflect.Type
	schema map[string]any
	// documents draws JSON that is valid by the schema, no null, and not empty if
	// nonEmpty.
	document func(t *rapid.T, nonEmpty bool) any
	// impossible is true if a default makes a zero impossible to say.
	impossible bool
}

func drawType(t *rapid.T, depth int) drawn {
	kinds := []string{"bool", "int32", "int64", "float64", "string", "enum", "strings", "labels", "time", "quantity", "intorstring"}
	if depth > 0 {
		kinds = append(kinds, "struct", "struct", "structs", "pointers", "structmap")
	}
	switch rapid.SampledFrom(kinds).Draw(t, "kind") {
	case "bool":
		return drawn{typ: reflect.TypeFor[bool](), schema: map[string]any{"type": "boolean"}, document: func(t *rapid.T, nonEmpty bool) any {
			return nonEmpty || rapid.Bool().Draw(t, "bool")
		}}
	case "int32":
		return number(t, reflect.TypeFor[int32](), "int32")
	case "int64":
		return number(t, reflect.TypeFor[int64](), "int64")
	case "float64":
		return drawn{typ: reflect.TypeFor[float64](), schema: map[string]any{"type": "number"}, document: func(t *rapid.T, nonEmpty bool) any {
			return rapid.SampledFrom([]float64{0.5, 1.25, -3.5}).Draw(t, "float")
		}}
	case "string":
		s := map[string]any{"type": "string"}
		if rapid.Bool().Draw(t, "minLength") {
			s["minLength"] = 1
		}
		return drawn{typ: reflect.TypeFor[string](), schema: s, document: func(t *rapid.T, nonEmpty bool) any {
			if nonEmpty || s["minLength"] != nil {
				return rapid.StringMatching("[a-z]{1,3}").Draw(t, "string")
			}
			return rapid.StringMatching("[a-z]{0,3}").Draw(t, "string")
		}}
	case "enum":
		return drawn{typ: reflect.TypeFor[Color](), schema: map[string]any{"type": "string", "enum": []any{"red", "blue"}}, document: func(t *rapid.T, _ bool) any {
			return rapid.SampledFrom([]string{"red", "blue"}).Draw(t, "enum")
		}}
	case "time":
		return drawn{typ: reflect.TypeFor[metav1.Time](), schema: map[string]any{"type": "string", "format": "date-time"}, document: func(t *rapid.T, _ bool) any {
			return fmt.Sprintf("20%02d-01-01T00:00:00Z", rapid.IntRange(10, 40).Draw(t, "year"))
		}}
	case "quantity":
		return drawn{typ: reflect.TypeFor[resource.Quantity](), schema: intOrString(), document: func(t *rapid.T, _ bool) any {
			return rapid.SampledFrom([]string{"1", "100m", "5Gi"}).Draw(t, "quantity")
		}}
	case "intorstring":
		return drawn{typ: reflect.TypeFor[intstr.IntOrString](), schema: intOrString(), document: func(t *rapid.T, _ bool) any {
			if rapid.Bool().Draw(t, "is int") {
				return int64(rapid.IntRange(1, 9).Draw(t, "int"))
			}
			return rapid.StringMatching("[a-z]{1,3}").Draw(t, "string")
		}}
	case "strings":
		item := drawn{typ: reflect.TypeFor[string](), schema: map[string]any{"type": "string"}, document: func(t *rapid.T, _ bool) any {
			return rapid.StringMatching("[a-z]{0,3}").Draw(t, "item")
		}}
		return listOf(item)
	case "labels":
		return mapOf(drawn{typ: reflect.TypeFor[string](), schema: map[string]any{"type": "string"}, document: func(t *rapid.T, _ bool) any {
			return rapid.StringMatching("[a-z]{0,3}").Draw(t, "value")
		}})
	case "struct":
		return drawStruct(t, depth-1)
	case "structs":
		return listOf(drawStruct(t, depth-1))
	case "pointers":
		item := drawStruct(t, depth-1)
		item.typ = reflect.PointerTo(item.typ)
		return listOf(item)
	default:
		return mapOf(drawStruct(t, depth-1))
	}
}

func number(t *rapid.T, typ reflect.Type, format string) drawn {
	s := map[string]any{"type": "integer", "format": format}
	least := 0
	if rapid.Bool().Draw(t, "minimum") {
		least = 1
		s["minimum"] = 1
	}
	return drawn{typ: typ, schema: s, document: func(t *rapid.T, nonEmpty bool) any {
		if nonEmpty {
			return int64(rapid.IntRange(1, 9).Draw(t, "int"))
		}
		return int64(rapid.IntRange(least, 9).Draw(t, "int"))
	}}
}

func intOrString() map[string]any {
	return map[string]any{"x-kubernetes-int-or-string": true, "anyOf": []any{map[string]any{"type": "integer"}, map[string]any{"type": "string"}}}
}

func least(nonEmpty bool) int {
	if nonEmpty {
		return 1
	}
	return 0
}

func listOf(item drawn) drawn {
	return drawn{
		typ:        reflect.SliceOf(item.typ),
		schema:     map[string]any{"type": "array", "items": item.schema},
		impossible: item.impossible,
		document: func(t *rapid.T, nonEmpty bool) any {
			list := []any{}
			for range rapid.IntRange(least(nonEmpty), 3).Draw(t, "length") {
				list = append(list, item.document(t, false))
			}
			return list
		},
	}
}

func mapOf(value drawn) drawn {
	return drawn{
		typ:        reflect.MapOf(reflect.TypeFor[string](), value.typ),
		schema:     map[string]any{"type": "object", "additionalProperties": value.schema},
		impossible: value.impossible,
		document: func(t *rapid.T, nonEmpty bool) any {
			m := map[string]any{}
			for i := range rapid.IntRange(least(nonEmpty), 3).Draw(t, "length") {
				m[fmt.Sprint("k", i)] = value.document(t, false)
			}
			return m
		},
	}
}

// drawStruct draws a struct whose fields have all options that a tag can have.
func drawStruct(t *rapid.T, depth int) drawn {
	out := drawn{schema: map[string]any{"type": "object"}}
	properties := map[string]any{}
	var fields []reflect.StructField
	type member struct {
		drawn
		name string
		// always is true if a document must have the field: Go always has it.
		always     bool
		hasDefault bool
	}
	var members []member
	for i := range rapid.IntRange(1, 4).Draw(t, "fields") {
		f := drawType(t, depth)
		name := fmt.Sprint("f", i)
		tag := rapid.SampledFrom([]string{"", ",omitempty", ",omitempty", ",omitzero"}).Draw(t, "tag")
		if f.typ.Kind() == reflect.Pointer || f.typ.Kind() != reflect.Slice && f.typ.Kind() != reflect.Map && rapid.Bool().Draw(t, "pointer") {
			f.typ = reflect.PointerTo(f.typ)
		}
		m := member{drawn: f, name: name, always: f.typ.Kind() == reflect.Struct && f.schema["type"] == "object"}
		s := map[string]any{}
		for k, v := range f.schema {
			s[k] = v
		}
		if rapid.Bool().Draw(t, "default") {
			s["default"] = notNull(m.document(t, false))
			m.hasDefault = true
			out.impossible = out.impossible || impossible(f.typ, tag, s)
		}
		out.impossible = out.impossible || f.impossible
		properties[name] = s
		fields = append(fields, reflect.StructField{Name: strings.ToUpper(name), Type: f.typ, Tag: reflect.StructTag(fmt.Sprintf(`json:"%s%s"`, name, tag))})
		members = append(members, m)
	}
	out.schema["properties"] = properties
	out.typ = reflect.StructOf(fields)
	out.document = func(t *rapid.T, nonEmpty bool) any {
		doc := map[string]any{}
		for _, m := range members {
			switch rapid.SampledFrom([]string{"value", "value", "null", "absent"}).Draw(t, m.name) {
			case "null":
				if !m.always {
					doc[m.name] = nil
					continue
				}
				fallthrough
			case "value":
				doc[m.name] = m.document(t, m.hasDefault)
			case "absent":
				if m.always {
					doc[m.name] = m.document(t, m.hasDefault)
				}
			}
		}
		return doc
	}
	return out
}

// notNull gives a document without its nulls.
func notNull(x any) any {
	switch x := x.(type) {
	case map[string]any:
		for k, v := range x {
			if v == nil {
				delete(x, k)
			} else {
				notNull(v)
			}
		}
	case []any:
		for _, v := range x {
			notNull(v)
		}
	}
	return x
}

// impossible is the rule for numbers and bools, said once more.
func impossible(typ reflect.Type, tag string, s map[string]any) bool {
	if tag == "" {
		return false
	}
	switch fallback := s["default"].(type) {
	case bool:
		return typ.Kind() == reflect.Bool && fallback
	case int64:
		return (typ.Kind() == reflect.Int32 || typ.Kind() == reflect.Int64) && fallback != 0 && s["minimum"] == nil
	case float64:
		return typ.Kind() == reflect.Float64
	}
	return false
}

// versionOf reads a definition with a drawn spec.
func versionOf(t *rapid.T, spec map[string]any) *schema.Version {
	crd := map[string]any{
		"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
		"metadata": map[string]any{"name": "things.example.com"},
		"spec": map[string]any{
			"group": "example.com", "scope": "Cluster",
			"names": map[string]any{"kind": "Thing", "plural": "things"},
			"versions": []any{map[string]any{
				"name": "v1", "served": true, "storage": true,
				"schema": map[string]any{"openAPIV3Schema": map[string]any{"type": "object", "properties": map[string]any{"spec": spec}}},
			}},
		},
	}
	raw, err := json.Marshal(crd)
	if err != nil {
		t.Fatal(err)
	}
	definitions, err := schema.Read(fstest.MapFS{"crd.json": {Data: raw}})
	if err != nil {
		t.Fatal(err)
	}
	return definitions[0].Versions[0]
}

func content(t *rapid.T, obj any) map[string]any {
	m, err := runtime.DefaultUnstructuredConverter.ToUnstructured(obj)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func typed(t *rapid.T, typ reflect.Type, doc map[string]any) any {
	raw, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	obj := reflect.New(typ).Interface()
	if err := utiljson.Unmarshal(raw, obj); err != nil {
		t.Fatal(err)
	}
	return obj
}

// drawValue draws any value of a type, valid or not.
func drawValue(t *rapid.T, v reflect.Value) {
	switch v.Type() {
	case reflect.TypeFor[metav1.Time]():
		if rapid.Bool().Draw(t, "set") {
			v.Set(reflect.ValueOf(metav1.Unix(int64(rapid.IntRange(1, math.MaxInt32).Draw(t, "seconds")), 0)))
		}
		return
	case reflect.TypeFor[resource.Quantity]():
		v.Set(reflect.ValueOf(*resource.NewQuantity(int64(rapid.IntRange(0, 9).Draw(t, "quantity")), resource.DecimalSI)))
		return
	case reflect.TypeFor[intstr.IntOrString]():
		v.Set(reflect.ValueOf(intstr.FromInt32(int32(rapid.IntRange(0, 9).Draw(t, "int or string")))))
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		if rapid.Bool().Draw(t, "set") {
			v.Set(reflect.New(v.Type().Elem()))
			drawValue(t, v.Elem())
			if zero, ok := v.Interface().(*metav1.Time); ok && zero.IsZero() {
				v.SetZero() // both are null
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			drawValue(t, v.Field(i))
		}
	case reflect.Slice:
		n := rapid.IntRange(-1, 2).Draw(t, "length")
		if n >= 0 {
			v.Set(reflect.MakeSlice(v.Type(), n, n))
			for i := range n {
				drawValue(t, v.Index(i))
			}
		}
	case reflect.Map:
		n := rapid.IntRange(-1, 2).Draw(t, "length")
		if n >= 0 {
			v.Set(reflect.MakeMap(v.Type()))
			for i := range n {
				value := reflect.New(v.Type().Elem()).Elem()
				drawValue(t, value)
				v.SetMapIndex(reflect.ValueOf(fmt.Sprint("k", i)), value)
			}
		}
	case reflect.Bool:
		v.SetBool(rapid.Bool().Draw(t, "bool"))
	case reflect.Int32, reflect.Int64:
		v.SetInt(int64(rapid.IntRange(-1, 9).Draw(t, "int")))
	case reflect.Float64:
		v.SetFloat(rapid.SampledFrom([]float64{0, 0.5}).Draw(t, "float"))
	case reflect.String:
		v.SetString(rapid.SampledFrom([]string{"", "a", "red"}).Draw(t, "string"))
	}
}

// TestSettersAgreeWithDefaults holds the setters over Go types against upstream's
// defaults over maps, for drawn types, schemas, documents and values.
func TestSettersAgreeWithDefaults(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		spec := drawStruct(t, 3)
		root := reflect.StructOf([]reflect.StructField{{Name: "Spec", Type: spec.typ, Tag: `json:"spec"`}})
		v := versionOf(t, spec.schema)
		fit, err := v.Fit(root)
		if (err != nil) != spec.impossible {
			t.Fatalf("fit: %v, want an error %v", err, spec.impossible)
		}
		if err != nil {
			return
		}
		set := fit.Default
		if set == nil {
			set = func(any) {}
		}

		// What a client sends.
		doc := map[string]any{"spec": spec.document(t, false)}
		byMap := runtime.DeepCopyJSON(doc)
		v.Default(byMap)
		want := typed(t, root, byMap)
		got := typed(t, root, doc)
		if len(fit.NeedsRaw) > 0 {
			got = typed(t, root, byMap)
		}
		set(got)
		// An empty struct that is left out cannot be told from an absent one; there is a
		// warning of it.
		emptyStruct := strings.Contains(strings.Join(fit.Warnings, "\n"), "takes the place of {")
		if diff := cmp.Diff(content(t, want), content(t, got)); diff != "" && !emptyStruct {
			t.Fatalf("document %v, needs raw %v: by map (-) and by setters (+): %s", doc, fit.NeedsRaw, diff)
		}

		// What is in memory or in storage.
		value := reflect.New(root)
		drawValue(t, value.Elem())
		stored := content(t, value.Interface())
		byMap = runtime.DeepCopyJSON(stored)
		v.Default(byMap)
		set(value.Interface())
		want = typed(t, root, byMap)
		// An empty list in a struct is gone when it is read again; so it is for both.
		got = typed(t, root, content(t, value.Interface()))
		if diff := cmp.Diff(content(t, want), content(t, got)); diff != "" && !emptyStruct {
			t.Fatalf("value %v: by map (-) and by setters (+): %s", stored, diff)
		}

		if !fit.Validates {
			if errs := v.Validate(t.Context(), content(t, value.Interface()), nil); len(errs) > 0 {
				t.Fatalf("needs no validation, but %v", errs)
			}
		}
		again := runtime.DeepCopyJSON(content(t, value.Interface()))
		set(value.Interface())
		if diff := cmp.Diff(again, content(t, value.Interface())); diff != "" {
			t.Fatalf("defaults set twice differ: %s", diff)
		}
	})
}

// TestATypeFitsItsOwnSchema reads the schema that was made of a type.
func TestATypeFitsItsOwnSchema(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		spec := drawStruct(t, 3)
		root := reflect.StructOf([]reflect.StructField{{Name: "Spec", Type: spec.typ, Tag: `json:"spec"`}})
		made, err := schema.FromType(root)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := (&schema.Version{Schema: made}).Fit(root); err != nil {
			t.Fatal(err)
		}
	})
}
