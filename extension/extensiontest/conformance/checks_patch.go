package conformance

import (
	"context"
	"net/http"
	"strings"

	"k8s.io/apimachinery/pkg/api/equality"
)

func patchChecks() []Check {
	const source = concepts + "#patch-and-apply"
	return []Check{
		{
			ID:      "patch/merge",
			Promise: "A JSON merge patch sets fields, and null removes them.",
			Source:  source,
			Faults:  []int{8},
			Needs:   []Need{Writable, Verb("patch")},
			Run: func(ctx context.Context, t *T) {
				o := t.create(ctx)
				got := t.merge(ctx, o, map[string]any{"metadata": map[string]any{"labels": map[string]any{"added": "true"}}})
				if got.GetLabels()["added"] != "true" || got.GetLabels()[ownLabel] != t.slug() {
					t.failf(nil, "after a merge patch that adds a label, the labels are %v", got.GetLabels())
				}
				got = t.merge(ctx, o, map[string]any{"metadata": map[string]any{"labels": map[string]any{"added": nil}}})
				if _, ok := got.GetLabels()["added"]; ok {
					t.failf(nil, "after a merge patch of null, the label is still there: %v", got.GetLabels())
				}
				t.patchChange(ctx, mergePatch)
			},
		},
		{
			ID:      "patch/json",
			Promise: "A JSON patch does its operations in order; one whose test does not hold is answered 422 and changes nothing.",
			Source:  source,
			Faults:  []int{8},
			Needs:   []Need{Writable, Verb("patch")},
			Run:     checkJSONPatch,
		},
		{
			ID:      "patch/strategic",
			Promise: "A strategic merge patch sets fields, or is answered 415 by a kind that does not know it.",
			Source:  source,
			Faults:  []int{8},
			Needs:   []Need{Writable, Verb("patch")},
			Run: func(ctx context.Context, t *T) {
				o := t.create(ctx)
				a := t.patch(ctx, o, strategicPatch, map[string]any{"metadata": map[string]any{"labels": map[string]any{"added": "true"}}})
				if t.want(a, http.StatusOK, http.StatusUnsupportedMediaType).Code == http.StatusUnsupportedMediaType {
					t.status(a)
					return
				}
				if got := t.parsed(a); got.GetLabels()["added"] != "true" || got.GetLabels()[ownLabel] != t.slug() {
					t.failf(a.Exchange, "after a strategic merge patch that adds a label, the labels are %v", got.GetLabels())
				}
			},
		},
		{
			ID:      "patch/conflict",
			Promise: "A patch that names an outdated resourceVersion is answered 409.",
			Source:  concurrency,
			Faults:  []int{7},
			Needs:   []Need{Writable, Verb("patch")},
			Run: func(ctx context.Context, t *T) {
				old := t.create(ctx)
				t.relabel(ctx, old, "writer", "first")
				a := t.patch(ctx, old, mergePatch, map[string]any{"metadata": map[string]any{
					"resourceVersion": old.GetResourceVersion(), "labels": map[string]any{"writer": "second"},
				}})
				t.status(t.want(a, http.StatusConflict))
			},
		},
	}
}

// patchChange changes the field that may be changed.
func (t *T) patchChange(ctx context.Context, media string) {
	change := t.subject.change
	if change.path == nil {
		return
	}
	o := t.create(ctx)
	want := change.value(1)
	a := t.want(t.patch(ctx, o, media, nested(change.path, want)), http.StatusOK)
	if got := change.get(t.parsed(a)); !equality.Semantic.DeepEqual(got, want) {
		t.failf(a.Exchange, "%s is %v after a patch to %v", change, got, want)
	}
}

func checkJSONPatch(ctx context.Context, t *T) {
	o := t.create(ctx)
	op := func(op, path string, value any) map[string]any {
		return map[string]any{"op": op, "path": path, "value": value}
	}
	label := "/metadata/labels/" + strings.ReplaceAll(ownLabel, "/", "~1")
	a := t.want(t.patch(ctx, o, jsonPatch, []any{
		op("test", label, t.slug()), op("add", "/metadata/labels/added", "false"), op("replace", "/metadata/labels/added", "true"),
	}), http.StatusOK)
	if got := t.parsed(a).GetLabels()["added"]; got != "true" {
		t.failf(a.Exchange, "after add and replace the label is %q, want \"true\"", got)
	}
	before := t.get(ctx, o)
	a = t.want(t.patch(ctx, o, jsonPatch, []any{
		op("test", label, "something else"), op("replace", "/metadata/labels/added", "wrong"),
	}), http.StatusUnprocessableEntity)
	t.status(a)
	if got := t.get(ctx, o); got.GetResourceVersion() != before.GetResourceVersion() {
		t.failf(a.Exchange, "a patch whose test does not hold changed the object")
	}
	t.status(t.want(t.patch(ctx, o, jsonPatch, map[string]any{"op": "add"}), http.StatusBadRequest))
}
