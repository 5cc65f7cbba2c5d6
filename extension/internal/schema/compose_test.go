package schema

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
)

func desks() Description {
	return Description{
		Group: "desks.example.com", Namespaced: true,
		Names: apiextensionsv1.CustomResourceDefinitionNames{Kind: "Desk", Plural: "desks", ShortNames: []string{"dk"}},
		Versions: []VersionDescription{
			{Name: "v1", Status: true, SelectableFields: []string{".spec.wood"}, Scale: &Scale{SpecReplicas: ".spec.legs", StatusReplicas: ".status.legs"}, OpenAPI: []byte(`
type: object
properties:
  spec:
    type: object
    required: [wood]
    properties:
      wood: {type: string, enum: [oak, ash]}
      legs: {type: integer}
      size: {x-kubernetes-int-or-string: true}
      free: {type: object, x-kubernetes-preserve-unknown-fields: true}
      drawers: {type: array, items: {type: object, properties: {open: {type: boolean}, made: {type: string, format: date-time}}}}
      labels: {type: object, additionalProperties: {type: number}}
  status:
    type: object
    properties:
      legs: {type: integer}
`)},
			{Name: "v1beta1", NotServed: true, Deprecated: "use v1", OpenAPI: []byte(`{"type":"object","x-kubernetes-preserve-unknown-fields":true}`)},
		},
	}
}

func TestADescriptionIsADefinition(t *testing.T) {
	d, err := desks().Definition()
	if err != nil {
		t.Fatal(err)
	}
	v1, beta := d.Version("v1"), d.Version("v1beta1")
	if d.Kind != "Desk" || d.ListKind != "DeskList" || d.Singular != "desk" || !d.Namespaced || d.Converts || d.Stored() != "v1" {
		t.Errorf("%+v", d)
	}
	if !v1.Served || !v1.Status || v1.Scale.SpecReplicas != ".spec.legs" || v1.SelectableFields[0] != ".spec.wood" || beta.Served || beta.Warning != "use v1" {
		t.Errorf("%+v, %+v", v1, beta)
	}
	if diff := cmp.Diff([]string{"spec", "status"}, v1.Members()); diff != "" {
		t.Error(diff)
	}
}

func TestFieldsOfASchema(t *testing.T) {
	d, err := desks().Definition()
	if err != nil {
		t.Fatal(err)
	}
	v1, beta := d.Version("v1"), d.Version("v1beta1")
	for path, want := range map[string]string{
		".spec": "object", ".spec.legs": "integer", "status": "object", ".spec.size": "", ".spec.free.any.thing": "", ".spec.labels.a": "number",
	} {
		if kind, known := v1.Field(path); !known || kind != want {
			t.Errorf("%s is %q, %v; want %q", path, kind, known, want)
		}
	}
	for _, path := range []string{".nothing", ".spec.nothing", ".spec.wood.nothing", ".spec.drawers.open", ""} {
		if kind, known := v1.Field(path); known {
			t.Errorf("%q is known, as %q", path, kind)
		}
	}
	if _, known := beta.Field(".any"); !known {
		t.Error("a schema that keeps all knows no field")
	}
}

// What is made at random has the schema's types, and nothing that it does not know.
func TestRandomObjectsFitTheirSchema(t *testing.T) {
	d, err := desks().Definition()
	if err != nil {
		t.Fatal(err)
	}
	v := d.Version("v1")
	seen := map[string]bool{}
	for seed := range uint64(50) {
		content := v.Random(seed)
		if errs := v.Validate(t.Context(), content, nil); len(errs) > 0 {
			t.Errorf("%v: %v", content, errs)
		}
		before, err := json.Marshal(content)
		if err != nil {
			t.Fatal(err)
		}
		seen[string(before)] = true
		if again, _ := json.Marshal(v.Random(seed)); string(again) != string(before) {
			t.Errorf("one seed gives %s, then %s", before, again)
		}
		if unknown := v.Prune(content); len(unknown) > 0 {
			t.Errorf("the schema does not know %q", unknown)
		}
	}
	if len(seen) < 25 {
		t.Errorf("50 seeds give %d objects", len(seen))
	}
}
