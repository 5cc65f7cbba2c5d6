package extension_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"github.com/annex-api/annex/extension"
	"github.com/annex-api/annex/extension/extensiontest"
)

// applied applies a thing with a spec in the version of a client.
func applied(t *testing.T, c dynamic.ResourceInterface, version, manager, name, spec string, force bool, sub ...string) error {
	t.Helper()
	body := fmt.Sprintf(`{"apiVersion":"things.example.com/%s","kind":"Thing","metadata":{"name":%q},"spec":%s}`, version, name, spec)
	_, err := c.Patch(t.Context(), name, types.ApplyPatchType, []byte(body), metav1.PatchOptions{FieldManager: manager, Force: &force}, sub...)
	return err
}

// owners are the managers of a field such as f:spec.f:text, sorted.
func owners(t *testing.T, c dynamic.ResourceInterface, name string, path ...string) string {
	t.Helper()
	o, err := c.Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, entry := range o.GetManagedFields() {
		var at map[string]any
		if err := json.Unmarshal(entry.FieldsV1.GetRawBytes(), &at); err != nil {
			t.Fatal(err)
		}
		if _, has, _ := unstructured.NestedFieldNoCopy(at, path...); has {
			found[entry.Manager] = true
		}
	}
	return strings.Join(slices.Sorted(maps.Keys(found)), ",")
}

// Who writes through a version that says less takes the field that it cannot say from
// nobody: neither its value nor who owns it.
func TestOwnersOfWhatAVersionCannotSay(t *testing.T) {
	running := extensiontest.Start(t, nil, named(things{
		Status: true, Versions: lossy(),
		Sub: extension.Sub(extension.Update("words", extension.UpdateOf[thing]{Fields: []string{".spec.text"}})),
	}))
	hub, old := in(t, running.Server, "v1"), in(t, running.Server, "v1beta1")
	patch := func(kind types.PatchType, body string, sub ...string) func(string) error {
		return func(name string) error {
			_, err := old.Patch(t.Context(), name, kind, []byte(body), metav1.PatchOptions{FieldManager: "bob"}, sub...)
			return err
		}
	}
	for name, write := range map[string]func(string) error{
		"put": func(name string) error {
			o, err := old.Get(t.Context(), name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			if err := unstructured.SetNestedField(o.Object, "b", "spec", "text"); err != nil {
				return err
			}
			_, err = old.Update(t.Context(), o, metav1.UpdateOptions{FieldManager: "bob"})
			return err
		},
		"merge":     patch(types.MergePatchType, `{"spec":{"text":"b"}}`),
		"json":      patch(types.JSONPatchType, `[{"op":"replace","path":"/spec/text","value":"b"}]`),
		"strategic": patch(types.StrategicMergePatchType, `{"spec":{"text":"b"}}`),
		"part":      patch(types.MergePatchType, `{"spec":{"text":"b"}}`, "words"),
		"apply":     func(name string) error { return applied(t, old, "v1beta1", "bob", name, `{"text":"b"}`, true) },
	} {
		t.Run(name, func(t *testing.T) {
			if err := applied(t, hub, "v1", "alice", name, `{"text":"a","replicas":3}`, false); err != nil {
				t.Fatal(err)
			}
			if err := write(name); err != nil {
				t.Fatal(err)
			}
			if got := spec(t, hub, name); got != `{"replicas":3,"text":"b"}` {
				t.Errorf("the hub has %s", got)
			}
			if got := owners(t, hub, name, "f:spec", "f:text"); got != "bob" {
				t.Errorf("the text is owned by %q, want bob", got)
			}
			if got := owners(t, hub, name, "f:spec", "f:replicas"); got != "alice" {
				t.Errorf("the replicas are owned by %q, want alice", got)
			}
			if err := applied(t, hub, "v1", "carol", name, `{"replicas":4}`, false); !apierrors.IsConflict(err) {
				t.Errorf("another manager applies the replicas: %v, want a conflict", err)
			}
			if err := applied(t, hub, "v1", "alice", name, `{"quota":1}`, false); err != nil {
				t.Fatal(err)
			}
			if got := spec(t, hub, name); got != `{"quota":1,"text":"b"}` {
				t.Errorf("once its owner gives the replicas up there is %s", got)
			}
		})
	}
}

// Where a version that says less is stored, nothing is lost, and what is the same is not
// written again.
func TestStoredInAVersionThatSaysLess(t *testing.T) {
	running := extensiontest.Start(t, nil, named(things{
		Status: true, Versions: lossy(), StorageVersion: "v1beta1",
		Default: func(o *thing) {
			if o.Spec.Quota == 0 {
				o.Spec.Quota = 5
			}
		},
	}))
	hub, old := in(t, running.Server, "v1"), in(t, running.Server, "v1beta1")
	const want = `{"quota":5,"replicas":3,"text":"a"}`
	for range 3 {
		if err := applied(t, hub, "v1", "alice", "one", `{"text":"a","replicas":3}`, false); err != nil {
			t.Fatal(err)
		}
	}
	for version, c := range map[string]dynamic.ResourceInterface{"v1": hub, "v1beta1": old} {
		resourceVersion := ""
		for range 2 { // from the storage, then from the watch cache
			o, err := c.Get(t.Context(), "one", metav1.GetOptions{ResourceVersion: resourceVersion})
			if err != nil {
				t.Fatal(err)
			}
			resourceVersion = o.GetResourceVersion()
			if o.GetGeneration() != 1 || strings.Contains(fmt.Sprint(o.Object["metadata"]), "extension.annex.dev") {
				t.Errorf("%s: after the same was applied three times: %v", version, o.Object["metadata"])
			}
		}
	}
	if got := spec(t, hub, "one"); got != want {
		t.Errorf("the hub has %s, want %s", got, want)
	}
	if _, err := old.Patch(t.Context(), "one", types.MergePatchType, []byte(`{"spec":{"text":"b"}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	if got, want := spec(t, hub, "one"), `{"quota":5,"replicas":3,"text":"b"}`; got != want {
		t.Errorf("after a patch through the other version the hub has %s, want %s", got, want)
	}
}

// The scale of an object is its replicas whatever version it is asked through.
func TestScaleThroughEveryVersion(t *testing.T) {
	running := extensiontest.Start(t, nil, named(things{
		Status: true, Versions: lossy(), Scale: &extension.Scale{SpecReplicas: ".spec.replicas", StatusReplicas: ".spec.replicas"},
	}))
	hub, old := in(t, running.Server, "v1"), in(t, running.Server, "v1beta1")
	if err := applied(t, old, "v1beta1", "bob", "one", `{"text":"a"}`, false); err != nil {
		t.Fatal(err)
	}
	if err := applied(t, hub, "v1", "alice", "one", `{"replicas":5}`, false); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		want int64
		c    dynamic.ResourceInterface
	}{{7, hub}, {0, old}, {9, old}} { // a scale of 0 says nothing of replicas: nobody owns them then
		want, c := step.want, step.c
		before, err := c.Get(t.Context(), "one", metav1.GetOptions{}, "scale")
		if err != nil {
			t.Fatal(err)
		}
		if err := unstructured.SetNestedField(before.Object, want, "spec", "replicas"); err != nil {
			t.Fatal(err)
		}
		after, err := c.Update(t.Context(), before, metav1.UpdateOptions{FieldManager: "scaler"}, "scale")
		if err != nil {
			t.Fatal(err)
		}
		got, _, err := unstructured.NestedInt64(after.Object, "spec", "replicas")
		if err != nil || got != want || after.GetKind() != "Scale" || after.GetAPIVersion() != "autoscaling/v1" {
			t.Errorf("the scale is %v, %v, want %d", after.Object, err, want)
		}
		o, err := hub.Get(t.Context(), "one", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if got, _, _ := unstructured.NestedInt64(o.Object, "spec", "replicas"); got != want || text(t, o) != "a" {
			t.Errorf("the hub has %v, want %d replicas", o.Object["spec"], want)
		}
		if got := owners(t, hub, "one", "f:spec", "f:text"); got != "bob" {
			t.Errorf("after a scale the text is owned by %q, want bob", got)
		}
		if got := owners(t, hub, "one", "f:spec", "f:replicas"); want == 7 && got != "scaler" {
			t.Errorf("after a scale the replicas are owned by %q, want scaler", got)
		}
	}
	if _, err := hub.Patch(t.Context(), "one", types.MergePatchType, []byte(`{"spec":{"replicas":-1}}`), metav1.PatchOptions{}, "scale"); !apierrors.IsInvalid(err) {
		t.Errorf("a negative scale gives %v, want Invalid", err)
	}
}

// Who applies a whole object to a part of it owns what the part takes, and nothing else.
func TestOwnersOfWhatAPartIgnores(t *testing.T) {
	running := extensiontest.Start(t, nil, named(things{
		Status: true, Versions: lossy(),
		Sub: extension.Sub(
			extension.Update("words", extension.UpdateOf[thing]{Fields: []string{".spec.text"}}),
			extension.Update("size", extension.UpdateOf[thing]{Fields: []string{".spec.replicas"}}),
		),
	}))
	hub, old := in(t, running.Server, "v1"), in(t, running.Server, "v1beta1")
	if err := applied(t, hub, "v1", "alice", "one", `{"text":"a","replicas":3,"quota":2}`, false); err != nil {
		t.Fatal(err)
	}
	const whole = `{"text":"b","quota":9}`
	for manager, write := range map[string]func() error{
		"by-words":     func() error { return applied(t, hub, "v1", "by-words", "one", whole, true, "words") },
		"by-old-words": func() error { return applied(t, old, "v1beta1", "by-old-words", "one", whole, true, "words") },
		"by-status":    func() error { return applied(t, hub, "v1", "by-status", "one", whole, true, "status") },
		"by-size":      func() error { return applied(t, hub, "v1", "by-size", "one", `{"replicas":4,"quota":9}`, true, "size") },
	} {
		if err := write(); err != nil {
			t.Fatalf("%s: %v", manager, err)
		}
	}
	if got, want := spec(t, hub, "one"), `{"quota":2,"replicas":4,"text":"b"}`; got != want {
		t.Errorf("there is %s, want %s", got, want)
	}
	for field, want := range map[string]string{"f:text": "by-old-words,by-words", "f:quota": "alice", "f:replicas": "by-size"} {
		if got := owners(t, hub, "one", "f:spec", field); got != want {
			t.Errorf("%s is owned by %q, want %q", field, got, want)
		}
	}
	if err := applied(t, hub, "v1", "carol", "one", `{"quota":2}`, false); err != nil {
		t.Errorf("who applies what nobody changed: %v", err)
	}
}
