// Package path reads fields of Go objects by JSON paths.
package path

import (
	"fmt"
	"reflect"
	"regexp"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/util/jsonpath"
)

// simple is a path of names alone, such as .spec.replicas.
var simple = regexp.MustCompile(`^\.[A-Za-z_][A-Za-z0-9_-]*(\.[A-Za-z_][A-Za-z0-9_-]*)*$`)

// Compile gives a function that reads a path of objects of a type, which may be
// unstructured.Unstructured. What an object does not have is nil. A path of names alone is read from the object itself; any other is that of
// kubectl's JSONPath, read from what the object is in JSON, and joined by commas where
// there are several.
func Compile(t reflect.Type, path string) (func(runtime.Object) any, error) {
	if simple.MatchString(path) {
		keys := strings.Split(path[1:], ".")
		return func(obj runtime.Object) any {
			if u, ok := obj.(runtime.Unstructured); ok {
				return value(reflect.ValueOf(u.UnstructuredContent()), keys)
			}
			return value(reflect.ValueOf(obj), keys)
		}, nil
	}
	parser := jsonpath.New(path).AllowMissingKeys(true)
	if err := parser.Parse("{" + path + "}"); err != nil {
		return nil, fmt.Errorf("%q is no JSONPath: %w", path, err)
	}
	return func(obj runtime.Object) any {
		content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(obj)
		if err != nil {
			return nil
		}
		// A parser keeps state: each reading has its own.
		own := jsonpath.New(path).AllowMissingKeys(true)
		if own.Parse("{"+path+"}") != nil {
			return nil
		}
		results, err := own.FindResults(content)
		if err != nil {
			return nil
		}
		return join(results)
	}, nil
}

func join(results [][]reflect.Value) any {
	var texts []string
	for _, group := range results {
		for _, v := range group {
			if v.IsValid() && v.CanInterface() {
				texts = append(texts, fmt.Sprint(v.Interface()))
			}
		}
	}
	if texts == nil {
		return nil
	}
	return strings.Join(texts, ",")
}

// value gives what is at a path: a string, an integer, a number, a boolean, a time, or
// anything else as it is.
func value(v reflect.Value, keys []string) any {
	for _, key := range keys {
		if v = deref(v); !v.IsValid() {
			return nil
		}
		switch v.Kind() {
		case reflect.Struct:
			v = member(v, key)
		case reflect.Map:
			if v.Type().Key().Kind() != reflect.String {
				return nil
			}
			v = v.MapIndex(reflect.ValueOf(key).Convert(v.Type().Key()))
		case reflect.Interface:
			return nil
		default:
			return nil
		}
	}
	if v = deref(v); !v.IsValid() {
		return nil
	}
	if t, ok := v.Interface().(metav1.Time); ok {
		return t
	}
	switch v.Kind() {
	case reflect.String:
		return v.String()
	case reflect.Bool:
		return v.Bool()
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return v.Int()
	case reflect.Float32, reflect.Float64:
		return v.Float()
	}
	return v.Interface()
}

func deref(v reflect.Value) reflect.Value {
	for v.IsValid() && (v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface) {
		if v.IsNil() {
			return reflect.Value{}
		}
		v = v.Elem()
	}
	return v
}

// member finds a field by its JSON name.
func member(v reflect.Value, name string) reflect.Value {
	t := v.Type()
	for i := range t.NumField() {
		tag, inline := jsonName(t.Field(i))
		if tag == name && tag != "" {
			return v.Field(i)
		}
		if inline {
			if inner := deref(v.Field(i)); inner.IsValid() && inner.Kind() == reflect.Struct {
				if found := member(inner, name); found.IsValid() {
					return found
				}
			}
		}
	}
	return reflect.Value{}
}
