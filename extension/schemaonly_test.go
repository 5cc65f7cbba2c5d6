package extension_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/annex-api/annex/extension"
	"github.com/annex-api/annex/extension/extensiontest"
	"github.com/annex-api/annex/extension/storage/kine/sqlite"
)

const lampGroup = "lamps.example.com"

// lampSchema is the schema of a version: spec has the given properties.
func lampSchema(properties string) []byte {
	return []byte(`type: object
description: Lamp gives light.
properties:
  spec:
    type: object
    properties:
` + properties + `
    x-kubernetes-validations:
    - rule: "!has(self.watts) || self.watts != 13"
      message: thirteen is unlucky
  status:
    type: object
    properties:
      phase: {type: string}
      lit: {type: string, format: date-time}
`)
}

const lampProperties = `      watts: {type: integer, minimum: 1, maximum: 100, default: 40}
      color: {type: string}
      room: {type: string}
      note: {type: string}
      bulbs: {type: array, x-kubernetes-list-type: map, x-kubernetes-list-map-keys: [name], items: {type: object, required: [name], properties: {name: {type: string}}}}
      free: {type: object, x-kubernetes-preserve-unknown-fields: true}`

// lamps is a kind of two versions, of which the older one has no note.
func lamps() extension.Schema {
	return extension.Schema{
		Group: lampGroup,
		Names: extension.Names{Kind: "Lamp", Short: []string{"lp"}, Categories: []string{"all"}},
		Versions: []extension.SchemaVersion{
			{
				Name: "v1", OpenAPI: lampSchema(lampProperties), Status: true, SelectableFields: []string{".spec.room"},
				Columns: []extension.PathColumn{
					{Name: "Watts", Type: "integer", Path: ".spec.watts"},
					{Name: "Room", Path: ".spec.room"},
					{Name: "Lit", Type: "date", Path: ".status.lit", Wide: true},
				},
			},
			{Name: "v1beta1", OpenAPI: lampSchema(strings.ReplaceAll(lampProperties, "note:", "remark:")), Status: true, SelectableFields: []string{".spec.room"}, Deprecated: "use v1"},
		},
	}
}

// lampsOf reaches the lamps of a server in a version.
func lampsOf(t *testing.T, running *extensiontest.Running, version string) dynamic.ResourceInterface {
	t.Helper()
	c, err := dynamic.NewForConfig(running.Config)
	if err != nil {
		t.Fatal(err)
	}
	return c.Resource(schema.GroupVersionResource{Group: lampGroup, Version: version, Resource: "lamps"}).Namespace("default")
}

func lamp(version, name string, spec map[string]any) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": lampGroup + "/" + version, "kind": "Lamp", "metadata": map[string]any{"name": name}, "spec": spec,
	}}
}

// send does one request, and gives the answer and its body.
func send(t *testing.T, config *rest.Config, method, path, body string, headers ...string) (*http.Response, []byte) {
	t.Helper()
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), method, config.Host+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, data
}

// A kind that only its schema describes is held to it: defaults, pruning, bounds, rules.
func TestASchemaAloneIsHeldTo(t *testing.T) {
	running := extensiontest.Start(t, nil, extension.FromOpenAPI(lamps()))
	c := lampsOf(t, running, "v1")
	made, err := c.Create(t.Context(), lamp("v1", "one", map[string]any{"color": "red", "unknown": "x", "free": map[string]any{"any": "thing"}}), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if spec, _ := json.Marshal(made.Object["spec"]); string(spec) != `{"color":"red","free":{"any":"thing"},"watts":40}` {
		t.Errorf("the spec is %s", spec)
	}
	for name, spec := range map[string]map[string]any{
		"a bound": {"watts": int64(1000)}, "a type": {"watts": "many"}, "a rule": {"watts": int64(13)},
	} {
		if _, err := c.Create(t.Context(), lamp("v1", "bad", spec), metav1.CreateOptions{}); !apierrors.IsInvalid(err) {
			t.Errorf("%s is broken, and the answer is %v", name, err)
		}
	}
	strict := metav1.CreateOptions{FieldValidation: metav1.FieldValidationStrict}
	_, err = c.Create(t.Context(), lamp("v1", "bad", map[string]any{"unknown": "x"}), strict)
	if !apierrors.IsBadRequest(err) || !strings.Contains(err.Error(), `unknown field "spec.unknown"`) {
		t.Errorf("an unknown field gives %v", err)
	}
	odd := lamp("v1", "bad", nil)
	odd.Object["metadata"].(map[string]any)["odd"] = "x"
	if _, err = c.Create(t.Context(), odd, strict); !apierrors.IsBadRequest(err) || !strings.Contains(err.Error(), `unknown field "metadata.odd"`) {
		t.Errorf("an unknown field of the metadata gives %v", err)
	}
	made.Object["status"] = map[string]any{"phase": "lit"}
	if made, err = c.Update(t.Context(), made, metav1.UpdateOptions{}); err != nil || made.Object["status"] != nil || made.GetGeneration() != 1 {
		t.Errorf("a write of the object changes its status: %v, %v, generation %d", err, made.Object["status"], made.GetGeneration())
	}
	made.Object["status"] = map[string]any{"phase": "lit"}
	made.Object["spec"].(map[string]any)["color"] = "blue"
	if made, err = c.UpdateStatus(t.Context(), made, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if color, _, _ := unstructured.NestedString(made.Object, "spec", "color"); color != "red" || made.Object["status"] == nil || made.GetGeneration() != 1 {
		t.Errorf("a write of the status gives %v", made.Object)
	}
	room, err := c.List(t.Context(), metav1.ListOptions{FieldSelector: "spec.room=hall"})
	if err != nil || len(room.Items) != 0 {
		t.Errorf("a selector gives %v, %d lamps", err, len(room.Items))
	}
}

// What is sent has to be of the kind, in a version that is served.
func TestASchemaAloneRefusesOthers(t *testing.T) {
	running := extensiontest.Start(t, nil, extension.FromOpenAPI(lamps()))
	const path = "/apis/lamps.example.com/v1/namespaces/default/lamps"
	for name, body := range map[string]string{
		"another kind":          `{"apiVersion":"lamps.example.com/v1","kind":"Table","metadata":{"name":"a"}}`,
		"the list":              `{"apiVersion":"lamps.example.com/v1","kind":"LampList","metadata":{},"items":[]}`,
		"another version":       `{"apiVersion":"lamps.example.com/v2","kind":"Lamp","metadata":{"name":"a"}}`,
		"another served one":    `{"apiVersion":"lamps.example.com/v1beta1","kind":"Lamp","metadata":{"name":"a"}}`,
		"the internal version":  `{"apiVersion":"lamps.example.com/__internal","kind":"Lamp","metadata":{"name":"a"}}`,
		"no kind":               `{"apiVersion":"lamps.example.com/v1","metadata":{"name":"a"}}`,
		"metadata of no object": `{"apiVersion":"lamps.example.com/v1","kind":"Lamp","metadata":{"name":"a","labels":7}}`,
	} {
		if response, answer := send(t, running.Config, http.MethodPost, path, body); response.StatusCode != http.StatusBadRequest {
			t.Errorf("%s gives %d: %s", name, response.StatusCode, answer)
		}
	}
	response, answer := send(t, running.Config, http.MethodPost, path, "k8s\x00", "Content-Type", "application/vnd.kubernetes.protobuf")
	if response.StatusCode != http.StatusUnsupportedMediaType && response.StatusCode != http.StatusBadRequest {
		t.Errorf("protobuf gives %d: %s", response.StatusCode, answer)
	}
}

// Media types: YAML both ways, a table, JSON where protobuf is asked for.
func TestASchemaAloneInEveryMediaType(t *testing.T) {
	running := extensiontest.Start(t, nil, extension.FromOpenAPI(lamps()))
	const path = "/apis/lamps.example.com/v1/namespaces/default/lamps"
	body := "apiVersion: lamps.example.com/v1\nkind: Lamp\nmetadata: {name: one}\nspec: {room: hall}\n"
	response, answer := send(t, running.Config, http.MethodPost, path, body, "Content-Type", "application/yaml", "Accept", "application/yaml")
	if response.StatusCode != http.StatusCreated || !strings.Contains(string(answer), "watts: 40") {
		t.Fatalf("YAML gives %d: %s", response.StatusCode, answer)
	}
	patch := `{"status":{"lit":"2020-01-01T00:00:00Z"}}`
	if response, answer = send(t, running.Config, http.MethodPatch, path+"/one/status", patch, "Content-Type", "application/merge-patch+json"); response.StatusCode != http.StatusOK {
		t.Fatalf("a patch of the status gives %d: %s", response.StatusCode, answer)
	}
	_, answer = send(t, running.Config, http.MethodGet, path, "", "Accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
	var table metav1.Table
	if err := json.Unmarshal(answer, &table); err != nil || len(table.Rows) != 1 {
		t.Fatalf("a table: %v, %s", err, answer)
	}
	cells := table.Rows[0].Cells
	if len(cells) != 5 || cells[0] != "one" || cells[1] != float64(40) || cells[2] != "hall" || !strings.Contains(fmt.Sprint(cells[3]), "y") {
		t.Errorf("the cells are %v", cells)
	}
	for _, accept := range []string{"application/vnd.kubernetes.protobuf", "application/vnd.kubernetes.protobuf,application/json"} {
		response, _ = send(t, running.Config, http.MethodGet, path, "", "Accept", accept)
		if response.StatusCode != http.StatusOK || response.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s gives %d, %s", accept, response.StatusCode, response.Header.Get("Content-Type"))
		}
	}
}

// A strategic merge patch is answered 415, and OpenAPI does not offer it; all other kinds of
// patch are.
func TestASchemaAloneHasNoStrategicPatch(t *testing.T) {
	running := extensiontest.Start(t, nil, extension.FromOpenAPI(lamps()), named(things{Status: true}))
	const path = "/apis/lamps.example.com/v1/namespaces/default/lamps/one"
	if _, err := lampsOf(t, running, "v1").Create(t.Context(), lamp("v1", "one", nil), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, sub := range []string{"", "/status"} {
		response, answer := send(t, running.Config, http.MethodPatch, path+sub, `{}`, "Content-Type", string(types.StrategicMergePatchType))
		var status metav1.Status
		if err := json.Unmarshal(answer, &status); err != nil || response.StatusCode != http.StatusUnsupportedMediaType || status.Reason != metav1.StatusReasonUnsupportedMediaType {
			t.Errorf("the patch of %q gives %d: %s", sub, response.StatusCode, answer)
		}
	}
	for group, want := range map[string]bool{lampGroup: false, thingsV1.Group: true} {
		_, answer := send(t, running.Config, http.MethodGet, "/openapi/v3/apis/"+group+"/v1", "")
		for _, media := range []types.PatchType{types.JSONPatchType, types.MergePatchType, types.ApplyYAMLPatchType} {
			if !bytes.Contains(answer, []byte(media)) {
				t.Errorf("OpenAPI of %s does not offer %s", group, media)
			}
		}
		if got := bytes.Contains(answer, []byte(types.StrategicMergePatchType)); got != want {
			t.Errorf("OpenAPI of %s offers strategic merge patches: %v, want %v", group, got, want)
		}
	}
	_, answer := send(t, running.Config, http.MethodGet, "/openapi/v3/apis/"+lampGroup+"/v1", "")
	for _, want := range []string{`"com.example.lamps.v1.Lamp"`, "Lamp gives light.", "x-kubernetes-validations"} {
		if !bytes.Contains(answer, []byte(want)) {
			t.Errorf("OpenAPI has no %s", want)
		}
	}
}

// A kind with a Go type and one without stand in one group version: each is served as what it is.
func TestASchemaAloneBesideAType(t *testing.T) {
	beside := lamps()
	beside.Group, beside.Versions = thingsV1.Group, beside.Versions[:1]
	running := extensiontest.Start(t, nil, extension.FromOpenAPI(beside), named(things{Status: true}))
	c := client(t, running.Server, extensiontest.Admin())
	if _, err := c.Create(t.Context(), object("one", "a"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	base := "/apis/" + thingsV1.String() + "/namespaces/default/"
	if response, answer := send(t, running.Config, http.MethodPost, base+"lamps", `{"apiVersion":"`+thingsV1.String()+`","kind":"Lamp","metadata":{"name":"one"}}`); response.StatusCode != http.StatusCreated {
		t.Fatalf("%d: %s", response.StatusCode, answer)
	}
	for path, want := range map[string]int{"lamps/one": http.StatusUnsupportedMediaType, "things/one": http.StatusOK} {
		if response, answer := send(t, running.Config, http.MethodPatch, base+path, `{"metadata":{"labels":{"a":"b"}}}`, "Content-Type", string(types.StrategicMergePatchType)); response.StatusCode != want {
			t.Errorf("a strategic merge patch of %s gives %d: %s", path, response.StatusCode, answer)
		}
	}
	for _, kind := range []string{"Lamp", "Thing"} {
		other := map[string]string{"Lamp": "things", "Thing": "lamps"}[kind]
		if response, answer := send(t, running.Config, http.MethodPost, base+other, `{"apiVersion":"`+thingsV1.String()+`","kind":"`+kind+`","metadata":{"name":"two"}}`); response.StatusCode != http.StatusBadRequest {
			t.Errorf("a %s among %s gives %d: %s", kind, other, response.StatusCode, answer)
		}
	}
}

// Apply merges lists by the keys of the schema: two managers own an item each.
func TestApplyMergesASchemaAlone(t *testing.T) {
	running := extensiontest.Start(t, nil, extension.FromOpenAPI(lamps()))
	c := lampsOf(t, running, "v1")
	for _, manager := range []string{"a", "b"} {
		body := `{"apiVersion":"lamps.example.com/v1","kind":"Lamp","metadata":{"name":"one"},"spec":{"bulbs":[{"name":"` + manager + `"}]}}`
		if _, err := c.Patch(t.Context(), "one", types.ApplyPatchType, []byte(body), metav1.PatchOptions{FieldManager: manager}); err != nil {
			t.Fatal(err)
		}
	}
	o, err := c.Get(t.Context(), "one", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if bulbs, _ := json.Marshal(o.Object["spec"].(map[string]any)["bulbs"]); string(bulbs) != `[{"name":"a"},{"name":"b"}]` {
		t.Errorf("the bulbs are %s", bulbs)
	}
	wrong := `{"apiVersion":"lamps.example.com/v1","kind":"Lamp","metadata":{"name":"one"},"spec":{"nothing":1}}`
	if _, err := c.Patch(t.Context(), "one", types.ApplyPatchType, []byte(wrong), metav1.PatchOptions{FieldManager: "a"}); err == nil || !strings.Contains(err.Error(), "field not declared in schema") {
		t.Errorf("a field that the schema does not know gives %v", err)
	}
}

// Hooks get the object of the hub, and may leave Go's own numbers and slices in it.
func TestHooksOfASchemaAlone(t *testing.T) {
	kind := extension.FromOpenAPI(lamps())
	kind.PrepareForCreate = func(_ context.Context, o *unstructured.Unstructured) {
		o.Object["spec"].(map[string]any)["watts"] = 60
		o.Object["spec"].(map[string]any)["free"] = map[string]any{"list": []string{"a"}}
	}
	kind.PrepareForUpdate = func(_ context.Context, o, _ *unstructured.Unstructured) {
		if o.Object["spec"].(map[string]any)["note"] == "bad" {
			o.Object["spec"].(map[string]any)["free"] = func() {}
		}
	}
	kind.Validate = func(_ context.Context, o *unstructured.Unstructured) field.ErrorList {
		if o.GroupVersionKind() != (schema.GroupVersionKind{Group: lampGroup, Version: "v1", Kind: "Lamp"}) {
			return field.ErrorList{field.InternalError(nil, fmt.Errorf("the hook sees %v", o.GroupVersionKind()))}
		}
		return nil
	}
	kind.WarningsOnCreate = func(context.Context, *unstructured.Unstructured) []string { return []string{"bright"} }
	kind.Columns = extension.Columns(extension.Column("Twice", func(o *unstructured.Unstructured) any {
		watts, _, _ := unstructured.NestedInt64(o.Object, "spec", "watts")
		return 2 * watts
	}))
	kind.Sub = extension.Sub(extension.Action("dim", func(_ context.Context, o *unstructured.Unstructured, in *struct{ By int64 }) (*struct{ Watts int64 }, error) {
		watts, _, err := unstructured.NestedInt64(o.Object, "spec", "watts")
		return &struct{ Watts int64 }{watts - in.By}, err
	}), extension.Update("paint", extension.UpdateOf[unstructured.Unstructured]{Fields: []string{".spec.color"}}))
	running := extensiontest.Start(t, nil, kind)
	c := lampsOf(t, running, "v1beta1")
	made, err := c.Create(t.Context(), lamp("v1beta1", "one", map[string]any{}), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if watts, _, err := unstructured.NestedInt64(made.Object, "spec", "watts"); err != nil || watts != 60 || made.GetAPIVersion() != lampGroup+"/v1beta1" {
		t.Errorf("what the hook set: %v, %v", err, made.Object)
	}
	const path = "/apis/lamps.example.com/v1/namespaces/default/lamps/one"
	if response, answer := send(t, running.Config, http.MethodPost, path+"/dim", `{"By":20}`); response.StatusCode != http.StatusOK || strings.TrimSpace(string(answer)) != `{"Watts":40}` {
		t.Errorf("the action gives %d: %s", response.StatusCode, answer)
	}
	response, answer := send(t, running.Config, http.MethodPatch, path+"/paint", `{"spec":{"color":"blue","watts":1}}`, "Content-Type", "application/merge-patch+json")
	if response.StatusCode != http.StatusOK || !bytes.Contains(answer, []byte(`"color":"blue"`)) || !bytes.Contains(answer, []byte(`"watts":60`)) {
		t.Errorf("the subresource gives %d: %s", response.StatusCode, answer)
	}
	if _, answer := send(t, running.Config, http.MethodGet, path, "", "Accept", "application/json;as=Table;v=v1;g=meta.k8s.io"); !bytes.Contains(answer, []byte(`"cells":["one",120,`)) {
		t.Errorf("the column of a function: %s", answer)
	}
	_, err = lampsOf(t, running, "v1").Patch(t.Context(), "one", types.MergePatchType, []byte(`{"spec":{"note":"bad"}}`), metav1.PatchOptions{})
	if !apierrors.IsInternalError(err) {
		t.Errorf("a hook that leaves what is no JSON gives %v, want an internal error", err)
	}
}

// Versions differ by what their schemas know; what the older one does not know survives a
// write through it, in whatever way, and no field manager loses it.
func TestASchemaAloneInTwoVersions(t *testing.T) {
	running := extensiontest.Start(t, nil, extension.FromOpenAPI(lamps()))
	hub, old := lampsOf(t, running, "v1"), lampsOf(t, running, "v1beta1")
	apply := metav1.PatchOptions{FieldManager: "other", Force: new(true)}
	for name, write := range map[string]func(o *unstructured.Unstructured) error{
		"put": func(o *unstructured.Unstructured) error {
			o.Object["spec"].(map[string]any)["color"] = "blue"
			_, err := old.Update(t.Context(), o, metav1.UpdateOptions{})
			return err
		},
		"merge patch": func(o *unstructured.Unstructured) error {
			_, err := old.Patch(t.Context(), o.GetName(), types.MergePatchType, []byte(`{"spec":{"color":"blue"}}`), metav1.PatchOptions{})
			return err
		},
		"json patch": func(o *unstructured.Unstructured) error {
			_, err := old.Patch(t.Context(), o.GetName(), types.JSONPatchType, []byte(`[{"op":"replace","path":"/spec/color","value":"blue"}]`), metav1.PatchOptions{})
			return err
		},
		"apply": func(o *unstructured.Unstructured) error {
			_, err := old.Patch(t.Context(), o.GetName(), types.ApplyPatchType, []byte(`{"apiVersion":"lamps.example.com/v1beta1","kind":"Lamp","spec":{"color":"blue"}}`), apply)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			at := strings.ReplaceAll(name, " ", "-")
			if _, err := hub.Create(t.Context(), lamp("v1", at, map[string]any{"color": "red", "note": "mine"}), metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			seen, err := old.Get(t.Context(), at, metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if data, _ := json.Marshal(seen.Object["spec"]); string(data) != `{"color":"red","watts":40}` {
				t.Errorf("the older version shows %s", data)
			}
			if err := write(seen); err != nil {
				t.Fatal(err)
			}
			now, err := hub.Get(t.Context(), at, metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if data, _ := json.Marshal(now.Object["spec"]); string(data) != `{"color":"blue","note":"mine","watts":40}` || len(now.GetAnnotations()) != 0 {
				t.Errorf("afterwards there is %s, %v", data, now.GetAnnotations())
			}
		})
	}
}

// Apply creates what is not there, through each version.
func TestApplyCreatesASchemaAlone(t *testing.T) {
	running := extensiontest.Start(t, nil, extension.FromOpenAPI(lamps()))
	for _, version := range []string{"v1", "v1beta1"} {
		body := `{"apiVersion":"lamps.example.com/` + version + `","kind":"Lamp","metadata":{"name":"` + version + `"},"spec":{"color":"blue"}}`
		made, err := lampsOf(t, running, version).Patch(t.Context(), version, types.ApplyPatchType, []byte(body), metav1.PatchOptions{FieldManager: "me"})
		if err != nil || made.GetUID() == "" || made.GetGeneration() != 1 || len(made.GetManagedFields()) != 1 {
			t.Errorf("through %s: %v, %v", version, err, made)
		}
	}
}

// Many read one object in the version that is not stored: what the watch cache has is not
// written to. The race detector, or the map, says otherwise.
func TestASchemaAloneIsReadByMany(t *testing.T) {
	running := extensiontest.Start(t, nil, extension.FromOpenAPI(lamps()))
	made, err := lampsOf(t, running, "v1").Create(t.Context(), lamp("v1", "one", map[string]any{"note": "n"}), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	since := made.GetResourceVersion() // from the watch cache, once it has it
	var group sync.WaitGroup
	for range 8 {
		c := lampsOf(t, running, "v1beta1")
		group.Go(func() {
			for range 20 {
				if o, err := c.Get(t.Context(), "one", metav1.GetOptions{ResourceVersion: since}); err != nil || o.GetAPIVersion() != lampGroup+"/v1beta1" {
					t.Errorf("get: %v, %v", err, o)
					return
				}
				if l, err := c.List(t.Context(), metav1.ListOptions{ResourceVersion: since}); err != nil || l.GetAPIVersion() != lampGroup+"/v1beta1" || l.Items[0].GetAPIVersion() != lampGroup+"/v1beta1" {
					t.Errorf("list: %v, %v", err, l)
					return
				}
			}
		})
	}
	group.Wait()
}

// What is stored in a version without a hub's field keeps it, and is read by the hub.
func TestASchemaAloneStoredInTheOlderVersion(t *testing.T) {
	url := "sqlite://" + t.TempDir() + "/lamps.db"
	start := func(t *testing.T, version string) *extensiontest.Running {
		kind := extension.FromOpenAPI(lamps())
		kind.StorageVersion = version
		return extensiontest.Start(t, func(c *extension.Config) { c.Storage = url }, kind, extension.Drivers(sqlite.Driver()))
	}
	t.Run("written", func(t *testing.T) {
		c := lampsOf(t, start(t, "v1beta1"), "v1")
		if _, err := c.Create(t.Context(), lamp("v1", "one", map[string]any{"note": "mine"}), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("read", func(t *testing.T) {
		o, err := lampsOf(t, start(t, "v1"), "v1").Get(t.Context(), "one", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if data, _ := json.Marshal(o.Object["spec"]); string(data) != `{"note":"mine","watts":40}` || len(o.GetAnnotations()) != 0 {
			t.Errorf("it is %s, %v", data, o.GetAnnotations())
		}
	})
}

// What is wrong with a schema is said at the start, with the field and its line.
func TestWhatIsWrongWithASchemaAloneIsNamed(t *testing.T) {
	describe := func(change func(*extension.Schema)) extension.SchemaOnly {
		s := lamps()
		change(&s)
		return extension.FromOpenAPI(s)
	}
	with := func(openapi string) extension.SchemaOnly {
		return describe(func(s *extension.Schema) { s.Versions = s.Versions[:1]; s.Versions[0].OpenAPI = []byte(openapi) })
	}
	crd := func(old, replacement string) extension.SchemaOnly {
		return extension.FromCRD([]byte(strings.Replace(lampCRD, old, replacement, 1)))
	}
	for name, c := range map[string]struct {
		part extension.Part
		want []string
	}{
		"not structural":     {with("type: object\nproperties:\n  spec:\n    properties: {}\n"), []string{"Versions[0].OpenAPI:3: properties[spec].type"}},
		"an unknown word":    {with("type: object\npropertys: {}\n"), []string{"Versions[0].OpenAPI:2: propertys", "unknown field"}},
		"no YAML":            {with("type: [\n"), []string{"Versions[0].OpenAPI: "}},
		"no schema":          {with(""), []string{"Versions[0].OpenAPI"}},
		"a default refused":  {with("type: object\nproperties:\n  spec:\n    type: object\n    properties:\n      watts:\n        type: integer\n        default: many\n"), []string{"Versions[0].OpenAPI:8: properties[spec].properties[watts].default"}},
		"a rule":             {with("type: object\nproperties:\n  spec:\n    type: object\n    x-kubernetes-validations:\n    - rule: self.nothing == 1\n"), []string{"Versions[0].OpenAPI:6: properties[spec].x-kubernetes-validations[0].rule", "undefined field 'nothing'"}},
		"a column's path":    {describe(func(s *extension.Schema) { s.Versions[0].Columns[1].Path = ".spec[" }), []string{"Versions[0].Columns[1].Path"}},
		"a column's type":    {describe(func(s *extension.Schema) { s.Versions[0].Columns[1].Type = "text" }), []string{"Versions[0].Columns[1].Type"}},
		"a selectable field": {describe(func(s *extension.Schema) { s.Versions[0].SelectableFields[0] = ".spec.nothing" }), []string{"Versions[0].SelectableFields[0]"}},
		"a group":            {describe(func(s *extension.Schema) { s.Group = "Lamps" }), []string{"Group: "}},
		"a kind":             {describe(func(s *extension.Schema) { s.Names.Kind = "9lamp" }), []string{"Names.Kind: "}},
		"a version":          {describe(func(s *extension.Schema) { s.Versions[1].Name = "V2" }), []string{"Versions[1].Name: "}},
		"no version":         {describe(func(s *extension.Schema) { s.Versions = nil }), []string{"Versions: "}},
		"a hub not served":   {describe(func(s *extension.Schema) { s.Versions[0].NotServed = true }), []string{"GroupVersion: the version v1 is the hub, and is not served"}},
		"a scale": {describe(func(s *extension.Schema) {
			s.Versions[0].Scale = &extension.Scale{SpecReplicas: ".spec.color", StatusReplicas: ".status.none"}
		}), []string{`Scale.SpecReplicas: the field ".spec.color" is of type string, and not integer`, `Scale.StatusReplicas: the schema has no field ".status.none"`}},
		"CRD: not structural":   {crd("spec: {type: object}", "spec: {}"), []string{"CustomResourceDefinition:16: spec.versions[0].schema.openAPIV3Schema.properties[spec].type"}},
		"CRD: a column":         {crd("jsonPath: .spec", "jsonPath: '.spec['"), []string{"CustomResourceDefinition:11: spec.versions[0].additionalPrinterColumns[0]"}},
		"CRD: no document":      {extension.FromCRD([]byte("a: b\n")), []string{"there is no CustomResourceDefinition in it"}},
		"CRD: a webhook":        {crd("scope: Cluster", "scope: Cluster\n  conversion: {strategy: Webhook, webhook: {conversionReviewVersions: [v1], clientConfig: {url: 'https://example.com'}}}"), []string{"Versions v1beta1: CustomResourceDefinition:5 has a webhook convert it: give its functions by Spoke"}},
		"no schema at all":      {extension.SchemaOnly{}, []string{"Schema: it is missing"}},
		"a wrong list":          {extension.Resource[unstructured.Unstructured, thingList]{}, []string{"L: it is extension_test.thingList"}},
		"which kind is unclear": {extension.SchemaOnly{Schema: fstest.MapFS{"a.yaml": {Data: []byte(lampCRD)}, "b.yaml": {Data: []byte(strings.ReplaceAll(strings.ReplaceAll(lampCRD, "lamps", "desks"), "Lamp", "Desk"))}}}, []string{"say which by GroupVersion and Names.Kind"}},
		"a spoke of no version": {func() extension.Part {
			kind := extension.FromOpenAPI(lamps())
			same := func(_, _ *unstructured.Unstructured) error { return nil }
			kind.Versions = extension.Versions(extension.Spoke("v0", same, same))
			return kind
		}(), []string{"Versions v0: the Schema has no such version"}},
		"an update of no field": {func() extension.Part {
			kind := extension.FromOpenAPI(lamps())
			kind.Sub = extension.Sub(extension.Update("dim", extension.UpdateOf[unstructured.Unstructured]{Fields: []string{".spec.nothing"}}))
			return kind
		}(), []string{`the schema has no field ".spec.nothing"`}},
		"computed": {extension.Computed[unstructured.Unstructured]{GroupVersion: thingsV1}, []string{"does not embed"}},
	} {
		_, err := extension.New(t.Context(), extension.Config{Name: "test", Standalone: &extension.Standalone{}}, c.part)
		if err == nil {
			t.Errorf("%s is not found", name)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s gives %v, want %s", name, err, want)
			}
		}
	}
}

// A definition is all that is needed, in one call or among files.
func TestADefinitionIsEnough(t *testing.T) {
	for name, kind := range map[string]extension.SchemaOnly{
		"one call": extension.FromCRD([]byte(lampCRD)),
		"a file":   {Schema: fstest.MapFS{"crd/lamps.yaml": {Data: []byte(lampCRD)}}},
		"another hub": {
			Schema:       fstest.MapFS{"lamps.yaml": {Data: []byte(lampCRD)}},
			GroupVersion: schema.GroupVersion{Group: lampGroup, Version: "v1beta1"}, Names: extension.Names{Kind: "Lamp"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			running := extensiontest.Start(t, nil, kind)
			_, answer := send(t, running.Config, http.MethodGet, "/apis/"+lampGroup+"/v1", "")
			var found metav1.APIResourceList
			if err := json.Unmarshal(answer, &found); err != nil {
				t.Fatal(err)
			}
			i := slices.IndexFunc(found.APIResources, func(r metav1.APIResource) bool { return r.Name == "lamps" })
			if i < 0 || found.APIResources[i].Namespaced || found.APIResources[i].SingularName != "lamp" || found.APIResources[i].Kind != "Lamp" {
				t.Errorf("discovery has %s", answer)
			}
			for _, version := range []string{"v1", "v1beta1"} {
				if response, answer := send(t, running.Config, http.MethodPost, "/apis/"+lampGroup+"/"+version+"/lamps", `{"apiVersion":"`+lampGroup+"/"+version+`","kind":"Lamp","metadata":{"generateName":"a"}}`); response.StatusCode != http.StatusCreated {
					t.Errorf("%s: %d: %s", version, response.StatusCode, answer)
				}
			}
		})
	}
}

const lampCRD = `apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: lamps.lamps.example.com
spec:
  group: lamps.example.com
  scope: Cluster
  names: {kind: Lamp, plural: lamps}
  versions:
  - additionalPrinterColumns:
    - {name: Spec, type: string, jsonPath: .spec}
    name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema: {type: object, properties: {spec: {type: object}}}
  - name: v1beta1
    served: true
    storage: false
    schema:
      openAPIV3Schema: {type: object, properties: {spec: {type: object}}}
`
