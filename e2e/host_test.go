package e2e

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	aggregatorclient "k8s.io/kube-aggregator/pkg/client/clientset_generated/clientset"

	"github.com/annex-api/annex/examples/bulletin"
	bulletinv1 "github.com/annex-api/annex/examples/bulletin/v1"
	"github.com/annex-api/annex/examples/widgets"
	widgetsv1 "github.com/annex-api/annex/examples/widgets/v1"
	"github.com/annex-api/annex/extension"
	"github.com/annex-api/annex/extension/extensiontest"
)

// TestHostForTests uses the host that users' own tests have: an annex that is installed, or
// one that runs already. Servers behind it get what only a host gives: its users and rights,
// its namespaces, its address. Nothing of them is left.
func TestHostForTests(t *testing.T) {
	longForm(t)
	t.Setenv(extensiontest.HostKubeconfig, "")
	t.Setenv(extensiontest.HostBinary, binary("annex"))
	t.Setenv("HOME", home)
	var folder string
	t.Run("started", func(t *testing.T) {
		host := extensiontest.StartHost(t)
		folder = filepath.Dir(host.Kubeconfig)
		running := host.Start(t, nil, widgets.Widgets)
		if running.Config.Host != host.Config.Host {
			t.Errorf("clients go to %s, not to the host %s", running.Config.Host, host.Config.Host)
		}
		widget := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": widgetsv1.GroupVersion.String(), "kind": "Widget",
			"metadata": map[string]any{"name": "one"}, "spec": map[string]any{"colour": "green"},
		}}
		create := func(config *rest.Config, namespace string) error {
			t.Helper()
			client, err := dynamic.NewForConfig(config)
			if err != nil {
				t.Fatal(err)
			}
			_, err = client.Resource(widgetsv1.GroupVersion.WithResource("widgets")).Namespace(namespace).Create(t.Context(), widget, metav1.CreateOptions{})
			return err
		}
		if err := create(running.Config, "default"); err != nil {
			t.Error(err)
		}
		if err := create(running.Config, "nowhere"); !apierrors.IsNotFound(err) {
			t.Errorf("in a namespace that the host does not have: %v", err)
		}
		nobody := rest.CopyConfig(running.Config)
		nobody.Impersonate = rest.ImpersonationConfig{UserName: "nobody"}
		if err := create(nobody, "default"); !apierrors.IsForbidden(err) {
			t.Errorf("by a user without rights: %v", err)
		}

		t.Run("running", func(t *testing.T) {
			t.Setenv(extensiontest.HostKubeconfig, host.Kubeconfig)
			t.Setenv(extensiontest.HostBinary, "/nowhere/annex")
			again := extensiontest.StartHost(t)
			if again.Config.Host != host.Config.Host {
				t.Errorf("the host is %s, not %s", again.Config.Host, host.Config.Host)
			}
			t.Run("server", func(t *testing.T) {
				started := ""
				second := again.Start(t, func(c *extension.Config) { started = c.Register.Service.Name }, bulletin.Notices)
				client, err := dynamic.NewForConfig(second.Config)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := client.Resource(bulletinv1.GroupVersion.WithResource("notices")).List(t.Context(), metav1.ListOptions{}); err != nil {
					t.Error(err)
				}
				if service := serviceOf(t, host.Config, bulletinv1.GroupVersion.Version+"."+bulletinv1.GroupVersion.Group); service != started {
					t.Errorf("the host has it from %q, not from %q", service, started)
				}
			})
			// The server has ended, and the host goes on.
			if service := serviceOf(t, host.Config, bulletinv1.GroupVersion.Version+"."+bulletinv1.GroupVersion.Group); service != "" {
				t.Errorf("its registration by %s is left", service)
			}
			kube, err := kubernetes.NewForConfig(host.Config)
			if err != nil {
				t.Fatal(err)
			}
			services, err := kube.CoreV1().Services("default").List(t.Context(), metav1.ListOptions{FieldSelector: "metadata.name!=kubernetes"})
			if err != nil || len(services.Items) != 1 {
				t.Errorf("its Service is left, or the other's is not there: %v, %v", services.Items, err)
			}
		})
	})
	if _, err := os.Stat(folder); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the host left its folder %s: %v", folder, err)
	}
}

// serviceOf names the Service that an APIService leads to; there may be none.
func serviceOf(t *testing.T, config *rest.Config, name string) string {
	t.Helper()
	client, err := aggregatorclient.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	a, err := client.ApiregistrationV1().APIServices().Get(t.Context(), name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return ""
	}
	if err != nil || a.Spec.Service == nil {
		t.Fatalf("APIService %s: %v, %v", name, a, err)
	}
	return a.Spec.Service.Name
}
