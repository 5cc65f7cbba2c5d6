package deploy

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/authentication/user"
	endpointmetrics "k8s.io/apiserver/pkg/endpoints/metrics"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/legacyregistry"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/annex-api/annex/aggregator"
	"github.com/annex-api/annex/diagnosis"
	"github.com/annex-api/annex/internal/testcerts"
)

const namespace = "extensions"

// extension is an extension server for one group version, v1.<name>.example, with one
// resource, things. Its replicas are all alike, but for those that are dead.
type extension struct {
	name     string
	settings map[string]string // annotations of the APIService
	expires  time.Duration     // of the serving certificate; zero for a year
	verified bool              // the APIService names the authority
	old      bool              // the serving certificate has lived for most of its time
	// dead is how many addresses beside the server's own lead nowhere.
	dead int
	// broken says that all but the resource itself is answered with 500.
	broken bool
	// things answers requests for things. It may be nil.
	things func(w http.ResponseWriter, r *http.Request, replica int)

	addresses []string
	authority []byte // PEM
}

func (e *extension) apiService() string { return "v1." + e.name + ".example" }

func (e *extension) service() string { return namespace + "/" + e.name + ":443" }

// start runs so many replicas until the test ends.
func (e *extension) start(t *testing.T, replicas int) {
	t.Helper()
	expires := e.expires
	if expires == 0 {
		expires = 365 * 24 * time.Hour
	}
	subject := testcerts.Subject{Hosts: []string{e.name + "." + namespace + ".svc"}, NotAfter: time.Now().Add(expires)}
	if e.old {
		subject.NotBefore = time.Now().Add(-10 * expires)
	}
	ca := testcerts.New(e.name)
	pair := ca.Issue(subject)
	if e.verified {
		e.authority = ca.PEM
	}
	for replica := range replicas {
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { e.serve(w, r, replica) }))
		s.TLS = &tls.Config{Certificates: []tls.Certificate{pair.TLS()}}
		s.EnableHTTP2 = true
		s.Config.ErrorLog = log.New(io.Discard, "", 0)
		s.StartTLS()
		t.Cleanup(func() {
			s.CloseClientConnections()
			s.Close()
		})
		e.addresses = append(e.addresses, s.Listener.Addr().String())
	}
	for range e.dead {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		var accepting sync.WaitGroup
		accepting.Go(func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				_ = conn.Close()
			}
		})
		t.Cleanup(func() {
			_ = l.Close()
			accepting.Wait()
		})
		e.addresses = append(e.addresses, l.Addr().String())
	}
}

func (e *extension) serve(w http.ResponseWriter, r *http.Request, replica int) {
	gv := e.name + ".example/v1"
	verbs := metav1.Verbs{"get", "list", "watch"}
	switch path := r.URL.Path; {
	case path == "/apis/"+gv+"/things" && e.things != nil:
		e.things(w, r, replica)
	case e.broken:
		w.WriteHeader(http.StatusInternalServerError)
	case path == "/apis/"+gv+"/things" && r.URL.Query().Get("watch") != "":
		_, _ = io.WriteString(w, `{"type":"BOOKMARK","object":{"kind":"Thing","apiVersion":"`+gv+
			`","metadata":{"resourceVersion":"1","annotations":{"k8s.io/initial-events-end":"true"}}}}`)
	case path == "/apis/"+gv:
		_ = json.NewEncoder(w).Encode(metav1.APIResourceList{
			TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: gv,
			APIResources: []metav1.APIResource{{Name: "things", Kind: "Thing", Verbs: verbs}},
		})
	case path == "/openapi/v2":
		_, _ = io.WriteString(w, `{"swagger":"2.0","info":{"title":"x","version":"1"},"paths":{"/apis/`+gv+`/things":{"get":{"responses":{"200":{"description":"OK"}}}}}}`)
	case path == "/apis/"+gv+"/things":
		_, _ = io.WriteString(w, `{"kind":"ThingList","items":[]}`)
	default:
		http.NotFound(w, r)
	}
}

// object is its APIService. Most certificates are not verified: the authority of a test does not
// last as long as those of the servers here.
func (e *extension) object() *apiregistrationv1.APIService {
	return &apiregistrationv1.APIService{
		ObjectMeta: metav1.ObjectMeta{Name: e.apiService(), UID: types.UID(e.name), Annotations: e.settings},
		Spec: apiregistrationv1.APIServiceSpec{
			Group: e.name + ".example", Version: "v1", GroupPriorityMinimum: 1000, VersionPriority: 10, InsecureSkipTLSVerify: !e.verified, CABundle: e.authority,
			Service: &apiregistrationv1.ServiceReference{Namespace: namespace, Name: e.name},
		},
	}
}

func (e *extension) facts() aggregator.ServiceFacts {
	facts := aggregator.ServiceFacts{Service: &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: e.name},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP, ClusterIP: corev1.ClusterIPNone, Ports: []corev1.ServicePort{{Name: "https", Port: 443}}},
	}}
	for _, address := range e.addresses {
		host, text, _ := net.SplitHostPort(address)
		port, _ := strconv.Atoi(text)
		name, number := "https", int32(port)
		facts.Slices = append(facts.Slices, &discoveryv1.EndpointSlice{
			AddressType: discoveryv1.AddressTypeIPv4,
			Ports:       []discoveryv1.EndpointPort{{Name: &name, Port: &number}},
			Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{host}}},
		})
	}
	return facts
}

// state is what a host knows of them, without the Services that are left out.
func state(all []*extension, without ...*extension) aggregator.State {
	s := aggregator.State{Services: map[types.NamespacedName]aggregator.ServiceFacts{}}
	for _, e := range all {
		s.APIServices = append(s.APIServices, e.object())
		s.Services[types.NamespacedName{Namespace: namespace, Name: e.name}] = e.facts()
	}
	for _, e := range without {
		delete(s.Services, types.NamespacedName{Namespace: namespace, Name: e.name})
	}
	return s
}

// apiServer is a layer at work with a server that has its metrics at /metrics.
type apiServer struct {
	source *aggregator.StaticSource
	server *httptest.Server
}

// startAPIServer runs one until the test ends. It does not reach the addresses that are cut
// off.
func startAPIServer(t *testing.T, initial aggregator.State, proxyPair *testcerts.Pair, cutOff ...string) *apiServer {
	t.Helper()
	a := &apiServer{source: aggregator.NewStaticSource(initial)}
	m, registry := aggregator.NewMetrics(), metrics.NewKubeRegistry()
	if err := m.Register(registry.Register, func(c metrics.StableCollector) error { return registry.CustomRegister(c) }); err != nil {
		t.Fatal(err)
	}
	endpointmetrics.Register() // of answers that the layer gives; one for the process
	dialer := &net.Dialer{Timeout: 10 * time.Second}
	config := aggregator.Config{
		Source: a.source, Metrics: m, Addressing: aggregator.EndpointAddresses, FaultCode: faultCode,
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			for _, c := range cutOff {
				if address == c {
					return nil, errors.New("the network is cut here")
				}
			}
			return dialer.DialContext(ctx, network, address)
		},
	}
	if proxyPair != nil {
		config.ClientCertificate = func() (cert, key []byte) { return proxyPair.Cert, proxyPair.Key }
	}
	layer, err := aggregator.New(config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- layer.Run(ctx) }()

	infos := &request.RequestInfoFactory{APIPrefixes: sets.NewString("api", "apis"), GrouplessAPIPrefixes: sets.NewString("api")}
	handler := layer.Handler(promhttp.HandlerFor(prometheus.Gatherers{registry, legacyregistry.DefaultGatherer}, promhttp.HandlerOpts{}))
	a.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := request.WithUser(r.Context(), &user.DefaultInfo{Name: "alice"})
		if info, err := infos.NewRequestInfo(r); err == nil {
			ctx = request.WithRequestInfo(ctx, info)
		}
		handler.ServeHTTP(w, r.WithContext(ctx))
	}))
	t.Cleanup(func() {
		a.server.CloseClientConnections()
		a.server.Close()
		stop()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the layer ended with %v", err)
		}
	})
	select {
	case <-layer.Routes():
	case <-time.After(patience):
		t.Fatal("nothing was routed")
	}
	return a
}

// faultCode is as Annex's own API server has it.
func faultCode(reason string) string {
	code, _ := diagnosis.CodeOf(reason)
	return string(code)
}

func (a *apiServer) target() string { return strings.TrimPrefix(a.server.URL, "http://") }

// get asks for the things of an extension server.
func (a *apiServer) get(ctx context.Context, e *extension) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, a.server.URL+"/apis/"+e.name+".example/v1/things", nil)
	if err != nil {
		panic(err)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return // the test is over
	}
	_, _ = io.Copy(io.Discard, response.Body)
	_ = response.Body.Close()
}
