package extension_test

import (
	"context"
	"encoding/json"
	"slices"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"

	"github.com/annex-api/annex/extension"
	"github.com/annex-api/annex/extension/extensiontest"
)

// foreignThing is a Thing of another group.
type foreignThing struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              thingSpec `json:"spec,omitempty"`
}

func (t *foreignThing) DeepCopyObject() runtime.Object {
	return &foreignThing{TypeMeta: t.TypeMeta, ObjectMeta: *t.ObjectMeta.DeepCopy(), Spec: t.Spec}
}

type foreignThingList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []foreignThing `json:"items"`
}

func (l *foreignThingList) DeepCopyObject() runtime.Object {
	out := &foreignThingList{TypeMeta: l.TypeMeta, ListMeta: *l.ListMeta.DeepCopy()}
	for i := range l.Items {
		out.Items = append(out.Items, *l.Items[i].DeepCopyObject().(*foreignThing))
	}
	return out
}

// Several groups are served by one server, with kinds of one name in them and different versions: discovery and both documents tell them apart, and each has its own
// objects and hooks.
func TestSeveralGroups(t *testing.T) {
	const group = "others.example.com"
	running := extensiontest.Start(t, nil,
		named(things{Versions: lossy(), PrepareForCreate: func(_ context.Context, o *thing) { o.Spec.Text += " of things" }}),
		extension.Resource[foreignThing, foreignThingList]{
			GroupVersion:     schema.GroupVersion{Group: group, Version: "v1"},
			Names:            extension.Names{Kind: "Thing", List: "ThingList"},
			PrepareForCreate: func(_ context.Context, o *foreignThing) { o.Spec.Text += " of others" },
		})
	want := []schema.GroupVersion{{Group: group, Version: "v1"}, thingsV1, {Group: thingsV1.Group, Version: "v1beta1"}}

	d, err := discovery.NewDiscoveryClientForConfig(running.Config)
	if err != nil {
		t.Fatal(err)
	}
	_, aggregated, failed, err := d.GroupsAndMaybeResources()
	if err != nil || len(failed) > 0 {
		t.Fatal(err, failed)
	}
	v3, err := d.OpenAPIV3().Paths()
	if err != nil {
		t.Fatal(err)
	}
	v2, err := d.OpenAPISchema()
	if err != nil {
		t.Fatal(err)
	}
	var v2Names []string
	for _, definition := range v2.GetDefinitions().GetAdditionalProperties() {
		v2Names = append(v2Names, definition.GetName())
	}
	c, err := dynamic.NewForConfig(running.Config)
	if err != nil {
		t.Fatal(err)
	}
	for _, gv := range want {
		if listed := aggregated[gv]; listed == nil || !slices.ContainsFunc(listed.APIResources, func(r metav1.APIResource) bool { return r.Name == "things" && r.Kind == "Thing" }) {
			t.Errorf("discovery has for %s %v", gv, listed)
		}
		document, ok := v3["apis/"+gv.String()]
		if !ok {
			t.Errorf("there is no OpenAPI v3 of %s", gv)
			continue
		}
		data, err := document.Schema("application/json")
		if err != nil {
			t.Fatal(err)
		}
		var content struct {
			Components struct {
				Schemas map[string]struct {
					Kinds []metav1.GroupVersionKind `json:"x-kubernetes-group-version-kind"`
				}
			}
			Paths map[string]any
		}
		if err := json.Unmarshal(data, &content); err != nil {
			t.Fatal(err)
		}
		// com.example.things.v1.Thing
		name := "com.example." + gv.Group[:len(gv.Group)-len(".example.com")] + "." + gv.Version + ".Thing"
		if kinds := content.Components.Schemas[name].Kinds; !slices.Contains(kinds, metav1.GroupVersionKind{Group: gv.Group, Version: gv.Version, Kind: "Thing"}) {
			t.Errorf("OpenAPI v3 of %s says that %s is %v", gv, name, kinds)
		}
		if _, ok := content.Paths["/apis/"+gv.String()+"/namespaces/{namespace}/things/{name}"]; !ok {
			t.Errorf("OpenAPI v3 of %s has no path of things", gv)
		}
		if !slices.Contains(v2Names, name) {
			t.Errorf("OpenAPI v2 has no %s", name)
		}

		things := c.Resource(gv.WithResource("things")).Namespace("default")
		o := object("by-"+gv.Version, "applied")
		o.SetAPIVersion(gv.String())
		made, err := things.Apply(t.Context(), o.GetName(), o, metav1.ApplyOptions{FieldManager: "test"})
		text := "applied of things"
		if gv.Group == group {
			text = "applied of others"
		}
		if err != nil || made.GetAPIVersion() != gv.String() || made.Object["spec"].(map[string]any)["text"] != text {
			t.Errorf("%s: %v, %v, want %q", gv, err, made, text)
		}
	}
	for _, gv := range want {
		list, err := c.Resource(gv.WithResource("things")).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		objects := 2 // by-v1 and by-v1beta1
		if gv.Group == group {
			objects = 1
		}
		if len(list.Items) != objects || list.GetAPIVersion() != gv.String() {
			t.Errorf("%s has %v, want %d objects", gv, list, objects)
		}
	}
}
