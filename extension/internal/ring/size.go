package ring

import (
	"reflect"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
)

// eventSize is about what an event takes beside its objects.
const eventSize = 256

// sizeOf is about how many bytes an object takes. It looks at no byte of a text, so that it
// costs less than a copy.
func sizeOf(o runtime.Object) int64 { return deepSize(reflect.ValueOf(o)) }

func deepSize(v reflect.Value) int64 {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			return 0
		}
		return int64(v.Elem().Type().Size()) + deepSize(v.Elem())
	case reflect.String:
		return int64(v.Len())
	case reflect.Slice, reflect.Array:
		size := int64(0)
		if v.Kind() == reflect.Slice {
			size = int64(v.Cap()) * int64(v.Type().Elem().Size())
		}
		if flat(v.Type().Elem().Kind()) {
			return size
		}
		for i := range v.Len() {
			size += deepSize(v.Index(i))
		}
		return size
	case reflect.Map:
		t := v.Type()
		size := int64(v.Len()) * int64(t.Key().Size()+t.Elem().Size())
		for entries := v.MapRange(); entries.Next(); {
			size += deepSize(entries.Key()) + deepSize(entries.Value())
		}
		return size
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() { // its place is the process'
			return 0
		}
		size := int64(0)
		for i := range v.NumField() {
			size += deepSize(v.Field(i))
		}
		return size
	}
	return 0
}

// flat kinds are no larger than their type.
func flat(k reflect.Kind) bool { return k <= reflect.Complex128 }
