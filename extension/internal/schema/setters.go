package schema

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"

	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/runtime"
	kjson "sigs.k8s.io/json"
)

// setter sets the defaults in a value, which can be set.
type setter func(reflect.Value)

// field gives the setter of a struct's field: its own default, and those below.
func (f *fitter) field(field *jsonField, prop *structuralschema.Structural, p place) setter {
	inner := f.value(field.typ, prop, p)
	if prop.Default.Object == nil {
		if inner == nil || field.omitZero == nil {
			return inner
		}
		// An empty struct that a client sent is left out, and no longer there to set
		// anything in.
		if field.typ.Kind() == reflect.Struct {
			f.raw(p)
		}
		return func(v reflect.Value) {
			if !field.omitZero(v) {
				inner(v)
			}
		}
	}
	nullIsAbsent := zeroIsNull(field.typ) && !prop.Nullable
	if !field.canLeave() && !nullIsAbsent {
		f.raw(p)
		return inner
	}
	set, zero := f.fixed(field.typ, prop, p)
	if set == nil {
		return nil
	}
	if !zero {
		f.impossible(field, prop, p)
	}
	null := isNull(field.typ)
	return func(v reflect.Value) {
		if field.left(v) || nullIsAbsent && null(v) {
			set(v)
		}
		if inner != nil {
			inner(v)
		}
	}
}

// impossible finds what can no longer be said beside a default that is not zero.
func (f *fitter) impossible(field *jsonField, prop *structuralschema.Structural, p place) {
	empty := reflect.New(field.typ).Elem()
	switch field.typ.Kind() {
	case reflect.Interface:
		return // what it holds may be zero
	case reflect.Pointer:
		empty = reflect.New(field.typ.Elem())
	case reflect.Slice:
		empty = reflect.MakeSlice(field.typ, 0, 0)
	case reflect.Map:
		empty = reflect.MakeMap(field.typ)
	}
	if !field.left(empty) {
		return // an empty value that is written is not absent
	}
	written, err := json.Marshal(empty.Interface())
	if err != nil {
		return // an unwritable zero cannot have been said
	}
	var value any
	if err := json.Unmarshal(written, &value); err != nil || value == nil {
		return
	}
	value, _ = withoutNulls(value, prop)
	said := []any{value}
	if _, object := value.(map[string]any); object {
		said = append(said, map[string]any{}) // it is decoded as the same
	}
	values := validation.NewSchemaValidatorFromOpenAPI(prop.ToKubeOpenAPI())
	if !slices.ContainsFunc(said, func(value any) bool { return len(validation.ValidateCustomResource(nil, value, values)) == 0 }) {
		return // zero may not be said anyway
	}
	fallback, err := json.Marshal(prop.Default.Object)
	if err != nil {
		fallback = []byte("?")
	}
	if scalar(field.typ) && field.typ.Kind() != reflect.String {
		f.fault(p, "the default %s makes %s impossible to say; make it a pointer", fallback, written)
		return
	}
	f.warnings = append(f.warnings, fmt.Sprintf("%s: the default %s takes the place of %s, too, as the field is left out then; make it a pointer with omitempty if that matters", p, fallback, written))
}

// item gives the setter of a list's item or a map's value: defaults there stand for null.
func (f *fitter) item(t reflect.Type, s *structuralschema.Structural, inner setter, p place) setter {
	if s.Default.Object == nil || s.Nullable {
		return inner
	}
	if !zeroIsNull(t) {
		f.raw(p)
		return inner
	}
	set, _ := f.fixed(t, s, p)
	if set == nil {
		return nil
	}
	null := isNull(t)
	return func(v reflect.Value) {
		if null(v) {
			set(v)
		}
		if inner != nil {
			inner(v)
		}
	}
}

// fixed sets a value to a schema's default, which must fit the type; each time to a copy
// of its own. It tells whether the default is the zero value. Defaults below are set in
// the map already, as the type may not tell what is absent in it.
func (f *fitter) fixed(t reflect.Type, s *structuralschema.Structural, p place) (set setter, zero bool) {
	fallback := runtime.DeepCopyJSONValue(s.Default.Object)
	defaulting.Default(fallback, s)
	raw, err := json.Marshal(fallback)
	if err != nil {
		f.fault(p, "the default cannot be written: %v", err)
		return nil, false
	}
	decoded := reflect.New(t)
	strict, err := kjson.UnmarshalStrict(raw, decoded.Interface())
	if err = errors.Join(append(strict, err)...); err != nil {
		f.fault(p, "the default %s does not fit %s: %v", raw, t, err)
		return nil, false
	}
	value := decoded.Elem()
	switch {
	case scalar(t):
		return func(v reflect.Value) { v.Set(value) }, value.IsZero()
	case t.Kind() == reflect.Pointer && scalar(t.Elem()):
		return func(v reflect.Value) {
			own := reflect.New(t.Elem())
			own.Elem().Set(value.Elem())
			v.Set(own)
		}, false
	}
	return func(v reflect.Value) {
		own := reflect.New(t)
		// It has been decoded once without an error.
		_ = kjson.UnmarshalCaseSensitivePreserveInts(raw, own.Interface())
		v.Set(own.Elem())
	}, value.IsZero()
}

func scalar(t reflect.Type) bool {
	k := t.Kind()
	return k >= reflect.Bool && k <= reflect.Float64 || k == reflect.String
}

// below sets defaults behind a pointer, if there is something.
func below(inner setter) setter {
	if inner == nil {
		return nil
	}
	return func(v reflect.Value) {
		if !v.IsNil() {
			inner(v.Elem())
		}
	}
}

func eachItem(inner setter) setter {
	if inner == nil {
		return nil
	}
	return func(v reflect.Value) {
		for i := range v.Len() {
			inner(v.Index(i))
		}
	}
}

// eachValue sets defaults in the values of a map, which must be taken out for it.
func eachValue(t reflect.Type, inner setter) setter {
	if inner == nil {
		return nil
	}
	return func(v reflect.Value) {
		for _, key := range v.MapKeys() {
			own := reflect.New(t.Elem()).Elem()
			own.Set(v.MapIndex(key))
			inner(own)
			v.SetMapIndex(key, own)
		}
	}
}

type fieldSetter struct {
	index []int
	set   setter
}

func eachField(sets []fieldSetter) setter {
	if len(sets) == 0 {
		return nil
	}
	return func(v reflect.Value) {
		for _, s := range sets {
			s.set(v.FieldByIndex(s.index))
		}
	}
}
