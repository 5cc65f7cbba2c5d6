package kubeapiserver

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/component-helpers/auth/rbac/validation"
)

func TestViewRoleIsReconciled(t *testing.T) {
	poor := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: viewRoleName}}
	kept := poor.DeepCopy()
	kept.Annotations = map[string]string{rbacv1.AutoUpdateAnnotationKey: "false"}
	for name, c := range map[string]struct {
		objects []runtime.Object
		whole   bool
	}{
		"missing":   {nil, true},
		"poor":      {[]runtime.Object{poor}, true},
		"protected": {[]runtime.Object{kept}, false},
	} {
		client := fake.NewClientset(c.objects...)
		newViewRole(client.RbacV1()).reconcile(t.Context())
		role, err := client.RbacV1().ClusterRoles().Get(t.Context(), viewRoleName, metav1.GetOptions{})
		if err != nil || (len(role.Rules) > 0) != c.whole || (role.Labels["rbac.authorization.k8s.io/aggregate-to-view"] == "true") != c.whole {
			t.Errorf("%s: %+v, %v", name, role, err)
		}
		page, err := client.RbacV1().ClusterRoles().Get(t.Context(), consoleRoleName, metav1.GetOptions{})
		if err != nil || len(page.Rules) != 1 || !slices.Contains(page.Rules[0].NonResourceURLs, "/console/*") || len(page.Labels) > 0 {
			t.Errorf("%s: the page's %+v, %v", name, page, err)
		}
		binding, err := client.RbacV1().ClusterRoleBindings().Get(t.Context(), consoleRoleName, metav1.GetOptions{})
		if err != nil || binding.RoleRef.Name != consoleRoleName || len(binding.Subjects) != 1 || binding.Subjects[0].Name != "system:authenticated" {
			t.Errorf("%s: the page's binding %+v, %v", name, binding, err)
		}
	}
}

// A namespace's owner by a Role may grant view there, as on kube-apiserver: nobody may grant what
// they do not have, and a Role can have every resource, and no path.
func TestOwnersOfNamespacesMayGrantView(t *testing.T) {
	owner := []rbacv1.PolicyRule{{APIGroups: []string{"*"}, Resources: []string{"*"}, Verbs: []string{"*"}}}
	if covered, missing := validation.Covers(owner, expectedView().Rules); !covered {
		t.Errorf("an owner lacks %v", missing)
	}
}

func TestViewRoleIsTriedAgain(t *testing.T) {
	client := fake.NewClientset()
	tries := 0
	client.PrependReactor("create", "clusterroles", func(clienttesting.Action) (bool, runtime.Object, error) {
		tries++
		return tries < 3, nil, errors.New("not yet")
	})
	(&viewRole{client: client.RbacV1(), retry: time.Millisecond, longest: time.Millisecond}).reconcile(t.Context())
	if _, err := client.RbacV1().ClusterRoles().Get(t.Context(), viewRoleName, metav1.GetOptions{}); err != nil || tries != 4 {
		t.Errorf("after %d tries of two roles, two of which fail: %v", tries, err)
	}
}

func TestViewRoleIsGivenUp(t *testing.T) {
	for name, failure := range map[string]error{
		"without RBAC":   apierrors.NewGenericServerResponse(404, "post", rbacv1.Resource("clusterroles"), "", "", 0, true),
		"at the end":     errors.New("not yet"),
		"without rights": apierrors.NewForbidden(rbacv1.Resource("clusterroles"), viewRoleName, nil),
	} {
		client := fake.NewClientset()
		ctx, cancel := context.WithCancel(t.Context())
		client.PrependReactor("create", "clusterroles", func(clienttesting.Action) (bool, runtime.Object, error) {
			if name != "without RBAC" {
				cancel()
			}
			return true, nil, failure
		})
		newViewRole(client.RbacV1()).reconcile(ctx) // it comes back
		cancel()
		if got := len(client.Actions()); got != 2 {
			t.Errorf("%s: %d requests, want one that reads and one that writes", name, got)
		}
	}
}
