package conformance

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func deleteChecks() []Check {
	return []Check{
		{
			ID:      "delete/finalizer",
			Promise: "An object with a finalizer that is deleted has a deletionTimestamp and stays until the finalizer is taken off; the answer and watchers say so.",
			Source:  "https://kubernetes.io/docs/concepts/overview/working-with-objects/finalizers/",
			Faults:  []int{4, 7},
			Needs:   []Need{Writable, Watchable},
			Run:     checkFinalizer,
		},
		{
			ID:      "delete/preconditions",
			Promise: "A deletion with the uid or resourceVersion of another object is answered 409, and nothing is deleted.",
			Source:  metaTypes + "Preconditions",
			Faults:  []int{7},
			Needs:   []Need{Writable},
			Run:     checkPreconditions,
		},
		{
			ID:      "delete/propagation",
			Promise: "A deletion with propagationPolicy Foreground or Orphan leaves the object, with the finalizer that the garbage collector takes off.",
			Source:  "https://kubernetes.io/docs/concepts/architecture/garbage-collection/#cascading-deletion",
			Faults:  []int{7},
			Needs:   []Need{Writable},
			Run:     checkPropagation,
		},
		{
			ID:      "delete/collection",
			Promise: "A deletion of a collection with a selector deletes what matches, and nothing else.",
			Source:  concepts + "#collections",
			Faults:  []int{4},
			Needs:   []Need{Writable, Verb("deletecollection"), Verb("list")},
			Run:     checkDeleteCollection,
		},
	}
}

func checkFinalizer(ctx context.Context, t *T) {
	o := t.object()
	o.SetFinalizers([]string{holdFinalizer})
	o = t.createThis(ctx, o)
	w := t.watching(ctx, "resourceVersion", o.GetResourceVersion())
	a := t.want(t.deleteAnswer(ctx, o), http.StatusOK, http.StatusAccepted)
	if got := t.parsed(a); got.GetKind() != "Status" && got.GetDeletionTimestamp() == nil {
		t.failf(a.Exchange, "the answer shows the object without a deletionTimestamp")
	} else if got.GetKind() == "Status" && a.Code == http.StatusOK && got.Object["status"] == metav1.StatusSuccess {
		t.failf(a.Exchange, "the answer reports success though the finalizer %s holds the object", holdFinalizer)
	}
	a = t.want(t.getAnswer(ctx, o), http.StatusOK)
	held := t.parsed(a)
	if held.GetDeletionTimestamp() == nil {
		t.fatalf(a.Exchange, "the object has no deletionTimestamp after its deletion")
	}
	t.await(ctx, w, modified, o)
	free := held.DeepCopy()
	free.SetFinalizers(nil)
	t.want(t.put(ctx, free), http.StatusOK)
	t.await(ctx, w, deleted, o)
	t.want(t.getAnswer(ctx, o), http.StatusNotFound)
}

func checkPreconditions(ctx context.Context, t *T) {
	o := t.create(ctx)
	for _, preconditions := range []map[string]any{
		{"uid": "11111111-2222-3333-4444-555555555555"},
		{"resourceVersion": "1"},
	} {
		options := map[string]any{"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": preconditions}
		r := request{method: http.MethodDelete, path: t.path(o), body: body(options)}
		a := t.do(ctx, r.with("Content-Type", jsonMedia))
		t.refused(a, http.StatusConflict, metav1.StatusReasonConflict)
		t.unchanged(ctx, o)
	}
	options := map[string]any{"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": map[string]any{"uid": string(o.GetUID()), "resourceVersion": o.GetResourceVersion()}}
	r := request{method: http.MethodDelete, path: t.path(o), body: body(options)}
	t.want(t.do(ctx, r.with("Content-Type", jsonMedia)), http.StatusOK, http.StatusAccepted)
}

func checkPropagation(ctx context.Context, t *T) {
	for policy, finalizer := range map[string]string{"Foreground": metav1.FinalizerDeleteDependents, "Orphan": metav1.FinalizerOrphanDependents} {
		o := t.create(ctx)
		a := t.want(t.deleteAnswer(ctx, o, "propagationPolicy", policy), http.StatusOK, http.StatusAccepted)
		got := t.parsed(a)
		if got.GetKind() == "Status" {
			t.failf(a.Exchange, "the answer to a deletion with %s is a Status and not the object, which should stay for the garbage collector", policy)
			continue
		}
		if got.GetDeletionTimestamp() == nil || !slices.Contains(got.GetFinalizers(), finalizer) {
			t.failf(a.Exchange, "after a deletion with %s the object has finalizers %v and deletionTimestamp %v; want the finalizer %s", policy, got.GetFinalizers(), got.GetDeletionTimestamp(), finalizer)
		}
	}
}

// mostOwned is how many objects a collection is looked through for those of others.
const mostOwned = 200

// ownsTheCollection ends the check where a deletion of the collection might reach objects that the kit
// did not make: a server that ignores selectors would delete them. A namespaced kind is deleted in the
// kit's namespace alone.
func (t *T) ownsTheCollection(ctx context.Context) {
	if t.subject.namespaced {
		return
	}
	l := t.list(ctx, "limit", strconv.Itoa(mostOwned))
	foreign := slices.ContainsFunc(l.items, func(o *unstructured.Unstructured) bool {
		return o.GetLabels()[ownLabel] != t.slug()
	})
	if foreign || l.next != "" {
		t.notApplicable("the collection of %s has objects of others, which a server that ignores selectors would delete", t.subject.Resource)
	}
}

func checkDeleteCollection(ctx context.Context, t *T) {
	for range 3 {
		t.createThis(ctx, t.labelled("color", "red"))
	}
	blue := t.createThis(ctx, t.labelled("color", "blue"))
	t.ownsTheCollection(ctx)
	selector := t.selector() + ",color=red"
	if l := t.list(ctx, "labelSelector", selector); len(l.items) != 3 {
		t.fatalf(l.Exchange, "the selector %q gave %d objects before the deletion, want the 3 that were created", selector, len(l.items))
	}
	r := request{method: http.MethodDelete, path: t.subject.path(t.subject.namespace, ""), query: query("labelSelector", selector)}
	a := t.want(t.do(ctx, r), http.StatusOK, http.StatusAccepted)
	t.eventually(ctx, 10*time.Second, func() (*Exchange, string) {
		l := t.list(ctx, "labelSelector", selector)
		if len(l.items) == 0 {
			return nil, ""
		}
		return l.Exchange, "objects that match the selector are still there"
	})
	if got := t.getAnswer(ctx, blue); got.Code != http.StatusOK || t.parsed(got).GetName() != blue.GetName() {
		t.failf(a.Exchange, "the deletion with labelSelector %q deleted %s too, which does not match", selector, blue.GetName())
	}
}
