package conformance

import (
	"context"
	"net/http"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func subresourceChecks() []Check {
	return []Check{
		{
			ID:      "status/isolated",
			Promise: "A write of the object does not change its status; a write of /status changes nothing else.",
			Source:  conventions + "#spec-and-status",
			Faults:  []int{15},
			Needs:   []Need{Writable, StatusSubresource, Changeable},
			Run:     checkStatusIsolated,
		},
		{
			ID:      "scale/get-put",
			Promise: "/scale is a Scale of autoscaling/v1: its replicas are read and written there, and shown by the object.",
			Source:  "https://kubernetes.io/docs/reference/kubernetes-api/autoscaling/scale-v1/",
			Needs:   []Need{Writable, ScaleSubresource},
			Run:     checkScale,
		},
	}
}

// writeStatus sets a field of the status through /status.
func (t *T) writeStatus(ctx context.Context, o *unstructured.Unstructured, i int) *unstructured.Unstructured {
	field := t.subject.statusField
	if field.path == nil {
		t.notApplicable("the schema names no field of the status that can be set")
	}
	o = o.DeepCopy()
	if field.get(o) == field.value(i) {
		i++
	}
	if err := field.set(o, i); err != nil {
		t.notApplicable("the field %s cannot be set: %v", field, err)
	}
	a := t.do(ctx, t.putting(o, "/status"))
	if a.Code == http.StatusUnprocessableEntity {
		t.notApplicable("the server does not take the status that was made up%s", saying(a.raw))
	}
	written := t.parsed(t.want(a, http.StatusOK))
	if !equality.Semantic.DeepEqual(field.get(written), field.get(o)) {
		t.failf(a.Exchange, "%s is %v after it was set to %v", field, field.get(written), field.get(o))
	}
	return written
}

func checkStatusIsolated(ctx context.Context, t *T) {
	o := t.writeStatus(ctx, t.create(ctx), 0)
	field, change := t.subject.statusField, t.subject.change
	statusBefore := field.get(o)

	main := o.DeepCopy()
	if err := field.set(main, 1); err != nil {
		t.notApplicable("the field %s cannot be set: %v", field, err)
	}
	if field.get(main) == statusBefore {
		_ = field.set(main, 2) // it could be set a moment ago
	}
	t.setChange(main, 1)
	a := t.want(t.put(ctx, main), http.StatusOK)
	after := t.parsed(a)
	if got := field.get(after); !equality.Semantic.DeepEqual(got, statusBefore) {
		t.failf(a.Exchange, "a PUT of the object changed %s from %v to %v", field, statusBefore, got)
	}
	if got := change.get(after); !equality.Semantic.DeepEqual(got, change.get(main)) {
		t.failf(a.Exchange, "a PUT of the object did not set %s to %v: it is %v", change, change.get(main), got)
	}

	status := after.DeepCopy()
	t.setChange(status, 0)
	status.SetLabels(map[string]string{ownLabel: t.slug(), "by": "status"})
	a = t.want(t.do(ctx, t.putting(status, "/status")), http.StatusOK)
	got := t.parsed(a)
	if !equality.Semantic.DeepEqual(change.get(got), change.get(after)) {
		t.failf(a.Exchange, "a PUT of /status changed %s from %v to %v", change, change.get(after), change.get(got))
	}
}

func checkScale(ctx context.Context, t *T) {
	sample := t.object()
	if t.subject.schema != nil && t.subject.document.property(t.subject.document.property(t.subject.schema, "spec"), "replicas") != nil {
		// Custom resources have no scale without it.
		_ = unstructured.SetNestedField(sample.Object, int64(1), "spec", "replicas") // spec is an object: its schema says so
	}
	o := t.createThis(ctx, sample)
	path := t.path(o) + "/scale"
	a := t.want(t.do(ctx, request{method: http.MethodGet, path: path}), http.StatusOK)
	scale := t.parsed(a)
	if scale.GetKind() != "Scale" || scale.GetAPIVersion() != "autoscaling/v1" || scale.GetName() != o.GetName() {
		t.failf(a.Exchange, "it is %s %q of %s, want Scale %q of autoscaling/v1", scale.GetKind(), scale.GetName(), scale.GetAPIVersion(), o.GetName())
	}
	before, _, _ := unstructured.NestedInt64(scale.Object, "spec", "replicas") // 0 where it is left out
	want := before + 2
	if err := unstructured.SetNestedField(scale.Object, want, "spec", "replicas"); err != nil {
		t.fatalf(a.Exchange, "the scale's spec is no object: %v", err)
	}
	put := request{method: http.MethodPut, path: path, body: body(scale.Object)}
	a = t.want(t.do(ctx, put.with("Content-Type", jsonMedia)), http.StatusOK)
	got, _, _ := unstructured.NestedInt64(t.parsed(a).Object, "spec", "replicas") // 0 is not what we want
	if got != want {
		t.failf(a.Exchange, "replicas are %d after they were set to %d", got, want)
	}
	if read := t.get(ctx, o); read.GetResourceVersion() == o.GetResourceVersion() {
		t.failf(a.Exchange, "the object did not change with its scale")
	}
	scale.SetResourceVersion(o.GetResourceVersion())
	put.body = body(scale.Object)
	t.status(t.want(t.do(ctx, put.with("Content-Type", jsonMedia)), http.StatusConflict))
}
