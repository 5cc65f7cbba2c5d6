package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestRemoteAPIServices is what kubectl shows of an extension server that breaks and is mended.
func TestRemoteAPIServices(t *testing.T) {
	t.Parallel()
	e := shared(t)
	const group, name, path = "seen.example.com", "v1.seen.example.com", "/apis/aggregation.annex.dev/v1alpha1/remoteapiservices"
	var broken atomic.Bool
	well := discoveryHandler(group, "v1", "get", "list")
	registerServer(t, e.cluster, group, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if broken.Load() {
			panic(http.ErrAbortHandler)
		}
		well.ServeHTTP(w, r)
	}))
	e.kubectl(t, "wait", "--for=jsonpath={.status.state}=Healthy", "remoteapiservice/"+name, "--timeout=30s")

	expect(t, "api-resources", e.kubectl(t, "api-resources", "--api-group=aggregation.annex.dev", "--no-headers"), "remoteapiservices", "ras", "aggregation.annex.dev/v1alpha1", "false", "RemoteAPIService")
	short := e.kubectl(t, "get", "ras", name)
	hasColumns(t, short, "NAME", "SERVICE", "STATE", "REASON", "ENDPOINTS", "SINCE", "AGE")
	expect(t, "get", short, name, "default/seen-example-com:", "Healthy", "1/1")
	wide := e.kubectl(t, "get", "ras", name, "--output=wide")
	hasColumns(t, wide, "NAME", "SERVICE", "STATE", "REASON", "ENDPOINTS", "P99", "ERRORS", "IN", "FLIGHT", "DISCOVERY", "WATCH", "LIST", "SINCE", "AGE")
	expect(t, "get -o wide", wide, "Current")
	expect(t, "get of the category", e.kubectl(t, "get", "annex", "--output=name"), "remoteapiservice.aggregation.annex.dev/"+name)
	expect(t, "describe", e.kubectl(t, "describe", "ras", name), "Name:         "+name, "Kind:         RemoteAPIService", "State:", "Healthy", "Endpoints:", "Certificates:")
	expect(t, "explain", e.kubectl(t, "explain", "remoteapiservices.status.endpoints"), "KIND:       RemoteAPIService", "FIELD: endpoints", "inFlight", "lastError", "host:port")
	_, err := tryKubectl(t, e.kubeconfig, "", "delete", "ras", name)
	if err == nil || !strings.Contains(err.Error(), "MethodNotAllowed") {
		t.Errorf("delete: %v, want that there is no such method", err)
	}

	watch := startCommand(t, command{
		name: "kubectl", args: []string{"get", "ras", name, "--watch", "--output-watch-events", "--no-headers"},
		env: []string{"KUBECONFIG=" + e.kubeconfig},
	})
	if _, err := watch.awaitOutput(watch.stdout, "ADDED "); err != nil {
		t.Fatal(err)
	}
	broken.Store(true)
	_, _ = tryKubectl(t, e.kubeconfig, "", "get", "--raw=/apis/"+group+"/v1/namespaces/default/things") // it fails, and is noticed
	if out, err := watch.awaitOutput(watch.stdout, "Unavailable"); err != nil {
		t.Error(err)
	} else {
		expect(t, "get -w", out, "MODIFIED ", "0/1")
	}
	e.kubectl(t, "wait", "--for=jsonpath={.status.affected.controllers[0]}=garbage collector", "ras/"+name, "--timeout=30s")
	broken.Store(false)
	e.kubectl(t, "wait", "--for=jsonpath={.status.state}=Healthy", "ras/"+name, "--timeout=60s")

	viewer, nobody := e.user(t, "viewer-of-aggregation"), e.user(t, "nobody-of-aggregation")
	bindings := e.kube.RbacV1().ClusterRoleBindings()
	if _, err := bindings.Create(t.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "viewer-of-aggregation"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "annex:aggregation:view"},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: "viewer-of-aggregation"}},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = bindings.Delete(context.Background(), "viewer-of-aggregation", metav1.DeleteOptions{}) })
	eventually(t, "the viewer's right", func(ctx context.Context) error {
		a, err := do(ctx, viewer, http.MethodGet, path, "")
		if err == nil && a.code != http.StatusOK {
			err = fmt.Errorf("%d %s", a.code, a.body)
		}
		return err
	})
	if a := get(t, nobody, path); a.code != http.StatusForbidden {
		t.Errorf("a user without rights is answered %d %s", a.code, a.body)
	}
}
