package kubeapiserver_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiextensionsclient "k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	"k8s.io/kube-aggregator/pkg/client/clientset_generated/clientset"

	test "github.com/annex-api/annex/kubeapiserver/kubeapiservertest"
)

// warnings collects what the server warns a client of.
type warnings struct {
	mu   sync.Mutex
	text []string
}

func (w *warnings) HandleWarningHeader(_ int, _, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text = append(w.text, text)
}

func (w *warnings) contains(want string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, text := range w.text {
		if strings.Contains(text, want) {
			return true
		}
	}
	return false
}

func warned(t *testing.T) (*warnings, clientset.Interface) {
	t.Helper()
	w := &warnings{}
	config := rest.CopyConfig(server.Config(test.Admin))
	config.WarningHandler = w
	client, err := clientset.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return w, client
}

func awaitTakeoverEvent(t *testing.T, name, message string) {
	t.Helper()
	test.Eventually(t, func() string {
		list, err := server.Kube(t).CoreV1().Events("default").List(t.Context(), metav1.ListOptions{})
		if err != nil {
			return err.Error()
		}
		for _, e := range list.Items {
			if e.InvolvedObject.Kind == "APIService" && e.InvolvedObject.Name == name && e.Type == "Warning" && e.Message == message {
				return ""
			}
		}
		return "no Event on " + name
	})
}

// defineGizmos makes a CustomResourceDefinition of gizmos in a group until the
// test ends, and waits until it is served.
func defineGizmos(t *testing.T, group string) {
	t.Helper()
	client, err := apiextensionsclient.NewForConfig(server.Config(test.Admin))
	if err != nil {
		t.Fatal(err)
	}
	preserve := true
	crd := &apiextensionsv1.CustomResourceDefinition{
		ObjectMeta: metav1.ObjectMeta{Name: "gizmos." + group},
		Spec: apiextensionsv1.CustomResourceDefinitionSpec{
			Group: group, Scope: apiextensionsv1.NamespaceScoped,
			Names: apiextensionsv1.CustomResourceDefinitionNames{Plural: "gizmos", Singular: "gizmo", Kind: "Gizmo", ListKind: "GizmoList"},
			Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{
				Name: "v1", Served: true, Storage: true,
				Schema: &apiextensionsv1.CustomResourceValidation{
					OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{Type: "object", XPreserveUnknownFields: &preserve},
				},
			}},
		},
	}
	crds := client.ApiextensionsV1().CustomResourceDefinitions()
	if _, err := crds.Create(t.Context(), crd, metav1.CreateOptions{}); err != nil {
		t.Fatalf("creating the CustomResourceDefinition: %v", err)
	}
	t.Cleanup(func() {
		if err := crds.Delete(context.Background(), crd.Name, metav1.DeleteOptions{}); err != nil {
			t.Errorf("deleting the CustomResourceDefinition: %v", err)
		}
	})
	test.Eventually(t, func() string {
		got, err := crds.Get(t.Context(), crd.Name, metav1.GetOptions{})
		if err != nil {
			return err.Error()
		}
		for _, c := range got.Status.Conditions {
			if c.Type == apiextensionsv1.Established && c.Status == apiextensionsv1.ConditionTrue {
				return ""
			}
		}
		return "the CustomResourceDefinition is not established"
	})
}

// Threat takeover: an APIService over a group version that this server serves
// itself takes all its requests, Secrets or not, away.
func TestAttackTakeoverOfBuiltInGroupVersion(t *testing.T) {
	v1 := gv("scheduling.k8s.io", "v1")
	e := test.NewExtension(t, "takeover-builtin", v1)
	server.Expose(t, e.Name, "localhost")
	w, client := warned(t)
	takeover := test.Registration(v1, e)
	apiServices := client.ApiregistrationV1().APIServices()
	stored, err := apiServices.Get(t.Context(), takeover.Name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	local := stored.DeepCopy()
	message := fmt.Sprintf("APIService %s takes over the built-in API %s: requests for it go to service/%s in %q from now on",
		takeover.Name, v1, e.Name, "default")
	t.Cleanup(func() {
		server.UpdateRegistration(t, takeover.Name, func(a *apiregistrationv1.APIService) { a.Labels, a.Spec = local.Labels, local.Spec })
		test.Eventually(t, func() string {
			if a := server.Get(t, test.Admin, "/apis/scheduling.k8s.io/v1/priorityclasses"); a.Code != http.StatusOK || !strings.Contains(a.Body, "PriorityClassList") {
				return fmt.Sprintf("the built-in API does not come back: %d %s", a.Code, a.Body)
			}
			return ""
		})
	})
	test.Eventually(t, func() string {
		stored, err := apiServices.Get(t.Context(), takeover.Name, metav1.GetOptions{})
		if err != nil {
			return err.Error()
		}
		stored.Labels, stored.Spec = nil, takeover.Spec
		if _, err := apiServices.Update(t.Context(), stored, metav1.UpdateOptions{}); err != nil {
			return err.Error()
		}
		return ""
	})
	if !w.contains(message) {
		t.Errorf("whoever wrote it was warned of %q, want %q", w.text, message)
	}
	awaitTakeoverEvent(t, takeover.Name, message)
}

func TestAttackTakeoverOfCustomResource(t *testing.T) {
	v1 := gv("takeover.attack", "v1")
	e := test.NewExtension(t, "takeover-crd", v1)
	server.Expose(t, e.Name, "localhost")
	server.CreateRegistration(t, test.Registration(v1, e))
	defineGizmos(t, v1.Group)
	server.Unregister(t, "v1."+v1.Group)
	test.Eventually(t, func() string {
		if a := server.Get(t, test.Admin, "/apis/"+v1.String()); !strings.Contains(a.Body, "gizmos") {
			return "the custom resource is not served"
		}
		return ""
	})
	message := fmt.Sprintf("APIService v1.%s takes over the CustomResourceDefinition gizmos.%s: requests for it go to service/%s in %q from now on",
		v1.Group, v1.Group, e.Name, "default")
	w, client := warned(t)
	test.Eventually(t, func() string {
		stored, err := client.ApiregistrationV1().APIServices().Get(t.Context(), "v1."+v1.Group, metav1.GetOptions{})
		if err != nil {
			return err.Error() // made for the custom resource, soon
		}
		stored.Labels, stored.Spec = nil, test.Registration(v1, e).Spec
		if _, err := client.ApiregistrationV1().APIServices().Update(t.Context(), stored, metav1.UpdateOptions{}); err != nil {
			return err.Error()
		}
		return ""
	})
	if !w.contains(message) {
		t.Errorf("whoever wrote it was warned of %q, want %q", w.text, message)
	}
	awaitTakeoverEvent(t, "v1."+v1.Group, message)
	server.AwaitAvailable(t, v1)
}

// What takes over nothing is no reason to warn.
func TestRegistrationOfFreeGroupVersionWarnsNobody(t *testing.T) {
	v1 := gv("free.attack", "v1")
	e := test.NewExtension(t, "takeover-free", v1)
	w, client := warned(t)
	if _, err := client.ApiregistrationV1().APIServices().Create(t.Context(), test.Registration(v1, e), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Unregister(t, "v1."+v1.Group) })
	if w.contains("takes over") {
		t.Errorf("warned of %q", w.text)
	}
}
