package kubeapiserver_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/annex-api/annex/internal/testcerts"
	test "github.com/annex-api/annex/kubeapiserver/kubeapiservertest"
)

// unavailable checks that requests are refused as the reference refuses them.
func unavailable(t *testing.T, v schema.GroupVersion) {
	t.Helper()
	a := server.Get(t, test.Admin, "/apis/"+v.String()+"/things")
	if a.Code != http.StatusServiceUnavailable || !strings.Contains(a.Body, `"message":"service unavailable (APIService `) {
		t.Errorf("got %d %s, want 503 service unavailable", a.Code, a.Body)
	}
}

func TestConditionOfMissingService(t *testing.T) {
	t.Parallel()
	v1 := gv("noservice.condition", "v1")
	e := test.NewExtension(t, "noservice", v1)
	server.CreateRegistration(t, test.Registration(v1, e))
	server.AwaitCondition(t, v1, apiregistrationv1.ConditionFalse, "ServiceNotFound", `service/noservice in "default" is not present`)
	unavailable(t, v1)
	server.Expose(t, e.Name, "localhost")
	server.AwaitAvailable(t, v1)
	passed := server.Condition(t, v1).LastTransitionTime
	if err := server.Kube(t).CoreV1().Services("default").Delete(t.Context(), e.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	server.AwaitCondition(t, v1, apiregistrationv1.ConditionFalse, "ServiceNotFound", `service/noservice in "default" is not present`)
	if got := server.Condition(t, v1).LastTransitionTime; got.Before(&passed) {
		t.Errorf("the transition went back in time: %v, %v", passed, got)
	}
	unavailable(t, v1)
}

// A Service of type ClusterIP goes through all of its faults, then the proof is
// that its own address is used.
func TestConditionsOfClusterIPService(t *testing.T) {
	t.Parallel()
	v1 := gv("clusterip.condition", "v1")
	e := test.NewExtension(t, "clusterip", v1)
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: e.Name},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "https", Port: 8443, TargetPort: intstr.FromInt32(e.Port)}}},
	}
	server.CreateService(t, service)
	server.CreateRegistration(t, test.Registration(v1, e))
	server.AwaitCondition(t, v1, apiregistrationv1.ConditionFalse, "ServicePortError",
		fmt.Sprintf(`service/clusterip in "default" is not listening on port %d`, e.Port))
	first := server.Condition(t, v1).LastTransitionTime
	unavailable(t, v1)

	port := int32(8443)
	server.UpdateRegistration(t, "v1."+v1.Group, func(a *apiregistrationv1.APIService) { a.Spec.Service.Port = &port })
	server.AwaitCondition(t, v1, apiregistrationv1.ConditionFalse, "EndpointsNotFound", `cannot find endpointslices for service/clusterip in "default"`)
	unavailable(t, v1)

	slices := server.Kube(t).DiscoveryV1().EndpointSlices("default")
	name, no := "https", false
	slice, err := slices.Create(t.Context(), &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: "clusterip-1", Labels: map[string]string{discoveryv1.LabelServiceName: e.Name}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: &name, Port: &e.Port}},
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{"192.0.2.1"}, Conditions: discoveryv1.EndpointConditions{Ready: &no}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Kube(t).DiscoveryV1().EndpointSlices("default").DeleteCollection(context.Background(), metav1.DeleteOptions{},
			metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=" + e.Name}); err != nil {
			t.Error(err)
		}
	})
	server.AwaitCondition(t, v1, apiregistrationv1.ConditionFalse, "MissingEndpoints",
		`endpointslices for service/clusterip in "default" have no addresses with port name "https"`)
	unavailable(t, v1)
	if got := server.Condition(t, v1).LastTransitionTime; !got.Equal(&first) {
		t.Errorf("lastTransitionTime moved from %v to %v while the status stayed False", first, got)
	}

	slice.Endpoints[0].Conditions.Ready = nil
	if _, err := slices.Update(t.Context(), slice, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	// Other than in the reference, the endpoints speak first and the cluster IP
	// only stands in for them.
	address := fmt.Sprintf("https://192.0.2.1:%d/apis/%s", e.Port, v1)
	test.Eventually(t, func() string {
		c := server.Condition(t, v1)
		if c.Reason == "FailedDiscoveryCheck" && strings.Contains(c.Message, address) {
			return ""
		}
		return fmt.Sprintf("the condition is %s %q, want one that names %s", c.Reason, c.Message, address)
	})
}

func TestConditionsOfFailedDiscoveryCheck(t *testing.T) {
	t.Parallel()
	hang := make(chan struct{})
	t.Cleanup(func() { close(hang) })
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	cases := map[string]struct {
		handler http.HandlerFunc
		message string // URL stands for the address
	}{
		"error":     {status(500), "failing or missing response from URL: bad status from URL: 500"},
		"forbidden": {status(403), "failing or missing response from URL: bad status from URL: 403"},
		"missing":   {status(404), "failing or missing response from URL: bad status from URL: 404"},
		"redirect":  {status(302), "failing or missing response from URL: bad status from URL: 302"},
		"hanging": {func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-hang:
			case <-r.Context().Done():
			}
		}, "timed out waiting for URL"},
		"broken": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "failing or missing response from URL: "},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v1 := gv(name+".check.condition", "v1")
			e := test.NewExtension(t, "check-"+name, v1)
			e.Handle("/apis/"+v1.String(), c.handler)
			server.Expose(t, e.Name, "localhost")
			server.CreateRegistration(t, test.Registration(v1, e))
			want := strings.ReplaceAll(c.message, "URL", fmt.Sprintf("https://localhost:%d/apis/%s", e.Port, v1))
			test.Eventually(t, func() string {
				got := server.Condition(t, v1)
				if got.Status == apiregistrationv1.ConditionFalse && got.Reason == "FailedDiscoveryCheck" && strings.HasPrefix(got.Message, want) {
					return ""
				}
				return fmt.Sprintf("the condition is %s %s %q, want %q", got.Status, got.Reason, got.Message, want)
			})
			unavailable(t, v1)
			probe := e.OwnRequests("/apis/" + v1.String())[0]
			if probe.Header.Get("X-Remote-User") != "system:kube-aggregator" || probe.Header.Get("X-Remote-Group") != "system:masters" {
				t.Errorf("the probe came as %v", probe.Header)
			}
			e.Handle("/apis/"+v1.String(), status(204))
			server.AwaitAvailable(t, v1)
		})
	}
}

func TestConditionOfLocalAPIServices(t *testing.T) {
	t.Parallel()
	for _, v := range []schema.GroupVersion{gv("apps", "v1"), gv("", "v1")} {
		server.AwaitCondition(t, v, apiregistrationv1.ConditionTrue, "Local", "Local APIServices are always available")
	}
	// A local one has its condition as soon as it is stored.
	created := server.CreateRegistration(t, &apiregistrationv1.APIService{
		ObjectMeta: metav1.ObjectMeta{Name: "v1.local.condition"},
		Spec:       apiregistrationv1.APIServiceSpec{Group: "local.condition", Version: "v1", GroupPriorityMinimum: 1, VersionPriority: 1},
	})
	if c := created.Status.Conditions; len(c) != 1 || c[0].Reason != "Local" || c[0].Status != apiregistrationv1.ConditionTrue {
		t.Errorf("a new local APIService has the conditions %v", c)
	}
}

// Nothing is written when nothing has changed.
func TestConditionIsWrittenOnce(t *testing.T) {
	t.Parallel()
	v1 := gv("quiet.condition", "v1")
	e := server.Register(t, "quiet", v1)
	client := server.Registrations(t).ApiregistrationV1().APIServices()
	before, err := client.Get(t.Context(), "v1."+v1.Group, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	probes := len(e.OwnRequests("/apis/" + v1.String()))
	// Failing requests cause probes, and these pass.
	e.Handle("/apis/"+v1.String()+"/broken", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	test.Eventually(t, func() string {
		server.Get(t, test.Admin, "/apis/"+v1.String()+"/broken")
		if len(e.OwnRequests("/apis/"+v1.String())) < probes+2 {
			return "no further probes"
		}
		return ""
	})
	after, err := client.Get(t.Context(), "v1."+v1.Group, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if before.ResourceVersion != after.ResourceVersion {
		t.Errorf("the object was written without a change: %v, then %v", before.Status, after.Status)
	}
}

func TestValidationOfAPIServices(t *testing.T) {
	t.Parallel()
	ca := testcerts.New("validation").PEM
	remote := func(change func(*apiregistrationv1.APIService)) *apiregistrationv1.APIService {
		a := &apiregistrationv1.APIService{
			ObjectMeta: metav1.ObjectMeta{Name: "v1.valid.test"},
			Spec: apiregistrationv1.APIServiceSpec{
				Group: "valid.test", Version: "v1", GroupPriorityMinimum: 1000, VersionPriority: 15,
				Service: &apiregistrationv1.ServiceReference{Namespace: "default", Name: "nobody"}, CABundle: ca,
			},
		}
		change(a)
		return a
	}
	named := func(group, version string) func(*apiregistrationv1.APIService) {
		return func(a *apiregistrationv1.APIService) {
			a.Name, a.Spec.Group, a.Spec.Version = version+"."+group, group, version
		}
	}
	port := int32(0)
	for name, c := range map[string]struct {
		change func(*apiregistrationv1.APIService)
		want   string
	}{
		"name":             {func(a *apiregistrationv1.APIService) { a.Name = "v2.valid.test" }, "metadata.name: Invalid value: \"v2.valid.test\": must be `spec.version+\".\"+spec.group`: \"v1.valid.test\""},
		"empty group":      {named("", "v2"), "only v1 may have an empty group and it better be legacy kube"},
		"bad group":        {named("Not_A_Group", "v1"), "spec.group"},
		"bad version":      {named("valid.test", "1v"), "spec.version"},
		"group priority":   {func(a *apiregistrationv1.APIService) { a.Spec.GroupPriorityMinimum = 20001 }, "spec.groupPriorityMinimum"},
		"no priority":      {func(a *apiregistrationv1.APIService) { a.Spec.GroupPriorityMinimum = 0 }, "spec.groupPriorityMinimum"},
		"version priority": {func(a *apiregistrationv1.APIService) { a.Spec.VersionPriority = 1001 }, "spec.versionPriority"},
		"namespace":        {func(a *apiregistrationv1.APIService) { a.Spec.Service.Namespace = "" }, "spec.service.namespace"},
		"service name":     {func(a *apiregistrationv1.APIService) { a.Spec.Service.Name = "" }, "spec.service.name"},
		"port":             {func(a *apiregistrationv1.APIService) { a.Spec.Service.Port = &port }, "spec.service.port"},
		"both":             {func(a *apiregistrationv1.APIService) { a.Spec.InsecureSkipTLSVerify = true }, "may not be true if caBundle is present"},
		"local caBundle":   {func(a *apiregistrationv1.APIService) { a.Spec.Service = nil }, "spec.caBundle"},
		"local insecure": {func(a *apiregistrationv1.APIService) {
			a.Spec.Service, a.Spec.CABundle, a.Spec.InsecureSkipTLSVerify = nil, nil, true
		}, "spec.insecureSkipTLSVerify"},
	} {
		t.Run(name, func(t *testing.T) {
			a := remote(c.change)
			_, err := server.Registrations(t).ApiregistrationV1().APIServices().Create(t.Context(), a, metav1.CreateOptions{})
			if err == nil {
				server.Unregister(t, a.Name)
			}
			if !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want one that says %s", err, c.want)
			}
		})
	}
	stored := server.CreateRegistration(t, remote(func(a *apiregistrationv1.APIService) {
		a.Status.Conditions = []apiregistrationv1.APIServiceCondition{{
			Type: apiregistrationv1.Available, Status: apiregistrationv1.ConditionTrue, Reason: "Forged", LastTransitionTime: metav1.NewTime(time.Unix(0, 0)),
		}}
	}))
	if len(stored.Status.Conditions) != 0 {
		t.Errorf("a condition that came with the object is kept: %v", stored.Status)
	}
	if stored.Spec.Service.Port == nil || *stored.Spec.Service.Port != 443 {
		t.Errorf("the port is %v, want 443", stored.Spec.Service.Port)
	}
}

// Each change of state is one Event on the APIService, with the word of the condition.
func TestEventsOfAnAPIService(t *testing.T) {
	t.Parallel()
	v1 := gv("events.condition", "v1")
	e := test.NewExtension(t, "events", v1)
	registration := test.Registration(v1, e)
	server.CreateRegistration(t, registration)
	awaitEvents(t, registration.Name, `1x Warning ServiceNotFound APIService is unavailable: service/events in "default" is not present`)
	server.Expose(t, e.Name, "localhost")
	server.AwaitAvailable(t, v1)
	awaitEvents(t, registration.Name, "1x Normal Passed APIService is available: all checks passed",
		`1x Warning ServiceNotFound APIService is unavailable: service/events in "default" is not present`)
	for range 50 { // no request is one
		if a := server.Get(t, test.Admin, "/apis/"+v1.String()+"/things"); a.Code != http.StatusOK {
			t.Fatalf("%d %s", a.Code, a.Body)
		}
	}
	if err := server.Kube(t).CoreV1().Services("default").Delete(t.Context(), e.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	awaitEvents(t, registration.Name, `2x Warning ServiceNotFound APIService is unavailable: service/events in "default" is not present`,
		"1x Normal Passed APIService is available: all checks passed")
}

// awaitEvents waits until the Events on an APIService are those, each with how often it was
// recorded, and there is no other.
func awaitEvents(t *testing.T, name string, want ...string) {
	t.Helper()
	slices.Sort(want)
	test.Eventually(t, func() string {
		stored, err := server.Registrations(t).ApiregistrationV1().APIServices().Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			return err.Error()
		}
		list, err := server.Kube(t).CoreV1().Events("default").List(t.Context(), metav1.ListOptions{
			FieldSelector: "involvedObject.name=" + name + ",involvedObject.uid=" + string(stored.UID),
		})
		if err != nil {
			return err.Error()
		}
		var got []string
		for _, e := range list.Items {
			got = append(got, fmt.Sprintf("%dx %s %s %s", e.Count, e.Type, e.Reason, e.Message))
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			return fmt.Sprintf("the Events are %q, want %q", got, want)
		}
		return ""
	})
}
