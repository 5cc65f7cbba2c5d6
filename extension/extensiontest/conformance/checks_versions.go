package conformance

import (
	"context"
	"net/http"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func versionChecks() []Check {
	const source = "https://github.com/kubernetes/community/blob/master/contributors/devel/sig-architecture/api_changes.md#on-compatibility"
	return []Check{
		{
			ID:      "versions/round-trip",
			Promise: "What is written through one version, and written again as another version shows it, is the same: nothing is lost.",
			Source:  source,
			Faults:  []int{17},
			Needs:   []Need{Writable, SeveralVersions},
			Run:     checkRoundTrip,
		},
		{
			ID:      "versions/hub-only-field",
			Promise: "A field that an older version cannot show survives an update through that version.",
			Source:  source,
			Faults:  []int{17},
			Needs:   []Need{Writable, SeveralVersions},
			Run:     checkHubOnlyField,
		},
	}
}

// through reads an object as a version shows it.
func (t *T) through(ctx context.Context, version string, o *unstructured.Unstructured) *unstructured.Unstructured {
	a := t.want(t.do(ctx, request{method: http.MethodGet, path: t.subject.pathIn(version, o.GetNamespace(), o.GetName())}), http.StatusOK)
	got := t.parsed(a)
	gv := t.subject.GroupVersion()
	gv.Version = version
	if got.GetAPIVersion() != gv.String() {
		t.failf(a.Exchange, "the apiVersion is %q, want %q", got.GetAPIVersion(), gv)
	}
	return got
}

// writeThrough sends an object through the version that it is of.
func (t *T) writeThrough(ctx context.Context, method, version string, o *unstructured.Unstructured, want ...int) answer {
	t.willMake(o.GetNamespace(), o.GetName())
	name := o.GetName()
	if method == http.MethodPost {
		name = ""
	}
	r := request{method: method, path: t.subject.pathIn(version, o.GetNamespace(), name), body: body(o.Object)}
	return t.want(t.do(ctx, r.with("Content-Type", jsonMedia)), want...)
}

func checkRoundTrip(ctx context.Context, t *T) {
	original := t.createFull(ctx)
	for _, version := range t.subject.otherVersions {
		shown := t.through(ctx, version, original)
		twin := shown.DeepCopy()
		unstructured.RemoveNestedField(twin.Object, "metadata")
		unstructured.RemoveNestedField(twin.Object, "status")
		twin.SetName(t.name())
		twin.SetNamespace(original.GetNamespace())
		a := t.writeThrough(ctx, http.MethodPost, version, twin, http.StatusCreated, http.StatusUnprocessableEntity)
		if a.Code == http.StatusUnprocessableEntity && t.target.Sample == nil {
			t.notApplicable("%s does not take the values that were made up for %s; give a sample%s", version, t.subject.Version, saying(a.raw))
		}
		t.want(a, http.StatusCreated)
		if got := t.parsed(a); !same(got, shown) {
			t.failf(a.Exchange, "%s gave back %s for %s", version, body(content(got)), body(content(shown)))
		}
		// What the twin shows in the other version is what the original shows there.
		first := t.through(ctx, t.subject.Version, twin)
		if again := t.through(ctx, version, first); !same(again, shown) {
			t.failf(a.Exchange, "written and read through %s it was %s, and is %s", version, body(content(shown)), body(content(again)))
		}
	}
	if got := t.get(ctx, original); !same(got, original) {
		t.failf(nil, "reading through other versions changed the object from %s to %s", body(content(original)), body(content(got)))
	}
}

func checkHubOnlyField(ctx context.Context, t *T) {
	original := t.createFull(ctx)
	for _, version := range t.subject.otherVersions {
		shown := t.through(ctx, version, original)
		shown.SetAnnotations(map[string]string{"annex-conformance/through": version})
		a := t.writeThrough(ctx, http.MethodPut, version, shown, http.StatusOK)
		if got := t.get(ctx, original); !same(got, original) {
			t.fatalf(a.Exchange, "an update through %s, which changed an annotation alone, made %s of %s: fields were lost", version, body(content(got)), body(content(original)))
		}
	}
}

// createFull makes an object with the plain optional fields of the schema too, or without them where the
// server does not take them together.
func (t *T) createFull(ctx context.Context) *unstructured.Unstructured {
	a := t.post(ctx, t.full())
	if a.Code == http.StatusCreated {
		return t.parsed(a)
	}
	return t.create(ctx)
}

func (t *T) full() *unstructured.Unstructured {
	o := t.object()
	s := t.subject
	if s.schema == nil || t.target.Sample != nil {
		return o
	}
	spec := s.document.property(s.schema, "spec")
	values, ok := o.Object["spec"].(map[string]any)
	if spec == nil || !ok {
		return o
	}
	_, names := s.document.properties(spec)
	for _, name := range names {
		if values[name] != nil {
			continue
		}
		node := s.document.property(spec, name)
		if field, ok := leaf(node, []string{"spec", name}); ok {
			values[name] = field.value(1)
		}
	}
	return o
}
