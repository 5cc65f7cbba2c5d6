package conformance

import (
	"context"
	"net/http"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func authorizationChecks() []Check {
	const source = "https://kubernetes.io/docs/reference/access-authn-authz/authorization/"
	return []Check{
		{
			ID:      "authz/list",
			Promise: "A user who may not list is answered 403, with a Status; one who may see a part is shown that part.",
			Source:  source,
			Faults:  []int{6},
			Needs:   []Need{Writable, Verb("list"), SecondUser},
			Run: func(ctx context.Context, t *T) {
				t.visible(ctx, t.create(ctx))
				a := t.as(ctx, t.second, t.listing())
				if t.want(a, http.StatusOK, http.StatusForbidden).Code == http.StatusForbidden {
					t.status(a)
				}
				if allowed, known := t.secondMay(ctx, "list"); known && !allowed && a.Code == http.StatusOK && len(t.own(t.listed(a))) > 0 {
					t.failf(a.Exchange, "a SelfSubjectAccessReview says that the user may not list, and the list shows objects")
				}
			},
		},
		{
			ID:      "authz/get",
			Promise: "Get shows a user nothing that list hides from them.",
			Source:  source,
			Faults:  []int{6},
			Needs:   []Need{Writable, Verb("list"), SecondUser},
			Run: func(ctx context.Context, t *T) {
				o := t.create(ctx)
				t.visible(ctx, o)
				if t.secondSees(ctx, o) {
					t.notApplicable("the second user sees everything")
				}
				if allowed, known := t.secondMay(ctx, "get"); known && allowed && t.secondForbidden(ctx) {
					t.notApplicable("the second user may get but not list")
				}
				a := t.as(ctx, t.second, request{method: http.MethodGet, path: t.path(o)})
				t.want(a, http.StatusForbidden, http.StatusNotFound)
			},
		},
		{
			ID:      "authz/watch",
			Promise: "A watch shows a user nothing that list hides from them.",
			Source:  source,
			Faults:  []int{6},
			Needs:   []Need{Writable, Watchable, SecondUser},
			Run:     checkAuthzWatch,
		},
		{
			ID:      "authz/anonymous",
			Promise: "Straight to the extension server and without credentials everything but health, version and discovery is answered 401 or 403.",
			Source:  "https://kubernetes.io/docs/tasks/extend-kubernetes/setup-extension-api-server/, and https://kubernetes.io/docs/tasks/extend-kubernetes/configure-aggregation-layer/",
			Faults:  []int{9},
			Needs:   []Need{Direct},
			Run:     checkAnonymous,
		},
	}
}

func (t *T) listing() request {
	return request{method: http.MethodGet, path: t.subject.path(t.subject.namespace, "")}
}

// visible ends the check unless the list of who may see everything has an object: else it says nothing
// that others do not see it.
func (t *T) visible(ctx context.Context, o *unstructured.Unstructured) {
	l := t.list(ctx)
	if !slices.ContainsFunc(l.items, func(item *unstructured.Unstructured) bool { return item.GetName() == o.GetName() }) {
		t.fatalf(l.Exchange, "the list does not have %s, which was created before, for a user who may see everything", o.GetName())
	}
}

// secondSees says whether the list of the second user has an object.
func (t *T) secondSees(ctx context.Context, o *unstructured.Unstructured) bool {
	a := t.want(t.as(ctx, t.second, t.listing()), http.StatusOK, http.StatusForbidden)
	return a.Code == http.StatusOK && slices.ContainsFunc(t.listed(a).items, func(item *unstructured.Unstructured) bool {
		return item.GetName() == o.GetName()
	})
}

func (t *T) secondForbidden(ctx context.Context) bool {
	return t.as(ctx, t.second, t.listing()).Code == http.StatusForbidden
}

// secondMay asks the API server what the second user may do. known is false where it does not say.
func (t *T) secondMay(ctx context.Context, verb string) (allowed, known bool) {
	attributes := map[string]any{"verb": verb, "group": t.subject.Group, "version": t.subject.Version, "resource": t.subject.Resource, "namespace": t.subject.namespace}
	review := map[string]any{"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": map[string]any{"resourceAttributes": attributes}}
	r := request{method: http.MethodPost, path: "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body: body(review)}
	a := t.as(ctx, t.second, r.with("Content-Type", jsonMedia))
	if a.Code != http.StatusCreated {
		return false, false
	}
	allowed, _, _ = unstructured.NestedBool(t.parsed(a).Object, "status", "allowed") // false where it is left out
	return allowed, true
}

func checkAuthzWatch(ctx context.Context, t *T) {
	o := t.create(ctx)
	t.visible(ctx, o)
	if t.secondSees(ctx, o) {
		t.notApplicable("the second user sees everything")
	}
	w := t.watchPath(ctx, t.second, t.subject.path(t.subject.namespace, ""), "", "timeoutSeconds", "10")
	if w.refused != nil {
		t.status(t.want(*w.refused, http.StatusForbidden))
		return
	}
	t.relabel(ctx, o, "more", "true")
	t.create(ctx)
	seen, shown := w.until(ctx, 2*time.Second, func(e event) bool { return e.kind != bookmark && e.kind != failed && t.mine(e.object) })
	if shown {
		t.failf(w.exchange(), "the watch showed %v, which the list hides", seen[len(seen)-1])
	}
}

func checkAnonymous(ctx context.Context, t *T) {
	collection := t.subject.path("", "")
	requests := []request{
		{method: http.MethodGet, path: collection},
		{method: http.MethodGet, path: collection, query: query("watch", "true", "timeoutSeconds", "2")},
		{method: http.MethodGet, path: t.subject.path(t.subject.namespace, "any")},
		{method: http.MethodDelete, path: t.subject.path(t.subject.namespace, "any")},
		{method: http.MethodGet, path: "/metrics"},
		{method: http.MethodGet, path: "/debug/pprof/"},
	}
	// These headers are believed of a client with the API server's own certificate alone.
	forged := request{method: http.MethodGet, path: collection}.with("X-Remote-User", "system:admin").with("X-Remote-Group", "system:masters")
	for _, r := range append(requests, forged) {
		a := t.as(ctx, t.direct, r)
		if a.Code == http.StatusNotFound && r.path != collection {
			continue // it is not served at all
		}
		t.wantDenied(a)
	}
}

func (t *T) wantDenied(a answer) {
	if a.Code != http.StatusUnauthorized && a.Code != http.StatusForbidden {
		t.failf(a.Exchange, "answered %s to a client without credentials, want 401 or 403", code(a.Code))
	}
}
