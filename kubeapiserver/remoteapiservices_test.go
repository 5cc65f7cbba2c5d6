package kubeapiserver_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/annex-api/annex/apis/aggregation/v1alpha1"
	"github.com/annex-api/annex/diagnosis"
	test "github.com/annex-api/annex/kubeapiserver/kubeapiservertest"
)

const remoteAPIServices = "/apis/aggregation.annex.dev/v1alpha1/remoteapiservices"

// remote waits for the RemoteAPIService of a group version to be as it should, as the admin
// reads it.
func remote(t *testing.T, name string, missing func(v1alpha1.RemoteAPIServiceStatus) string) {
	t.Helper()
	test.Eventually(t, func() string {
		a := server.Get(t, test.Admin, remoteAPIServices+"/"+name)
		var out v1alpha1.RemoteAPIService
		if a.Code != http.StatusOK {
			return fmt.Sprintf("%d %s", a.Code, a.Body)
		}
		if err := json.Unmarshal([]byte(a.Body), &out); err != nil {
			return err.Error()
		}
		return missing(out.Status)
	})
}

func awaitState(t *testing.T, name string, want v1alpha1.State) {
	t.Helper()
	remote(t, name, func(s v1alpha1.RemoteAPIServiceStatus) string {
		if s.State != want {
			return fmt.Sprintf("%s is %s, %s: %s; want %s", name, s.State, s.Reason, s.Message, want)
		}
		return ""
	})
}

// follow gives the states of one RemoteAPIService as a watch tells them.
func follow(t *testing.T, name string) <-chan string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+remoteAPIServices+"?watch=true&fieldSelector=metadata.name="+name, nil)
	if err != nil {
		t.Fatal(err)
	}
	client := server.Client(test.Admin)
	response, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	states, ended := make(chan string), make(chan struct{})
	go func() {
		defer close(ended)
		defer response.Body.Close()
		for lines := bufio.NewScanner(response.Body); lines.Scan(); {
			var e struct {
				Type   string
				Object v1alpha1.RemoteAPIService
			}
			if json.Unmarshal(lines.Bytes(), &e) != nil {
				return
			}
			select {
			case states <- e.Type + " " + string(e.Object.Status.State):
			case <-ctx.Done():
				return
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
		client.CloseIdleConnections()
	})
	return states
}

// expectState reads events until one says what is wanted.
func expectState(t *testing.T, states <-chan string, want string) {
	t.Helper()
	var seen []string
	test.Eventually(t, func() string {
		for {
			select {
			case s := <-states:
				if s == want {
					return ""
				}
				seen = append(seen, s)
			default:
				return fmt.Sprintf("no event %q, but %q", want, seen)
			}
		}
	})
}

func TestWatchOfRemoteAPIServices(t *testing.T) {
	v1 := gv("watched.test", "v1")
	e := server.Register(t, "watched", v1)
	awaitState(t, "v1.watched.test", v1alpha1.Healthy)
	states := follow(t, "v1.watched.test")
	expectState(t, states, "ADDED Healthy")
	broken := func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "broken", http.StatusInternalServerError) }
	e.Handle("/apis/watched.test/v1", broken)
	server.UpdateRegistration(t, "v1.watched.test", func(a *apiregistrationv1.APIService) { a.Spec.CABundle = e.CA.PEM[:0:0] })
	expectState(t, states, "MODIFIED Unavailable")
	remote(t, "v1.watched.test", func(s v1alpha1.RemoteAPIServiceStatus) string {
		if s.Reason == "" || s.Message == "" || s.Affected == nil || len(s.Affected.Controllers) == 0 {
			return fmt.Sprintf("what is broken: %+v", s)
		}
		for _, f := range s.Faults {
			if _, known := diagnosis.Lookup(f.Code); !known {
				return fmt.Sprintf("the fault %+v has no code that is explained", f)
			}
		}
		return ""
	})
	e.Handle("/apis/watched.test/v1", nil)
	server.UpdateRegistration(t, "v1.watched.test", func(a *apiregistrationv1.APIService) { a.Spec = test.Registration(v1, e).Spec })
	expectState(t, states, "MODIFIED Healthy")
	server.Unregister(t, "v1.watched.test")
	expectState(t, states, "DELETED Healthy")
}

func TestRemoteAPIServicesAsTable(t *testing.T) {
	server.Register(t, "tabled", gv("tabled.test", "v1"))
	awaitState(t, "v1.tabled.test", v1alpha1.Healthy)
	a := server.Get(t, test.Admin, remoteAPIServices+"/v1.tabled.test", "Accept", "application/json;as=Table;g=meta.k8s.io;v=v1")
	var table metav1.Table
	if err := json.Unmarshal([]byte(a.Body), &table); err != nil || a.Code != http.StatusOK {
		t.Fatalf("%d %v %s", a.Code, err, a.Body)
	}
	var columns []string
	for _, c := range table.ColumnDefinitions {
		columns = append(columns, c.Name)
	}
	want := []string{"Name", "Service", "State", "Reason", "Endpoints", "P99", "Errors", "In flight", "Discovery", "Watch list", "Since", "Age"}
	if !slices.Equal(columns, want) || len(table.Rows) != 1 || table.Rows[0].Cells[0] != "v1.tabled.test" {
		t.Errorf("the columns are %q, the rows %v", columns, table.Rows)
	}
}

func TestRemoteAPIServicesAreReadOnly(t *testing.T) {
	server.Register(t, "readonly", gv("readonly.test", "v1"))
	awaitState(t, "v1.readonly.test", v1alpha1.Healthy)
	client := server.Client(test.Admin)
	defer client.CloseIdleConnections()
	const one = remoteAPIServices + "/v1.readonly.test"
	for _, c := range []struct{ method, path, body string }{
		{http.MethodPost, remoteAPIServices, `{"apiVersion":"aggregation.annex.dev/v1alpha1","kind":"RemoteAPIService","metadata":{"name":"v1.new.test"},"status":{}}`},
		{http.MethodPut, one, `{"metadata":{"name":"v1.readonly.test"}}`},
		{http.MethodPatch, one, `{}`},
		{http.MethodDelete, one, ``},
		{http.MethodDelete, remoteAPIServices, ``},
	} {
		r, err := http.NewRequestWithContext(t.Context(), c.method, server.URL+c.path, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		response, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		if response.Body.Close(); response.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("%s %s: %d, want 405", c.method, c.path, response.StatusCode)
		}
	}
	if a := server.Get(t, test.Admin, one); a.Code != http.StatusOK {
		t.Errorf("afterwards: %d %s", a.Code, a.Body)
	}
}

func TestWhoReadsRemoteAPIServices(t *testing.T) {
	roles := server.Kube(t).RbacV1()
	test.Eventually(t, func() string {
		role, err := roles.ClusterRoles().Get(t.Context(), "annex:aggregation:view", metav1.GetOptions{})
		switch {
		case err != nil:
			return err.Error()
		case role.Labels["rbac.authorization.k8s.io/aggregate-to-view"] != "true":
			return "it is not aggregated into view"
		}
		return ""
	})
	if _, err := roles.ClusterRoleBindings().Create(t.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "alice-views-aggregation"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "annex:aggregation:view"},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: "alice"}},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := roles.ClusterRoleBindings().Delete(context.Background(), "alice-views-aggregation", metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	test.Eventually(t, func() string {
		if a := server.Get(t, test.Alice, remoteAPIServices); a.Code != http.StatusOK {
			return fmt.Sprintf("alice: %d %s", a.Code, a.Body)
		}
		return ""
	})
	for _, token := range []string{test.Bob, test.Nobody} {
		if a := server.Get(t, token, remoteAPIServices); a.Code != http.StatusForbidden {
			t.Errorf("%q: %d %s, want 403", token, a.Code, a.Body)
		}
	}
	if a := server.Get(t, "wrong", remoteAPIServices); a.Code != http.StatusUnauthorized {
		t.Errorf("with a wrong token: %d", a.Code)
	}
}

// The group is in every list, and nobody can take it away.
func TestTheGroupOfRemoteAPIServicesIsReserved(t *testing.T) {
	own := v1alpha1.GroupVersion
	served := func() string {
		for _, path := range []string{"/apis/" + own.Group, "/apis/" + own.String(), remoteAPIServices, "/openapi/v3/apis/" + own.String()} {
			if a := server.Get(t, test.Admin, path); a.Code != http.StatusOK || !strings.Contains(a.Body, own.Group) {
				return fmt.Sprintf("%s: %d %s", path, a.Code, a.Body)
			}
		}
		for _, path := range []string{"/", "/apis", "/openapi/v3", "/openapi/v2"} {
			if a := server.Get(t, test.Admin, path, "Accept", "application/json"); a.Code != http.StatusOK || !strings.Contains(a.Body, own.Group) {
				return fmt.Sprintf("%s: %d, without the group", path, a.Code)
			}
		}
		if v := discovered(t, own); v == nil || v.Freshness != apidiscoveryv2.DiscoveryFreshnessCurrent || len(v.Resources) != 1 || v.Resources[0].Resource != "remoteapiservices" {
			return fmt.Sprintf("discovery has %+v", v)
		}
		return ""
	}
	server.AwaitCondition(t, own, apiregistrationv1.ConditionTrue, "Local", "Local APIServices are always available")
	test.Eventually(t, served)

	taking := gv("taking.test", "v1")
	e := server.Register(t, "taking", taking)
	e.Handle("*", func(w http.ResponseWriter, _ *http.Request) { test.JSON(w, map[string]string{"kind": "Theirs"}) })
	name := own.Version + "." + own.Group
	local, err := server.Registrations(t).ApiregistrationV1().APIServices().Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		server.UpdateRegistration(t, name, func(a *apiregistrationv1.APIService) { a.Spec = local.Spec })
	})
	server.UpdateRegistration(t, name, func(a *apiregistrationv1.APIService) {
		a.Spec.Service, a.Spec.CABundle = test.Registration(taking, e).Spec.Service, e.CA.PEM
	})
	other := gv(own.Group, "v9")
	server.CreateRegistration(t, test.Registration(other, e))
	for _, claimed := range []string{name, other.Version + "." + other.Group} {
		remote(t, claimed, func(s v1alpha1.RemoteAPIServiceStatus) string {
			if s.State != v1alpha1.Unavailable || !strings.Contains(s.Message, "always served by the API server itself") {
				return fmt.Sprintf("%s is %s: %s", claimed, s.State, s.Message)
			}
			return ""
		})
	}
	if wrong := served(); wrong != "" {
		t.Error(wrong)
	}
	if a := server.Get(t, test.Admin, "/apis/"+other.String()); a.Code != http.StatusNotFound {
		t.Errorf("another version of the group: %d %s", a.Code, a.Body)
	}
}

func TestWhoSuffersFromWhatIsDown(t *testing.T) {
	down := gv("metrics.k8s.io", "v1beta1")
	server.CreateRegistration(t, &apiregistrationv1.APIService{
		ObjectMeta: metav1.ObjectMeta{Name: "v1beta1.metrics.k8s.io"},
		Spec: apiregistrationv1.APIServiceSpec{
			Group: down.Group, Version: down.Version, GroupPriorityMinimum: 100, VersionPriority: 100,
			Service: &apiregistrationv1.ServiceReference{Namespace: "default", Name: "nobody"},
		},
	})
	kube := server.Kube(t)
	stuck, err := kube.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "stuck-"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // there is no controller that would empty it
		if _, err := kube.CoreV1().Namespaces().Finalize(context.Background(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: stuck.Name}}, metav1.UpdateOptions{}); err != nil {
			t.Error(err)
		}
	})
	if err := kube.CoreV1().Namespaces().Delete(t.Context(), stuck.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	condition := fmt.Sprintf(`{"status":{"conditions":[{"type":"NamespaceDeletionDiscoveryFailure","status":"True","reason":"DiscoveryFailed",
		"message":"Discovery failed for some groups, 1 failing: unable to retrieve the complete list of server APIs: %s: stale GroupVersion discovery: %s"}]}}`, down, down)
	if _, err := kube.CoreV1().Namespaces().Patch(t.Context(), stuck.Name, types.StrategicMergePatchType, []byte(condition), metav1.PatchOptions{}, "status"); err != nil {
		t.Fatal(err)
	}
	scaler, err := kube.AutoscalingV2().HorizontalPodAutoscalers("default").Create(t.Context(), &autoscalingv2.HorizontalPodAutoscaler{
		ObjectMeta: metav1.ObjectMeta{Name: "starved"},
		Spec:       autoscalingv2.HorizontalPodAutoscalerSpec{MaxReplicas: 2, ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "none"}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := kube.AutoscalingV2().HorizontalPodAutoscalers("default").Delete(context.Background(), scaler.Name, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	scaler.Status.Conditions = []autoscalingv2.HorizontalPodAutoscalerCondition{{Type: autoscalingv2.ScalingActive, Status: corev1.ConditionFalse, Reason: "FailedGetResourceMetric"}}
	if _, err := kube.AutoscalingV2().HorizontalPodAutoscalers("default").UpdateStatus(t.Context(), scaler, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	remote(t, "v1beta1.metrics.k8s.io", func(s v1alpha1.RemoteAPIServiceStatus) string {
		if a := s.Affected; s.State != v1alpha1.Unavailable || a == nil || !slices.Contains(a.Namespaces, stuck.Name) || a.NamespaceCount < 1 ||
			!slices.Equal(a.Autoscalers, []string{"default/starved"}) || !slices.Equal(a.Controllers, []string{"garbage collector", "resource quota"}) {
			return fmt.Sprintf("%s, affected: %+v", s.State, a)
		}
		return ""
	})
}
