package aggregator_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/client-go/util/cert"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/annex-api/annex/aggregator"
)

// An extension server that greets who asks, a host that has no Services, and the
// layer between them.
func Example() {
	extension, ca := startExtensionServer("greetings.demo.svc")
	defer extension.Close()

	// What goes in: one APIService, and where its extension server is.
	layer, err := aggregator.New(aggregator.Config{
		Source: aggregator.NewStaticSource(aggregator.State{APIServices: []*apiregistrationv1.APIService{{
			ObjectMeta: metav1.ObjectMeta{Name: "v1.example.com"},
			Spec: apiregistrationv1.APIServiceSpec{
				Group: "example.com", Version: "v1", GroupPriorityMinimum: 1000, VersionPriority: 10, CABundle: ca,
				Service: &apiregistrationv1.ServiceReference{Namespace: "demo", Name: "greetings"},
			},
		}}}),
		Resolver: oneAddress(extension.Listener.Addr().String()),
	})
	if err != nil {
		log.Fatal(err)
	}

	// Run works until its context ends. What it returns is the host's to heed.
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- layer.Run(ctx) }()
	select {
	case <-layer.Routes():
	case err := <-ended:
		log.Fatal(err)
	}

	// What comes out: a handler around the host's own.
	own := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "the host's own answer") })
	host := httptest.NewServer(authenticate(layer.Handler(own)))
	fmt.Println(get(host.URL + "/apis/example.com/v1/greetings"))
	fmt.Println(get(host.URL + "/hello"))

	// Stop: no more requests, then the layer, which is waited for.
	host.Close()
	stop()
	fmt.Println(<-ended)

	// Output:
	// hello alice
	// the host's own answer
	// context canceled
}

// oneAddress is a Resolver for a host whose extension servers are all at one
// address.
type oneAddress string

func (a oneAddress) ResolveEndpoint(namespace, name string, port int32) (*url.URL, error) {
	return &url.URL{Scheme: "https", Host: string(a)}, nil
}

// authenticate stands for the host's authentication and authorization. It puts the
// user and the RequestInfo where the layer looks for them. In a Kubernetes API
// server the filters of k8s.io/apiserver do that.
func authenticate(next http.Handler) http.Handler {
	infos := &request.RequestInfoFactory{APIPrefixes: sets.NewString("api", "apis"), GrouplessAPIPrefixes: sets.NewString("api")}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		info, err := infos.NewRequestInfo(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		ctx := request.WithUser(r.Context(), &user.DefaultInfo{Name: "alice", Groups: []string{user.AllAuthenticated}})
		next.ServeHTTP(w, r.WithContext(request.WithRequestInfo(ctx, info)))
	})
}

// startExtensionServer serves example.com/v1 with a certificate for that name,
// which is <service>.<namespace>.svc. Its CA is what an APIService's caBundle has.
func startExtensionServer(name string) (server *httptest.Server, ca []byte) {
	ca, key, err := cert.GenerateSelfSignedCertKey(name, nil, nil)
	if err != nil {
		log.Fatal(err)
	}
	pair, err := tls.X509KeyPair(ca, key)
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/apis/example.com/v1", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"kind":"APIResourceList","apiVersion":"v1","groupVersion":"example.com/v1","resources":[
			{"name":"greetings","singularName":"greeting","namespaced":false,"kind":"Greeting","verbs":["list"]}]}`)
	})
	mux.HandleFunc("/apis/example.com/v1/greetings", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "hello "+r.Header.Get("X-Remote-User"))
	})
	server = httptest.NewUnstartedServer(mux)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	server.EnableHTTP2 = true
	server.StartTLS()
	return server, ca
}

func get(url string) string {
	response, err := http.Get(url)
	if err != nil {
		log.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		log.Fatal(err)
	}
	return string(body)
}

// A host that stores APIServices refuses settings that are wrong.
func ExampleValidateSettings() {
	annotations := map[string]string{
		"aggregation.annex.dev/request-timeout": "90s",
		"aggregation.annex.dev/max-in-flight":   "many",
		"aggregation.annex.dev/zones":           "ignore",
		"example.com/owner":                     "not the layer's",
	}
	for _, err := range aggregator.ValidateSettings(annotations, field.NewPath("metadata", "annotations")) {
		fmt.Println(strings.Split(err.Error(), ";")[0])
	}

	// Output:
	// metadata.annotations[aggregation.annex.dev/max-in-flight]: Invalid value: "many": must be a number from 1 to 100000, for example "200"
	// metadata.annotations[aggregation.annex.dev/zones]: Invalid value: "ignore": is not a setting
}

// A Source of one's own publishes the complete State again after each change, and
// ends with its context or with what went wrong.
func ExampleSource() {
	lists := make(chan []string, 2)
	lists <- []string{"v1.example.com"}
	close(lists)
	layer, err := aggregator.New(aggregator.Config{
		Source:   registry{lists},
		Resolver: oneAddress("127.0.0.1:6443"),
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(layer.Run(context.Background()))

	// Output:
	// aggregator: running the Source: the registry hung up
}

// registry is a Source over a channel with the names of APIServices.
type registry struct{ lists <-chan []string }

func (r registry) Run(ctx context.Context, publish func(aggregator.State)) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case names, open := <-r.lists:
			if !open {
				return errors.New("the registry hung up")
			}
			publish(stateOf(names))
		}
	}
}

func stateOf(names []string) aggregator.State {
	var s aggregator.State
	for _, name := range names {
		version, group, _ := strings.Cut(name, ".")
		s.APIServices = append(s.APIServices, &apiregistrationv1.APIService{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec: apiregistrationv1.APIServiceSpec{
				Group: group, Version: version, GroupPriorityMinimum: 1000, VersionPriority: 10,
				Service: &apiregistrationv1.ServiceReference{Namespace: "demo", Name: group},
			},
		})
	}
	return s
}
