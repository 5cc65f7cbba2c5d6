package kubeapiserver_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	test "github.com/annex-api/annex/kubeapiserver/kubeapiservertest"
)

// Threat SSRF, with --enable-aggregator-routing: who may write EndpointSlices
// of a Service without a selector says where requests go.
func TestAttackEndpointSlicesAtForbiddenAddresses(t *testing.T) {
	t.Parallel()
	routing, err := server.Beside("--enable-aggregator-routing", "--etcd-prefix=/routing")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := routing.Stop(); err != nil {
			t.Errorf("stopping the server: %v", err)
		}
	})
	name, port := "https", int32(443)
	slice := func(service, address string) *discoveryv1.EndpointSlice {
		family := discoveryv1.AddressTypeIPv4
		if strings.Contains(address, ":") {
			family = discoveryv1.AddressTypeIPv6
		}
		return &discoveryv1.EndpointSlice{
			ObjectMeta:  metav1.ObjectMeta{GenerateName: service + "-", Labels: map[string]string{discoveryv1.LabelServiceName: service}},
			AddressType: family,
			Ports:       []discoveryv1.EndpointPort{{Name: &name, Port: &port}},
			Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{address}}},
		}
	}
	slices := routing.Kube(t).DiscoveryV1().EndpointSlices("default")
	// These the API itself keeps out.
	for _, address := range []string{"169.254.169.254", "fe80::1", "224.0.0.1", "0.0.0.0", "::", "127.0.0.1"} {
		if _, err := slices.Create(t.Context(), slice("refused", address), metav1.CreateOptions{}); !apierrors.IsInvalid(err) {
			t.Errorf("an endpoint at %s: %v, want it refused", address, err)
		}
	}
	// These it lets in, and the layer does not go there.
	for address, message := range map[string]string{
		"239.255.255.250": "refusing to connect to the multicast address 239.255.255.250",
		"ff0e::1":         "refusing to connect to the multicast address ff0e::1",
		"fd00:ec2::254":   "refusing to connect to the link-local address fd00:ec2::254",
		"fd20:ce::254":    "refusing to connect to the link-local address fd20:ce::254",

		"64:ff9b::a9fe:a9fe": "refusing to connect to the link-local address 64:ff9b::a9fe:a9fe",
		"2002:a9fe:a9fe::1":  "refusing to connect to the link-local address 2002:a9fe:a9fe::1",
	} {
		service := "ssrf-" + strings.NewReplacer(":", "-", ".", "-").Replace(address)
		v1 := gv(service+".endpoints.attack", "v1")
		routing.CreateService(t, &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Name: service},
			Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: name, Port: port}}},
		})
		if _, err := slices.Create(t.Context(), slice(service, address), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		routing.CreateRegistration(t, &apiregistrationv1.APIService{
			ObjectMeta: metav1.ObjectMeta{Name: v1.Version + "." + v1.Group},
			Spec: apiregistrationv1.APIServiceSpec{
				Group: v1.Group, Version: v1.Version, GroupPriorityMinimum: 100, VersionPriority: 10, InsecureSkipTLSVerify: true,
				Service: &apiregistrationv1.ServiceReference{Namespace: "default", Name: service},
			},
		})
		test.Eventually(t, func() string {
			got := routing.Condition(t, v1)
			if got.Status == apiregistrationv1.ConditionFalse && got.Reason == "FailedDiscoveryCheck" && strings.Contains(got.Message, message) {
				return ""
			}
			return fmt.Sprintf("the condition is %s %s %q", got.Status, got.Reason, got.Message)
		})
		if a := routing.Get(t, test.Admin, "/apis/"+v1.String()+"/things"); a.Code != http.StatusServiceUnavailable {
			t.Errorf("%s: got %d %s, want 503", address, a.Code, a.Body)
		}
	}
}
