package kubeapiserver

import (
	"context"
	"errors"
	"fmt"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	genericapifilters "k8s.io/apiserver/pkg/endpoints/filters"
	"k8s.io/apiserver/pkg/registry/generic"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/util/notfoundhandler"
	"k8s.io/kube-openapi/pkg/common"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"

	"github.com/annex-api/annex/kubeapiserver/internal/openapidocs"
	"github.com/annex-api/annex/kubeapiserver/internal/watchcache"
)

// Server is a kube-apiserver that is not running yet.
type Server struct {
	// GenericAPIServer is the first in the chain: the one that listens.
	GenericAPIServer *genericapiserver.GenericAPIServer

	layer          *layer
	releaseOpenAPI func()
}

// PreparedServer is a Server that is ready to Run.
type PreparedServer struct {
	run   func(context.Context) error
	layer *layer
}

// CreateServerChain builds the chain of API servers as the reference does
// (cmd/kube-apiserver/app/server.go): the aggregation layer in front, then
// kube-apiserver's own API, then that of CustomResourceDefinitions, then 404. It
// takes the config over and changes it: make each chain of a config of its own.
func CreateServerChain(config app.CompletedConfig, options ...Option) (*Server, error) {
	var o chainOptions
	for _, set := range options {
		set(&o)
	}
	apis, crdAPIs, layerAPIs := config.KubeAPIs.ControlPlane.Generic, config.ApiExtensions.GenericConfig, config.Aggregator.GenericConfig
	ownOpenAPI(config.Aggregator.GenericConfig)
	release := func() {}
	ownDocuments := !o.plain && !apis.SkipOpenAPIInstallation
	if !o.plain {
		for _, options := range []*generic.RESTOptionsGetter{
			&apis.RESTOptionsGetter, &crdAPIs.RESTOptionsGetter, &layerAPIs.RESTOptionsGetter, &config.ApiExtensions.ExtraConfig.CRDRESTOptionsGetter,
		} {
			*options = watchcache.Align(*options)
		}
		apis.SkipOpenAPIInstallation = true
		release = openapidocs.Releasing(
			[]*common.Config{apis.OpenAPIConfig, crdAPIs.OpenAPIConfig, layerAPIs.OpenAPIConfig},
			[]*common.OpenAPIV3Config{apis.OpenAPIV3Config, crdAPIs.OpenAPIV3Config, layerAPIs.OpenAPIV3Config},
		)
	}
	notFound := notfoundhandler.New(config.KubeAPIs.ControlPlane.Generic.Serializer, genericapifilters.NoMuxAndDiscoveryIncompleteKey)
	crdServer, err := config.ApiExtensions.New(genericapiserver.NewEmptyDelegateWithCustomHandler(notFound))
	if err != nil {
		return nil, fmt.Errorf("creating the CustomResourceDefinition server: %w", err)
	}
	kubeServer, err := config.KubeAPIs.New(crdServer.GenericAPIServer)
	if err != nil {
		return nil, fmt.Errorf("creating the built-in API server: %w", err)
	}
	if ownDocuments {
		h := kubeServer.ControlPlane.GenericAPIServer.Handler
		openapidocs.Install(h.GoRestfulContainer, h.NonGoRestfulMux, apis.OpenAPIConfig, apis.OpenAPIV3Config)
	}
	crds := crdSource{
		informer: crdServer.Informers.Apiextensions().V1().CustomResourceDefinitions(),
		enabled: config.ApiExtensions.GenericConfig.MergedResourceConfig.ResourceEnabled(
			apiextensionsv1.SchemeGroupVersion.WithResource("customresourcedefinitions")),
	}
	server, l, err := newAggregatingServer(config, kubeServer.ControlPlane.GenericAPIServer, crds, o)
	if err != nil {
		return nil, fmt.Errorf("creating the aggregation layer: %w", err)
	}
	return &Server{GenericAPIServer: server, layer: l, releaseOpenAPI: release}, nil
}

// PrepareRun finishes the setup: OpenAPI documents of the chain, health checks
// and post-start hooks.
func (s *Server) PrepareRun() (PreparedServer, error) {
	prepared := s.GenericAPIServer.PrepareRun()
	s.releaseOpenAPI()
	return PreparedServer{run: prepared.RunWithContext, layer: s.layer}, nil
}

// Run serves until ctx ends, then shuts down gracefully. So it does when the layer
// cannot go on, and returns why: a server without it would route by what was once
// registered.
func (p PreparedServer) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	failure := make(chan error, 1)
	go func() {
		select {
		case err := <-p.layer.failed:
			cancel()
			failure <- err
		case <-ctx.Done():
			failure <- nil
		}
	}()
	err := p.run(ctx)
	cancel()
	p.layer.work.Wait()
	return errors.Join(<-failure, err)
}
