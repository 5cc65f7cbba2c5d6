// Command testserver is a small extension API server for tests that need a real host:
// its certificate, its registration, its admission, and nothing that hides them.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	genericapiserver "k8s.io/apiserver/pkg/server"
	apiserveroptions "k8s.io/apiserver/pkg/server/options"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	aggregatorclient "k8s.io/kube-aggregator/pkg/client/clientset_generated/clientset"

	"github.com/annex-api/annex/extension/internal/admission"
	"github.com/annex-api/annex/extension/internal/host"
	"github.com/annex-api/annex/extension/internal/identity"
	"github.com/annex-api/annex/extension/internal/kind"
	"github.com/annex-api/annex/extension/internal/registration"
	"github.com/annex-api/annex/extension/internal/server"
	"github.com/annex-api/annex/extension/internal/serving"
	"github.com/annex-api/annex/extension/internal/store"
	"github.com/annex-api/annex/extension/storage"
	"github.com/annex-api/annex/extension/storage/embedded"
)

type settings struct {
	name, namespace, group, kubeconfig, data, secret string
	port                                             int
	life, caLife, overlap                            time.Duration
	manifest, admissionOn                            bool
}

func main() {
	var s settings
	flag.StringVar(&s.name, "name", "notes", "of the server, its Service and its ClusterRole")
	flag.StringVar(&s.namespace, "namespace", "default", "of the Service")
	flag.StringVar(&s.group, "group", "notes.example.com", "API group")
	flag.StringVar(&s.kubeconfig, "kubeconfig", "", "leads to the host")
	flag.StringVar(&s.data, "data", "", "absolute path of a directory")
	flag.StringVar(&s.secret, "secret", "", "that replicas share; a certificate in memory if empty")
	flag.IntVar(&s.port, "port", 0, "on loopback")
	flag.DurationVar(&s.life, "life", 0, "of a certificate")
	flag.DurationVar(&s.caLife, "ca-life", 0, "of a CA")
	flag.DurationVar(&s.overlap, "overlap", 0, "of two CAs")
	flag.BoolVar(&s.admissionOn, "admission-on", false, "not ready before the host's policies are seen")
	flag.BoolVar(&s.manifest, "manifest", false, "print the rights that are needed, as JSON, and end")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	do := s.serve
	if s.manifest {
		do = s.print
	}
	if err := do(ctx); err != nil {
		klog.ErrorS(err, "The server ends")
		stop()
		os.Exit(1)
	}
}

func (s settings) gv() schema.GroupVersion { return schema.GroupVersion{Group: s.group, Version: "v1"} }

func (s settings) rights() []host.Right {
	return host.Server{
		APIServices: []string{registration.APIService{GroupVersion: s.gv()}.Name()}, Owner: s.name,
		Secret: types.NamespacedName{Namespace: s.namespace, Name: s.secret},
	}.Rights()
}

func (s settings) print(context.Context) error {
	return json.NewEncoder(os.Stdout).Encode(host.ManifestOf(s.rights()))
}

// clients lead to the host.
type clients struct {
	config  *rest.Config
	kube    kubernetes.Interface
	dynamic dynamic.Interface
	apis    aggregatorclient.Interface
}

func (s settings) clients() (c clients, err error) {
	if c.config, err = clientcmd.BuildConfigFromFlags("", s.kubeconfig); err != nil {
		return c, fmt.Errorf("read the kubeconfig: %w", err)
	}
	c.config.QPS = -1
	var errs [3]error
	c.kube, errs[0] = kubernetes.NewForConfig(c.config)
	c.dynamic, errs[1] = dynamic.NewForConfig(c.config)
	c.apis, errs[2] = aggregatorclient.NewForConfig(c.config)
	return c, errors.Join(errs[:]...)
}

func (s settings) serve(ctx context.Context) error {
	c, err := s.clients()
	if err != nil {
		return err
	}
	service, log := types.NamespacedName{Namespace: s.namespace, Name: s.name}, klog.Background()
	o := serving.Options{Name: s.name, Service: service, Life: s.life, CALife: s.caLife, Overlap: s.overlap, Log: log}
	if s.secret != "" {
		o.Secret = serving.Secret{Client: c.kube.CoreV1().Secrets(s.namespace), Name: s.secret}
	}
	certificate, err := serving.New(ctx, o)
	if err != nil {
		return err
	}
	verdict, err := host.Look(ctx, c.kube, s.rights())
	if err != nil {
		return err
	}
	params, err := host.Params(ctx, c.kube, verdict, []string{s.group})
	if err != nil {
		return err
	}
	ofParams, err := host.Look(ctx, c.kube, params)
	if err != nil {
		return err
	}
	for _, m := range append(verdict.Missing(), ofParams.Missing()...) {
		log.Info("Missing right: " + m.String())
	}
	inner, informers, err := s.server(ctx, c, certificate, verdict)
	if err != nil {
		return err
	}
	register, err := registration.New(registration.Options{
		Name: s.name, APIServices: []registration.APIService{{GroupVersion: s.gv()}}, Service: service, Port: int32(s.port), Owner: s.name,
		Bundle: certificate.Bundle, Ready: inner.Ready(),
		Client: c.apis.ApiregistrationV1().APIServices(), ClusterRoles: c.kube.RbacV1().ClusterRoles(), Log: log,
	})
	if err != nil {
		return errors.Join(err, inner.Close())
	}
	var group sync.WaitGroup
	errs := make(chan error, 4)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, run := range []func(context.Context) error{func(ctx context.Context) error { return inner.Run(ctx, server.Beside{}) }, certificate.Run, informers.Run, register.Run} {
		group.Go(func() {
			defer cancel()
			errs <- run(ctx)
		})
	}
	group.Wait()
	close(errs)
	for e := range errs {
		err = errors.Join(err, e)
	}
	return err
}

// server puts the parts together that package extension does not know here.
func (s settings) server(ctx context.Context, c clients, certificate *serving.Certificate, verdict host.Verdict) (*server.Server, *admission.Informers, error) {
	k, documents, err := notes(s.gv())
	if err != nil {
		return nil, nil, err
	}
	endpoint, err := storage.Open(ctx, "embedded://"+s.data, klog.Background(), embedded.Driver())
	if err != nil {
		return nil, nil, err
	}
	opened, err := store.Open(ctx, endpoint)
	if err != nil {
		return nil, nil, err
	}
	listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", s.port))
	if err != nil {
		return nil, nil, errors.Join(err, opened.Close())
	}
	var informers *admission.Informers
	inner, err := server.New(ctx, server.Config{
		Declared: server.Declared{Kinds: []*kind.Kind{k}, OpenAPI: documents},
		Name:     s.name, Storage: opened, Prefix: "/registry/" + s.name,
		RequestTimeout: 30 * time.Second, Drain: time.Second,
		Serving: func(config *genericapiserver.Config) error {
			secure := apiserveroptions.NewSecureServingOptions()
			secure.Listener, secure.ServerCert.GeneratedCert, secure.ServerCert.CertDirectory = listener, certificate, ""
			return secure.ApplyTo(&config.SecureServing)
		},
		Identity: func(ctx context.Context, config *genericapiserver.Config) error {
			_, err := identity.Delegate(ctx, c.config, config) // the process ends if the server does not run
			return err
		},
		Policies: func(config *genericapiserver.Config) (err error) {
			mode := admission.Auto
			if s.admissionOn {
				mode = admission.On
			}
			informers, err = admission.Apply(config, admission.Options{Admission: mode, Verdict: verdict, Client: c.kube, Dynamic: c.dynamic, Log: klog.Background()})
			return err
		},
	})
	if err != nil {
		return nil, nil, errors.Join(err, listener.Close(), opened.Close())
	}
	return inner, informers, nil
}
