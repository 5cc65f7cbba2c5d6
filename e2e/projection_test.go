package e2e

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/annex-api/annex/examples/appview"
	appv1 "github.com/annex-api/annex/examples/appview/v1"
	"github.com/annex-api/annex/extension/extensiontest"
	"github.com/annex-api/annex/extension/extensiontest/conformance"
)

// TestProjectionOfConfigMaps: ConfigMaps of a kube-apiserver, shown as Apps by a server that
// is registered there, are what the conformance kit promises, for a user who may write them and
// for one who sees less.
func TestProjectionOfConfigMaps(t *testing.T) {
	longForm(t)
	c := startUp(t, shortTemp(t))
	service := types.NamespacedName{Namespace: "appview", Name: "apps"}
	c.allowReadingApps(t, "ruby")
	for _, err := range []error{
		create(t.Context(), c.kube.CoreV1().Namespaces().Create, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: service.Namespace}}),
		create(t.Context(), c.kube.CoreV1().Services(service.Namespace).Create, &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Name: service.Name},
			Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "localhost"},
		}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	c.serveExtension(t, service, "", appview.Apps(appview.ConfigMaps))
	c.awaitAvailable(t, appv1.GroupVersion)
	extensiontest.Conform(t, &extensiontest.Running{Config: c.admin}, conformance.Target{
		Resource: appv1.GroupVersion.WithResource("apps"),
		Second:   c.user(t, "ruby", "team:red"),
	}, "generation/*", "status/*", "scale/*", "versions/*", "apply/other-version", "namespace/deletion") // no controller empties namespaces
}

// allowReadingApps gives a user the right to read all Apps. What is shown of them is for the server to
// say.
func (c *cluster) allowReadingApps(t *testing.T, user string) {
	t.Helper()
	const role = "read-apps"
	rbac := c.kube.RbacV1()
	for _, err := range []error{
		create(t.Context(), rbac.ClusterRoles().Create, &rbacv1.ClusterRole{
			ObjectMeta: metav1.ObjectMeta{Name: role},
			Rules:      []rbacv1.PolicyRule{{APIGroups: []string{appv1.GroupVersion.Group}, Resources: []string{"apps"}, Verbs: []string{"get", "list", "watch"}}},
		}),
		create(t.Context(), rbac.ClusterRoleBindings().Create, &rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: role},
			Subjects:   []rbacv1.Subject{{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: user}},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
		}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
}
