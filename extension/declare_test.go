package extension_test

import (
	"context"
	"strings"
	"testing"
	"testing/fstest"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/annex-api/annex/extension"
)

// thing is a kind as users declare them.
type thing struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              thingSpec   `json:"spec,omitempty"`
	Status            thingStatus `json:"status,omitempty"`
}

type thingSpec struct {
	Text     string `json:"text,omitempty"`
	Replicas int32  `json:"replicas,omitempty"`
	Quota    int64  `json:"quota,omitempty"`
}

type thingStatus struct {
	Phase string `json:"phase,omitempty"`
}

func (t *thing) DeepCopyInto(out *thing) { *out = *t; t.ObjectMeta.DeepCopyInto(&out.ObjectMeta) }

func (t *thing) DeepCopyObject() runtime.Object { out := &thing{}; t.DeepCopyInto(out); return out }

type thingList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []thing `json:"items"`
}

func (l *thingList) DeepCopyObject() runtime.Object {
	out := &thingList{TypeMeta: l.TypeMeta, ListMeta: *l.ListMeta.DeepCopy(), Items: make([]thing, len(l.Items))}
	for i := range l.Items {
		l.Items[i].DeepCopyInto(&out.Items[i])
	}
	return out
}

// bare has neither metadata nor deep copies.
type bare struct{ Text string }

type things = extension.Resource[thing, thingList]

var thingsV1 = schema.GroupVersion{Group: "things.example.com", Version: "v1"}

// named is what a kind is called whose Go type has a small letter.
func named(r things) things {
	r.GroupVersion = thingsV1
	if r.Names.Kind == "" {
		r.Names = extension.Names{Kind: "Thing", List: "ThingList"}
	}
	return r
}

// Whatever is wrong with a declaration is named at the start, with its field and what
// would be right.
func TestWhatIsWrongWithADeclarationIsNamed(t *testing.T) {
	crd := func(kind string) fstest.MapFS {
		return fstest.MapFS{"crd/things.yaml": {Data: []byte(`apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: things.things.example.com}
spec:
  group: things.example.com
  scope: Namespaced
  names: {kind: ` + kind + `, listKind: ThingList, plural: things, singular: thing}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            properties:
              text: {type: integer}
              quota: {type: integer, format: int64}
              replicas: {type: integer, format: int32, default: 1}
          status:
            type: object
            properties:
              phase: {type: string}
`)}}
	}
	set := func(change func(*things)) extension.Part {
		r := named(things{})
		change(&r)
		return r
	}
	noHub := func(*thing, *thing) error { return nil }
	for name, c := range map[string]struct {
		parts []extension.Part
		want  []string
	}{
		"group without a dot": {
			[]extension.Part{set(func(r *things) { r.GroupVersion.Group = "things" })},
			[]string{`kind Thing of things/v1: GroupVersion`, "things.example.com"},
		},
		"no version":                {[]extension.Part{set(func(r *things) { r.GroupVersion.Version = "V1" })}, []string{"GroupVersion", `"V1" is no version`}},
		"the internal version":      {[]extension.Part{set(func(r *things) { r.GroupVersion.Version = "__internal" })}, []string{"GroupVersion", "no version that clients can use"}},
		"a small letter":            {[]extension.Part{set(func(r *things) { r.Names = extension.Names{Kind: "thing", List: "ThingList"} })}, []string{"Names.Kind", "capital letter"}},
		"a plural":                  {[]extension.Part{set(func(r *things) { r.Names.Plural = "Things_" })}, []string{"Names.Plural", `"Things_"`}},
		"a short name":              {[]extension.Part{set(func(r *things) { r.Names.Short = []string{"T."} })}, []string{"Names.Short", `"T."`}},
		"list and kind of one name": {[]extension.Part{set(func(r *things) { r.Names.List = "Thing" })}, []string{"Names.List"}},
		"no object": {
			[]extension.Part{extension.Resource[bare, thingList]{GroupVersion: thingsV1, Names: extension.Names{Kind: "Bare"}}},
			[]string{"T: extension_test.bare does not embed v1.TypeMeta", "does not embed v1.ObjectMeta", "has no method DeepCopyObject", "Items of type []extension_test.bare"},
		},
		"status hooks without status": {
			[]extension.Part{set(func(r *things) { r.PrepareForStatusUpdate = func(context.Context, *thing, *thing) {} })},
			[]string{"PrepareForStatusUpdate", "set Status"},
		},
		"scale without such fields": {
			[]extension.Part{set(func(r *things) {
				r.Scale = &extension.Scale{SpecReplicas: ".spec.text", StatusReplicas: ".status.replicas"}
			})},
			[]string{`Scale.SpecReplicas: the field ".spec.text"`, `no field ".status.replicas"`},
		},
		"a column without a value": {[]extension.Part{set(func(r *things) { r.Columns = extension.Columns(extension.Column[thing]("Text", nil)) })}, []string{"Columns[0]", "no Value"}},
		"a column of no type": {
			[]extension.Part{set(func(r *things) {
				r.Columns = []extension.ColumnOf[thing]{{Name: "Text", Type: "text", Value: func(*thing) any { return "" }}}
			})},
			[]string{"Columns[0]", `"text" is no type`},
		},
		"fields that panic": {
			[]extension.Part{set(func(r *things) { r.SelectableFields = func(*thing) fields.Set { panic("at the disco") } })},
			[]string{"SelectableFields", "at the disco"},
		},
		"an index of nothing":     {[]extension.Part{set(func(r *things) { r.Indexed = "spec.text" })}, []string{"Indexed", `"spec.text"`}},
		"a stored version":        {[]extension.Part{set(func(r *things) { r.StorageVersion = "v2" })}, []string{"StorageVersion", `"v2"`}},
		"a version twice":         {[]extension.Part{set(func(r *things) { r.Versions = extension.Versions(extension.Spoke("v1", noHub, noHub)) })}, []string{"Versions v1", "already"}},
		"a subresource of no use": {[]extension.Part{set(func(r *things) { r.Sub = extension.Sub(extension.Update("size", extension.UpdateOf[thing]{})) })}, []string{`Sub "size"`, "Fields is empty"}},
		"a subresource of a wrong field": {
			[]extension.Part{set(func(r *things) {
				r.Sub = extension.Sub(extension.Update("size", extension.UpdateOf[thing]{Fields: []string{".spec.size"}}))
			})},
			[]string{`Sub "size"`, `no field ".spec.size"`},
		},
		"a subresource of Kubernetes' own": {
			[]extension.Part{set(func(r *things) {
				r.Sub = extension.Sub(extension.Update("status", extension.UpdateOf[thing]{Fields: []string{".spec.text"}}))
			})},
			[]string{`Sub "status"`, "Kubernetes' own"},
		},
		"two kinds of one name": {
			[]extension.Part{set(func(*things) {}), set(func(r *things) { r.Names.Plural = "otherthings" })},
			[]string{`the name "Thing" is also that of kind Thing`},
		},
		"a schema of another kind": {[]extension.Part{set(func(r *things) { r.Schema = crd("Other") })}, []string{"Schema", "no file defines it", "Other.things.example.com"}},
		"a schema of other types": {
			[]extension.Part{set(func(r *things) { r.Schema = crd("Thing") })},
			[]string{"Schema: it does not fit the Go type of v1: crd/things.yaml:", "spec.text", "spec.replicas"},
		},
		"a computed kind without objects": {[]extension.Part{extension.Computed[thing]{GroupVersion: thingsV1, Names: extension.Names{Kind: "Thing"}}}, []string{"List: it is missing"}},
		"nothing":                         {[]extension.Part{nil}, []string{"a part is nil"}},
		"a controller without a name":     {[]extension.Part{extension.Controller("", nil)}, []string{"a controller has no name"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := extension.New(t.Context(), extension.Config{Name: "things", Storage: "none://", Standalone: &extension.Standalone{}}, c.parts...)
			if err == nil {
				t.Fatal("nothing is found wrong with it")
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
		})
	}
}

// All that is wrong is said at once.
func TestEveryFaultIsSaid(t *testing.T) {
	bad := named(things{Indexed: "spec.text", StorageVersion: "v7"})
	_, err := extension.New(t.Context(), extension.Config{Name: "Bad_Name", RequestTimeout: 1}, bad, extension.Controller("", nil))
	if err == nil {
		t.Fatal("nothing is found wrong with it")
	}
	for _, want := range []string{"Indexed", "StorageVersion", "configuration: Name", "Host, Standalone", "RequestTimeout", "a controller has no name"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %q", err, want)
		}
	}
}
