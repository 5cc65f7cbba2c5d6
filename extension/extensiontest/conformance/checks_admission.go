package conformance

import (
	"context"
	"fmt"
	"net/http"
	"time"
)

func admissionChecks() []Check {
	return []Check{{
		ID:      "admission/policy",
		Promise: "A ValidatingAdmissionPolicy of the API server that denies a create is obeyed.",
		Source:  "https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/",
		Faults:  []int{9},
		Needs:   []Need{Writable, Namespaces},
		Run:     checkPolicy,
	}}
}

const (
	policies = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"
	bindings = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings"
	// deniedLabel marks what the policy denies; nothing else of anybody's has it.
	deniedLabel = "annex-conformance-denied"
	// policyLimit is how long a server may take to hear of a policy.
	policyLimit = 15 * time.Second
)

func checkPolicy(ctx context.Context, t *T) {
	s := t.subject
	rule := map[string]any{"apiGroups": []any{s.Group}, "apiVersions": []any{s.Version}, "resources": []any{s.Resource}, "operations": []any{"CREATE"}}
	t.make(ctx, policies, map[string]any{
		"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
		"metadata": map[string]any{"name": s.prefix},
		"spec": map[string]any{
			"failurePolicy":    "Fail",
			"matchConstraints": map[string]any{"resourceRules": []any{rule}, "objectSelector": map[string]any{"matchLabels": map[string]any{deniedLabel: s.prefix}}},
			"validations":      []any{map[string]any{"expression": "false", "message": "denied by the conformance kit"}},
		},
	})
	t.make(ctx, bindings, map[string]any{
		"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
		"metadata": map[string]any{"name": s.prefix},
		"spec":     map[string]any{"policyName": s.prefix, "validationActions": []any{"Deny"}},
	})
	t.eventually(ctx, policyLimit, func() (*Exchange, string) {
		a := t.post(ctx, t.labelled(deniedLabel, s.prefix), "dryRun", "All")
		switch a.Code {
		case http.StatusForbidden, http.StatusUnprocessableEntity:
			t.status(a)
			return nil, ""
		}
		return a.Exchange, fmt.Sprintf("a create that a ValidatingAdmissionPolicy denies is answered %s, want 422 or 403", code(a.Code))
	})
}

// make creates an object beside the resource that is checked, and removes it after the check.
func (t *T) make(ctx context.Context, path string, o map[string]any) {
	name, _ := o["metadata"].(map[string]any)["name"].(string)
	r := request{method: http.MethodPost, path: path, body: body(o)}
	t.mu.Lock()
	t.undo = append(t.undo, func(ctx context.Context) error {
		a, err := try(ctx, t.admin, request{method: http.MethodDelete, path: path + "/" + name})
		if err == nil && a.Code/100 != 2 && a.Code != http.StatusNotFound && a.Code != http.StatusForbidden {
			err = fmt.Errorf("answered %s", code(a.Code))
		}
		if err != nil {
			return fmt.Errorf("delete %s/%s: %w", path, name, err)
		}
		return nil
	})
	t.mu.Unlock()
	a := t.do(ctx, r.with("Content-Type", jsonMedia))
	switch a.Code {
	case http.StatusCreated:
	case http.StatusNotFound:
		t.notApplicable("the API server does not serve %s", path)
	case http.StatusForbidden:
		t.notApplicable("the user may not create %s", path)
	default:
		t.want(a, http.StatusCreated)
	}
}
