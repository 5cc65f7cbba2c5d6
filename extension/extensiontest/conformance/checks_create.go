package conformance

import (
	"context"
	"net/http"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func createChecks() []Check {
	return []Check{
		{
			ID:      "create/server-fields",
			Promise: "The server sets uid, creationTimestamp, resourceVersion, and generation 1 where the kind has one; a uid, resourceVersion or status of the client's is ignored or refused.",
			Source:  conventions + "#metadata",
			Faults:  []int{15},
			Needs:   []Need{Writable},
			Run:     checkServerFields,
		},
		{
			ID:      "create/generate-name",
			Promise: "An object with generateName gets a name that begins with it, a new one each time.",
			Source:  concepts + "#generated-values",
			Faults:  []int{7},
			Needs:   []Need{Writable},
			Run:     checkGenerateName,
		},
		{
			ID:      "create/namespace-mismatch",
			Promise: "An object that names another namespace than the path is answered 400.",
			Source:  conventions + "#metadata",
			Faults:  []int{7},
			Needs:   []Need{Writable, Namespaced},
			Run: func(ctx context.Context, t *T) {
				o := t.object()
				o.SetNamespace(t.subject.other)
				t.willMake(t.subject.other, o.GetName())
				t.willMake(t.subject.namespace, o.GetName())
				r := request{method: http.MethodPost, path: t.subject.path(t.subject.namespace, ""), body: body(o.Object)}
				a := t.want(t.do(ctx, r.with("Content-Type", jsonMedia)), http.StatusBadRequest)
				t.status(a)
			},
		},
		{
			ID:      "create/internal-version",
			Promise: "The version __internal is none: an object of it is answered 400, and not stored.",
			Source:  "k8s.io/apimachinery/pkg/runtime/interfaces.go, APIVersionInternal",
			Faults:  []int{7},
			Needs:   []Need{Writable},
			Run: func(ctx context.Context, t *T) {
				o := t.object()
				version := "__internal"
				if t.subject.Group != "" {
					version = t.subject.Group + "/" + version
				}
				o.SetAPIVersion(version)
				t.status(t.want(t.post(ctx, o), http.StatusBadRequest))
				t.want(t.getAnswer(ctx, o), http.StatusNotFound)
			},
		},
	}
}

func checkServerFields(ctx context.Context, t *T) {
	const uid = "11111111-2222-3333-4444-555555555555"
	plain := t.object()
	a := t.want(t.post(ctx, plain), http.StatusCreated)
	o := t.parsed(a)
	if o.GetUID() == "" {
		t.failf(a.Exchange, "the new object has no uid")
	}
	if created := o.GetCreationTimestamp(); created.IsZero() {
		t.failf(a.Exchange, "the new object has no creationTimestamp")
	}
	if o.GetResourceVersion() == "" {
		t.failf(a.Exchange, "the new object has no resourceVersion")
	}
	if g := o.GetGeneration(); g > 1 {
		t.failf(a.Exchange, "the new object has generation %d, want 1", g)
	}
	named := t.object()
	named.SetUID(uid)
	a = t.post(ctx, named)
	if a.Code == http.StatusCreated {
		if t.parsed(a).GetUID() == uid {
			t.failf(a.Exchange, "the new object has the uid that its client made up")
		}
	} else {
		t.clientError(a)
	}
	versioned := t.object()
	versioned.SetResourceVersion("12345")
	a = t.post(ctx, versioned)
	if a.Code == http.StatusCreated {
		if t.parsed(a).GetResourceVersion() == "12345" {
			t.failf(a.Exchange, "the new object has the resourceVersion that its client made up")
		}
	} else if a.Code != http.StatusInternalServerError {
		t.clientError(a) // the reference answers some of these with 500
	}
	if !t.subject.subresources["status"] || t.subject.statusField.path == nil {
		return
	}
	withStatus := t.object()
	field := t.subject.statusField
	if err := field.set(withStatus, 1); err != nil {
		return
	}
	a = t.want(t.post(ctx, withStatus), http.StatusCreated)
	if got, sent := field.get(t.parsed(a)), field.get(withStatus); got == sent && got != field.get(o) {
		t.failf(a.Exchange, "the new object has %s=%v as its client sent it; status is for /status", field, got)
	}
}

// clientError fails unless the answer is a Status of the client's mistake.
func (t *T) clientError(a answer) {
	if a.Code/100 != 4 {
		t.failf(a.Exchange, "answered %s, want a 4xx", code(a.Code))
		return
	}
	t.status(a)
}

func checkGenerateName(ctx context.Context, t *T) {
	var names []string
	for range 2 {
		o := t.object()
		prefix := o.GetName() + "-"
		unstructured.RemoveNestedField(o.Object, "metadata", "name")
		o.SetGenerateName(prefix)
		a := t.want(t.post(ctx, o), http.StatusCreated)
		got := t.parsed(a)
		t.willMake(got.GetNamespace(), got.GetName())
		if !strings.HasPrefix(got.GetName(), prefix) || got.GetName() == prefix {
			t.failf(a.Exchange, "the name is %q, want one that begins with %q", got.GetName(), prefix)
		}
		names = append(names, got.GetName())
	}
	if names[0] == names[1] {
		t.failf(nil, "the same name was generated twice: %q", names[0])
	}
}
