package schema_test

import (
	"reflect"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"
)

func BenchmarkDefault(b *testing.B) {
	v := read(b, crds(), "Widget").Version("v1")
	fit, err := v.Fit(reflect.TypeFor[Widget]())
	if err != nil {
		b.Fatal(err)
	}
	b.Run("setters", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			fit.Default(&Widget{Spec: WidgetSpec{Ports: []Port{{}, {}}}})
		}
	})
	b.Run("map", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			obj, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&Widget{Spec: WidgetSpec{Ports: []Port{{}, {}}}})
			if err != nil {
				b.Fatal(err)
			}
			v.Default(obj)
		}
	})
}

func BenchmarkValidate(b *testing.B) {
	v := read(b, crds(), "Widget").Version("v1")
	obj := object(b, widgetHead+"spec: {size: 5, color: red, replicas: 1, ports: [{name: a}, {name: b}], tags: [a, b]}")
	b.ReportAllocs()
	for b.Loop() {
		if errs := v.Validate(b.Context(), obj, nil); len(errs) > 0 {
			b.Fatal(errs)
		}
	}
}
