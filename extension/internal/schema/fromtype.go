package schema

import (
	"errors"
	"fmt"
	"reflect"
	"slices"

	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// FromType makes a structural schema of a Go type by its JSON tags, for a kind without
// a CustomResourceDefinition. It says what clients want to know of fields and types;
// nothing in it is required, limited or defaulted. A type that contains itself, and a
// type that writes itself in a form that is not known, are free of form.
func FromType(t reflect.Type) (*structuralschema.Structural, error) {
	if t.Kind() != reflect.Struct {
		return nil, fmt.Errorf("%s is no struct", t)
	}
	r := reflector{}
	s := r.structure(t, place{goPath: t.Name()}, true)
	if len(r.errs) > 0 {
		return nil, errors.Join(r.errs...)
	}
	return &s, nil
}

type reflector struct {
	// within are the structs that are being looked into.
	within []reflect.Type
	errs   []error
}

func (r *reflector) value(t reflect.Type, p place) structuralschema.Structural {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if known, ok := wellKnown[t]; ok {
		return known()
	}
	if ownJSON(t) || t.Kind() == reflect.Interface {
		return anything()
	}
	s := structuralschema.Structural{ValueValidation: &structuralschema.ValueValidation{}}
	switch t.Kind() {
	case reflect.Bool:
		s.Type = "boolean"
	case reflect.String:
		s.Type = "string"
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Uint8, reflect.Uint16:
		s.Type, s.ValueValidation.Format = "integer", "int32"
	case reflect.Int, reflect.Int64, reflect.Uint, reflect.Uint32, reflect.Uint64:
		s.Type, s.ValueValidation.Format = "integer", "int64"
	case reflect.Float32:
		s.Type, s.ValueValidation.Format = "number", "float"
	case reflect.Float64:
		s.Type, s.ValueValidation.Format = "number", "double"
	case reflect.Slice, reflect.Array:
		if t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8 {
			return text("byte")
		}
		items := r.value(t.Elem(), p.item())
		s.Type, s.Items = "array", &items
	case reflect.Map:
		if t.Key().Kind() != reflect.String && !ownJSON(t.Key()) {
			r.fault(p, "%s has keys that are no strings", t)
		}
		values := r.value(t.Elem(), p.value())
		s.Type, s.AdditionalProperties = "object", &structuralschema.StructuralOrBool{Structural: &values}
	case reflect.Struct:
		return r.structure(t, p, false)
	default:
		r.fault(p, "%s has no form in JSON", t)
	}
	return s
}

// structure gives the schema of a struct. The root's metadata is left to who publishes
// the schema, as it is in definitions.
func (r *reflector) structure(t reflect.Type, p place, root bool) structuralschema.Structural {
	if slices.Contains(r.within, t) {
		return freeForm()
	}
	r.within = append(r.within, t)
	defer func() { r.within = r.within[:len(r.within)-1] }()
	s := structuralschema.Structural{
		Generic:         structuralschema.Generic{Type: "object"},
		ValueValidation: &structuralschema.ValueValidation{},
	}
	for _, field := range jsonFields(t) {
		if s.Properties == nil {
			s.Properties = map[string]structuralschema.Structural{}
		}
		if root && field.typ == reflect.TypeFor[metav1.ObjectMeta]() {
			s.Properties[field.name] = structuralschema.Structural{
				Generic:         structuralschema.Generic{Type: "object"},
				ValueValidation: &structuralschema.ValueValidation{},
			}
			continue
		}
		s.Properties[field.name] = r.value(field.typ, p.field(&field))
	}
	return s
}

func (r *reflector) fault(p place, format string, args ...any) {
	r.errs = append(r.errs, fmt.Errorf("%s: %s", p, fmt.Sprintf(format, args...)))
}
