package e2e

import (
	"context"
	"errors"
	"net"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	aggregatorclient "k8s.io/kube-aggregator/pkg/client/clientset_generated/clientset"

	"github.com/annex-api/annex/examples/appview"
	appv1 "github.com/annex-api/annex/examples/appview/v1"
	"github.com/annex-api/annex/extension"
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
	c.serveApps(t, service)
	extensiontest.Conform(t, &extensiontest.Running{Config: c.admin}, conformance.Target{
		Resource: appv1.GroupVersion.WithResource("apps"),
		Second:   c.user(t, "ruby", "team:red"),
	}, "generation/*", "status/*", "scale/*", "versions/*", "apply/other-version", "namespace/deletion") // no controller empties namespaces
}

// serveApps serves and registers Apps until the test ends. They are available when it returns.
func (c *cluster) serveApps(t *testing.T, service types.NamespacedName) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	s, err := extension.New(ctx, extension.Config{
		Name: service.Name, Host: c.admin, Listener: listener, ShutdownDelay: -1,
		Register: &extension.Registration{Service: service, Port: int32(listener.Addr().(*net.TCPAddr).Port)},
	}, appview.Apps(appview.ConfigMaps))
	if err != nil {
		stop()
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("the server of Apps ended with an error: %v", err)
		}
	})
	client, err := aggregatorclient.NewForConfig(c.admin)
	if err != nil {
		t.Fatal(err)
	}
	name := appv1.GroupVersion.Version + "." + appv1.GroupVersion.Group
	eventually(t, name+" is not available", func(ctx context.Context) error {
		a, err := client.ApiregistrationV1().APIServices().Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, condition := range a.Status.Conditions {
			if condition.Type == apiregistrationv1.Available && condition.Status == apiregistrationv1.ConditionTrue {
				return nil
			}
		}
		return errors.New("it does not say so")
	})
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
