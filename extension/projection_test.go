package extension_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/annex-api/annex/extension"
	"github.com/annex-api/annex/extension/extensiontest"
)

// Note shows the text of something that looks like a ConfigMap.
type Note struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Text              string `json:"text,omitempty"`
}

func (n *Note) DeepCopyInto(out *Note) {
	*out = *n
	n.ObjectMeta.DeepCopyInto(&out.ObjectMeta)
}

func (n *Note) DeepCopyObject() runtime.Object {
	out := &Note{}
	n.DeepCopyInto(out)
	return out
}

var (
	sources = schema.GroupVersion{Group: "maps.example.com", Version: "v1"}.WithResource("configmaps")
	notes   = schema.GroupVersion{Group: "notes.example.com", Version: "v1"}.WithResource("notes")
)

const (
	namespace = "default"
	patience  = 10 * time.Second
	secret    = "for the owner only"
)

// pair are a server with sources and one that shows them as notes, with clients of both.
type pair struct {
	t       *testing.T
	sources dynamic.ResourceInterface
	notes   dynamic.ResourceInterface
	front   *extensiontest.Running
}

// projected starts both. change may change what the second one shows.
func projected(t *testing.T, change func(p *pair, n *extension.Projection[Note, corev1.ConfigMap])) *pair {
	t.Helper()
	host := extensiontest.Start(t, nil, extension.Resource[corev1.ConfigMap, corev1.ConfigMapList]{
		GroupVersion: sources.GroupVersion(),
		Validate: func(_ context.Context, m *corev1.ConfigMap) field.ErrorList {
			if m.Data["text"] == "refused" {
				return field.ErrorList{field.Invalid(field.NewPath("data", "text"), m.Data["text"], "the host does not take it")}
			}
			return nil
		},
	})
	p := &pair{t: t, sources: resourceClient(t, host.Config, sources)}
	projection := extension.Projection[Note, corev1.ConfigMap]{
		GroupVersion: notes.GroupVersion(),
		Source:       extension.Source{Resource: sources, Labels: "note=true", Host: host.Config},
		To: func(from *corev1.ConfigMap, into *Note) (bool, error) {
			into.Text = from.Data["text"]
			delete(into.Labels, "note")
			delete(into.Labels, "hidden")
			return from.Data["show"] != "false", nil
		},
		From: func(_ context.Context, n *Note, into *corev1.ConfigMap) error {
			if n.Text == "unwritable" {
				return errors.New("it cannot be written down")
			}
			if into.Data == nil {
				into.Data = map[string]string{}
			}
			into.Data["text"] = n.Text
			return nil
		},
		Allowed: func(ctx context.Context, _ string, n *Note) bool {
			return n.Text != secret || slices.Contains(extension.CallerOf(ctx).Groups, "system:masters")
		},
	}
	if change != nil {
		change(p, &projection)
	}
	p.front = extensiontest.Start(t, nil, projection)
	p.notes = resourceClient(t, p.front.Config, notes)
	return p
}

func resourceClient(t *testing.T, config *rest.Config, resource schema.GroupVersionResource) dynamic.ResourceInterface {
	t.Helper()
	c, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return c.Resource(resource).Namespace(namespace)
}

// other is a client of notes that may write what it may see.
func (p *pair) other() dynamic.ResourceInterface {
	p.t.Helper()
	config, err := p.front.Server.As(extension.Caller{Name: "other", Groups: []string{"admin"}})
	if err != nil {
		p.t.Fatal(err)
	}
	return resourceClient(p.t, config, notes)
}

func note(name, text string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": notes.GroupVersion().String(), "kind": "Note", "metadata": map[string]any{"name": name}, "text": text,
	}}
}

func source(name, text string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": sources.GroupVersion().String(), "kind": "ConfigMap",
		"metadata": map[string]any{"name": name, "labels": map[string]any{"note": "true"}}, "data": map[string]any{"text": text},
	}}
}

// must fails the test where a request failed.
func must(t *testing.T, o *unstructured.Unstructured, err error) *unstructured.Unstructured {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// shown gives a note once the text is what it should be.
func (p *pair) shown(name, text string) *unstructured.Unstructured {
	p.t.Helper()
	w, err := p.notes.Watch(p.t.Context(), metav1.ListOptions{FieldSelector: "metadata.name=" + name})
	if err != nil {
		p.t.Fatal(err)
	}
	defer w.Stop()
	return p.event(w, "", func(o *unstructured.Unstructured) bool { return o.Object["text"] == text })
}

// event is the next of a type, or of any, that fits.
func (p *pair) event(w watch.Interface, kind watch.EventType, fits func(*unstructured.Unstructured) bool) *unstructured.Unstructured {
	p.t.Helper()
	enough := time.After(patience)
	for {
		select {
		case e, open := <-w.ResultChan():
			if !open {
				p.t.Fatal("the watch ended")
			}
			if o, ok := e.Object.(*unstructured.Unstructured); ok && (kind == "" || e.Type == kind) && fits(o) {
				return o
			}
		case <-enough:
			p.t.Fatalf("no event %s came", kind)
		}
	}
}

func (p *pair) patchSource(name, patch string) *unstructured.Unstructured {
	p.t.Helper()
	o, err := p.sources.Patch(p.t.Context(), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	return must(p.t, o, err)
}

func verbs(t *testing.T, config *rest.Config) []string {
	t.Helper()
	c, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	list, err := c.ServerResourcesForGroupVersion(notes.GroupVersion().String())
	if err != nil {
		t.Fatal(err)
	}
	return slices.Sorted(slices.Values(list.APIResources[0].Verbs))
}

func TestProjectionWithoutFromIsReadOnly(t *testing.T) {
	p := projected(t, func(_ *pair, n *extension.Projection[Note, corev1.ConfigMap]) { n.From = nil })
	if got, want := verbs(t, p.front.Config), []string{"get", "list", "watch"}; !slices.Equal(got, want) {
		t.Errorf("discovery lists %v, want %v", got, want)
	}
	if _, err := p.notes.Create(t.Context(), note("a", "x"), metav1.CreateOptions{}); !apierrors.IsMethodNotSupported(err) {
		t.Errorf("a creation was answered %v", err)
	}
	if _, err := p.sources.Create(t.Context(), source("a", "x"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	p.shown("a", "x")
}

func TestProjectionWithFromIsWritable(t *testing.T) {
	p := projected(t, nil)
	want := []string{"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"}
	if got := verbs(t, p.front.Config); !slices.Equal(got, want) {
		t.Errorf("discovery lists %v, want %v", got, want)
	}
}

// What leaves the selection, or what To no longer shows, is deleted for a watcher.
func TestProjectionFollowsItsSource(t *testing.T) {
	p := projected(t, nil)
	for _, leave := range []string{`{"metadata":{"labels":{"note":"false"}}}`, `{"data":{"show":"false"}}`} {
		made := source("", "first")
		made.SetGenerateName("n-")
		o, err := p.sources.Create(t.Context(), made, metav1.CreateOptions{})
		name := must(t, o, err).GetName()
		first := p.shown(name, "first")
		if first.GetUID() != o.GetUID() || first.GetCreationTimestamp() != o.GetCreationTimestamp() || len(first.GetLabels()) > 0 {
			t.Errorf("the metadata shown is %v, that of the source %v", first.Object["metadata"], o.Object["metadata"])
		}
		w, err := p.notes.Watch(t.Context(), metav1.ListOptions{ResourceVersion: first.GetResourceVersion()})
		if err != nil {
			t.Fatal(err)
		}
		p.patchSource(name, `{"data":{"text":"second"}}`)
		p.event(w, watch.Modified, func(o *unstructured.Unstructured) bool { return o.Object["text"] == "second" })
		p.patchSource(name, leave)
		p.event(w, watch.Deleted, func(o *unstructured.Unstructured) bool { return o.GetName() == name })
		w.Stop()
	}
}

func TestProjectionKeepsWhatItDoesNotShow(t *testing.T) {
	p := projected(t, nil)
	made := source("a", "old")
	made.SetLabels(map[string]string{"note": "true", "hidden": "kept", "seen": "old", "gone": "soon"})
	made.SetAnnotations(map[string]string{"foreign": "kept"})
	made.Object["data"].(map[string]any)["other"] = "kept"
	made.Object["immutable"] = false
	if _, err := p.sources.Create(t.Context(), made, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	n := p.shown("a", "old")
	n.Object["text"] = "new"
	n.SetLabels(map[string]string{"seen": "new"})
	n.SetFinalizers([]string{"example.com/hold"})
	n, err := p.notes.Update(t.Context(), n, metav1.UpdateOptions{})
	n = must(t, n, err)
	o, err := p.sources.Get(t.Context(), "a", metav1.GetOptions{})
	o = must(t, o, err)
	if want := map[string]string{"note": "true", "hidden": "kept", "seen": "new"}; !maps.Equal(o.GetLabels(), want) {
		t.Errorf("the source has labels %v, want %v", o.GetLabels(), want)
	}
	if o.GetAnnotations()["foreign"] != "kept" || !slices.Equal(o.GetFinalizers(), n.GetFinalizers()) {
		t.Errorf("the source has annotations %v and finalizers %v", o.GetAnnotations(), o.GetFinalizers())
	}
	if data := o.Object["data"].(map[string]any); data["other"] != "kept" || data["text"] != "new" {
		t.Errorf("the source has data %v", data)
	}
	for key := range n.GetAnnotations() {
		if key != "foreign" {
			t.Errorf("the annotation %s is shown", key)
		}
	}
	n.SetLabels(map[string]string{"note": "false"})
	if _, err := p.notes.Update(t.Context(), n, metav1.UpdateOptions{}); !apierrors.IsInvalid(err) {
		t.Errorf("an update by which the source would no longer be selected was answered %v", err)
	}
}

// interfering has the source changed while a write of the note is planned, as often as n says.
func interfering(t *testing.T, n int32, patch string) (p *pair, plans *atomic.Int32) {
	plans = &atomic.Int32{}
	p = projected(t, func(p *pair, projection *extension.Projection[Note, corev1.ConfigMap]) {
		from := projection.From
		projection.From = func(ctx context.Context, obj *Note, into *corev1.ConfigMap) error {
			if obj.Text == "mine" && plans.Add(1) <= n {
				stamp := strings.ReplaceAll(patch, "STAMP", time.Now().Format(time.RFC3339Nano))
				if _, err := p.sources.Patch(ctx, obj.Name, types.MergePatchType, []byte(stamp), metav1.PatchOptions{}); err != nil {
					return err
				}
			}
			return from(ctx, obj, into)
		}
	})
	if _, err := p.sources.Create(t.Context(), source("a", "old"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	return p, plans
}

func TestProjectionRetriesAfterAChangeThatIsNotShown(t *testing.T) {
	p, plans := interfering(t, 2, `{"data":{"other":"STAMP"}}`)
	n := p.shown("a", "old")
	n.Object["text"] = "mine"
	written, err := p.notes.Update(t.Context(), n, metav1.UpdateOptions{})
	if err != nil || written.Object["text"] != "mine" || plans.Load() != 3 {
		t.Fatalf("a write that met two others that it does not show gave %v and %v after %d tries", written, err, plans.Load())
	}
	o, err := p.sources.Get(t.Context(), "a", metav1.GetOptions{})
	if other, _, _ := unstructured.NestedString(must(t, o, err).Object, "data", "other"); other == "" {
		t.Error("what others wrote meanwhile is lost")
	}
}

func TestProjectionGivesUpAfterFiveTries(t *testing.T) {
	p, plans := interfering(t, 100, `{"data":{"other":"STAMP"}}`)
	n := p.shown("a", "old")
	n.Object["text"] = "mine"
	_, err := p.notes.Update(t.Context(), n, metav1.UpdateOptions{})
	if !apierrors.IsConflict(err) || plans.Load() != 5 {
		t.Fatalf("a write that always meets others gave %v after %d tries", err, plans.Load())
	}
	told := status(t, err)
	if told.Details.Group != notes.Group || told.Details.Kind != "notes" || told.Details.Name != "a" {
		t.Errorf("the details are %v", told.Details)
	}
}

func TestProjectionRefusesAfterAChangeThatIsShown(t *testing.T) {
	p, plans := interfering(t, 1, `{"data":{"text":"theirs"}}`)
	n := p.shown("a", "old")
	n.Object["text"] = "mine"
	if _, err := p.notes.Update(t.Context(), n, metav1.UpdateOptions{}); !apierrors.IsConflict(err) || plans.Load() != 1 {
		t.Fatalf("a write that met one of what it shows gave %v after %d tries", err, plans.Load())
	}
	p.shown("a", "theirs")
}

func status(t *testing.T, err error) metav1.Status {
	t.Helper()
	var s apierrors.APIStatus
	if !errors.As(err, &s) || s.Status().Details == nil {
		t.Fatalf("%v has no details", err)
	}
	return s.Status()
}

func TestProjectionKeepsTheReasonOfTheHostsErrors(t *testing.T) {
	p := projected(t, nil)
	if _, err := p.notes.Create(t.Context(), note("a", "x"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	hidden := source("taken", "x")
	hidden.SetLabels(nil)
	if _, err := p.sources.Create(t.Context(), hidden, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, text string
		reason     metav1.StatusReason
		kind       string
		causes     int
	}{
		{"taken", "x", metav1.StatusReasonAlreadyExists, "notes", 0},
		{"b", "refused", metav1.StatusReasonInvalid, "Note", 1},
		{"b", "unwritable", metav1.StatusReasonInvalid, "Note", 0},
	} {
		_, err := p.notes.Create(t.Context(), note(c.name, c.text), metav1.CreateOptions{})
		told := status(t, err)
		if told.Reason != c.reason || told.Details.Group != notes.Group || told.Details.Kind != c.kind || told.Details.Name != c.name || len(told.Details.Causes) != c.causes {
			t.Errorf("a creation of %s with the text %s was answered %v", c.name, c.text, told)
		}
	}
}

func TestProjectionIsDeletedWhenItsSourceIsGone(t *testing.T) {
	p := projected(t, nil)
	held := note("a", "x")
	held.SetFinalizers([]string{"example.com/hold"})
	if _, err := p.notes.Create(t.Context(), held, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := p.notes.Delete(t.Context(), "a", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	n, err := p.notes.Get(t.Context(), "a", metav1.GetOptions{})
	if must(t, n, err).GetDeletionTimestamp() == nil {
		t.Error("the note has no deletionTimestamp")
	}
	n.SetFinalizers(nil)
	if _, err := p.notes.Update(t.Context(), n, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []dynamic.ResourceInterface{p.notes, p.sources} {
		if _, err := c.Get(t.Context(), "a", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			t.Errorf("after the last finalizer is off, a get is answered %v", err)
		}
	}
}

// Without finalizers of others, a deletion that only a finalizer of the garbage collector's holds
// goes on at once when nothing is to be collected.
func TestProjectionIsDeletedWhileTheGarbageCollectorHoldsIt(t *testing.T) {
	p := projected(t, nil)
	if _, err := p.notes.Create(t.Context(), note("a", "x"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := p.notes.Delete(t.Context(), "a", metav1.DeleteOptions{PropagationPolicy: new(metav1.DeletePropagationForeground)}); err != nil {
		t.Fatal(err)
	}
	if n, err := p.notes.Get(t.Context(), "a", metav1.GetOptions{}); !slices.Equal(must(t, n, err).GetFinalizers(), []string{metav1.FinalizerDeleteDependents}) {
		t.Errorf("the note has the finalizers %v", n.GetFinalizers())
	}
	if err := p.notes.Delete(t.Context(), "a", metav1.DeleteOptions{PropagationPolicy: new(metav1.DeletePropagationBackground)}); err != nil {
		t.Error(err)
	}
	if _, err := p.notes.Get(t.Context(), "a", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("a get is answered %v", err)
	}
}

func TestProjectionShowsAndLetsWriteByOneFunction(t *testing.T) {
	p := projected(t, nil)
	if _, err := p.notes.Create(t.Context(), note("a", secret), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	other := p.other()
	if _, err := other.Get(t.Context(), "a", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("get of what is hidden: %v", err)
	}
	list, err := other.List(t.Context(), metav1.ListOptions{})
	if err != nil || len(list.Items) > 0 {
		t.Errorf("list of what is hidden: %v, %v", list, err)
	}
	w, err := other.Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	merge := []byte(`{"text":"mine"}`)
	if _, err := other.Patch(t.Context(), "a", types.MergePatchType, merge, metav1.PatchOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("patch of what is hidden: %v", err)
	}
	if err := other.Delete(t.Context(), "a", metav1.DeleteOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("deletion of what is hidden: %v", err)
	}
	if err := other.DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
		t.Errorf("deletion of all that is shown: %v", err)
	}
	if _, err := other.Create(t.Context(), note("b", secret), metav1.CreateOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("creation of what would be hidden: %v", err)
	}
	if _, err := other.Create(t.Context(), note("c", "open"), metav1.CreateOptions{}); err != nil {
		t.Error(err)
	}
	if _, err := other.Patch(t.Context(), "c", types.MergePatchType, []byte(`{"text":"`+secret+`"}`), metav1.PatchOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("patch into what would be hidden: %v", err)
	}
	if first := p.event(w, "", func(*unstructured.Unstructured) bool { return true }); first.GetName() != "c" {
		t.Errorf("the watch showed %v", first)
	}
	if got := p.shown("a", secret); got.GetDeletionTimestamp() != nil {
		t.Error("the note that is hidden was deleted")
	}
}

// What a client wrote it can write again at once: the answer has the resourceVersion of the present.
func TestProjectionAnswersWhatIsThere(t *testing.T) {
	p := projected(t, nil)
	n, err := p.notes.Create(t.Context(), note("a", "0"), metav1.CreateOptions{})
	n = must(t, n, err)
	for _, text := range []string{"1", "2", "3", "4", "5", "6", "7", "8", "9"} {
		n.Object["text"] = text
		n, err = p.notes.Update(t.Context(), n, metav1.UpdateOptions{})
		n = must(t, n, err)
		got, err := p.notes.Get(t.Context(), "a", metav1.GetOptions{})
		if must(t, got, err).GetResourceVersion() != n.GetResourceVersion() || got.Object["text"] != text {
			t.Fatalf("after the answer %v a get gives %v", n.Object, got.Object)
		}
	}
}

func TestProjectionThatIsWrongIsNamed(t *testing.T) {
	_, err := extension.New(t.Context(), extension.Config{Name: "test", Standalone: &extension.Standalone{}}, extension.Projection[Note, corev1.ConfigMap]{
		GroupVersion: notes.GroupVersion(),
		Source:       extension.Source{Labels: "a in b", Fields: "x"},
		Validate:     func(context.Context, *Note) field.ErrorList { return nil },
	})
	for _, want := range []string{": To: ", ": Validate, ValidateUpdate: ", ": Source.Resource: ", ": Source.Labels: ", ": Source.Fields: "} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not name %q: %v", want, err)
		}
	}
	_, err = extension.New(t.Context(), extension.Config{Name: "test", Standalone: &extension.Standalone{}}, extension.Projection[Note, corev1.ConfigMap]{
		GroupVersion: notes.GroupVersion(),
		Source:       extension.Source{Resource: sources},
		To:           func(*corev1.ConfigMap, *Note) (bool, error) { return true, nil },
	})
	if err == nil || !strings.Contains(err.Error(), "Source.Host") {
		t.Errorf("a projection without a host gives %v", err)
	}
}
