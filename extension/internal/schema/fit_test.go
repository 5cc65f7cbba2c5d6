package schema_test

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/annex-api/annex/extension/internal/schema"
)

// Widget is the Go type of the definition in testdata.
type Widget struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              WidgetSpec   `json:"spec"`
	Status            WidgetStatus `json:"status,omitempty"`
}

type WidgetSpec struct {
	Size     int32                        `json:"size"`
	MinSize  *int32                       `json:"minSize,omitempty"`
	Color    Color                        `json:"color,omitempty"`
	Code     string                       `json:"code,omitempty"`
	Replicas *int32                       `json:"replicas,omitempty"`
	Ports    []Port                       `json:"ports,omitempty"`
	Tags     []string                     `json:"tags,omitempty"`
	Limits   map[string]resource.Quantity `json:"limits,omitempty"`
	Since    *metav1.Time                 `json:"since,omitempty"`
	Mode     *intstr.IntOrString          `json:"mode,omitempty"`
	Extra    runtime.RawExtension         `json:"extra,omitempty"`
	Template runtime.RawExtension         `json:"template,omitempty"`
	Nested   *Nested                      `json:"nested,omitempty"`
}

type Color string

type Port struct {
	Name     string             `json:"name"`
	Protocol string             `json:"protocol,omitempty"`
	Target   intstr.IntOrString `json:"target,omitempty"`
}

type Nested struct {
	Depth *int64  `json:"depth,omitempty"`
	Note  *string `json:"note,omitempty"`
}

type WidgetStatus struct {
	Phase    string `json:"phase,omitempty"`
	Replicas int32  `json:"replicas,omitempty"`
	Selector string `json:"selector,omitempty"`
}

func TestFit(t *testing.T) {
	fit, err := read(t, crds(), "Widget").Version("v1").Fit(reflect.TypeFor[Widget]())
	if err != nil {
		t.Fatal(err)
	}
	if len(fit.NeedsRaw) > 0 || !fit.Validates {
		t.Errorf("needs raw %v, validates %v", fit.NeedsRaw, fit.Validates)
	}
	if diff := cmp.Diff([]string{
		`Widget.Spec.Ports[].Protocol (spec.ports[].protocol): the default "TCP" takes the place of "", too, as the field is left out then; make it a pointer with omitempty if that matters`,
	}, fit.Warnings); diff != "" {
		t.Error(diff)
	}

	w := &Widget{Spec: WidgetSpec{Ports: []Port{{Name: "a"}, {Name: "b", Protocol: "UDP"}}, Nested: &Nested{}}}
	fit.Default(w)
	one, three := int32(1), int64(3)
	want := &Widget{Spec: WidgetSpec{
		Color: "red", Replicas: &one,
		Ports:  []Port{{Name: "a", Protocol: "TCP"}, {Name: "b", Protocol: "UDP"}},
		Nested: &Nested{Depth: &three},
	}}
	if diff := cmp.Diff(want, w); diff != "" {
		t.Error(diff)
	}

	second := &Widget{}
	fit.Default(second)
	*second.Spec.Replicas = 7
	third := &Widget{}
	fit.Default(third)
	if *third.Spec.Replicas != 1 {
		t.Error("two objects share a default")
	}
}

// version is that of a definition with the given properties of its spec.
func version(t testing.TB, properties string) *schema.Version {
	t.Helper()
	return read(t, fstest.MapFS{"thing.yaml": {Data: []byte(thing(properties))}}, "Thing").Versions[0]
}

func TestMisfitsAreNamed(t *testing.T) {
	type inner struct {
		A string `json:"a"`
	}
	for name, c := range map[string]struct {
		typ    any
		schema string
		want   []string
	}{
		"fields on one side": {
			struct {
				Spec struct {
					A string `json:"a"`
					B string `json:"b"`
				} `json:"spec"`
			}{},
			"spec:\n  type: object\n  properties:\n    b: {type: string}\n    c: {type: string}\n    d: {type: string}",
			[]string{
				".Spec.A (spec.a): the type has the field, the schema has not",
				".Spec.? (spec.c): the schema has the field, ",
				".Spec.? (spec.d): the schema has the field, ",
			},
		},
		"types": {
			struct {
				A int               `json:"a"`
				B string            `json:"b"`
				C []string          `json:"c"`
				D map[string]string `json:"d"`
				E inner             `json:"e"`
				F metav1.Time       `json:"f"`
				G int               `json:"g"`
				H []int             `json:"h"`
				I map[string]bool   `json:"i"`
				J map[int]string    `json:"j"`
				K chan string       `json:"k"`
			}{},
			"a: {type: string}\nb: {type: integer}\nc: {type: string}\nd: {type: object, properties: {x: {type: string}}}\ne: {type: object, additionalProperties: {type: string}}\n" +
				"f: {type: integer}\ng: {type: number}\nh: {type: array, items: {type: string}}\ni: {type: object, additionalProperties: {type: string}}\nj: {type: object, additionalProperties: {type: string}}\nk: {type: string}",
			[]string{
				".A (a): the schema says string, which int does not hold",
				".B (b): the schema says integer, which string does not hold",
				".C (c): the schema says string, the type is []string",
				".D (d): the schema says object, the type is map[string]string",
				".E (e): the schema says a map, the type is schema_test.inner",
				".F (f): the schema says integer, which v1.Time does not hold",
				".G (g): the schema says number, which int does not hold",
				".H[] (h[]): the schema says string, which int does not hold",
				".I[] (i[]): the schema says string, which bool does not hold",
				".J (j): map[int]string has keys that are no strings",
				".K (k): chan string has no form in JSON",
			},
		},
		"fields that would be lost": {
			struct {
				A inner `json:"a"`
			}{},
			"a: {type: object, x-kubernetes-preserve-unknown-fields: true}",
			[]string{".A (a): the schema keeps unknown fields, which schema_test.inner would lose; runtime.RawExtension keeps them"},
		},
		"zero that cannot be said": {
			struct {
				A int32 `json:"a,omitempty"`
				B bool  `json:"b,omitempty"`
				C int   `json:"c,omitzero"`
				D int   `json:"d,omitempty"`
				E bool  `json:"e,omitempty"`
			}{},
			"a: {type: integer, default: 1}\nb: {type: boolean, default: true}\nc: {type: integer, default: 3}\nd: {type: integer, default: 3, minimum: 1}\ne: {type: boolean, default: false}",
			[]string{
				".A (a): the default 1 makes 0 impossible to say; make it a pointer",
				".B (b): the default true makes false impossible to say; make it a pointer",
				".C (c): the default 3 makes 0 impossible to say; make it a pointer",
			},
		},
		"a default of another type": {
			struct {
				A *int8       `json:"a,omitempty"`
				B metav1.Time `json:"b,omitempty"`
			}{},
			"a: {type: integer, default: 1000}\nb: {type: string, default: soon}",
			[]string{".A (a): the default 1000 does not fit *int8: ", `.B (b): the default "soon" does not fit v1.Time: `},
		},
		"an embedded pointer": {
			struct{ *Inner }{},
			"a: {type: string, default: x}",
			[]string{".Inner.A (a): the default cannot be set in an embedded pointer; embed the struct itself"},
		},
		"no struct": {"", "a: {type: string}", []string{"string is no struct"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := version(t, c.schema).Fit(reflect.TypeOf(c.typ))
			if err == nil {
				t.Fatal("it fits")
			}
			got := strings.Split(err.Error(), "\n")
			if len(got) != len(c.want) {
				t.Errorf("got %d faults, want %d", len(got), len(c.want))
			}
			for i, want := range c.want {
				if i < len(got) && strings.HasPrefix(got[i], "thing.yaml:") {
					_, got[i], _ = strings.Cut(got[i], ": ")
				}
				if i >= len(got) || !strings.HasPrefix(got[i], want) {
					t.Errorf("got  %s\nwant %s", err, want)
				}
			}
		})
	}
}

// A fault is told with the line of its field, or of what the field should be in.
func TestMisfitsHaveLines(t *testing.T) {
	type item struct {
		B int `json:"b"`
	}
	type spec struct {
		Items []item          `json:"items,omitempty"`
		Map   map[string]item `json:"map,omitempty"`
		Mode  string          `json:"mode"`
		More  string          `json:"more,omitempty"`
	}
	const text = `spec:
  type: object
  properties:
    items:
      type: array
      items:
        type: object
        properties:
          b: {type: string}
    map:
      type: object
      additionalProperties:
        type: object
        properties:
          b: {type: string}
    mode: {type: string, default: fast}
`
	const first = 16 // the line of spec
	misfit := version(t, text)
	_, err := misfit.Fit(reflect.TypeFor[struct {
		Spec spec `json:"spec"`
	}]())
	for _, want := range []string{
		fmt.Sprintf("thing.yaml:%d: .Spec.Items[].B (spec.items[].b): the schema says string", first+8),
		fmt.Sprintf("thing.yaml:%d: .Spec.Map[].B (spec.map[].b): the schema says string", first+14),
		fmt.Sprintf("thing.yaml:%d: .Spec.More (spec.more): the type has the field, the schema has not", first+2),
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %s", err, want)
		}
	}
	fit, err := version(t, "mode: {type: string, default: fast}").Fit(reflect.TypeFor[struct {
		Mode string `json:"mode"`
	}]())
	if want := []string{"thing.yaml:16: .Mode (mode)"}; err != nil || !slices.Equal(fit.NeedsRaw, want) {
		t.Errorf("needs raw %q, %v, want %q", fit.NeedsRaw, err, want)
	}
}

// Inner is embedded by pointer.
type Inner struct {
	A string `json:"a,omitempty"`
}

func TestFitKnowsWhatATypeGuarantees(t *testing.T) {
	for name, c := range map[string]struct {
		typ                 any
		schema              string
		validates, needsRaw bool
	}{
		"types alone": {struct {
			A int32                        `json:"a"`
			B int64                        `json:"b,omitempty"`
			C map[string]resource.Quantity `json:"c,omitempty"`
			D *metav1.Time                 `json:"d,omitempty"`
			E []byte                       `json:"e,omitempty"`
			F map[string]any               `json:"f,omitempty"`
			G apiextensionsv1.JSON         `json:"g,omitempty"`
			H float32                      `json:"h"`
		}{}, `a: {type: integer, format: int32}
b: {type: integer, format: int64}
c: {type: object, additionalProperties: {x-kubernetes-int-or-string: true, anyOf: [{type: integer}, {type: string}], pattern: '^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$'}}
d: {type: string, format: date-time}
e: {type: string, format: byte}
f: {type: object, x-kubernetes-preserve-unknown-fields: true}
g: {x-kubernetes-preserve-unknown-fields: true}
h: {type: number, format: float}`, false, false},
		"a wider integer": {struct {
			A int64 `json:"a"`
		}{}, "a: {type: integer, format: int32}", true, false},
		"always there": {struct {
			A struct {
				B string `json:"b"`
			} `json:"a"`
		}{}, "a: {type: object, required: [b], properties: {b: {type: string}}}", false, false},
		"may be left out": {struct {
			A struct {
				B string `json:"b,omitempty"`
			} `json:"a"`
		}{}, "a: {type: object, required: [b], properties: {b: {type: string}}}", true, false},
		"may be null": {struct {
			A struct {
				B []string `json:"b"`
			} `json:"a"`
		}{}, "a: {type: object, required: [b], properties: {b: {type: array, items: {type: string}}}}", true, false},
		"items may be null": {struct {
			A []*string `json:"a"`
		}{}, "a: {type: array, items: {type: string}}", true, false},
		"a default that Go cannot tell from zero": {struct {
			A string `json:"a"`
		}{}, "a: {type: string, default: x}", false, true},
		"a default behind a type of its own": {struct {
			A runtime.RawExtension `json:"a,omitempty"`
		}{}, "a: {type: object, properties: {b: {type: string, default: x}}}", false, true},
		"a default for null items": {struct {
			A []string `json:"a,omitempty"`
		}{}, "a: {type: array, items: {type: string, default: x}}", false, true},
		"a default that null is not": {struct {
			A *string `json:"a"`
		}{}, "a: {type: string, nullable: true, default: x}", false, true},
		"fields of an embedded object": {struct {
			A runtime.RawExtension `json:"a,omitempty"`
		}{}, "a: {type: object, required: [b], properties: {b: {type: string}}}", true, false},
		"limits in an embedded object": {struct {
			A runtime.RawExtension `json:"a,omitempty"`
		}{}, "a: {type: object, properties: {b: {type: string, maxLength: 3}}}", true, false},
		"a time's default": {struct {
			A metav1.Time `json:"a"`
		}{}, "a: {type: string, format: date-time, default: '2026-01-01T00:00:00Z'}", false, false},
	} {
		t.Run(name, func(t *testing.T) {
			fit, err := version(t, c.schema).Fit(reflect.TypeOf(c.typ))
			if err != nil {
				t.Fatal(err)
			}
			if fit.Validates != c.validates || len(fit.NeedsRaw) > 0 != c.needsRaw {
				t.Errorf("validates %v, want %v; needs raw %v, want %v", fit.Validates, c.validates, fit.NeedsRaw, c.needsRaw)
			}
		})
	}
}

// A time that is zero is null in JSON, so that a default stands for it.
func TestNullTakesTheDefault(t *testing.T) {
	type thing struct {
		A metav1.Time  `json:"a"`
		B *metav1.Time `json:"b"`
		C []string     `json:"c"`
		D *string      `json:"d"`
	}
	fit, err := version(t, "a: {type: string, format: date-time, default: '2026-01-01T00:00:00Z'}\nb: {type: string, format: date-time, default: '2026-01-01T00:00:00Z'}\n"+
		"c: {type: array, items: {type: string}, default: [x]}\nd: {type: string, nullable: true, default: x}").Fit(reflect.TypeFor[thing]())
	if err != nil {
		t.Fatal(err)
	}
	got := &thing{B: &metav1.Time{}}
	fit.Default(got)
	if got.A.Year() != 2026 || got.B.Year() != 2026 || len(got.C) != 1 || got.D != nil {
		t.Errorf("got %+v", got)
	}
	empty := &thing{C: []string{}}
	fit.Default(empty)
	if len(empty.C) != 0 {
		t.Errorf("an empty list that is written takes the default: %v", empty.C)
	}
}
