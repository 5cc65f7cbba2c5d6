package conformance

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

const namespaces = "/api/v1/namespaces"

// removeLimit bounds the removal of the kit's namespaces.
const removeLimit = 90 * time.Second

// makeNamespaces gives those that it has made, or may have.
func (r *runner) makeNamespaces(ctx context.Context) ([]string, error) {
	var made []string
	for _, name := range r.subject.namespaces() {
		mine, err := makeNamespace(ctx, r.admin, name)
		if mine {
			made = append(made, name)
		}
		if err != nil {
			return made, err
		}
	}
	return made, nil
}

// servesNamespaces says whether there are namespaces to make. An extension server that is asked without
// an API server in front has none, and takes objects in any.
func servesNamespaces(ctx context.Context, c *client) (bool, error) {
	a, err := try(ctx, c, request{method: http.MethodGet, path: "/api/v1"})
	if err != nil {
		return false, fmt.Errorf("ask for the kinds of the API server: %w", err)
	}
	return a.Code != http.StatusNotFound, nil
}

// namespaces are the kit's own.
func (s *subject) namespaces() []string {
	if !s.namespaced || s.noNamespaces {
		return nil
	}
	return []string{s.namespace, s.other}
}

// makeNamespace says whether there is a new namespace, or may be: where no answer came.
func makeNamespace(ctx context.Context, c *client, name string) (bool, error) {
	o := map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": name, "labels": map[string]any{ownLabel: "true"}}}
	r := request{method: http.MethodPost, path: namespaces, body: body(o)}
	a, err := try(ctx, c, r.with("Content-Type", "application/json"))
	if err != nil {
		return true, fmt.Errorf("create namespace %s: %w", name, err)
	}
	if a.Code != http.StatusCreated {
		return false, fmt.Errorf("create namespace %s: %s%s", name, code(a.Code), saying(a.raw))
	}
	return true, nil
}

// removeNamespaces removes the kit's namespaces and says what is left.
func (r *runner) removeNamespaces(ctx context.Context, names []string) []string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeLimit)
	defer cancel()
	var left []string
	for _, name := range names {
		// They end side by side; an error shows again below.
		_, _ = try(ctx, r.admin, request{method: http.MethodDelete, path: namespaces + "/" + name})
	}
	for _, name := range slices.Backward(names) {
		if err := removeNamespace(ctx, r.admin, name); err != nil {
			left = append(left, fmt.Sprintf("namespace %s: %v", name, err))
		}
	}
	return left
}

// removeNamespace deletes a namespace and waits until it is gone. Where nobody finalizes namespaces, as
// no controller manager runs, it does so itself.
func removeNamespace(ctx context.Context, c *client, name string) error {
	path := namespaces + "/" + name
	a, err := try(ctx, c, request{method: http.MethodDelete, path: path})
	if err != nil {
		return err
	}
	if a.Code != http.StatusOK && a.Code != http.StatusAccepted && a.Code != http.StatusNotFound && a.Code != http.StatusConflict {
		return fmt.Errorf("delete: %s%s", code(a.Code), saying(a.raw))
	}
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		a, err := try(ctx, c, request{method: http.MethodGet, path: path})
		if err != nil {
			return err
		}
		if a.Code == http.StatusNotFound {
			return nil
		}
		o, err := parse(a.raw)
		if err != nil {
			return fmt.Errorf("read it: %w", err)
		}
		if !controlled(ctx, c, name) {
			if err := finalize(ctx, c, o); err != nil {
				return err
			}
		}
		if !pause(ctx, wait) {
			return fmt.Errorf("still there: %w", ctx.Err())
		}
	}
}

// controlled says whether a controller manager looks after a namespace: it makes the service account
// "default" in every one, and the namespace controller runs beside it.
func controlled(ctx context.Context, c *client, namespace string) bool {
	a, err := try(ctx, c, request{method: http.MethodGet, path: namespaces + "/" + namespace + "/serviceaccounts"})
	if err != nil || a.Code != http.StatusOK {
		return true // we do not know
	}
	o, err := parse(a.raw)
	if err != nil {
		return true
	}
	items, _, _ := unstructured.NestedSlice(o.Object, "items") // none where it is no list
	if len(items) > 0 {
		return true
	}
	return leaseHeld(ctx, c)
}

// leaseHeld says whether a controller manager has renewed its lease of late.
func leaseHeld(ctx context.Context, c *client) bool {
	a, err := try(ctx, c, request{method: http.MethodGet, path: "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/kube-controller-manager"})
	if err != nil || a.Code != http.StatusOK {
		return err != nil || a.Code != http.StatusNotFound
	}
	o, err := parse(a.raw)
	if err != nil {
		return true
	}
	text, _, _ := unstructured.NestedString(o.Object, "spec", "renewTime") // "" does not parse
	renewed, err := time.Parse(time.RFC3339Nano, text)
	return err != nil || time.Since(renewed) < time.Minute
}

// finalize does what the namespace controller would do with an empty namespace.
func finalize(ctx context.Context, c *client, o *unstructured.Unstructured) error {
	o = o.DeepCopy()
	if o.GetDeletionTimestamp() == nil {
		return nil
	}
	if err := unstructured.SetNestedSlice(o.Object, []any{}, "spec", "finalizers"); err != nil {
		return err
	}
	r := request{method: http.MethodPut, path: namespaces + "/" + o.GetName() + "/finalize", body: body(o.Object)}
	a, err := try(ctx, c, r.with("Content-Type", "application/json"))
	if err != nil {
		return err
	}
	if a.Code != http.StatusOK && a.Code != http.StatusNotFound && a.Code != http.StatusConflict {
		return fmt.Errorf("finalize: %s%s", code(a.Code), saying(a.raw))
	}
	return nil
}
