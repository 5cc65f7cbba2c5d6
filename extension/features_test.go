package extension_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"

	"github.com/annex-api/annex/extension"
	"github.com/annex-api/annex/extension/extensiontest"
)

// featured is a kind with all that a kind may have.
func featured() extension.Part {
	return named(things{
		Status: true, Versions: lossy(),
		Columns:          extension.Columns(extension.Column("Text", func(o *thing) any { return o.Spec.Text })),
		SelectableFields: func(o *thing) fields.Set { return fields.Set{"spec.text": o.Spec.Text} },
		Validate: func(_ context.Context, o *thing) field.ErrorList {
			if o.Spec.Text == "bad" {
				return field.ErrorList{field.Invalid(field.NewPath("spec", "text"), o.Spec.Text, "it is bad")}
			}
			return nil
		},
		Sub: extension.Sub(extension.Action("shout", func(_ context.Context, o *thing, in *struct{ Times int }) (*total, error) {
			return &total{in.Times, strings.ToUpper(o.Spec.Text)}, nil
		})),
	})
}

func TestApply(t *testing.T) {
	running := extensiontest.Start(t, nil, featured())
	through(t, running, func(t *testing.T, version string, c dynamic.ResourceInterface) {
		name := "apply-" + version
		if err := applied(t, c, version, "a", name, `{"text":"a"}`, false); err != nil {
			t.Fatal(err)
		}
		err := applied(t, c, version, "b", name, `{"text":"b"}`, false)
		if !apierrors.IsConflict(err) || !strings.Contains(err.Error(), `conflict with "a"`) || !strings.Contains(err.Error(), ".spec.text") {
			t.Errorf("what another one owns: %v, want a conflict that names it", err)
		}
		if err := applied(t, c, version, "b", name, `{"text":"b"}`, true); err != nil {
			t.Errorf("by force: %v", err)
		}
		if got := owners(t, c, name, "f:spec", "f:text"); got != "b" {
			t.Errorf("the text is owned by %q, want b", got)
		}
		if err := applied(t, c, version, "b", name, `{}`, false); err != nil {
			t.Error(err)
		}
		if got := spec(t, c, name); got != "{}" && got != "null" {
			t.Errorf("what its owner no longer applies is there: %s", got)
		}
		if err := applied(t, c, "v7", "b", name, `{}`, false); !apierrors.IsBadRequest(err) {
			t.Errorf("a body of another version: %v, want BadRequest", err)
		}
		if err := applied(t, c, version, "b", name, `{"text":"bad"}`, false); !apierrors.IsInvalid(err) {
			t.Errorf("what is not valid: %v, want Invalid", err)
		}
	})
}

func TestDryRun(t *testing.T) {
	running := extensiontest.Start(t, nil, featured())
	dry := []string{metav1.DryRunAll}
	through(t, running, func(t *testing.T, version string, c dynamic.ResourceInterface) {
		name := "dry-" + version
		if o, err := c.Create(t.Context(), thingIn(version, name, "a"), metav1.CreateOptions{DryRun: dry}); err != nil || o.GetUID() == "" {
			t.Errorf("create: %v, %v", o, err)
		}
		if _, err := c.Get(t.Context(), name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			t.Errorf("after a dry run of create: %v", err)
		}
		before := made(t, c, thingIn(version, name, "a"))
		changed := before.DeepCopy()
		if err := unstructured.SetNestedField(changed.Object, "b", "spec", "text"); err != nil {
			t.Fatal(err)
		}
		for what, write := range map[string]func() (*unstructured.Unstructured, error){
			"update": func() (*unstructured.Unstructured, error) {
				return c.Update(t.Context(), changed, metav1.UpdateOptions{DryRun: dry})
			},
			"patch": func() (*unstructured.Unstructured, error) {
				return c.Patch(t.Context(), name, types.MergePatchType, []byte(`{"spec":{"text":"b"}}`), metav1.PatchOptions{DryRun: dry})
			},
			"apply": func() (*unstructured.Unstructured, error) {
				return c.Apply(t.Context(), name, thingIn(version, name, "b"), metav1.ApplyOptions{DryRun: dry, FieldManager: "b", Force: true})
			},
		} {
			if o, err := write(); err != nil || text(t, o) != "b" {
				t.Errorf("%s: %v, %v", what, o, err)
			}
		}
		if err := c.Delete(t.Context(), name, metav1.DeleteOptions{DryRun: dry}); err != nil {
			t.Error(err)
		}
		if err := c.DeleteCollection(t.Context(), metav1.DeleteOptions{DryRun: dry}, metav1.ListOptions{}); err != nil {
			t.Error(err)
		}
		if _, err := c.Create(t.Context(), thingIn(version, "x", "bad"), metav1.CreateOptions{DryRun: dry}); !apierrors.IsInvalid(err) {
			t.Errorf("a dry run of what is not valid: %v", err)
		}
		after, err := c.Get(t.Context(), name, metav1.GetOptions{})
		if err != nil || after.GetResourceVersion() != before.GetResourceVersion() {
			t.Errorf("after dry runs: %v, %v", after, err)
		}
	})
}

func TestFieldValidation(t *testing.T) {
	running := extensiontest.Start(t, nil, featured())
	through(t, running, func(t *testing.T, version string, c dynamic.ResourceInterface) {
		bodies := map[string]string{
			"unknown": `{"apiVersion":"things.example.com/%s","kind":"Thing","metadata":{"name":%q},"spec":{"text":"a","colour":"red"}}`,
			"double":  `{"apiVersion":"things.example.com/%s","kind":"Thing","metadata":{"name":%q},"spec":{"text":"a","text":"a"}}`,
		}
		for what, body := range bodies {
			for directive, want := range map[string]int{"Strict": http.StatusBadRequest, "Warn": http.StatusCreated, "Ignore": http.StatusCreated} {
				name := strings.ToLower(what + "-" + version + "-" + directive)
				got := ask(t, running, http.MethodPost, pathOf(version)+"?fieldValidation="+directive, fmt.Sprintf(body, version, name), nil)
				if got.code != want || (got.header.Get("Warning") != "") != (directive == "Warn") {
					t.Errorf("%s, %s: %d, warning %q, %s", what, directive, got.code, got.header.Get("Warning"), got.body)
				}
			}
		}
		made(t, c, thingIn(version, "validated-"+version, "a"))
		for kind, want := range map[types.PatchType]int{
			types.MergePatchType: http.StatusUnprocessableEntity, types.StrategicMergePatchType: http.StatusUnprocessableEntity,
		} {
			header := http.Header{"Content-Type": {string(kind)}}
			path := pathOf(version) + "/validated-" + version
			if got := ask(t, running, http.MethodPatch, path+"?fieldValidation=Strict", `{"spec":{"colour":"red"}}`, header); got.code != want {
				t.Errorf("a patch of %s, Strict: %d, want %d: %s", kind, got.code, want, got.body)
			}
			if got := ask(t, running, http.MethodPatch, path+"?fieldValidation=Warn", `{"spec":{"colour":"red"}}`, header); got.code != http.StatusOK || got.header.Get("Warning") == "" {
				t.Errorf("a patch of %s, Warn: %d, warning %q", kind, got.code, got.header.Get("Warning"))
			}
		}
	})
}

func TestEveryKindOfPatch(t *testing.T) {
	running := extensiontest.Start(t, nil, featured())
	through(t, running, func(t *testing.T, version string, c dynamic.ResourceInterface) {
		name := "patched-" + version
		made(t, c, thingIn(version, name, "a"))
		for kind, body := range map[types.PatchType]string{
			types.JSONPatchType:           `[{"op":"test","path":"/kind","value":"Thing"},{"op":"add","path":"/spec/text","value":"json"}]`,
			types.MergePatchType:          `{"spec":{"text":"merge"}}`,
			types.StrategicMergePatchType: `{"spec":{"text":"strategic"}}`,
		} {
			o, err := c.Patch(t.Context(), name, kind, []byte(body), metav1.PatchOptions{})
			if err != nil || !strings.Contains(body, text(t, o)) || o.GetAPIVersion() != thingsV1.Group+"/"+version {
				t.Errorf("%s: %v, %v", kind, o, err)
			}
		}
		if got := ask(t, running, http.MethodPatch, pathOf(version)+"/"+name, `{}`, http.Header{"Content-Type": {"text/plain"}}); got.code != http.StatusUnsupportedMediaType {
			t.Errorf("a patch of no kind: %d %s", got.code, got.body)
		}
		if _, err := c.Patch(t.Context(), name, types.JSONPatchType, []byte(`[{"op":"test","path":"/spec/text","value":"x"}]`), metav1.PatchOptions{}); !apierrors.IsInvalid(err) {
			t.Errorf("a test that fails: %v", err)
		}
		if _, err := c.Patch(t.Context(), "none", types.MergePatchType, []byte(`{}`), metav1.PatchOptions{}); !apierrors.IsNotFound(err) {
			t.Errorf("a patch of nothing: %v", err)
		}
	})
}

func TestDeleteCollection(t *testing.T) {
	running := extensiontest.Start(t, nil, featured())
	through(t, running, func(t *testing.T, version string, c dynamic.ResourceInterface) {
		for i, text := range []string{"a", "a", "b", "b"} {
			o := thingIn(version, fmt.Sprintf("%s-%d", version, i), text)
			o.SetLabels(map[string]string{"i": fmt.Sprint(i), "of": version})
			made(t, c, o)
		}
		left := func() (names []string) {
			list, err := c.List(t.Context(), metav1.ListOptions{LabelSelector: "of=" + version})
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range list.Items {
				names = append(names, o.GetName()[len(version)+1:])
			}
			return names
		}
		if err := c.DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "i=0"}); err != nil || !slices.Equal(left(), []string{"1", "2", "3"}) {
			t.Errorf("by a label: %v, left is %q", err, left())
		}
		if err := c.DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{FieldSelector: "spec.text=a"}); err != nil || !slices.Equal(left(), []string{"2", "3"}) {
			t.Errorf("by a field: %v, left is %q", err, left())
		}
		if err := c.DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil || left() != nil {
			t.Errorf("all: %v, left is %q", err, left())
		}
	})
}

func TestPaging(t *testing.T) {
	running := extensiontest.Start(t, nil, featured())
	hub := in(t, running.Server, "v1")
	const total = 7
	for i := range total {
		made(t, hub, object(fmt.Sprintf("page-%d", i), "a"))
	}
	through(t, running, func(t *testing.T, version string, c dynamic.ResourceInterface) {
		var names []string
		o := metav1.ListOptions{Limit: 3}
		for {
			page, err := c.List(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			for _, item := range page.Items {
				names = append(names, item.GetName())
			}
			if left := page.GetRemainingItemCount(); left != nil && int(*left) != total-len(names) {
				t.Errorf("after %d: %d remain", len(names), *left)
			}
			if o.Continue == "" { // what comes meanwhile is not of this list
				made(t, c, thingIn(version, "page-5-"+version, "a"))
			}
			if o.Continue = page.GetContinue(); o.Continue == "" {
				break
			}
		}
		if err := c.Delete(t.Context(), "page-5-"+version, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		if len(names) != total || !slices.IsSorted(names) {
			t.Errorf("the pages have %q", names)
		}
		if _, err := c.List(t.Context(), metav1.ListOptions{Limit: 3, Continue: "junk"}); !apierrors.IsBadRequest(err) {
			t.Errorf("a token of nobody: %v", err)
		}
	})
}

func TestGenerationGrowsWithTheSpecAlone(t *testing.T) {
	running := extensiontest.Start(t, nil, featured())
	through(t, running, func(t *testing.T, version string, c dynamic.ResourceInterface) {
		name := "generation-" + version
		made(t, c, thingIn(version, name, "a"))
		for _, step := range []struct {
			what, body string
			sub        []string
			want       int64
		}{
			{"a label", `{"metadata":{"labels":{"a":"b"}}}`, nil, 1},
			{"nothing", `{}`, nil, 1},
			{"a status", `{"status":{"phase":"x"}}`, []string{"status"}, 1},
			{"a status where it is ignored", `{"status":{"phase":"y"}}`, nil, 1},
			{"a spec", `{"spec":{"text":"b"}}`, nil, 2},
			{"a spec where it is ignored", `{"spec":{"text":"c"}}`, []string{"status"}, 2},
			{"a generation", `{"metadata":{"generation":9}}`, nil, 2},
		} {
			o, err := c.Patch(t.Context(), name, types.MergePatchType, []byte(step.body), metav1.PatchOptions{}, step.sub...)
			if err != nil || o.GetGeneration() != step.want {
				t.Errorf("after %s: generation %d, want %d (%v)", step.what, o.GetGeneration(), step.want, err)
			}
		}
	})
}

// Whoever asks for a form that the kind does not have gets JSON.
func TestFormsThatAKindDoesNotHave(t *testing.T) {
	running := extensiontest.Start(t, nil, featured())
	made(t, in(t, running.Server, "v1"), object("one", "a"))
	for _, version := range both {
		for _, accept := range []string{"application/vnd.kubernetes.protobuf", "application/cbor", "application/cbor,application/vnd.kubernetes.protobuf", "application/vnd.kubernetes.protobuf, application/json", "*/*", "application/json"} {
			header := http.Header{"Accept": {accept}}
			for what, path := range map[string]string{"get": "/one", "list": "", "status": "/one/status"} {
				got := ask(t, running, http.MethodGet, pathOf(version)+path, "", header)
				if got.code != http.StatusOK || got.header.Get("Content-Type") != "application/json" || !json.Valid([]byte(got.body)) {
					t.Errorf("%s of %s as %s: %d, %s", what, version, accept, got.code, got.header.Get("Content-Type"))
				}
			}
			got := ask(t, running, http.MethodPost, pathOf(version)+"?dryRun=All", fmt.Sprintf(`{"apiVersion":"things.example.com/%s","kind":"Thing","metadata":{"name":"two"}}`, version), header)
			if got.code != http.StatusCreated || got.header.Get("Content-Type") != "application/json" {
				t.Errorf("create in %s as %s: %d, %s", version, accept, got.code, got.header.Get("Content-Type"))
			}
			if stream := strings.ReplaceAll(accept, "application/cbor", "application/cbor-seq"); accept != "*/*" {
				head, event := first(t, running, pathOf(version)+"?watch=true", http.Header{"Accept": {stream}})
				if head.Get("Content-Type") != "application/json" || event["type"] != "ADDED" {
					t.Errorf("watch of %s as %s: %s, %v", version, stream, head.Get("Content-Type"), event)
				}
			}
		}
		for _, sent := range []string{"application/vnd.kubernetes.protobuf", "application/cbor", "text/plain"} {
			if got := ask(t, running, http.MethodPost, pathOf(version), "x", http.Header{"Content-Type": {sent}}); got.code < 400 || got.code >= 500 {
				t.Errorf("a body of %s: %d %s", sent, got.code, got.body)
			}
		}
		for _, accept := range []string{"application/yaml", "application/yaml, application/vnd.kubernetes.protobuf"} {
			if got := ask(t, running, http.MethodGet, pathOf(version)+"/one", "", http.Header{"Accept": {accept}}); got.code != http.StatusOK || got.header.Get("Content-Type") != "application/yaml" || !strings.HasPrefix(got.body, "apiVersion: things.example.com/"+version) {
				t.Errorf("%s: %d %s", accept, got.code, got.body)
			}
		}
	}
}

func TestTables(t *testing.T) {
	running := extensiontest.Start(t, nil, featured())
	made(t, in(t, running.Server, "v1"), object("one", "a"))
	for _, version := range both {
		for accept, contentType := range map[string]string{
			"application/json;as=Table;g=meta.k8s.io;v=v1":                  "application/json",
			"application/cbor;as=Table;g=meta.k8s.io;v=v1":                  "application/json",
			"application/json;as=Table;g=meta.k8s.io;v=v1,application/json": "application/json",
		} {
			for path, more := range map[string]string{"/one": "", "": "?includeObject=Metadata"} {
				got := ask(t, running, http.MethodGet, pathOf(version)+path+more, "", http.Header{"Accept": {accept}})
				var table metav1.Table
				if err := json.Unmarshal([]byte(got.body), &table); err != nil || got.header.Get("Content-Type") != contentType || table.Kind != "Table" {
					t.Fatalf("%s as %s: %d %s, %v", version+path, accept, got.code, got.body, err)
				}
				var names []string
				for _, c := range table.ColumnDefinitions {
					names = append(names, c.Name)
				}
				if !slices.Equal(names, []string{"Name", "Text", "Age"}) || len(table.Rows) != 1 || fmt.Sprint(table.Rows[0].Cells[:2]) != "[one a]" || table.ResourceVersion == "" {
					t.Errorf("%s: columns %q, rows %v, resourceVersion %q", version+path, names, table.Rows, table.ResourceVersion)
				}
			}
		}
		_, event := first(t, running, pathOf(version)+"?watch=true", http.Header{"Accept": {"application/json;as=Table;g=meta.k8s.io;v=v1"}})
		if kind, _, _ := unstructured.NestedString(event, "object", "kind"); kind != "Table" {
			t.Errorf("a watch of %s as tables: %v", version, event)
		}
	}
}

func TestSelectableFields(t *testing.T) {
	running := extensiontest.Start(t, nil, featured())
	through(t, running, func(t *testing.T, version string, c dynamic.ResourceInterface) {
		wanted := "wanted by " + version
		selector := metav1.ListOptions{FieldSelector: "spec.text=" + wanted}
		one := made(t, c, thingIn(version, "one-"+version, wanted))
		made(t, c, thingIn(version, "two-"+version, "other"))
		list, err := c.List(t.Context(), selector)
		if err != nil || len(list.Items) != 1 || list.Items[0].GetName() != one.GetName() {
			t.Fatalf("the list: %v, %v", list, err)
		}
		selector.ResourceVersion = list.GetResourceVersion()
		w, err := c.Watch(t.Context(), selector)
		if err != nil {
			t.Fatal(err)
		}
		defer w.Stop()
		for name, text := range map[string]string{"two-" + version: wanted} {
			if _, err := c.Patch(t.Context(), name, types.MergePatchType, []byte(`{"spec":{"text":"`+text+`"}}`), metav1.PatchOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := c.Patch(t.Context(), "one-"+version, types.MergePatchType, []byte(`{"spec":{"text":"gone"}}`), metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
		for _, want := range []struct {
			kind watch.EventType
			name string
		}{{watch.Added, "two-" + version}, {watch.Deleted, "one-" + version}} {
			event := <-w.ResultChan()
			if o, ok := event.Object.(*unstructured.Unstructured); !ok || event.Type != want.kind || o.GetName() != want.name || text(t, o) != wanted {
				t.Errorf("event %s of %v, want %s of %s", event.Type, event.Object, want.kind, want.name)
			}
		}
		if _, err := c.List(t.Context(), metav1.ListOptions{FieldSelector: "spec.replicas=1"}); !apierrors.IsBadRequest(err) || !strings.Contains(err.Error(), "spec.text") {
			t.Errorf("a field that is not selectable: %v", err)
		}
	})
}

func TestActionsThroughEveryVersion(t *testing.T) {
	running := extensiontest.Start(t, nil, featured())
	made(t, in(t, running.Server, "v1"), object("one", "hey"))
	for _, version := range both {
		for body, contentType := range map[string]string{`{"Times":3}`: "application/json", "Times: 3\n": "application/yaml"} {
			got := ask(t, running, http.MethodPost, pathOf(version)+"/one/shout", body, http.Header{"Content-Type": {contentType}})
			if got.code != http.StatusOK || got.body != `{"total":3,"name":"HEY"}`+"\n" || got.header.Get("Content-Type") != "application/json" {
				t.Errorf("%s: %d %q", version, got.code, got.body)
			}
		}
		if got := ask(t, running, http.MethodGet, pathOf(version)+"/one/shout", "", nil); got.code != http.StatusMethodNotAllowed {
			t.Errorf("a GET of an action: %d", got.code)
		}
	}
}

// An action may answer with an object of any kind, or with none.
func TestAnswersOfActions(t *testing.T) {
	running := extensiontest.Start(t, nil, named(things{Versions: lossy(), Sub: extension.Sub(
		extension.Action("itself", func(_ context.Context, o *thing, _ *struct{}) (*thing, error) { return o, nil }),
		extension.Action("nothing", func(context.Context, *thing, *struct{}) (*thing, error) { return nil, nil }),
		extension.Action("foreign", func(context.Context, *thing, *struct{}) (*unstructured.Unstructured, error) {
			return &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": "p"}}}, nil
		}),
		extension.Action("unwritable", func(context.Context, *thing, *struct{}) (*moody, error) { return &moody{}, nil }),
	)}))
	made(t, in(t, running.Server, "v1"), object("one", "a"))
	for _, version := range both {
		for action, want := range map[string]struct {
			code int
			says string
		}{
			"itself":     {http.StatusOK, `"apiVersion":"things.example.com/` + version + `"`},
			"nothing":    {http.StatusOK, "null"},
			"foreign":    {http.StatusOK, `"kind":"Pod"`},
			"unwritable": {http.StatusInternalServerError, "panicked"},
		} {
			got := ask(t, running, http.MethodPost, pathOf(version)+"/one/"+action, "{}", nil)
			if got.code != want.code || !strings.Contains(got.body, want.says) {
				t.Errorf("%s of %s: %d %s, want %d with %s", action, version, got.code, got.body, want.code, want.says)
			}
		}
	}
}

// moody cannot be written.
type moody struct{}

func (*moody) MarshalJSON() ([]byte, error) { panic("moody") }

// Where it is wanted, a PUT says which state it replaces.
func TestRequireResourceVersion(t *testing.T) {
	for _, required := range []bool{false, true} {
		running := extensiontest.Start(t, nil, named(things{Versions: lossy(), RequireResourceVersion: required}))
		through(t, running, func(t *testing.T, version string, c dynamic.ResourceInterface) {
			stored := made(t, c, thingIn(version, "one-"+version, "a"))
			_, err := c.Update(t.Context(), thingIn(version, stored.GetName(), "b"), metav1.UpdateOptions{})
			if required != apierrors.IsInvalid(err) || !required && err != nil {
				t.Errorf("required %v: without a resourceVersion: %v", required, err)
			}
			if required {
				if _, err := c.Update(t.Context(), stored, metav1.UpdateOptions{}); err != nil {
					t.Errorf("with the resourceVersion: %v", err)
				}
			}
		})
	}
}
