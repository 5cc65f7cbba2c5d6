package versions_test

import (
	"encoding/json"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/annex-api/annex/extension/internal/versions"
)

func unstructuredOf(content map[string]any) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: content}
}

// What is stored in a spoke is an object of the spoke that any server takes.
func TestWhatIsStoredIsAnObjectOfItsVersion(t *testing.T) {
	k := gears(true)
	s := scheme(t, k)
	codec := versions.StorageCodec(s, serializer.NewCodecFactory(s), k)
	teeth := int64(9007199254740993)
	stored := &gear{Spec: gearSpec{Text: "a", Teeth: &teeth, Parts: []part{{Name: "x", Note: "only the hub has it"}}}}
	stored.Name = "one"
	data, err := runtime.Encode(codec, stored)
	if err != nil {
		t.Fatal(err)
	}
	if stored.Annotations != nil {
		t.Errorf("the object that was written has %v", stored.Annotations)
	}
	var got oldGear
	if err := json.Unmarshal(data, &got); err != nil || got.APIVersion != "gears.example.com/v1beta1" || got.Spec.Text != "a" {
		t.Fatalf("%v: %s", err, data)
	}
	for name := range got.Annotations {
		if wrong := validation.IsQualifiedName(name); len(wrong) > 0 {
			t.Errorf("the annotation %q: %v", name, wrong)
		}
	}
	if !strings.Contains(string(data), "9007199254740993") {
		t.Errorf("a number is not exact: %s", data)
	}
	plain := &gear{Spec: gearSpec{Text: "a"}}
	if data, err = runtime.Encode(codec, plain); err != nil || strings.Contains(string(data), versions.Stash) {
		t.Errorf("where the spoke can say all, there is %s, %v", data, err)
	}
}

// The hub's defaults are set in what is read, whatever version it is stored in.
func TestDefaultsOfWhatIsStoredInAnotherVersion(t *testing.T) {
	for _, version := range []string{"v1", "v1beta1"} {
		k := gears(false)
		k.StorageVersion = version
		k.Hooks.Default = func(obj runtime.Object) {
			if g := obj.(*gear); g.Spec.Quota == 0 {
				g.Spec.Quota = 7
			}
		}
		s := scheme(t, k)
		codec := versions.StorageCodec(s, serializer.NewCodecFactory(s), k)
		got := &gear{}
		data := `{"apiVersion":"gears.example.com/` + version + `","kind":"Gear","metadata":{"name":"one"}}`
		if err := runtime.DecodeInto(codec, []byte(data), got); err != nil || got.Spec.Quota != 7 || got.APIVersion != "" {
			t.Errorf("stored in %s: %v, %v", version, err, got)
		}
	}
}

// What cannot be read is an error that says what is wrong, and no object that lacks something.
func TestDamagedStorageIsAnError(t *testing.T) {
	k := gears(false)
	s := scheme(t, k)
	codec := versions.StorageCodec(s, serializer.NewCodecFactory(s), k)
	const data = `{"apiVersion":"gears.example.com/v1beta1","kind":"Gear","metadata":{"name":"one","annotations":{"extension.annex.dev/hub":"junk"}}}`
	if err := runtime.DecodeInto(codec, []byte(data), &gear{}); err == nil || !strings.Contains(err.Error(), "put back what v1beta1 cannot say") {
		t.Errorf("%v", err)
	}
}

// A conversion that fails or panics is an error that names the versions.
func TestConversionsThatFail(t *testing.T) {
	for name, c := range map[string]struct {
		bad  func(from, to runtime.Object) error
		want []string
	}{
		"panics": {func(runtime.Object, runtime.Object) error { panic("boom") }, []string{"the conversion of Gear from v1 to v1beta1 panicked"}},
		"fails":  {func(runtime.Object, runtime.Object) error { return runtime.NewMissingKindErr("boom") }, []string{"convert Gear from v1 to v1beta1", "boom"}},
	} {
		k := gears(false)
		k.Spokes[0].FromHub = c.bad
		_, err := scheme(t, k).ConvertToVersion(&gear{}, schema.GroupVersion{Group: k.Hub.Group, Version: "v1beta1"})
		if err == nil {
			t.Errorf("one that %s is no error", name)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("one that %s: %q does not say %q", name, err, want)
			}
		}
	}
}

// Lists are converted item by item, and keep their own metadata.
func TestConversionsOfLists(t *testing.T) {
	k := gears(false)
	in := &gearList{Items: []gear{*random(1), *random(2)}}
	in.ResourceVersion, in.Continue = "5", "more"
	out, err := scheme(t, k).ConvertToVersion(in, schema.GroupVersion{Group: k.Hub.Group, Version: "v1beta1"})
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(out)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Kind     string
		Metadata struct{ ResourceVersion, Continue string }
		Items    []oldGear
	}
	if err := json.Unmarshal(data, &got); err != nil || got.Kind != "GearList" || got.Metadata.ResourceVersion != "5" || got.Metadata.Continue != "more" || len(got.Items) != 2 {
		t.Fatalf("%v: %s", err, data)
	}
	for i, item := range got.Items {
		if item.Spec.Quota != in.Items[i].Spec.Quota || item.Name != "one" {
			t.Errorf("item %d: %v", i, item)
		}
	}
}
