package codec

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/runtime/serializer/cbor"

	"github.com/annex-api/annex/extension/internal/kind"
	"github.com/annex-api/annex/extension/internal/versions"
)

var (
	hub   = schema.GroupVersion{Group: "lamps.example.com", Version: "v1"}
	older = schema.GroupVersion{Group: "lamps.example.com", Version: "v1beta1"}
)

// lamp is a kind without a Go type. The hub knows color and note, and says that lamps are
// red; the older version knows color alone.
func lamp() *kind.Kind {
	known := func(names ...string) func(map[string]any) []string {
		return func(content map[string]any) (unknown []string) {
			for _, name := range slices.Sorted(maps.Keys(content)) {
				if !slices.Contains(append(names, "apiVersion", "kind", "metadata"), name) {
					delete(content, name)
					unknown = append(unknown, name)
				}
			}
			return unknown
		}
	}
	same := func(names ...string) func(from, to runtime.Object) error {
		return func(from, to runtime.Object) error {
			for _, name := range names {
				if value, ok := from.(*unstructured.Unstructured).Object[name]; ok {
					to.(*unstructured.Unstructured).Object[name] = value
				}
			}
			return nil
		}
	}
	makers := func(gv schema.GroupVersion) (object, list func() runtime.Object) {
		return func() runtime.Object { return kind.Empty(gv.WithKind("Lamp")) }, func() runtime.Object { return kind.EmptyList(gv.WithKind("LampList")) }
	}
	k := &kind.Kind{
		Hub: hub, Names: kind.Names{Kind: "Lamp", List: "LampList", Plural: "lamps", Singular: "lamp"}, StorageVersion: "v1",
		Untyped: &kind.Untyped{},
		Schemas: map[string]kind.Schema{
			"v1": {Prune: known("color", "note"), Default: func(obj runtime.Object) {
				if u := obj.(*unstructured.Unstructured); u.Object["color"] == nil {
					u.Object["color"] = "red"
				}
			}},
			"v1beta1": {Prune: known("color")},
		},
	}
	k.New, k.NewList = makers(hub)
	s := kind.Spoke{Version: "v1beta1", ToHub: same("color"), FromHub: same("color")}
	s.New, s.NewList = makers(older)
	k.Spokes = []kind.Spoke{s}
	return k
}

func kindsOf(t *testing.T, k *kind.Kind) *Kinds {
	t.Helper()
	scheme, err := versions.Scheme(k)
	if err != nil {
		t.Fatal(err)
	}
	return NewKinds(scheme, k)
}

func object(gv schema.GroupVersion, content map[string]any) *unstructured.Unstructured {
	u := kind.Empty(gv.WithKind("Lamp"))
	maps.Copy(u.Object, content)
	return u
}

// What is made of a kind without a Go type says what it is, in each version; the internal
// version is the hub's.
func TestKindsWithoutATypeAreMade(t *testing.T) {
	kinds := kindsOf(t, lamp())
	for gvk, want := range map[schema.GroupVersionKind]schema.GroupVersionKind{
		hub.WithKind("Lamp"):       hub.WithKind("Lamp"),
		hub.WithKind("LampList"):   hub.WithKind("LampList"),
		older.WithKind("Lamp"):     older.WithKind("Lamp"),
		older.WithKind("LampList"): older.WithKind("LampList"),
		{Group: hub.Group, Version: runtime.APIVersionInternal, Kind: "Lamp"}: hub.WithKind("Lamp"),
	} {
		obj, err := kinds.New(gvk)
		if err != nil || obj.GetObjectKind().GroupVersionKind() != want || !kinds.Recognizes(gvk) {
			t.Errorf("%v gives %v, %v", gvk, obj, err)
		}
	}
	for _, gvk := range []schema.GroupVersionKind{hub.WithKind("Desk"), {Group: hub.Group, Version: "v9", Kind: "Lamp"}, {Group: hub.Group, Version: "v9", Kind: "LampList"}} {
		if _, err := kinds.New(gvk); !runtime.IsNotRegisteredError(err) || kinds.Recognizes(gvk) {
			t.Errorf("%v gives %v", gvk, err)
		}
	}
	if diff := cmp.Diff([]schema.GroupVersion{hub, older}, kinds.VersionsForGroupKind(hub.WithKind("Lamp").GroupKind())); diff != "" {
		t.Error(diff)
	}
	if _, err := kinds.New(schema.GroupVersionKind{Version: "v1", Kind: "Status"}); err != nil {
		t.Errorf("what the scheme has: %v", err)
	}
}

// A conversion is a copy where it is asked to be, and never writes into what it is given.
func TestKindsWithoutATypeAreConverted(t *testing.T) {
	kinds := kindsOf(t, lamp())
	named := map[string]any{"name": "one"}
	in := object(hub, map[string]any{"color": "blue", "note": "n", "metadata": named})
	before := in.DeepCopy()
	same, err := kinds.ConvertToVersion(in, hub)
	if err != nil || same == runtime.Object(in) || !cmp.Equal(same, runtime.Object(in)) {
		t.Errorf("to its own version: %v, %v", same, err)
	}
	shown, err := kinds.ConvertToVersion(in, older)
	if err != nil || !cmp.Equal(shown, runtime.Object(object(older, map[string]any{"color": "blue", "metadata": named}))) {
		t.Errorf("to the older version: %v, %v", shown, err)
	}
	there, err := kinds.Lossless().ConvertToVersion(in, older)
	if err != nil {
		t.Fatal(err)
	}
	back, err := kinds.Lossless().ConvertToVersion(there, runtime.InternalGroupVersioner)
	if err != nil || !cmp.Equal(back, runtime.Object(before)) {
		t.Errorf("there and back without loss: %v, %v", back, err)
	}
	list := kind.EmptyList(hub.WithKind("LampList"))
	list.Items = []unstructured.Unstructured{*in}
	shown, err = kinds.ConvertToVersion(list, older)
	if l, ok := shown.(*unstructured.UnstructuredList); err != nil || !ok || l.GetAPIVersion() != older.String() || l.Items[0].GetAPIVersion() != older.String() {
		t.Errorf("a list to the older version: %v, %v", shown, err)
	}
	if !cmp.Equal(in, before) || list.GetAPIVersion() != hub.String() {
		t.Errorf("what was converted is now %v", in)
	}
	// Managed fields of a version that is gone are dropped by who sees this error.
	if _, err := kinds.Lossless().ConvertToVersion(in, schema.GroupVersion{Group: hub.Group, Version: "v0"}); !runtime.IsNotRegisteredError(err) {
		t.Errorf("to a version that is not there: %v", err)
	}
	desk := kind.Empty(hub.WithKind("Desk"))
	if err := kinds.Convert(desk, lamp().New(), nil); !runtime.IsNotRegisteredError(err) {
		t.Errorf("another kind is taken: %v", err)
	}
	if err := kinds.Convert(&metav1.Status{}, lamp().New(), nil); err == nil {
		t.Error("a Go type is taken")
	}
}

// In each media type, what clients send is pruned; strict decoding tells of it.
func TestWhatIsSentIsPruned(t *testing.T) {
	k := lamp()
	kinds := kindsOf(t, k)
	s := kinds.Serializer(serializer.NewCodecFactory(kinds.scheme, serializer.WithSerializer(cbor.NewSerializerInfo)))
	sent := object(older, map[string]any{"color": "blue", "odd": "x", "metadata": map[string]any{"name": "one", "strange": "y"}})
	want := object(hub, map[string]any{"color": "blue", "metadata": map[string]any{"name": "one"}})
	for _, media := range []string{runtime.ContentTypeJSON, runtime.ContentTypeYAML, runtime.ContentTypeCBOR} {
		info, ok := runtime.SerializerInfoForMediaType(s.SupportedMediaTypes(), media)
		if !ok {
			t.Fatalf("%s is not there", media)
		}
		var body bytes.Buffer
		if err := info.Serializer.Encode(sent, &body); err != nil {
			t.Fatal(err)
		}
		obj, gvk, err := s.DecoderToVersion(info.Serializer, hub).Decode(body.Bytes(), nil, k.New())
		if err != nil || *gvk != older.WithKind("Lamp") {
			t.Fatalf("%s: %v, %v", media, gvk, err)
		}
		if diff := cmp.Diff(runtime.Object(want), obj); diff != "" {
			t.Errorf("%s: %s", media, diff)
		}
		_, _, err = s.DecoderToVersion(info.StrictSerializer, hub).Decode(body.Bytes(), nil, k.New())
		strict, ok := runtime.AsStrictDecodingError(err)
		if !ok || !strings.Contains(strict.Error(), `unknown field "odd"`) || !strings.Contains(strict.Error(), `unknown field "metadata.strange"`) {
			t.Errorf("%s: strict decoding says %v", media, err)
		}
		body.Reset()
		if err := s.EncoderForVersion(info.Serializer, older).Encode(want, &body); err != nil {
			t.Fatal(err)
		}
		out := &unstructured.Unstructured{}
		if _, _, err := info.Serializer.Decode(body.Bytes(), nil, out); err != nil || out.GetAPIVersion() != older.String() || want.GetAPIVersion() != hub.String() {
			t.Errorf("%s: what is sent is %v, %v", media, out, err)
		}
	}
}

// What is stored is read whatever it has become: unknown fields and metadata that cannot
// be read go, defaults come. What a version cannot say is stored with it.
func TestWhatIsStoredIsRead(t *testing.T) {
	k := lamp()
	codec := kindsOf(t, k).Storage(k)
	obj, _, err := codec.Decode([]byte(`{"apiVersion":"lamps.example.com/v1beta1","kind":"Lamp","metadata":{"name":"one","labels":7},"odd":1}`), nil, k.New())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(runtime.Object(object(hub, map[string]any{"color": "red", "metadata": map[string]any{"name": "one"}})), obj); diff != "" {
		t.Error(diff)
	}
	for _, bad := range []string{
		`{"apiVersion":"lamps.example.com/v1","kind":"Desk"}`, `{"apiVersion":"lamps.example.com/v9","kind":"Lamp"}`, `{"kind":7}`, `nothing`,
	} {
		if obj, _, err := codec.Decode([]byte(bad), nil, nil); err == nil {
			t.Errorf("%s is read as %v", bad, obj)
		}
	}
	k.StorageVersion = "v1beta1"
	in := object(hub, map[string]any{"color": "blue", "note": "n", "metadata": map[string]any{"name": "one"}})
	data, err := runtime.Encode(codec, in)
	if err != nil || !bytes.Contains(data, []byte(`"apiVersion":"lamps.example.com/v1beta1"`)) {
		t.Fatalf("%s, %v", data, err)
	}
	if back, err := runtime.Decode(codec, data); err != nil || !cmp.Equal(back, runtime.Object(in)) {
		t.Errorf("it is read as %v, %v", back, err)
	}
}

// A default that panics leaves the object as it is; a server that reads it lives.
func TestDefaultsThatPanic(t *testing.T) {
	k := lamp()
	k.Hooks.Default = func(runtime.Object) { panic("boom") }
	u := object(hub, nil)
	kindsOf(t, k).Default(u)
	if u.Object["color"] != "red" {
		t.Errorf("the schema's own defaults are lost: %v", u)
	}
}

// A mutating webhook gives a new object, which is to take the place of the one it was asked about.
func TestAnObjectFillsAnotherOfItsType(t *testing.T) {
	k := kindsOf(t, lamp())
	for name, convertor := range map[string]runtime.ObjectConvertor{"scheme's": k, "lossless": k.Lossless()} {
		t.Run(name, func(t *testing.T) {
			in := &autoscalingv1.Scale{ObjectMeta: metav1.ObjectMeta{Name: "changed"}, Status: autoscalingv1.ScaleStatus{Replicas: 2}}
			out := &autoscalingv1.Scale{ObjectMeta: metav1.ObjectMeta{Name: "before"}, Spec: autoscalingv1.ScaleSpec{Replicas: 1}}
			if err := convertor.Convert(in, out, nil); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(in, out); diff != "" {
				t.Error(diff)
			}
			if err := convertor.Convert(&metav1.Status{}, out, nil); err == nil {
				t.Error("an object of another type is taken")
			}
			untyped := kind.Empty(hub.WithKind("Lamp"))
			untyped.Object["color"] = "blue"
			filled := kind.Empty(hub.WithKind("Lamp"))
			filled.Object["note"] = "before"
			if err := convertor.Convert(untyped, filled, nil); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(untyped, filled); diff != "" {
				t.Error(diff)
			}
		})
	}
}
