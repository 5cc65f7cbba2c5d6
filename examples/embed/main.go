// Command embed mounts the aggregation layer in a program of its own: no
// Kubernetes, no Services, no etcd. README.md shows what to try.
package main

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/url"

	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/request"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/annex-api/annex/aggregator"
)

func main() {
	handler, err := newHandler(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("serving on http://127.0.0.1:8080")
	log.Fatal(http.ListenAndServe("127.0.0.1:8080", handler))
}

// resolver says where extension servers are: all of them at one address.
type resolver string

func (r resolver) ResolveEndpoint(namespace, name string, port int32) (*url.URL, error) {
	return &url.URL{Scheme: "https", Host: string(r)}, nil
}

// newHandler returns the program's own handler with the layer in front of it.
func newHandler(ctx context.Context) (http.Handler, error) {
	address, ca, err := startExtensionServer(ctx)
	if err != nil {
		return nil, err
	}
	greetings := &apiregistrationv1.APIService{Spec: apiregistrationv1.APIServiceSpec{
		Group: "example.com", Version: "v1", CABundle: ca, GroupPriorityMinimum: 1000, VersionPriority: 10,
		Service: &apiregistrationv1.ServiceReference{Namespace: "demo", Name: "greetings"},
	}}
	greetings.Name = "v1.example.com"
	layer, err := aggregator.New(aggregator.Config{
		Resolver: resolver(address),
		Source:   aggregator.NewStaticSource(aggregator.State{APIServices: []*apiregistrationv1.APIService{greetings}}),
	})
	if err != nil {
		return nil, err
	}
	go layer.Run(ctx)
	own := layer.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "the program's own answer")
	}))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Authenticate here; the layer passes the identity on.
		guest := &user.DefaultInfo{Name: "guest", Groups: []string{user.AllAuthenticated}}
		own.ServeHTTP(w, r.WithContext(request.WithUser(r.Context(), guest)))
	}), nil
}
