package conformance

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
)

func watchSelectorChecks() []Check {
	const source = concepts + "#efficient-detection-of-changes, and k8s.io/apiserver/pkg/storage/interfaces.go"
	return []Check{
		{
			ID:      "watch/label-leave",
			Promise: "An object that leaves a label selector is DELETED for its watchers; one that never matched is not shown.",
			Source:  source,
			Faults:  []int{4},
			Needs:   []Need{Writable, Watchable},
			Run:     checkLabelLeave,
		},
		{
			ID:      "watch/label-enter",
			Promise: "An object that begins to match a label selector is ADDED for its watchers.",
			Source:  source,
			Faults:  []int{4},
			Needs:   []Need{Writable, Watchable},
			Run:     checkLabelEnter,
		},
		{
			ID:      "watch/deleted-selector",
			Promise: "Deletions pass through the selectors: a watcher sees the DELETED of what matched, and no other.",
			Source:  source,
			Faults:  []int{4},
			Needs:   []Need{Writable, Watchable},
			Run:     checkDeletedSelector,
		},
		{
			ID:      "watch/field",
			Promise: "A field selector on metadata.name, and on each selectable field, is kept by every event.",
			Source:  "https://kubernetes.io/docs/concepts/overview/working-with-objects/field-selectors/",
			Faults:  []int{4},
			Needs:   []Need{Writable, Watchable},
			Run:     checkWatchFields,
		},
		{
			ID:      "watch/namespace",
			Promise: "A watch of a namespace shows nothing of another.",
			Source:  concepts + "#resource-uris",
			Faults:  []int{4, 6},
			Needs:   []Need{Writable, Watchable, Namespaced},
			Run:     checkWatchNamespace,
		},
	}
}

// settled gives what a watch shows until an object that comes last, and ends the check where it does
// not show that.
func (t *T) settled(ctx context.Context, w *watch, last *unstructured.Unstructured) []event {
	return t.await(ctx, w, added, last)
}

// labelled is a new object with one more label.
func (t *T) labelled(name, value string) *unstructured.Unstructured {
	o := t.object()
	labels := o.GetLabels()
	labels[name] = value
	o.SetLabels(labels)
	return o
}

func checkLabelLeave(ctx context.Context, t *T) {
	in := t.createThis(ctx, t.labelled("color", "red"))
	out := t.createThis(ctx, t.labelled("color", "blue"))
	w := t.watching(ctx, "resourceVersion", t.now(ctx), "labelSelector", "color=red")
	left := t.relabel(ctx, in, "color", "green")
	t.relabel(ctx, out, "color", "green")
	events := t.settled(ctx, w, t.createThis(ctx, t.labelled("color", "red")))
	if len(events) != 2 || events[0].kind != deleted || events[0].object.GetName() != in.GetName() {
		t.fatalf(w.exchange(), "the watch of color=red showed %s; want DELETED of %s, which became green, and an ADDED", describe(events), in.GetName())
	}
	if got := events[0].object.GetLabels()["color"]; got != "red" {
		t.failf(w.exchange(), "DELETED shows the label color=%q, want the object as it last matched", got)
	}
	if got := events[0].object.GetResourceVersion(); got != left.GetResourceVersion() {
		t.failf(w.exchange(), "DELETED has resourceVersion %s, want %s of the change", got, left.GetResourceVersion())
	}
}

func checkLabelEnter(ctx context.Context, t *T) {
	o := t.createThis(ctx, t.labelled("color", "blue"))
	w := t.watching(ctx, "resourceVersion", t.now(ctx), "labelSelector", "color=red")
	o = t.relabel(ctx, o, "color", "green")
	o = t.relabel(ctx, o, "color", "red")
	events := t.await(ctx, w, added, o)
	if len(events) != 1 {
		t.failf(w.exchange(), "the watch of color=red showed %s; want one ADDED of %s, which became red", describe(events), o.GetName())
	}
	t.relabel(ctx, o, "more", "true")
	t.await(ctx, w, modified, o)
}

func checkDeletedSelector(ctx context.Context, t *T) {
	in := t.createThis(ctx, t.labelled("color", "red"))
	out := t.createThis(ctx, t.labelled("color", "blue"))
	w := t.watching(ctx, "resourceVersion", t.now(ctx), "labelSelector", "color=red")
	t.delete(ctx, out)
	t.delete(ctx, in)
	events := t.settled(ctx, w, t.createThis(ctx, t.labelled("color", "red")))
	if len(events) != 2 || events[0].kind != deleted || events[0].object.GetName() != in.GetName() {
		t.failf(w.exchange(), "the watch of color=red showed %s; want DELETED of %s alone, and an ADDED", describe(events), in.GetName())
	}
}

func checkWatchFields(ctx context.Context, t *T) {
	o := t.create(ctx)
	w := t.watching(ctx, "resourceVersion", t.now(ctx), "fieldSelector", "metadata.name="+o.GetName())
	other := t.create(ctx)
	t.relabel(ctx, other, "more", "true")
	t.delete(ctx, other)
	o = t.relabel(ctx, o, "more", "true")
	if events := t.await(ctx, w, modified, o); len(events) != 1 {
		t.failf(w.exchange(), "the watch of metadata.name=%s showed %s; want MODIFIED of it alone", o.GetName(), describe(events))
	}
	w.stop()
	for _, path := range t.subject.selectable() {
		t.checkSelected(ctx, path)
		if path == t.subject.change.String() {
			t.checkSelectable(ctx, path)
		}
	}
}

// checkSelected asks for a selectable field as it is, in lists and in a watch.
func (t *T) checkSelected(ctx context.Context, path string) {
	o := t.create(ctx)
	value, ok, err := unstructured.NestedFieldNoCopy(o.Object, strings.Split(path, ".")...)
	if err != nil || !ok {
		return // the sample has none
	}
	text := fields.EscapeValue(fmt.Sprint(value))
	has := func(l list) bool {
		return slices.ContainsFunc(l.items, func(item *unstructured.Unstructured) bool { return item.GetName() == o.GetName() })
	}
	if l := t.list(ctx, "fieldSelector", path+"="+text); !has(l) {
		t.failf(l.Exchange, "%s=%s did not give %s, which has that value", path, text, o.GetName())
	}
	if l := t.list(ctx, "fieldSelector", path+"!="+text); has(l) {
		t.failf(l.Exchange, "%s!=%s gave %s, which has that value", path, text, o.GetName())
	}
	w := t.watching(ctx, "resourceVersion", t.now(ctx), "fieldSelector", path+"="+text)
	t.await(ctx, w, added, t.create(ctx))
	w.stop()
}

// checkSelectable changes a selectable field under a watch that selects by it.
func (t *T) checkSelectable(ctx context.Context, path string) {
	change := t.subject.change
	o := t.create(ctx)
	value, ok := change.get(o).(string)
	if !ok {
		return
	}
	w := t.watching(ctx, "resourceVersion", o.GetResourceVersion(), "fieldSelector", path+"="+value)
	other := 1
	if change.value(other) == value {
		other = 2
	}
	o = t.changeTo(ctx, o, other)
	t.await(ctx, w, deleted, o)
	if err := unstructured.SetNestedField(o.Object, value, change.path...); err != nil {
		t.fatalf(nil, "%s was read a moment ago: %v", change, err)
	}
	t.await(ctx, w, added, t.update(ctx, o))
	if l := t.list(ctx, "fieldSelector", path+"=not-there"); len(t.own(l)) != 0 && !strings.Contains(value, "not-there") {
		t.failf(l.Exchange, "%s=not-there gave %d objects, want none", path, len(l.items))
	}
}

// changeTo writes a value of the field that may be changed.
func (t *T) changeTo(ctx context.Context, o *unstructured.Unstructured, i int) *unstructured.Unstructured {
	o = o.DeepCopy()
	t.setChange(o, i)
	return t.update(ctx, o)
}

func (t *T) setChange(o *unstructured.Unstructured, i int) {
	if err := t.subject.change.set(o, i); err != nil {
		t.notApplicable("the field %s cannot be set: %v", t.subject.change, err)
	}
}

func checkWatchNamespace(ctx context.Context, t *T) {
	w := t.watching(ctx, "resourceVersion", t.now(ctx))
	foreign := t.object()
	foreign.SetNamespace(t.subject.other)
	foreign = t.createThis(ctx, foreign)
	t.delete(ctx, t.relabel(ctx, foreign, "more", "true"))
	events := t.settled(ctx, w, t.create(ctx))
	events = append(events, t.ownEvents(w, w.during(ctx, 100*time.Millisecond))...)
	for _, e := range events {
		if e.object.GetNamespace() != t.subject.namespace {
			t.failf(w.exchange(), "the watch of namespace %s showed %v of namespace %s", t.subject.namespace, e, e.object.GetNamespace())
		}
	}
}
