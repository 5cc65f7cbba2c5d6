package path

import (
	"reflect"
	"strings"
)

// TypeOf finds the type of a field by its JSON path, such as ".spec.replicas"; nil where
// there is none. Below a map any key is a field.
func TypeOf(t reflect.Type, path string) reflect.Type {
	for key := range strings.SplitSeq(strings.TrimPrefix(path, "."), ".") {
		t = derefType(t)
		switch t.Kind() {
		case reflect.Map:
			t = t.Elem()
		case reflect.Struct:
			if t = memberType(t, key); t == nil {
				return nil
			}
		default:
			return nil
		}
	}
	return t
}

// Names are the JSON names of a struct's fields.
func Names(t reflect.Type) []string {
	var names []string
	for i := range t.NumField() {
		f := t.Field(i)
		name, inline := jsonName(f)
		switch inner := derefType(f.Type); {
		case inline && inner.Kind() == reflect.Struct:
			names = append(names, Names(inner)...)
		case name != "" && name != "-" && f.IsExported():
			names = append(names, name)
		}
	}
	return names
}

func memberType(t reflect.Type, name string) reflect.Type {
	for i := range t.NumField() {
		f := t.Field(i)
		tag, inline := jsonName(f)
		if tag == name && tag != "" {
			return f.Type
		}
		if inner := derefType(f.Type); inline && inner.Kind() == reflect.Struct {
			if found := memberType(inner, name); found != nil {
				return found
			}
		}
	}
	return nil
}

// jsonName is what a field is called in JSON, and whether its own fields stand in its
// place.
func jsonName(f reflect.StructField) (name string, inline bool) {
	name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name, f.Anonymous && name == "" || strings.Contains(options, "inline")
}

func derefType(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t
}
