package extension_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/util/retry"

	"github.com/annex-api/annex/extension"
	"github.com/annex-api/annex/extension/extensiontest"
)

// twice is a pair whose notes are served by two replicas. The second one begins once there is a
// note, of which a part that is not shown has changed since the first one knows it.
func twice(t *testing.T) (p *pair, here, there dynamic.ResourceInterface) {
	t.Helper()
	var projection extension.Projection[Note, corev1.ConfigMap]
	p = projected(t, func(_ *pair, n *extension.Projection[Note, corev1.ConfigMap]) { projection = *n })
	if _, err := p.sources.Create(t.Context(), source("a", "old"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	p.shown("a", "old")
	p.patchSource("a", `{"data":{"other":"not shown"}}`)
	second := extensiontest.Start(t, nil, projection)
	return p, p.notes, resourceClient(t, second.Config, notes)
}

// come waits until a replica shows a note with a text, and gives it.
func come(t *testing.T, p *pair, at dynamic.ResourceInterface, name, text string) *unstructured.Unstructured {
	t.Helper()
	return (&pair{t: t, sources: p.sources, notes: at, front: p.front}).shown(name, text)
}

// What one replica has shown can be written by the other: an update, a patch that names a
// resourceVersion, and a deletion with a precondition.
func TestProjectionLocksAcrossReplicas(t *testing.T) {
	p, here, there := twice(t)
	text := "old"
	for i, replica := range []struct{ reads, writes dynamic.ResourceInterface }{{here, there}, {there, here}, {here, there}, {there, here}} {
		n := come(t, p, replica.reads, "a", text)
		text = fmt.Sprint("text ", i)
		n.Object["text"] = text
		if _, err := replica.writes.Update(t.Context(), n, metav1.UpdateOptions{}); err != nil {
			t.Fatalf("update %d of what the other replica has shown: %v", i, err)
		}
		if _, err := replica.writes.Update(t.Context(), n, metav1.UpdateOptions{}); !apierrors.IsConflict(err) {
			t.Errorf("update %d of what has changed since: %v", i, err)
		}
		n = come(t, p, replica.reads, "a", text)
		text += " patched"
		patch := fmt.Sprintf(`{"metadata":{"resourceVersion":%q},"text":%q}`, n.GetResourceVersion(), text)
		if _, err := replica.writes.Patch(t.Context(), "a", types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
			t.Errorf("patch %d of what the other replica has shown: %v", i, err)
		}
		patch = fmt.Sprintf(`{"metadata":{"resourceVersion":%q},"text":"lost"}`, n.GetResourceVersion())
		if _, err := replica.writes.Patch(t.Context(), "a", types.MergePatchType, []byte(patch), metav1.PatchOptions{}); !apierrors.IsConflict(err) {
			t.Errorf("patch %d of what has changed since: %v", i, err)
		}
	}
	outdated := come(t, p, here, "a", text)
	p.patchSource("a", `{"data":{"text":"last"}}`)
	last := come(t, p, here, "a", "last")
	for _, c := range []struct {
		of   *unstructured.Unstructured
		want func(error) bool
	}{
		{outdated, apierrors.IsConflict},
		{last, func(err error) bool { return err == nil }},
	} {
		options := metav1.DeleteOptions{Preconditions: &metav1.Preconditions{ResourceVersion: new(c.of.GetResourceVersion())}}
		if err := there.Delete(t.Context(), "a", options); !c.want(err) {
			t.Errorf("deletion of the text %q: %v", c.of.Object["text"], err)
		}
	}
}

// Two who add one by one, each reading at one replica and writing to the other, lose nothing.
func TestProjectionLosesNoUpdateAcrossReplicas(t *testing.T) {
	p, here, there := twice(t)
	p.patchSource("a", `{"data":{"text":"x"}}`)
	const times = 10
	var added atomic.Int32
	done := make(chan error, 2)
	add := func(reads, writes dynamic.ResourceInterface) {
		for range times {
			err := retry.OnError(retry.DefaultBackoff, apierrors.IsConflict, func() error {
				n, err := reads.Get(t.Context(), "a", metav1.GetOptions{})
				if err != nil {
					return err
				}
				n.Object["text"] = n.Object["text"].(string) + "x"
				_, err = writes.Update(t.Context(), n, metav1.UpdateOptions{})
				return err
			})
			switch {
			case err == nil:
				added.Add(1)
			case !apierrors.IsConflict(err): // else it lost the race too often, and knows it
				done <- err
				return
			}
		}
		done <- nil
	}
	go add(here, there)
	go add(there, here)
	for range 2 {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	o, err := p.sources.Get(t.Context(), "a", metav1.GetOptions{})
	got, _, _ := unstructured.NestedString(must(t, o, err).Object, "data", "text")
	if want := 1 + int(added.Load()); len(got) != want || want == 1 {
		t.Errorf("%d are there, and %d were added", len(got), want)
	}
}

// A watch that one replica began is not resumed by another: it cannot vouch for what was sent.
func TestProjectionDoesNotResumeWatchesOfTheOtherReplica(t *testing.T) {
	p, here, there := twice(t)
	come(t, p, there, "a", "old")
	list, err := here.List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w, err := there.Watch(t.Context(), metav1.ListOptions{ResourceVersion: list.GetResourceVersion()})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	e := <-w.ResultChan()
	if err := apierrors.FromObject(e.Object); !apierrors.IsResourceExpired(err) && !apierrors.IsTimeout(err) {
		t.Errorf("it was answered with %v", e)
	}
}

// A projection that is not written keeps quiet of what it does not show.
func TestProjectionWithoutFromIsQuiet(t *testing.T) {
	p := projected(t, func(_ *pair, n *extension.Projection[Note, corev1.ConfigMap]) { n.From = nil })
	if _, err := p.sources.Create(t.Context(), source("a", "old"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	first := p.shown("a", "old")
	p.patchSource("a", `{"data":{"other":"not shown"}}`)
	p.patchSource("a", `{"data":{"text":"new"}}`)
	p.shown("a", "new")
	w, err := p.notes.Watch(t.Context(), metav1.ListOptions{ResourceVersion: first.GetResourceVersion()})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	if next := p.event(w, "", func(*unstructured.Unstructured) bool { return true }); next.Object["text"] != "new" {
		t.Errorf("the first event after the note shows %v", next.Object)
	}
}
