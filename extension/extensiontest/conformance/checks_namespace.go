package conformance

import (
	"context"
	"fmt"
	"net/http"
	"time"
)

func namespaceChecks() []Check {
	return []Check{{
		ID:      "namespace/deletion",
		Promise: "When a namespace is deleted its objects go, nothing can be created in it any more, and it ends.",
		Source:  "https://kubernetes.io/docs/concepts/overview/working-with-objects/namespaces/, and k8s.io/apiserver/pkg/admission/plugin/namespace/lifecycle",
		Faults:  []int{9},
		Needs:   []Need{Writable, Namespaced, Namespaces, Verb("deletecollection"), Verb("list")},
		Within:  90 * time.Second,
		Run:     checkNamespaceDeletion,
	}}
}

func checkNamespaceDeletion(ctx context.Context, t *T) {
	name := t.subject.endingNamespace()
	t.mu.Lock()
	t.undo = append(t.undo, func(ctx context.Context) error { return removeNamespace(ctx, t.admin, name) })
	t.mu.Unlock()
	if _, err := makeNamespace(ctx, t.admin, name); err != nil {
		t.notApplicable("%v", err)
	}
	// Two objects: one that holds the namespace, so that there is a time in which it ends.
	held := t.object()
	held.SetNamespace(name)
	held.SetFinalizers([]string{holdFinalizer})
	held = t.createThis(ctx, held)
	free := t.object()
	free.SetNamespace(name)
	free = t.createThis(ctx, free)
	path := namespaces + "/" + name
	t.want(t.do(ctx, request{method: http.MethodDelete, path: path}), http.StatusOK, http.StatusAccepted)

	late := t.object()
	late.SetNamespace(name)
	t.eventually(ctx, 10*time.Second, func() (*Exchange, string) {
		a := t.post(ctx, late, "dryRun", "All")
		if a.Code == http.StatusForbidden || a.Code == http.StatusConflict || a.Code == http.StatusNotFound {
			t.status(a)
			return nil, ""
		}
		return a.Exchange, fmt.Sprintf("a create in a namespace that ends is answered %s, want 403 or 409, or 404 once it is gone", code(a.Code))
	})
	if !controlled(ctx, t.admin, name) {
		t.notApplicable("no controller manager empties namespaces here; that nothing can be created in one that ends was seen")
	}
	t.eventually(ctx, 40*time.Second, func() (*Exchange, string) {
		a := t.getAnswer(ctx, free)
		if a.Code == http.StatusNotFound {
			return nil, ""
		}
		return a.Exchange, "an object of the deleted namespace is still there"
	})
	if a := t.getAnswer(ctx, held); a.Code == http.StatusOK {
		o := t.parsed(a)
		o.SetFinalizers(nil)
		t.want(t.put(ctx, o), http.StatusOK)
	}
	t.eventually(ctx, 40*time.Second, func() (*Exchange, string) {
		a := t.do(ctx, request{method: http.MethodGet, path: path})
		if a.Code == http.StatusNotFound {
			return nil, ""
		}
		return a.Exchange, "the namespace is still there though nothing holds it"
	})
}
