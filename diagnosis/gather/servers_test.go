package gather

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/annex-api/annex/apis/aggregation/v1alpha1"
	"github.com/annex-api/annex/internal/testcerts"
)

func TestEachAPIServerIsAskedOnlyWhereItIsWanted(t *testing.T) {
	ca, other := testcerts.New("kubernetes"), testcerts.New("somebody")
	start := func(by *testcerts.Authority, h http.Handler) *httptest.Server {
		s := httptest.NewUnstartedServer(h)
		s.TLS = &tls.Config{Certificates: []tls.Certificate{by.Issue(testcerts.Subject{Name: "kube-apiserver", Hosts: []string{inClusterName, "127.0.0.1"}}).TLS()}}
		s.StartTLS()
		t.Cleanup(s.Close)
		return s
	}
	counts := func(unavailable, total int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/metrics" || r.Header.Get("Authorization") != "Bearer the caller's" {
				t.Errorf("asked for %s as %q", r.URL.Path, r.Header.Get("Authorization"))
			}
			fmt.Fprintf(w, "aggregator_unavailable_apiservice{name=%q} %d\naggregator_unavailable_apiservice_total{name=%q,reason=\"x\"} %d\n", things, unavailable, things, total)
		}
	}
	f := &fake{handlers: map[string]http.HandlerFunc{}}
	f.Server = start(ca, f)
	f.shop()
	f.lists("/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices") // none is to be connected to
	f.handle("/metrics", counts(0, 1))
	second := start(ca, counts(1, 7))
	stranger := start(other, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a stranger gets the caller's token") }))
	var slices []any
	for _, s := range []*httptest.Server{f.Server, second, stranger} {
		address, portText, err := net.SplitHostPort(s.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		number, err := strconv.ParseInt(portText, 10, 32)
		if err != nil {
			t.Fatal(err)
		}
		slices = append(slices, discoveryv1.EndpointSlice{
			Ports:     []discoveryv1.EndpointPort{{Name: new("https"), Port: new(int32(number))}},
			Endpoints: []discoveryv1.Endpoint{{Addresses: []string{address}}},
		})
	}
	f.lists("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices", slices...)

	for _, direct := range []bool{false, true} {
		got := facts(t, f, func(o *Options) {
			o.Config = &rest.Config{Host: f.URL, BearerToken: "the caller's", TLSClientConfig: rest.TLSClientConfig{CAData: ca.PEM}}
			o.Direct = direct
		}).APIServices[things]
		want := []v1alpha1.View{{Server: strings.TrimPrefix(f.URL, "https://"), Available: metav1.ConditionTrue}}
		outages := int64(1)
		if direct {
			want = append(want, v1alpha1.View{Server: second.Listener.Addr().String(), Available: metav1.ConditionFalse})
			outages = 7
		}
		if fmt.Sprint(got.Views.Value) != fmt.Sprint(want) || got.Outages.Value.ByReason["x"] != outages {
			t.Errorf("direct %v: views %v, outages %v", direct, got.Views, got.Outages)
		}
	}
}
