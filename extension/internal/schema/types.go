package schema

import (
	"reflect"
	"slices"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// wellKnown are the types that write themselves in a form which is known, with the
// schema that FromType gives them.
var wellKnown = map[reflect.Type]func() structuralschema.Structural{
	reflect.TypeFor[metav1.Time]():          func() structuralschema.Structural { return text("date-time") },
	reflect.TypeFor[metav1.MicroTime]():     func() structuralschema.Structural { return text("date-time") },
	reflect.TypeFor[metav1.Duration]():      func() structuralschema.Structural { return text("") },
	reflect.TypeFor[resource.Quantity]():    numberOrText,
	reflect.TypeFor[intstr.IntOrString]():   numberOrText,
	reflect.TypeFor[runtime.RawExtension](): freeForm,
	reflect.TypeFor[metav1.FieldsV1]():      freeForm,
	reflect.TypeFor[apiextensionsv1.JSON](): anything,
}

func text(format string) structuralschema.Structural {
	return structuralschema.Structural{
		Generic:         structuralschema.Generic{Type: "string"},
		ValueValidation: &structuralschema.ValueValidation{Format: format},
	}
}

func numberOrText() structuralschema.Structural {
	return structuralschema.Structural{
		Extensions:      structuralschema.Extensions{XIntOrString: true},
		ValueValidation: &structuralschema.ValueValidation{AnyOf: intOrStringForm()},
	}
}

func freeForm() structuralschema.Structural {
	s := anything()
	s.Type = "object"
	return s
}

func anything() structuralschema.Structural {
	return structuralschema.Structural{
		Extensions:      structuralschema.Extensions{XPreserveUnknownFields: true},
		ValueValidation: &structuralschema.ValueValidation{},
	}
}

// typesOf says which schemas a type can hold that is no struct, list or map of its own;
// nil for those, which have to be looked into.
func typesOf(t reflect.Type) func(*structuralschema.Structural) bool {
	if known, ok := wellKnown[t]; ok {
		want := known()
		switch {
		case t == reflect.TypeFor[resource.Quantity]() || t == reflect.TypeFor[metav1.Duration]():
			return func(s *structuralschema.Structural) bool {
				return s.Type == "string" || want.XIntOrString && s.XIntOrString
			}
		case t == reflect.TypeFor[apiextensionsv1.JSON]():
			return func(*structuralschema.Structural) bool { return true }
		case want.XPreserveUnknownFields:
			return func(s *structuralschema.Structural) bool {
				return s.Type == "object" || s.Type == "" && s.XPreserveUnknownFields
			}
		}
		return func(s *structuralschema.Structural) bool {
			return s.Type == want.Type && s.XIntOrString == want.XIntOrString
		}
	}
	if t == reflect.TypeFor[metav1.ObjectMeta]() {
		return func(s *structuralschema.Structural) bool { return s.Type == "object" }
	}
	if ownJSON(t) || t.Kind() == reflect.Interface {
		return func(*structuralschema.Structural) bool { return true }
	}
	switch t.Kind() {
	case reflect.Bool:
		return ofType("boolean")
	case reflect.String:
		return ofType("string")
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return ofType("integer")
	case reflect.Float32, reflect.Float64:
		return func(s *structuralschema.Structural) bool { return s.Type == "number" || s.Type == "integer" }
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return ofType("string")
		}
	}
	return nil
}

func ofType(name string) func(*structuralschema.Structural) bool {
	return func(s *structuralschema.Structural) bool { return s.Type == name }
}

// freeMap is true for a map of anything whose schema allows any fields.
func freeMap(t reflect.Type, s *structuralschema.Structural) bool {
	if s.Type != "object" || t.Key().Kind() != reflect.String || len(s.Properties) > 0 {
		return false
	}
	if s.AdditionalProperties != nil {
		return s.AdditionalProperties.Bool && s.AdditionalProperties.Structural == nil
	}
	holds := typesOf(t.Elem())
	anything := anything()
	return s.XPreserveUnknownFields && holds != nil && holds(&anything)
}

// kindOf says in a word what a schema is of.
func kindOf(s *structuralschema.Structural) string {
	switch {
	case s.XIntOrString:
		return "an integer or a string"
	case s.Type == "object" && s.AdditionalProperties != nil:
		return "a map"
	case s.Type == "object" && s.XPreserveUnknownFields && len(s.Properties) == 0:
		return "an object of any fields"
	case s.Type == "":
		return "a value of any type"
	}
	return s.Type
}

// withoutGiven is the schema without what every value of the type fulfils.
func withoutGiven(t reflect.Type, s *structuralschema.Structural) *structuralschema.Structural {
	if s.ValueValidation == nil {
		return s
	}
	given := *s
	asked := *s.ValueValidation
	given.ValueValidation = &asked
	if t == reflect.TypeFor[resource.Quantity]() && asked.Pattern == quantityPattern {
		asked.Pattern = ""
	}
	if formatGiven(t, asked.Format) {
		asked.Format = ""
	}
	return &given
}

// formatGiven is true if every value of a type has a format.
func formatGiven(t reflect.Type, format string) bool {
	switch format {
	case "date-time":
		return t == reflect.TypeFor[metav1.Time]() || t == reflect.TypeFor[metav1.MicroTime]()
	case "byte":
		return t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8
	case "int32":
		return slices.Contains([]reflect.Kind{reflect.Int8, reflect.Int16, reflect.Int32, reflect.Uint8, reflect.Uint16}, t.Kind())
	case "float":
		return t.Kind() == reflect.Float32
	}
	return false
}
