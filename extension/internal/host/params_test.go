package host

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
)

func about(groups ...string) *admissionregistrationv1.MatchResources {
	return &admissionregistrationv1.MatchResources{ResourceRules: []admissionregistrationv1.NamedRuleWithOperations{{
		RuleWithOperations: admissionregistrationv1.RuleWithOperations{Rule: admissionregistrationv1.Rule{APIGroups: groups}},
	}}}
}

func validating(name, kind string, match *admissionregistrationv1.MatchResources) *admissionregistrationv1.ValidatingAdmissionPolicy {
	p := &admissionregistrationv1.ValidatingAdmissionPolicy{ObjectMeta: metav1.ObjectMeta{Name: name}}
	p.Spec.MatchConstraints = match
	if kind != "" {
		p.Spec.ParamKind = &admissionregistrationv1.ParamKind{APIVersion: "rules.example.com/v1", Kind: kind}
	}
	return p
}

// TestParametersOfPolicies: those that may be about this server, whose parameters the
// host serves.
func TestParametersOfPolicies(t *testing.T) {
	rights := widgets.Rights()
	served := hostWith(rights, nothing, nothing)
	v, err := Look(t.Context(), served, rights)
	if err != nil {
		t.Fatal(err)
	}
	mutating := &admissionregistrationv1.MutatingAdmissionPolicy{ObjectMeta: metav1.ObjectMeta{Name: "mutates"}}
	mutating.Spec.MatchConstraints = about("*")
	mutating.Spec.ParamKind = &admissionregistrationv1.ParamKind{APIVersion: "v1", Kind: "ConfigMap"}
	client := fake.NewClientset(
		validating("ours", "Limit", about("apps", "widgets.example.com")), validating("theirs", "Limit", about("apps")),
		validating("without", "", about("*")), validating("unserved", "Unknown", about("*")), mutating,
	)
	client.Resources = []*metav1.APIResourceList{
		{GroupVersion: "rules.example.com/v1", APIResources: []metav1.APIResource{{Name: "things/limit", Kind: "Limit"}, {Name: "limits", Kind: "Limit"}}},
		{GroupVersion: "v1", APIResources: []metav1.APIResource{{Name: "configmaps", Kind: "ConfigMap"}}},
	}
	got, err := Params(t.Context(), client, v, []string{"widgets.example.com"})
	if err != nil {
		t.Fatal(err)
	}
	verbs := []string{"get", "list", "watch"}
	want := []Right{
		{For: ValidatingPolicies, Group: "rules.example.com", Version: "v1", Resource: "limits", Verbs: verbs, Without: "policy ours cannot see its parameters, and does what its failurePolicy says"},
		{For: MutatingPolicies, Version: "v1", Resource: "configmaps", Verbs: verbs, Without: "policy mutates cannot see its parameters, and does what its failurePolicy says"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got: %s", diff)
	}
	if got, err := Params(t.Context(), client, Verdict{}, []string{"widgets.example.com"}); err != nil || len(got) != 0 {
		t.Errorf("with all policies off: %v, %v", got, err)
	}
}
