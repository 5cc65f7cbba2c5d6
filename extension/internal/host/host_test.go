package host

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

var widgets = Server{
	APIServices: []string{"v1.widgets.example.com", "v1beta1.widgets.example.com"}, Owner: "widgets",
	Secret: types.NamespacedName{Namespace: "team", Name: "widgets-serving"}, Lease: types.NamespacedName{Namespace: "team", Name: "widgets"}, Events: true,
}

// hostWith serves all that rights name but what without says, and allows all but what
// denied says.
func hostWith(rights []Right, without, denied func(group, resource, verb string) bool) *fake.Clientset {
	client := fake.NewClientset()
	lists := map[string]*metav1.APIResourceList{}
	for _, r := range rights {
		gv := r.Version
		if r.Group != "" {
			gv = r.Group + "/" + r.Version
		}
		if without(r.Group, r.Resource, "") {
			continue
		}
		if lists[gv] == nil {
			lists[gv] = &metav1.APIResourceList{GroupVersion: gv}
			client.Resources = append(client.Resources, lists[gv])
		}
		lists[gv].APIResources = append(lists[gv].APIResources, metav1.APIResource{Name: r.Resource})
	}
	client.PrependReactor("create", "selfsubjectaccessreviews", func(a clienttesting.Action) (bool, runtime.Object, error) {
		review := a.(clienttesting.CreateAction).GetObject().(*authorizationv1.SelfSubjectAccessReview).DeepCopy()
		attributes := review.Spec.ResourceAttributes
		resource := attributes.Resource
		if attributes.Subresource != "" {
			resource += "/" + attributes.Subresource
		}
		review.Status.Allowed = !denied(attributes.Group, resource, attributes.Verb)
		return true, review, nil
	})
	return client
}

func nothing(string, string, string) bool { return false }

func TestEverythingIsThere(t *testing.T) {
	rights := widgets.Rights()
	v, err := Look(t.Context(), hostWith(rights, nothing, nothing), rights)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []Feature{
		Authentication, Authorization, NamespaceLifecycle, Webhooks, ValidatingPolicies, MutatingPolicies,
		Fairness, Registration, SharedCertificate, LeaderElection, Events,
	} {
		if s := v.State(f); !s.On || !s.Served || s.Why != "" {
			t.Errorf("%s: %+v", f, s)
		}
	}
	if m := v.Missing(); len(m) != 0 {
		t.Errorf("missing: %v", m)
	}
}

func TestMissingRightIsNamed(t *testing.T) {
	for _, c := range []struct {
		group, resource, verb string
		off                   []Feature
		line                  string
	}{
		{
			"admissionregistration.k8s.io", "mutatingwebhookconfigurations", "watch",
			[]Feature{Webhooks},
			`this server may not watch mutatingwebhookconfigurations.admissionregistration.k8s.io, without this right there is no use of admission webhooks; ` +
				`add to a ClusterRole of this server: {"verbs":["watch"],"apiGroups":["admissionregistration.k8s.io"],"resources":["mutatingwebhookconfigurations"]}`,
		},
		{
			"", "namespaces", "list",
			[]Feature{NamespaceLifecycle, Webhooks, ValidatingPolicies, MutatingPolicies},
			`this server may not list namespaces, without this right there is no use of the refusal of objects in namespaces that are missing or going; ` +
				`add to a ClusterRole of this server: {"verbs":["list"],"apiGroups":[""],"resources":["namespaces"]}`,
		},
		{
			"flowcontrol.apiserver.k8s.io", "flowschemas/status", "patch", nil,
			`this server may not patch flowschemas/status.flowcontrol.apiserver.k8s.io, so this server does not say which FlowSchemas lead nowhere; ` +
				`add to a ClusterRole of this server: {"verbs":["patch"],"apiGroups":["flowcontrol.apiserver.k8s.io"],"resources":["flowschemas/status"]}`,
		},
		{
			"authorization.k8s.io", "subjectaccessreviews", "create",
			[]Feature{Authorization},
			`this server may not create subjectaccessreviews.authorization.k8s.io, without this right there is no use of delegated authorization; ` +
				`bind ClusterRole system:auth-delegator to this server, by a ClusterRoleBinding`,
		},
		{
			"", "configmaps", "get",
			[]Feature{Authentication},
			`this server may not get configmaps extension-apiserver-authentication in namespace kube-system, without this right there is no use of delegated authentication; ` +
				`bind Role extension-apiserver-authentication-reader of namespace kube-system to this server, by a RoleBinding there`,
		},
		{
			"", "secrets", "update",
			[]Feature{SharedCertificate},
			`this server may not update secrets widgets-serving in namespace team, without this right there is no use of a certificate shared by replicas; ` +
				`add to a Role of this server in namespace team: {"verbs":["update"],"apiGroups":[""],"resources":["secrets"],"resourceNames":["widgets-serving"]}`,
		},
	} {
		rights := widgets.Rights()
		v, err := Look(t.Context(), hostWith(rights, nothing, func(group, resource, verb string) bool {
			return group == c.group && resource == c.resource && verb == c.verb
		}), rights)
		if err != nil {
			t.Fatal(err)
		}
		var lines []string
		for _, m := range v.Missing() {
			lines = append(lines, m.String())
		}
		if diff := cmp.Diff([]string{c.line}, lines); diff != "" {
			t.Errorf("-want +got: %s", diff)
		}
		for _, r := range rights {
			s := v.State(r.For)
			if want := !slices.Contains(c.off, r.For); s.On != want || !s.Served || (s.Why == "") != want {
				t.Errorf("without %s %s: %s is %+v", c.verb, c.resource, r.For, s)
			}
		}
	}
}

// TestHostWithoutPolicies: what an older host does not serve is off, and no right is missing.
func TestHostWithoutPolicies(t *testing.T) {
	rights := widgets.Rights()
	v, err := Look(t.Context(), hostWith(rights, func(_, resource, _ string) bool {
		return strings.HasPrefix(resource, "mutatingadmissionpolic")
	}, func(_, resource, _ string) bool { return strings.HasPrefix(resource, "mutatingadmissionpolic") }), rights)
	if err != nil {
		t.Fatal(err)
	}
	if s := v.State(MutatingPolicies); s.On || s.Served || s.Why != "the host does not serve mutatingadmissionpolicies of admissionregistration.k8s.io/v1" &&
		s.Why != "the host does not serve mutatingadmissionpolicybindings of admissionregistration.k8s.io/v1" {
		t.Errorf("%+v", s)
	}
	if s := v.State(ValidatingPolicies); !s.On {
		t.Errorf("%+v", s)
	}
	if m := v.Missing(); len(m) != 0 {
		t.Errorf("missing: %v", m)
	}
}

func TestHostThatDoesNotAnswer(t *testing.T) {
	rights := widgets.Rights()
	for _, what := range []string{"selfsubjectaccessreviews", "resource"} {
		client := hostWith(rights, nothing, nothing)
		down := errors.New("connection refused")
		client.PrependReactor("*", what, func(clienttesting.Action) (bool, runtime.Object, error) { return true, nil, down })
		if _, err := Look(t.Context(), client, rights); !errors.Is(err, down) {
			t.Errorf("%s: got %v", what, err)
		}
	}
	if s := (Verdict{}).State(Webhooks); s.On || s.Served || s.Why == "" {
		t.Errorf("before the host was asked: %+v", s)
	}
}

// TestManifestGivesEveryRight: what it allows, and the host's own roles, is the list.
func TestManifestGivesEveryRight(t *testing.T) {
	rights := widgets.Rights()
	m := ManifestOf(rights)
	if diff := cmp.Diff([]Role{{Name: "system:auth-delegator"}, {Namespace: "kube-system", Name: "extension-apiserver-authentication-reader"}}, m.Bind); diff != "" {
		t.Errorf("-want +got: %s", diff)
	}
	allowed := map[string]bool{}
	for scope, rules := range map[string][]rbacv1.PolicyRule{"": m.ClusterRole, "team": m.Role} {
		for _, rule := range rules {
			for _, resource := range rule.Resources {
				for _, verb := range rule.Verbs {
					names := rule.ResourceNames
					if len(names) == 0 {
						names = []string{""}
					}
					for _, name := range names {
						allowed[fmt.Sprint(scope, rule.APIGroups, resource, name, verb)] = true
					}
				}
			}
		}
	}
	wanted := map[string]bool{}
	for _, r := range rights {
		if r.From == (Role{}) {
			for _, verb := range r.Verbs {
				wanted[fmt.Sprint(r.Namespace, []string{r.Group}, r.Resource, r.Name, verb)] = true
			}
		}
	}
	if diff := cmp.Diff(wanted, allowed); diff != "" {
		t.Errorf("-wanted +allowed: %s", diff)
	}
	for _, rule := range slices.Concat(m.ClusterRole, m.Role) {
		if slices.Contains(rule.Verbs, "*") || slices.Contains(rule.Resources, "*") || slices.Contains(rule.APIGroups, "*") {
			t.Errorf("a rule allows more than is needed: %v", rule)
		}
	}
	if n := len(m.ClusterRole) + len(m.Role); n > 14 {
		t.Errorf("%d rules: those that belong together are not merged", n)
	}
}
