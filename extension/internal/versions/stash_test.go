package versions_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"

	"github.com/annex-api/annex/extension/internal/kind"
	"github.com/annex-api/annex/extension/internal/versions"
)

// bad is what carries what could not be put back.
var bad = map[string]string{
	"a long path":             `[{"path":[` + strings.TrimSuffix(strings.Repeat("{},", 10_000), ",") + `],"has":1}]`,
	"a place before its list": `[{"path":[{"field":"spec"},{"field":"spares"},{"keys":["name"],"id":"[\"string x\"]","at":-1}],"has":{"name":"x"}}]`,
}

// forged is bad, and what could be put back and is not a client's to write.
func forged() map[string]string {
	all := maps.Clone(bad)
	all["a field"] = `[{"path":[{"field":"spec"},{"field":"exact"}],"has":true}]`
	all["junk"] = "junk"
	all["a seal"] = strings.Repeat("0", 64) + all["a field"]
	return all
}

// What a client carries is not believed, whether it comes as a spoke's object or the hub's.
func TestWhatAClientCarriesIsDropped(t *testing.T) {
	k := gears(true)
	lossless := versions.Lossless(scheme(t, k), k)
	old := schema.GroupVersion{Group: k.Hub.Group, Version: "v1beta1"}
	for what, value := range forged() {
		for _, name := range []string{versions.Stash, versions.Stash + ":x", versions.Stash + `:"spec"."exact"`} {
			annotations := map[string]string{name: value, "mine": "yes"}
			sent := &oldGear{ObjectMeta: metav1.ObjectMeta{Annotations: maps.Clone(annotations)}, Spec: oldGearSpec{Quota: 1}}
			got, err := lossless.ConvertToVersion(sent, runtime.InternalGroupVersioner)
			if err != nil {
				t.Errorf("%s in %s: %v", what, name, err)
				continue
			}
			want := &gear{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{"mine": "yes"}}, Spec: gearSpec{Quota: 1}}
			if diff := cmp.Diff(want, deep(got.(*gear))); diff != "" {
				t.Errorf("%s in %s: %s", what, name, diff)
			}
			there, err := lossless.ConvertToVersion(&gear{ObjectMeta: metav1.ObjectMeta{Annotations: annotations}}, old)
			if err != nil {
				t.Fatal(err)
			}
			if got := there.(*oldGear).Annotations; len(got) != 1 || len(annotations) != 2 {
				t.Errorf("%s in %s: the spoke's has %v, and the hub's %v", what, name, got, annotations)
			}
		}
	}
}

// What is sealed for one place is nothing at another, and nothing once it was changed.
func TestASealIsOfItsPlaceAndContent(t *testing.T) {
	k := gears(true)
	lossless := versions.Lossless(scheme(t, k), k)
	for what, change := range map[string]func(name, value string) (string, string){
		"nothing":  func(name, value string) (string, string) { return name, value },
		"its name": func(name, value string) (string, string) { return name + "x", value },
		"its content": func(name, value string) (string, string) {
			return name, strings.Replace(value, "true", "false", 1) + " "
		},
	} {
		there, err := lossless.ConvertToVersion(&gear{Spec: gearSpec{Text: "a", Exact: true}}, schema.GroupVersion{Group: k.Hub.Group, Version: "v1beta1"})
		if err != nil {
			t.Fatal(err)
		}
		changed := map[string]string{}
		for name, value := range there.(*oldGear).Annotations {
			name, value = change(name, value)
			changed[name] = value
		}
		if len(changed) != 1 {
			t.Fatalf("what is carried: %v", changed)
		}
		there.(*oldGear).Annotations = changed
		back, err := lossless.ConvertToVersion(there, runtime.InternalGroupVersioner)
		if err != nil || back.(*gear).Spec.Exact != (what == "nothing") {
			t.Errorf("with %s changed: %v, %v", what, back, err)
		}
	}
}

// What is stored and could not be put back is an error of the one object.
func TestStoredBeyondBoundsIsAnError(t *testing.T) {
	k := gears(true)
	s := scheme(t, k)
	codec := versions.StorageCodec(s, serializer.NewCodecFactory(s), k)
	for what, value := range bad {
		data, err := json.Marshal(&oldGear{
			TypeMeta:   metav1.TypeMeta{APIVersion: "gears.example.com/v1beta1", Kind: "Gear"},
			ObjectMeta: metav1.ObjectMeta{Name: "one", Annotations: map[string]string{versions.Stash: value}},
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := runtime.DecodeInto(codec, data, &gear{}); err == nil || !strings.Contains(err.Error(), "put back what v1beta1 cannot say") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// lamps are a kind without a Go type, whose spoke says nothing.
func lamps() *kind.Kind {
	hub := schema.GroupVersion{Group: "lamps.example.com", Version: "v1"}
	in := func(version string) func() runtime.Object {
		return func() runtime.Object {
			return kind.Empty(schema.GroupVersionKind{Group: hub.Group, Version: version, Kind: "Lamp"})
		}
	}
	nothing := func(runtime.Object, runtime.Object) error { return nil }
	return &kind.Kind{
		Hub: hub, Names: kind.Names{Kind: "Lamp", List: "LampList", Plural: "lamps", Singular: "lamp"}, Untyped: &kind.Untyped{},
		New: in("v1"), Spokes: []kind.Spoke{{Version: "v1beta1", New: in("v1beta1"), ToHub: nothing, FromHub: nothing}},
	}
}

// What lies deeper than a path may go is put back as a whole.
func TestWhatIsDeepIsPutBack(t *testing.T) {
	k := lamps()
	var deepest any = "only the hub has it"
	for i := range 200 {
		deepest = map[string]any{fmt.Sprint("f", i): deepest}
	}
	for _, carry := range []versions.Carry{versions.Fields, versions.Stored} {
		in := unstructuredOf(map[string]any{"apiVersion": "lamps.example.com/v1", "kind": "Lamp", "metadata": map[string]any{"name": "one"}, "deep": deepest})
		there, err := versions.Between(k, in, "v1beta1", carry)
		if err != nil {
			t.Fatal(err)
		}
		back, err := versions.Between(k, there, "v1", carry)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(in.Object, back.Object); diff != "" {
			t.Errorf("carried in way %d: %s", carry, diff)
		}
	}
}

// A kind without a Go type is given nothing that a client carries either.
func TestWhatAClientCarriesIsDroppedWithoutAType(t *testing.T) {
	k := lamps()
	for what, value := range forged() {
		in := unstructuredOf(map[string]any{"apiVersion": "lamps.example.com/v1beta1", "kind": "Lamp", "metadata": map[string]any{
			"name": "one", "annotations": map[string]any{versions.Stash + ":x": value},
		}})
		got, err := versions.Between(k, in, "v1", versions.Fields)
		if err != nil || len(got.GetAnnotations()) != 0 || len(got.Object) != 3 {
			t.Errorf("%s: %v, %v", what, got, err)
		}
	}
}
