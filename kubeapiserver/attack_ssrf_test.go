package kubeapiserver_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/request"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/annex-api/annex/aggregator"
	test "github.com/annex-api/annex/kubeapiserver/kubeapiservertest"
)

// Threat SSRF: who may write a Service points it at the cloud's metadata
// service, or at what listens on every address of the control plane's machine.
func TestAttackExternalNameAtForbiddenAddresses(t *testing.T) {
	cases := map[string]struct{ host, message string }{
		"metadata address":     {"169.254.169.254", "refusing to connect to the link-local address 169.254.169.254"},
		"multicast address":    {"224.0.0.1", "refusing to connect to the multicast address 224.0.0.1"},
		"unspecified address":  {"0.0.0.0", "refusing to connect to the unspecified address 0.0.0.0"},
		"metadata by name":     {"metadata.attack.test", "metadata.attack.test: refusing to connect to the link-local address 169.254.169.254"},
		"link-local IPv6 name": {"metadata6.attack.test", "metadata6.attack.test: refusing to connect to the link-local address fe80::a9fe:a9fe"},
		"mapped by name":       {"mapped.attack.test", "mapped.attack.test: refusing to connect to the link-local address 169.254.169.254"},
		"multicast by name":    {"multicast.attack.test", "multicast.attack.test: refusing to connect to the multicast address 224.0.0.1"},
		"unspecified by name":  {"unspecified.attack.test", "unspecified.attack.test: refusing to connect to the unspecified address 0.0.0.0"},
		"one of two addresses": {"mixed.attack.test", "mixed.attack.test: refusing to connect to the link-local address 169.254.169.254"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			short := strings.ToLower(strings.ReplaceAll(name, " ", "-"))
			v1 := gv(short+".ssrf.attack", "v1")
			// The extension server is good and listens where 0.0.0.0 and the
			// second address of "mixed" would lead to.
			e := test.NewExtension(t, short, v1)
			server.Expose(t, e.Name, c.host)
			server.CreateRegistration(t, test.Registration(v1, e))
			test.Eventually(t, func() string {
				got := server.Condition(t, v1)
				if got.Status == apiregistrationv1.ConditionFalse && got.Reason == "FailedDiscoveryCheck" && strings.Contains(got.Message, c.message) {
					return ""
				}
				return fmt.Sprintf("the condition is %s %s %q", got.Status, got.Reason, got.Message)
			})
			for way, header := range ways {
				conn := server.Dial(t, "http/1.1")
				conn.Send(t, "GET /apis/"+v1.String()+"/things HTTP/1.1", append(header[:len(header):len(header)], "Authorization: Bearer "+test.Admin)...)
				if a := conn.Receive(t); a.Code != http.StatusServiceUnavailable {
					t.Errorf("%s: the client got %d %s, want 503", way, a.Code, a.Body)
				}
			}
			if got := e.Connections(); got != 0 {
				t.Errorf("%d connections reached what listens there", got)
			}
		})
	}
}

// dials remembers where a layer wanted to connect to, and refuses.
type dials struct {
	mu   sync.Mutex
	seen []string
}

func (d *dials) dial(_ context.Context, _, address string) (net.Conn, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.seen = append(d.seen, address)
	return nil, fmt.Errorf("nobody is at %s", address)
}

func (d *dials) addresses() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]string(nil), d.seen...)
}

// ask sends a request of an authenticated user to a layer; upgrades too.
func ask(h http.Handler, path string, upgrade bool) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	if upgrade {
		r.Header.Set("Connection", "Upgrade")
		r.Header.Set("Upgrade", "websocket")
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r.WithContext(request.WithUser(r.Context(), &user.DefaultInfo{Name: "alice"})))
	return w
}

// runLayer starts a layer that ends with the test, and waits for its routes.
func runLayer(t *testing.T, config aggregator.Config) http.Handler {
	t.Helper()
	layer, err := aggregator.New(config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = layer.Run(ctx)
	}()
	t.Cleanup(func() { cancel(); <-done })
	<-layer.Routes()
	return layer.Handler(nil)
}

// Threat SSRF: the API refuses some of these addresses in EndpointSlices, other
// sources of endpoints do not. None of them may be dialled.
func TestAttackEndpointsAtForbiddenAddresses(t *testing.T) {
	for _, address := range []string{
		"169.254.169.254", "169.254.0.1", "fe80::1", "fe80::1%lo", "::ffff:169.254.169.254", "fd00:ec2::254",
		"224.0.0.1", "239.255.255.250", "ff02::1", "0.0.0.0", "::", "::ffff:0.0.0.0",
	} {
		t.Run(address, func(t *testing.T) {
			port, name := int32(443), "https"
			service := &corev1.Service{
				ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "ssrf"},
				Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP, Ports: []corev1.ServicePort{{Name: name, Port: port}}},
			}
			slice := &discoveryv1.EndpointSlice{
				AddressType: discoveryv1.AddressTypeIPv4,
				Ports:       []discoveryv1.EndpointPort{{Name: &name, Port: &port}},
				Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{address}}},
			}
			var d dials
			h := runLayer(t, aggregator.Config{
				Source: aggregator.NewStaticSource(aggregator.State{
					APIServices: []*apiregistrationv1.APIService{ssrfRegistration()},
					Services: map[types.NamespacedName]aggregator.ServiceFacts{
						{Namespace: "default", Name: "ssrf"}: {Service: service, Slices: []*discoveryv1.EndpointSlice{slice}},
					},
				}),
				Addressing: aggregator.EndpointAddresses, Dial: d.dial,
			})
			for _, upgrade := range []bool{false, true} {
				w := ask(h, "/apis/ssrf.attack/v1/things", upgrade)
				if w.Code != http.StatusServiceUnavailable {
					t.Errorf("got %d %s, want 503", w.Code, w.Body)
				}
			}
			if got := d.addresses(); len(got) != 0 {
				t.Errorf("dialled %v", got)
			}
		})
	}
}

func ssrfRegistration() *apiregistrationv1.APIService {
	return &apiregistrationv1.APIService{
		ObjectMeta: metav1.ObjectMeta{Name: "v1.ssrf.attack"},
		Spec: apiregistrationv1.APIServiceSpec{
			Group: "ssrf.attack", Version: "v1", GroupPriorityMinimum: 100, VersionPriority: 10,
			Service: &apiregistrationv1.ServiceReference{Namespace: "default", Name: "ssrf"},
		},
	}
}

type resolver string

func (r resolver) ResolveEndpoint(string, string, int32) (*url.URL, error) {
	return &url.URL{Scheme: "https", Host: string(r)}, nil
}

// A resolver that an embedder brings knows what it does.
func TestEmbeddersResolverIsTrusted(t *testing.T) {
	var d dials
	h := runLayer(t, aggregator.Config{
		Source:   aggregator.NewStaticSource(aggregator.State{APIServices: []*apiregistrationv1.APIService{ssrfRegistration()}}),
		Resolver: resolver("169.254.1.1:8443"), Dial: d.dial,
	})
	w := ask(h, "/apis/ssrf.attack/v1/things", false)
	if w.Code != http.StatusServiceUnavailable {
		t.Errorf("got %d %s, want 503", w.Code, w.Body)
	}
	test.Eventually(t, func() string {
		got := d.addresses()
		if len(got) == 0 {
			return "nothing was dialled"
		}
		for _, a := range got {
			if a != "169.254.1.1:8443" {
				return "dialled " + a
			}
		}
		return ""
	})
}
