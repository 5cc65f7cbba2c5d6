package schema

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"

	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
)

// Fit is what is known of a Go type and the schema of its kind together.
type Fit struct {
	// Default sets what is absent and has a default, in an object that is a pointer to
	// the type; nil, if there are no defaults. Zero is absent where JSON of the type
	// leaves it out. A struct that is no pointer is always present, so that the defaults
	// in it are always set.
	Default func(obj any)
	// NeedsRaw are the fields whose type cannot tell, for a default, whether a client left
	// the field out. Then Version.Default has to see the JSON of clients beforehand.
	NeedsRaw []string
	// Validates is false if an object of the type is always valid.
	Validates bool
	// Warnings name values that a default makes impossible to store.
	Warnings []string
}

// Fit compares a Go type with the schema, field by field. All that does not fit is in
// the one error, and each fault names the field of Go, the path in JSON, and where the
// schema was read, its file and the line of the field or of what it should be in. It does not
// fit if a field is missing on one side; if a type is another one; if Go would lose
// what the schema keeps; or if a default makes zero impossible to say, for a number or
// a bool that is left out when it is zero.
func (v *Version) Fit(t reflect.Type) (Fit, error) {
	if t.Kind() != reflect.Struct {
		return Fit{}, fmt.Errorf("%s is no struct", t)
	}
	f := &fitter{validates: v.Scale != nil, where: v.where}
	set := f.object(t, v.Schema, place{goPath: t.Name()}, true)
	if len(f.errs) > 0 {
		return Fit{}, errors.Join(f.errs...)
	}
	fit := Fit{NeedsRaw: f.needsRaw, Validates: f.validates, Warnings: f.warnings}
	if set != nil {
		fit.Default = func(obj any) { set(reflect.ValueOf(obj).Elem()) }
	}
	return fit, nil
}

// place is where in the type, in the JSON and in the schema something stands.
type place struct{ goPath, jsonPath, schemaPath string }

func (p place) String() string { return fmt.Sprintf("%s (%s)", p.goPath, p.jsonPath) }

func (p place) item() place {
	return place{p.goPath + "[]", p.jsonPath + "[]", p.schemaPath + ".items"}
}

func (p place) value() place {
	return place{p.goPath + "[]", p.jsonPath + "[]", p.schemaPath + ".additionalProperties"}
}

func (p place) field(f *jsonField) place {
	at := place{p.goPath + "." + f.goName, f.name, p.schemaPath + ".properties[" + f.name + "]"}
	if p.jsonPath != "" {
		at.jsonPath = p.jsonPath + "." + f.name
	}
	return at
}

// fitter collects what is found on the way through a type and its schema.
type fitter struct {
	errs      []error
	warnings  []string
	needsRaw  []string
	validates bool
	// where gives the file and the line of a path of the schema; nil where there is no file.
	where func(schemaPath string) string
}

func (f *fitter) fault(p place, format string, args ...any) {
	f.errs = append(f.errs, fmt.Errorf("%s: %s", f.said(p), fmt.Sprintf(format, args...)))
}

// said is a place with its file and line.
func (f *fitter) said(p place) string {
	if f.where == nil {
		return p.String()
	}
	return f.where(p.schemaPath) + ": " + p.String()
}

// raw notes a field for NeedsRaw.
func (f *fitter) raw(p place) { f.needsRaw = append(f.needsRaw, f.said(p)) }

// value compares a type with a schema, and gives what sets the defaults below, or nil.
func (f *fitter) value(t reflect.Type, s *structuralschema.Structural, p place) setter {
	if t.Kind() == reflect.Pointer {
		return below(f.value(t.Elem(), s, p))
	}
	f.constraints(t, s)
	if accepts := typesOf(t); accepts != nil {
		if !accepts(s) {
			f.fault(p, "the schema says %s, which %s does not hold", kindOf(s), t)
		}
		f.unseen(s, p)
		return nil
	}
	switch t.Kind() {
	case reflect.Slice, reflect.Array:
		if s.Type != "array" || s.Items == nil {
			f.fault(p, "the schema says %s, the type is %s", kindOf(s), t)
			return nil
		}
		f.nulls(t.Elem(), s.Items)
		inner := f.value(t.Elem(), s.Items, p.item())
		return eachItem(f.item(t.Elem(), s.Items, inner, p.item()))
	case reflect.Map:
		values := s.AdditionalProperties
		if freeMap(t, s) {
			f.unseen(s, p)
			return nil
		}
		if s.Type != "object" || values == nil || values.Structural == nil || len(s.Properties) > 0 {
			f.fault(p, "the schema says %s, the type is %s", kindOf(s), t)
			return nil
		}
		if t.Key().Kind() != reflect.String {
			f.fault(p, "%s has keys that are no strings", t)
			return nil
		}
		f.nulls(t.Elem(), values.Structural)
		inner := f.value(t.Elem(), values.Structural, p.value())
		return eachValue(t, f.item(t.Elem(), values.Structural, inner, p.value()))
	case reflect.Struct:
		return f.object(t, s, p, false)
	}
	f.fault(p, "%s has no form in JSON", t)
	return nil
}

// object compares a struct with a schema. The root's apiVersion, kind and metadata are
// the same in every object.
func (f *fitter) object(t reflect.Type, s *structuralschema.Structural, p place, root bool) setter {
	if root {
		f.constraints(t, s)
	}
	switch {
	case s.Type != "object" || s.AdditionalProperties != nil:
		f.fault(p, "the schema says %s, the type is %s", kindOf(s), t)
		return nil
	case s.XPreserveUnknownFields:
		f.fault(p, "the schema keeps unknown fields, which %s would lose; runtime.RawExtension keeps them", t)
		return nil
	}
	var required []string
	if s.ValueValidation != nil {
		required = s.ValueValidation.Required
	}
	inSchema := maps.Clone(s.Properties)
	var sets []fieldSetter
	for _, field := range jsonFields(t) {
		delete(inSchema, field.name)
		if root && metaFields[field.name] {
			continue
		}
		at := p.field(&field)
		prop, ok := s.Properties[field.name]
		if !ok {
			f.fault(at, "the type has the field, the schema has not")
			continue
		}
		if slices.Contains(required, field.name) && (field.canLeave() || zeroIsNull(field.typ)) {
			f.validates = true
		}
		if set := f.field(&field, &prop, at); set != nil {
			if field.behindPointer {
				f.fault(at, "the default cannot be set in an embedded pointer; embed the struct itself")
				continue
			}
			sets = append(sets, fieldSetter{field.index, set})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(inSchema)) {
		if !root || !metaFields[name] {
			f.fault(p.field(&jsonField{name: name, goName: "?"}), "the schema has the field, %s has not", t)
		}
	}
	return eachField(sets)
}

// metaFields are the fields that every object has.
var metaFields = map[string]bool{"apiVersion": true, "kind": true, "metadata": true}

// constraints notes whether values of a type may be other than a schema asks.
func (f *fitter) constraints(t reflect.Type, s *structuralschema.Structural) {
	asked := withoutGiven(t, s)
	f.validates = f.validates || constrainsHere(asked) || formatConstrains(asked)
}

// nulls notes that items may be null where the schema allows none.
func (f *fitter) nulls(t reflect.Type, items *structuralschema.Structural) {
	f.validates = f.validates || zeroIsNull(t) && !items.Nullable
}

// unseen notes what a schema asks of values that Go does not look into.
func (f *fitter) unseen(s *structuralschema.Structural, p place) {
	if hasDefaults(s) {
		f.raw(p)
	}
	f.validates = f.validates || anyBelow(s, constrains) || s.ValueValidation != nil && len(s.ValueValidation.Required) > 0
}
