package schema_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/annex-api/annex/extension/internal/schema"
)

type everything struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	*Pointed          `json:",inline"`
	Named             Base `json:"named"`

	Bool     bool
	Int      int               `json:"int"`
	Int32    *int32            `json:"int32,omitempty"`
	Float    float64           `json:"float"`
	Bytes    []byte            `json:"bytes"`
	Strings  []string          `json:"strings"`
	Labels   map[string]string `json:"labels"`
	Time     metav1.Time       `json:"time"`
	Micro    *metav1.MicroTime `json:"micro"`
	Duration metav1.Duration   `json:"duration"`
	Quantity resource.Quantity `json:"quantity"`
	Port     intstr.IntOrString
	Raw      runtime.RawExtension `json:"raw"`
	Any      any                  `json:"any"`
	Tree     *tree                `json:"tree"`
	Template template             `json:"template"`
	Hidden   chan int             `json:"-"`
	private  int
	Base     `json:",inline"`
}

type Base struct {
	// Base is hidden by nothing, Int by the outer field.
	Base string `json:"base"`
	Int  string `json:"int"`
}

type Pointed struct {
	Pointed bool `json:"pointed"`
}

type tree struct {
	Leaf     string          `json:"leaf"`
	Children []tree          `json:"children"`
	Named    map[string]tree `json:"named"`
}

type template struct {
	metav1.ObjectMeta `json:"metadata"`
}

func TestFromType(t *testing.T) {
	_ = everything{}.private
	made, err := schema.FromType(reflect.TypeFor[everything]())
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(made.ToKubeOpenAPI())
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]any{}
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatal(err)
	}
	template := got["properties"].(map[string]any)["template"].(map[string]any)["properties"].(map[string]any)["metadata"].(map[string]any)
	if owners := template["properties"].(map[string]any)["ownerReferences"].(map[string]any)["type"]; owners != "array" {
		t.Errorf("owner references of an embedded object are of type %v", owners)
	}
	delete(template, "properties")
	want := object(t, `
type: object
properties:
  apiVersion: {type: string}
  kind: {type: string}
  metadata: {type: object}
  base: {type: string}
  pointed: {type: boolean}
  named: {type: object, properties: {base: {type: string}, int: {type: string}}}
  Bool: {type: boolean}
  int: {type: integer, format: int64}
  int32: {type: integer, format: int32}
  float: {type: number, format: double}
  bytes: {type: string, format: byte}
  strings: {type: array, items: {type: string}}
  labels: {type: object, additionalProperties: {type: string}}
  time: {type: string, format: date-time}
  micro: {type: string, format: date-time}
  duration: {type: string}
  quantity: {x-kubernetes-int-or-string: true, anyOf: [{type: integer}, {type: string}]}
  Port: {x-kubernetes-int-or-string: true, anyOf: [{type: integer}, {type: string}]}
  raw: {type: object, x-kubernetes-preserve-unknown-fields: true}
  any: {x-kubernetes-preserve-unknown-fields: true}
  tree:
    type: object
    properties:
      leaf: {type: string}
      children: {type: array, items: {type: object, x-kubernetes-preserve-unknown-fields: true}}
      named: {type: object, additionalProperties: {type: object, x-kubernetes-preserve-unknown-fields: true}}
  template: {type: object, properties: {metadata: {type: object}}}
`)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestTypesWithoutJSONAreNamed(t *testing.T) {
	type wrong struct {
		Spec struct {
			Wait  []chan string   `json:"wait"`
			Index map[int]float64 `json:"index"`
		} `json:"spec"`
	}
	_, err := schema.FromType(reflect.TypeFor[wrong]())
	if err == nil {
		t.Fatal("there is a schema of it")
	}
	for _, want := range []string{
		"wrong.Spec.Wait[] (spec.wait[]): chan string has no form in JSON",
		"wrong.Spec.Index (spec.index): map[int]float64 has keys that are no strings",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
	if _, err := schema.FromType(reflect.TypeFor[*wrong]()); err == nil {
		t.Error("a pointer is taken for an object")
	}
}
