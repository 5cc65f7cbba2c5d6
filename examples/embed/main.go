// Command embed mounts the aggregation layer in a program of its own: no
// Kubernetes, no Services, no etcd. README.md shows what to try.
package main

import (
	"context"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/request"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/annex-api/annex/aggregator"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	extension, ca, stop, err := startExtensionServer()
	if err != nil {
		return err
	}
	defer stop()
	listener, err := net.Listen("tcp", "127.0.0.1:8080")
	if err != nil {
		return err
	}
	fmt.Println("serving on http://" + listener.Addr().String())
	return serve(ctx, listener, aggregator.NewStaticSource(greetings(ca)), extension)
}

// greetings claims example.com/v1 for the extension server with that CA.
func greetings(ca []byte) aggregator.State {
	o := &apiregistrationv1.APIService{Spec: apiregistrationv1.APIServiceSpec{
		Group: "example.com", Version: "v1", CABundle: ca, GroupPriorityMinimum: 1000, VersionPriority: 10,
		Service: &apiregistrationv1.ServiceReference{Namespace: "demo", Name: "greetings"},
	}}
	o.Name = "v1.example.com"
	return aggregator.State{APIServices: []*apiregistrationv1.APIService{o}}
}

// resolver says where extension servers are: all of them at one address.
type resolver string

func (r resolver) ResolveEndpoint(namespace, name string, port int32) (*url.URL, error) {
	return &url.URL{Scheme: "https", Host: string(r)}, nil
}

// serve answers requests until ctx ends, with the layer in front of the program's
// own handler: first the server ends, with the requests under way, then the layer. It
// ends with an error where one of the two fails: a layer whose Source has failed
// learns of no change any more.
func serve(ctx context.Context, listener net.Listener, source aggregator.Source, extension string) error {
	layer, err := aggregator.New(aggregator.Config{Source: source, Resolver: resolver(extension)})
	if err != nil {
		return err
	}
	own := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "the program's own answer") })
	server := &http.Server{Handler: authenticate(layer.Handler(own))}

	working, stopLayer := context.WithCancel(context.WithoutCancel(ctx))
	defer stopLayer()
	serving, running := make(chan error, 1), make(chan error, 1)
	go func() { serving <- server.Serve(listener) }()
	go func() { running <- layer.Run(working) }()
	select {
	case <-ctx.Done():
		bounded, cancel := context.WithTimeout(working, 10*time.Second)
		defer cancel()
		if server.Shutdown(bounded) != nil {
			_ = server.Close() // a watch lasts as long as its client wants
		}
		<-serving
		stopLayer()
		<-running
		return nil
	case err = <-serving:
		stopLayer()
		<-running
	case err = <-running:
		_ = server.Close()
		<-serving
	}
	return fmt.Errorf("serving ended: %w", err)
}

// requests reads of each request's path and method what it asks for.
var requests = &request.RequestInfoFactory{APIPrefixes: sets.NewString("api", "apis"), GrouplessAPIPrefixes: sets.NewString("api")}

// authenticate is where a program finds out who asks, and for what; the layer passes
// the identity on, and treats a watch as one. Here everybody is a guest.
func authenticate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		guest := &user.DefaultInfo{Name: "guest", Groups: []string{user.AllAuthenticated}}
		ctx := request.WithUser(r.Context(), guest)
		info, err := requests.NewRequestInfo(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		next.ServeHTTP(w, r.WithContext(request.WithRequestInfo(ctx, info)))
	})
}
