package conformance

import (
	"context"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func generationChecks() []Check {
	const source = conventions + "#metadata"
	return []Check{
		{
			ID:      "generation/spec",
			Promise: "metadata.generation grows by one with each change of the spec.",
			Source:  source,
			Faults:  []int{15},
			Needs:   []Need{Writable, Changeable},
			Run: func(ctx context.Context, t *T) {
				o := t.generational(ctx)
				for i := range 2 {
					changed := t.changeTo(ctx, o, i+1)
					if changed.GetGeneration() != o.GetGeneration()+1 {
						t.failf(nil, "a change of %s to %v gave generation %d after %d", t.subject.change, t.subject.change.value(i+1), changed.GetGeneration(), o.GetGeneration())
					}
					o = changed
				}
			},
		},
		{
			ID:      "generation/labels",
			Promise: "metadata.generation stays when labels, annotations or finalizers change.",
			Source:  source,
			Faults:  []int{15},
			Needs:   []Need{Writable},
			Run: func(ctx context.Context, t *T) {
				o := t.generational(ctx)
				stays := func(what string, change func(*unstructured.Unstructured)) {
					next := o.DeepCopy()
					change(next)
					next = t.update(ctx, next)
					if next.GetGeneration() != o.GetGeneration() {
						t.failf(nil, "a change of %s gave generation %d after %d", what, next.GetGeneration(), o.GetGeneration())
					}
					o = next
				}
				stays("labels", func(o *unstructured.Unstructured) { o.SetLabels(map[string]string{ownLabel: t.slug(), "more": "true"}) })
				stays("annotations", func(o *unstructured.Unstructured) { o.SetAnnotations(map[string]string{roundAnnotation: "1"}) })
				stays("finalizers", func(o *unstructured.Unstructured) { o.SetFinalizers([]string{holdFinalizer}) })
				stays("finalizers", func(o *unstructured.Unstructured) { o.SetFinalizers(nil) })
			},
		},
		{
			ID:      "generation/status",
			Promise: "metadata.generation stays when the status changes.",
			Source:  source,
			Faults:  []int{15},
			Needs:   []Need{Writable, StatusSubresource},
			Run: func(ctx context.Context, t *T) {
				o := t.generational(ctx)
				written := t.writeStatus(ctx, o, 1)
				if written.GetGeneration() != o.GetGeneration() {
					t.failf(nil, "a write of the status gave generation %d after %d", written.GetGeneration(), o.GetGeneration())
				}
			},
		},
	}
}

// generational is a new object of a kind that counts generations.
func (t *T) generational(ctx context.Context) *unstructured.Unstructured {
	o := t.create(ctx)
	if o.GetGeneration() == 0 {
		t.notApplicable("the kind keeps no generation")
	}
	return o
}
