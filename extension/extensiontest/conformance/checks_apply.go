package conformance

import (
	"context"
	"net/http"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

const applySource = "https://kubernetes.io/docs/reference/using-api/server-side-apply/"

func applyChecks() []Check {
	needs := []Need{Writable, Verb("patch")}
	return []Check{
		{
			ID:      "apply/create",
			Promise: "Server-side apply creates an object that is not there, and its managed fields name the manager.",
			Source:  applySource,
			Faults:  []int{8},
			Needs:   needs,
			Run: func(ctx context.Context, t *T) {
				o := t.object()
				t.willMake(o.GetNamespace(), o.GetName())
				a := t.want(t.applies(ctx, o, "kit"), http.StatusCreated)
				if got := t.parsed(a); !managedBy(got, "kit") {
					t.failf(a.Exchange, "metadata.managedFields does not name the manager kit with operation Apply")
				}
			},
		},
		{
			ID:      "apply/own",
			Promise: "A manager that applies again changes its own fields without a conflict.",
			Source:  applySource,
			Faults:  []int{8},
			Needs:   needs,
			Run: func(ctx context.Context, t *T) {
				o := t.create(ctx)
				t.want(t.applies(ctx, t.configuration(o, "owned", "a"), "kit"), http.StatusOK)
				a := t.want(t.applies(ctx, t.configuration(o, "owned", "b"), "kit"), http.StatusOK)
				if got := t.parsed(a).GetLabels()["owned"]; got != "b" {
					t.failf(a.Exchange, "the label is %q after an apply of \"b\"", got)
				}
			},
		},
		{
			ID:      "apply/conflict",
			Promise: "A manager that applies another value of a field of another manager's is answered 409 Conflict with a cause that names the field.",
			Source:  applySource + "#conflicts",
			Faults:  []int{8},
			Needs:   needs,
			Run: func(ctx context.Context, t *T) {
				o := t.create(ctx)
				t.want(t.applies(ctx, t.configuration(o, "owned", "a"), "kit"), http.StatusOK)
				a := t.applies(ctx, t.configuration(o, "owned", "b"), "other")
				s := t.refused(a, http.StatusConflict, metav1.StatusReasonConflict)
				if s.Details == nil || !slices.ContainsFunc(s.Details.Causes, func(c metav1.StatusCause) bool {
					return c.Type == metav1.CauseTypeFieldManagerConflict && strings.Contains(c.Field, "labels")
				}) {
					t.failf(a.Exchange, "no cause of type %s names the field", metav1.CauseTypeFieldManagerConflict)
				}
			},
		},
		{
			ID:      "apply/force",
			Promise: "With force a manager takes the field over.",
			Source:  applySource + "#conflicts",
			Faults:  []int{8},
			Needs:   needs,
			Run: func(ctx context.Context, t *T) {
				o := t.create(ctx)
				t.want(t.applies(ctx, t.configuration(o, "owned", "a"), "kit"), http.StatusOK)
				a := t.want(t.applies(ctx, t.configuration(o, "owned", "b"), "other", "force", "true"), http.StatusOK)
				if got := t.parsed(a).GetLabels()["owned"]; got != "b" {
					t.failf(a.Exchange, "the label is %q after a forced apply of \"b\"", got)
				}
				t.want(t.applies(ctx, t.configuration(o, "owned", "a"), "kit"), http.StatusConflict)
			},
		},
		{
			ID:      "apply/remove",
			Promise: "A field that its only manager no longer applies is removed; those of others stay.",
			Source:  applySource + "#field-management",
			Faults:  []int{8},
			Needs:   needs,
			Run: func(ctx context.Context, t *T) {
				o := t.create(ctx)
				t.want(t.applies(ctx, t.configuration(o, "owned", "a"), "kit"), http.StatusOK)
				t.want(t.applies(ctx, t.configuration(o, "others", "a"), "other"), http.StatusOK)
				a := t.want(t.applies(ctx, t.configuration(o), "kit"), http.StatusOK)
				labels := t.parsed(a).GetLabels()
				if _, ok := labels["owned"]; ok {
					t.failf(a.Exchange, "the label owned is still there though its only manager applied without it: %v", labels)
				}
				if labels["others"] != "a" || labels[ownLabel] != t.slug() {
					t.failf(a.Exchange, "labels of others are gone: %v", labels)
				}
			},
		},
		{
			ID:      "apply/other-version",
			Promise: "Apply works through each served version, and after an apply through another.",
			Source:  applySource + "#versions",
			Faults:  []int{8, 17},
			Needs:   append([]Need{SeveralVersions}, needs...),
			Run:     checkApplyVersions,
		},
	}
}

// configuration is an apply configuration of labels, as pairs.
func (t *T) configuration(o *unstructured.Unstructured, labels ...string) *unstructured.Unstructured {
	config := &unstructured.Unstructured{Object: map[string]any{}}
	config.SetAPIVersion(t.subject.GroupVersion().String())
	config.SetKind(t.subject.kind)
	config.SetName(o.GetName())
	config.SetNamespace(o.GetNamespace())
	set := map[string]string{}
	for i := 0; i+1 < len(labels); i += 2 {
		set[labels[i]] = labels[i+1]
	}
	if len(set) > 0 {
		config.SetLabels(set)
	}
	return config
}

// apply applies a configuration as a manager.
func (t *T) apply(ctx context.Context, config *unstructured.Unstructured, manager string, pairs ...string) answer {
	return t.patch(ctx, config, applyPatch, config.Object, append([]string{"fieldManager", manager}, pairs...)...)
}

// applies is apply that ends the check where the server knows no apply.
func (t *T) applies(ctx context.Context, config *unstructured.Unstructured, manager string, pairs ...string) answer {
	a := t.apply(ctx, config, manager, pairs...)
	if a.Code == http.StatusUnsupportedMediaType {
		t.status(a)
		t.notApplicable("the server does not know server-side apply: it is answered %s", code(a.Code))
	}
	return a
}

func managedBy(o *unstructured.Unstructured, manager string) bool {
	return slices.ContainsFunc(o.GetManagedFields(), func(m metav1.ManagedFieldsEntry) bool {
		return m.Manager == manager && m.Operation == metav1.ManagedFieldsOperationApply && m.FieldsV1 != nil
	})
}

func checkApplyVersions(ctx context.Context, t *T) {
	o := t.create(ctx)
	t.want(t.applies(ctx, t.configuration(o, "owned", "start"), "kit"), http.StatusOK)
	for _, version := range append(slices.Clone(t.subject.otherVersions), t.subject.Version) {
		config := t.configuration(o, "owned", version)
		gv := t.subject.GroupVersion()
		gv.Version = version
		config.SetAPIVersion(gv.String())
		r := t.patching(config, applyPatch, config.Object, "fieldManager", "kit")
		r.path = t.subject.pathIn(version, o.GetNamespace(), o.GetName())
		a := t.want(t.do(ctx, r), http.StatusOK)
		if got := t.parsed(a); got.GetLabels()["owned"] != version || got.GetAPIVersion() != gv.String() {
			t.failf(a.Exchange, "after an apply through %s the label is %q and the apiVersion %q", version, got.GetLabels()["owned"], got.GetAPIVersion())
		}
	}
	if got := t.get(ctx, o); !same(got, o) {
		t.failf(nil, "applies of a label through each version changed the object from %s to %s", body(content(o)), body(content(got)))
	}
}
