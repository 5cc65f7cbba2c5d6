package conformance

import (
	"context"
	"net/http"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func errorChecks() []Check {
	const source = conventions + "#response-status-kind"
	return []Check{
		{
			ID:      "get/not-found",
			Promise: "An object that is not there is answered 404, with a Status that names it.",
			Source:  source,
			Faults:  []int{7},
			Needs:   []Need{Verb("get")},
			Run: func(ctx context.Context, t *T) {
				name := t.name()
				a := t.do(ctx, request{method: http.MethodGet, path: t.subject.path(t.subject.namespace, name)})
				s := t.refused(a, http.StatusNotFound, metav1.StatusReasonNotFound)
				if s.Details == nil || s.Details.Name != name {
					t.failf(a.Exchange, "the details do not name %q", name)
				}
			},
		},
		{
			ID:      "create/exists",
			Promise: "An object that exists cannot be created again: 409 with reason AlreadyExists.",
			Source:  source,
			Faults:  []int{7},
			Needs:   []Need{Writable},
			Run: func(ctx context.Context, t *T) {
				o := t.object()
				t.createThis(ctx, o)
				t.refused(t.post(ctx, o), http.StatusConflict, metav1.StatusReasonAlreadyExists)
			},
		},
		{
			ID:      "errors/typed",
			Promise: "Every error is a Status: 405 or 400 for a method that does not fit, 400 BadRequest for what does not parse, 422 Invalid with causes for what is not valid, 404 NotFound for a write to what is not there.",
			Source:  source,
			Faults:  []int{7},
			Needs:   []Need{Writable},
			Run:     checkTypedErrors,
		},
	}
}

func checkTypedErrors(ctx context.Context, t *T) {
	collection := t.subject.path(t.subject.namespace, "")
	put := request{method: http.MethodPut, path: collection, body: body(t.object().Object)}
	// Custom resources answer 400, as the name is missing.
	t.status(t.want(t.do(ctx, put.with("Content-Type", jsonMedia)), http.StatusMethodNotAllowed, http.StatusBadRequest))

	broken := request{method: http.MethodPost, path: collection, body: []byte(`{"kind": `)}
	t.refused(t.do(ctx, broken.with("Content-Type", jsonMedia)), http.StatusBadRequest, metav1.StatusReasonBadRequest)

	invalid := t.object()
	invalid.SetLabels(map[string]string{ownLabel: "not a label value!"})
	a := t.post(ctx, invalid)
	s := t.refused(a, http.StatusUnprocessableEntity, metav1.StatusReasonInvalid)
	if s.Details == nil || len(s.Details.Causes) == 0 || s.Details.Causes[0].Field == "" {
		t.failf(a.Exchange, "the Status has no cause that names the field")
	}

	absent := t.object()
	gone := t.do(ctx, request{method: http.MethodDelete, path: t.path(absent)})
	t.refused(gone, http.StatusNotFound, metav1.StatusReasonNotFound)
}
