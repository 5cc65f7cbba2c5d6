package schema

import (
	"encoding"
	"encoding/json"
	"reflect"
	"strings"

	"sigs.k8s.io/structured-merge-diff/v6/value"
)

// jsonField is a field of a struct as encoding/json sees it.
type jsonField struct {
	name, goName string
	index        []int
	typ          reflect.Type
	// omitEmpty and omitZero are the options of the tag. omitZero is nil without it.
	omitEmpty bool
	omitZero  func(reflect.Value) bool
	// behindPointer is true if an embedded pointer stands between.
	behindPointer bool
}

// jsonFields gives the fields of a struct in order, those of embedded structs among
// them. Where a name stands twice the outer field wins.
func jsonFields(t reflect.Type) []jsonField {
	var out []jsonField
	direct := map[string]bool{}
	var embedded [][]jsonField
	for i := range t.NumField() {
		sf := t.Field(i)
		tag, tagged := sf.Tag.Lookup("json")
		if tag == "-" {
			continue
		}
		name, options, _ := strings.Cut(tag, ",")
		inner, pointer := sf.Type, false
		if sf.Anonymous && inner.Kind() == reflect.Pointer {
			inner, pointer = inner.Elem(), true
		}
		if sf.Anonymous && name == "" && inner.Kind() == reflect.Struct {
			fields := jsonFields(inner)
			for j := range fields {
				fields[j].index = append([]int{i}, fields[j].index...)
				fields[j].goName = sf.Name + "." + fields[j].goName
				fields[j].behindPointer = fields[j].behindPointer || pointer
			}
			embedded = append(embedded, fields)
			out = append(out, jsonField{}) // its place
			continue
		}
		if !sf.IsExported() {
			continue
		}
		if name == "" || !tagged {
			name = sf.Name
		}
		f := jsonField{name: name, goName: sf.Name, index: []int{i}, typ: sf.Type}
		for option := range strings.SplitSeq(options, ",") {
			switch option {
			case "omitempty":
				f.omitEmpty = true
			case "omitzero":
				f.omitZero = value.OmitZeroFunc(sf.Type)
			}
		}
		direct[name] = true
		out = append(out, f)
	}
	if len(embedded) == 0 {
		return out
	}
	var all []jsonField
	for _, f := range out {
		if f.typ != nil {
			all = append(all, f)
			continue
		}
		for _, inner := range embedded[0] {
			if !direct[inner.name] {
				direct[inner.name] = true
				all = append(all, inner)
			}
		}
		embedded = embedded[1:]
	}
	return all
}

// isEmpty is what omitempty asks of a value; structs are never empty.
func isEmpty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Array, reflect.Map, reflect.Slice, reflect.String:
		return v.Len() == 0
	case reflect.Struct:
		return false
	}
	return v.IsZero()
}

// left says whether JSON of the struct leaves the field out for a value.
func (f *jsonField) left(v reflect.Value) bool {
	return f.omitEmpty && isEmpty(v) || f.omitZero != nil && f.omitZero(v)
}

// canLeave is true if there is a value for which the field is left out.
func (f *jsonField) canLeave() bool {
	return f.omitZero != nil || f.omitEmpty && f.typ.Kind() != reflect.Struct
}

// ownJSON is true if a type says itself how it is written.
func ownJSON(t reflect.Type) bool {
	for _, t := range []reflect.Type{t, reflect.PointerTo(t)} {
		if t.Implements(reflect.TypeFor[json.Marshaler]()) || t.Implements(reflect.TypeFor[encoding.TextMarshaler]()) {
			return true
		}
	}
	return false
}

// zeroIsNull is true if the zero value of a type is written as null.
func zeroIsNull(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Pointer, reflect.Map, reflect.Slice, reflect.Interface:
		return true
	}
	if !ownJSON(t) {
		return false
	}
	written, err := json.Marshal(reflect.New(t).Interface())
	return err == nil && string(written) == "null"
}

// isNull gives what is true for values of a type that are written as null.
func isNull(t reflect.Type) func(reflect.Value) bool {
	switch {
	case t.Kind() == reflect.Pointer:
		behind := isNull(t.Elem())
		return func(v reflect.Value) bool { return v.IsNil() || behind(v.Elem()) }
	case zeroIsNull(t):
		return value.OmitZeroFunc(t)
	}
	return func(reflect.Value) bool { return false }
}
