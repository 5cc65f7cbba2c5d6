package host

import (
	"context"
	"fmt"
	"slices"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	admissionclient "k8s.io/client-go/kubernetes/typed/admissionregistration/v1"
)

// PolicyClient is what is asked for policies: that of a host.
type PolicyClient interface {
	Discovery() discovery.DiscoveryInterfaces
	AdmissionregistrationV1() admissionclient.AdmissionregistrationV1Interface
}

// Params gives the rights to see the parameters of those admission policies that may be
// about the groups of a server, as the host has them now: no list can have them. Look
// says which of them this server does not have. Policies that are off have none.
func Params(ctx context.Context, client PolicyClient, v Verdict, groups []string) ([]Right, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	var found []params
	if v.State(ValidatingPolicies).On {
		list, err := client.AdmissionregistrationV1().ValidatingAdmissionPolicies().List(ctx, metav1.ListOptions{})
		if err != nil {
			return nil, fmt.Errorf("list the host's validating admission policies: %w", err)
		}
		for _, p := range list.Items {
			found = append(found, params{ValidatingPolicies, p.Name, p.Spec.ParamKind, p.Spec.MatchConstraints})
		}
	}
	if v.State(MutatingPolicies).On {
		list, err := client.AdmissionregistrationV1().MutatingAdmissionPolicies().List(ctx, metav1.ListOptions{})
		if err != nil {
			return nil, fmt.Errorf("list the host's mutating admission policies: %w", err)
		}
		for _, p := range list.Items {
			found = append(found, params{MutatingPolicies, p.Name, p.Spec.ParamKind, p.Spec.MatchConstraints})
		}
	}
	var rights []Right
	for _, p := range found {
		if p.kind == nil || !p.concerns(groups) {
			continue
		}
		gvr, err := resourceOf(ctx, client.Discovery(), p.kind)
		if err != nil {
			return nil, fmt.Errorf("the parameters of policy %s: %w", p.policy, err)
		}
		if gvr.Resource != "" {
			rights = append(rights, Right{
				For: p.feature, Group: gvr.Group, Version: gvr.Version, Resource: gvr.Resource, Verbs: []string{"get", "list", "watch"},
				Without: fmt.Sprintf("policy %s cannot see its parameters, and does what its failurePolicy says", p.policy),
			})
		}
	}
	return rights, nil
}

// params are what a policy says of its parameters.
type params struct {
	feature Feature
	policy  string
	kind    *admissionregistrationv1.ParamKind
	match   *admissionregistrationv1.MatchResources
}

// concerns says whether the policy may be about one of the groups.
func (p params) concerns(groups []string) bool {
	if p.match == nil {
		return false
	}
	for _, rule := range p.match.ResourceRules {
		for _, group := range rule.APIGroups {
			if group == "*" || slices.Contains(groups, group) {
				return true
			}
		}
	}
	return false
}

// resourceOf gives the resource of a kind; none if the host does not serve it.
func resourceOf(ctx context.Context, client discovery.ServerResourcesInterfaceWithContext, kind *admissionregistrationv1.ParamKind) (schema.GroupVersionResource, error) {
	gv, err := schema.ParseGroupVersion(kind.APIVersion)
	if err != nil {
		return schema.GroupVersionResource{}, fmt.Errorf("apiVersion %q: %w", kind.APIVersion, err)
	}
	list, err := client.ServerResourcesForGroupVersionWithContext(ctx, gv.String())
	if apierrors.IsNotFound(err) {
		return schema.GroupVersionResource{}, nil
	}
	if err != nil {
		return schema.GroupVersionResource{}, fmt.Errorf("ask the host what it serves of %s: %w", gv, err)
	}
	for _, r := range list.APIResources {
		// A subresource may have the kind of another resource.
		if r.Kind == kind.Kind && !slices.Contains([]byte(r.Name), '/') {
			return gv.WithResource(r.Name), nil
		}
	}
	return schema.GroupVersionResource{}, nil
}
