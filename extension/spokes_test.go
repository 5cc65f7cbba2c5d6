package extension_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/gorilla/websocket"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"github.com/annex-api/annex/extension"
	"github.com/annex-api/annex/extension/extensiontest"
)

// oldThing is a version that knows nothing of replicas.
type oldThing struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              oldSpec `json:"spec,omitempty"`
}

type oldSpec struct {
	Text  string `json:"text,omitempty"`
	Quota int64  `json:"quota,omitempty"`
}

func (t *oldThing) DeepCopyInto(out *oldThing) { *out = *t; t.ObjectMeta.DeepCopyInto(&out.ObjectMeta) }

func (t *oldThing) DeepCopyObject() runtime.Object {
	out := &oldThing{}
	t.DeepCopyInto(out)
	return out
}

func lossy() []extension.SpokeOf[thing] {
	return extension.Versions(extension.Spoke("v1beta1",
		func(from *oldThing, to *thing) error {
			to.Spec = thingSpec{Text: from.Spec.Text, Quota: from.Spec.Quota}
			return nil
		},
		func(from *thing, to *oldThing) error {
			if to.Annotations == nil {
				to.Annotations = map[string]string{}
			}
			to.Annotations["example.com/converted"] = "yes" // as many a conversion notes something
			to.Spec = oldSpec{Text: from.Spec.Text, Quota: from.Spec.Quota}
			return nil
		}))
}

// in reaches the things of a server in a version.
func in(t *testing.T, s *extension.Server, version string) dynamic.ResourceInterface {
	t.Helper()
	config, err := s.As(extensiontest.Admin())
	if err != nil {
		t.Fatal(err)
	}
	c, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return c.Resource(thingsV1.WithResource("things").GroupResource().WithVersion(version)).Namespace("default")
}

func spec(t *testing.T, c dynamic.ResourceInterface, name string) string {
	t.Helper()
	o, err := c.Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(o.Object["spec"])
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// Whatever is written through a version that cannot say all, in whatever way: what it
// cannot say stays as it is, and what it can is exact.
func TestWritesThroughAVersionThatSaysLess(t *testing.T) {
	const large = 9007199254740993 // no float64 is this number
	patch := func(kind types.PatchType, body string, sub ...string) func(dynamic.ResourceInterface, *unstructured.Unstructured) error {
		return func(c dynamic.ResourceInterface, o *unstructured.Unstructured) error {
			_, err := c.Patch(t.Context(), o.GetName(), kind, []byte(body), metav1.PatchOptions{FieldManager: "test"}, sub...)
			return err
		}
	}
	running := extensiontest.Start(t, nil, named(things{
		Status: true, Versions: lossy(),
		Sub: extension.Sub(extension.Update("words", extension.UpdateOf[thing]{Fields: []string{".spec"}})),
	}))
	hub, old := in(t, running.Server, "v1"), in(t, running.Server, "v1beta1")
	for name, c := range map[string]struct {
		write func(dynamic.ResourceInterface, *unstructured.Unstructured) error
		want  string
	}{
		"put": {func(c dynamic.ResourceInterface, o *unstructured.Unstructured) error {
			if err := unstructured.SetNestedField(o.Object, "b", "spec", "text"); err != nil {
				return err
			}
			_, err := c.Update(t.Context(), o, metav1.UpdateOptions{})
			return err
		}, "b"},
		"merge patch":     {patch(types.MergePatchType, `{"spec":{"text":"b"}}`), "b"},
		"json patch":      {patch(types.JSONPatchType, `[{"op":"replace","path":"/spec/text","value":"b"}]`), "b"},
		"strategic patch": {patch(types.StrategicMergePatchType, `{"spec":{"text":"b"}}`), "b"},
		"apply":           {patch(types.ApplyPatchType, `{"apiVersion":"things.example.com/v1beta1","kind":"Thing","metadata":{"labels":{"a":"b"}}}`), "a"},
		"status":          {patch(types.MergePatchType, `{"metadata":{"labels":{"a":"b"}}}`, "status"), "a"},
		"subresource":     {patch(types.MergePatchType, `{"spec":{"text":"b"}}`, "words"), "b"},
	} {
		t.Run(name, func(t *testing.T) {
			id := strings.ReplaceAll(name, " ", "-")
			o := object(id, "a")
			o.Object["spec"].(map[string]any)["replicas"], o.Object["spec"].(map[string]any)["quota"] = int64(3), int64(large)
			if _, err := hub.Create(t.Context(), o, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			seen, err := old.Get(t.Context(), id, metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if err := c.write(old, seen); err != nil {
				t.Fatal(err)
			}
			if o, err := hub.Get(t.Context(), id, metav1.GetOptions{}); err != nil || strings.Contains(fmt.Sprint(o.Object["metadata"]), "extension.annex.dev") {
				t.Errorf("what carries the hub's fields is seen: %v, %v", o.Object["metadata"], err)
			}
			if got, want := spec(t, hub, id), fmt.Sprintf(`{"quota":%d,"replicas":3,"text":%q}`, large, c.want); got != want {
				t.Errorf("the hub has %s, want %s", got, want)
			}
		})
	}
}

// A conversion may write into what it makes, while many read at once.
func TestConversionsOfManyReaders(t *testing.T) {
	running := extensiontest.Start(t, nil, named(things{Versions: lossy()}))
	hub, old := in(t, running.Server, "v1"), in(t, running.Server, "v1beta1")
	o := object("one", "a")
	o.SetAnnotations(map[string]string{"example.com/mine": "yes"})
	if _, err := hub.Create(t.Context(), o, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	var readers sync.WaitGroup
	for range 8 {
		readers.Go(func() {
			for range 20 {
				if _, err := old.List(t.Context(), metav1.ListOptions{ResourceVersion: "0"}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	readers.Wait()
	got, err := hub.Get(t.Context(), "one", metav1.GetOptions{ResourceVersion: "0"})
	if err != nil || len(got.GetAnnotations()) != 1 {
		t.Errorf("reading left %v, %v", got.GetAnnotations(), err)
	}
}

// The hub's defaults are set whatever version an object comes in.
func TestDefaultsThroughAnotherVersion(t *testing.T) {
	var validated string
	running := extensiontest.Start(t, nil, named(things{
		Versions: lossy(),
		Default: func(o *thing) {
			if o.Spec.Replicas == 0 {
				o.Spec.Replicas = 7
			}
		},
		PrepareForCreate: func(_ context.Context, o *thing) { validated = fmt.Sprint(o.Spec.Replicas) },
	}))
	o := object("one", "a")
	o.SetAPIVersion("things.example.com/v1beta1")
	if _, err := in(t, running.Server, "v1beta1").Create(t.Context(), o, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := spec(t, in(t, running.Server, "v1"), "one"); validated != "7" || got != `{"replicas":7,"text":"a"}` {
		t.Errorf("hooks see %s replicas, the hub has %s", validated, got)
	}
}

// A PUT of a part creates nothing, though one of the whole may.
func TestPartsCreateNothing(t *testing.T) {
	running := extensiontest.Start(t, nil, named(things{
		Status: true, CreateOnUpdate: true, Scale: &extension.Scale{SpecReplicas: ".spec.replicas", StatusReplicas: ".spec.replicas"},
		Sub: extension.Sub(extension.Update("words", extension.UpdateOf[thing]{Fields: []string{".spec.text"}})),
	}))
	c := in(t, running.Server, "v1")
	for _, sub := range []string{"status", "words"} {
		if _, err := c.Update(t.Context(), object("none", "a"), metav1.UpdateOptions{}, sub); !apierrors.IsNotFound(err) {
			t.Errorf("a PUT of /%s gives %v, want NotFound", sub, err)
		}
	}
	if _, err := c.Update(t.Context(), object("one", "a"), metav1.UpdateOptions{}); err != nil {
		t.Errorf("a PUT of the whole gives %v", err)
	}
}

// An object whose selectable fields cannot be told is there all the same.
func TestFieldsThatPanicHideNoObject(t *testing.T) {
	running := extensiontest.Start(t, nil, named(things{SelectableFields: func(o *thing) fields.Set {
		if o.Spec.Text == "boom" {
			panic("boom")
		}
		return fields.Set{"spec.text": o.Spec.Text}
	}}))
	c := in(t, running.Server, "v1")
	for _, text := range []string{"fine", "boom"} {
		if _, err := c.Create(t.Context(), object(text, text), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for selector, want := range map[string]int{"": 2, "spec.text=fine": 1, "spec.text=boom": 0} {
		got, err := c.List(t.Context(), metav1.ListOptions{FieldSelector: selector})
		if err != nil || len(got.Items) != want {
			t.Errorf("the list of %q: %v, %d objects, want %d", selector, err, len(got.Items), want)
		}
	}
}

// Who may only read opens no session.
func TestSessionsNeedTheVerbCreate(t *testing.T) {
	running := things3(t)
	for group, want := range map[string]int{"view": http.StatusForbidden, "admin": http.StatusSwitchingProtocols} {
		config, err := running.Server.As(extension.Caller{Name: "somebody", Groups: []string{group}})
		if err != nil {
			t.Fatal(err)
		}
		header := http.Header{}
		if err := headersOf(config, header); err != nil {
			t.Fatal(err)
		}
		d := websocket.Dialer{NetDialContext: config.Dial}
		c, response, err := d.DialContext(t.Context(), "ws"+strings.TrimPrefix(config.Host, "http")+"/apis/things.example.com/v1/namespaces/default/things/one/echo", header)
		if err == nil {
			c.Close()
		}
		if response == nil || response.StatusCode != want {
			t.Errorf("a session of the group %s: %v, %v, want %d", group, err, response, want)
		}
	}
}
