package kubeapiserver

import (
	"fmt"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/emicklei/go-restful/v3"
	apiextensionsinformers "k8s.io/apiextensions-apiserver/pkg/client/informers/externalversions/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/endpoints/discovery/aggregated"
	genericfeatures "k8s.io/apiserver/pkg/features"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/mux"
	"k8s.io/apiserver/pkg/server/routes"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/client-go/kubernetes"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	"k8s.io/kube-aggregator/pkg/client/clientset_generated/clientset"
	apiregistrationinformers "k8s.io/kube-aggregator/pkg/client/informers/externalversions"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"

	"github.com/annex-api/annex/aggregator"
	aggregationv1alpha1 "github.com/annex-api/annex/apis/aggregation/v1alpha1"
	"github.com/annex-api/annex/kubeapiserver/internal/connauth"
	"github.com/annex-api/annex/kubeapiserver/internal/openapidocs"
	"github.com/annex-api/annex/kubeapiserver/internal/priorities"
)

const (
	// apiServiceResync is how often the APIService informer repeats itself.
	apiServiceResync = 5 * time.Minute
	// registrationPriority puts apiregistration.k8s.io before all other groups;
	// an APIService may ask for 20000 at most.
	registrationPriority = 20001
)

// crdSource tells of CustomResourceDefinitions.
type crdSource struct {
	informer apiextensionsinformers.CustomResourceDefinitionInformer
	enabled  bool
}

// newAggregatingServer builds the server that stands first in the chain: it
// stores APIServices, and the layer in it routes to extension servers.
func newAggregatingServer(config app.CompletedConfig, delegate genericapiserver.DelegationTarget, crds crdSource, o chainOptions) (*genericapiserver.GenericAPIServer, *layer, error) {
	generic, extra := config.Aggregator.GenericConfig, config.Aggregator.ExtraConfig
	registrations, err := clientset.NewForConfig(generic.LoopbackClientConfig)
	if err != nil {
		return nil, nil, fmt.Errorf("making the APIService client: %w", err)
	}
	client, err := kubernetes.NewForConfig(generic.LoopbackClientConfig)
	if err != nil {
		return nil, nil, fmt.Errorf("making the loopback client: %w", err)
	}
	informers := apiregistrationinformers.NewSharedInformerFactory(registrations, apiServiceResync)
	apiServices := informers.Apiregistration().V1().APIServices()

	var peers aggregated.PeerAggregatedResourceManager
	if utilfeature.DefaultFeatureGate.Enabled(genericfeatures.UnknownVersionInteroperabilityProxy) && extra.PeerProxy != nil {
		peers = newPeerDiscovery(generic.APIServerID, generic.AggregatedDiscoveryGroupManager, extra.PeerProxy)
		extra.PeerProxy.RegisterCacheInvalidationCallback(peers.InvalidateCache)
	}

	ownTypes := mux.NewPathRecorderMux("aggregation-layer-openapi")
	openAPI := []http.Handler{ownTypes}
	for d := delegate; d != nil; d = d.NextDelegate() {
		if h := d.UnprotectedHandler(); h != nil && (d.NextDelegate() != nil || len(d.ListedPaths()) > 0) {
			openAPI = append(openAPI, h)
		}
	}
	paths, events := &listedPaths{}, newEvents(client)
	l, err := newLayer(config, layerParts{
		client: client, registrations: registrations, informers: informers,
		peers: peers, openAPI: openAPI,
		paths: paths.list, events: events,
	}, o)
	if err != nil {
		return nil, nil, err
	}

	affected := newAffected(client)
	kinds, err := remoteAPIServices(l.aggregator, affected)
	if err != nil {
		return nil, nil, err
	}
	kinds.Describe(generic.Config)
	if o.plain {
		generic.BuildHandlerChainFunc = behindFilters(l.aggregator, generic.BuildHandlerChainFunc)
	} else if err := tune(generic, l.aggregator, o); err != nil {
		return nil, nil, err
	}
	server, err := generic.New("kube-aggregator", delegate)
	if err != nil {
		return nil, nil, err
	}
	paths.of.Store(server)
	// The filters lead to the layer already, in front of the director of before. This
	// is for servers in front of this one, which call it without filters.
	server.Handler.Director = l.aggregator.Handler(server.Handler.Director)
	if peers != nil {
		server.PeerAggregatedDiscoveryManager = peers
		if err := registerWithPeerProxy(extra.PeerProxy, crds, apiServices); err != nil {
			return nil, nil, err
		}
	}

	owners := groupVersionOwners{builtIn: groupVersionsOf(delegate), crds: crds}
	if err := installAPIServices(server, generic, owners, events); err != nil {
		return nil, nil, err
	}
	if err := installRemoteAPIServices(server, generic, kinds, affected, newViewRole(client.RbacV1()), &l.work); err != nil {
		return nil, nil, err
	}
	installOwnDocuments(server.Handler.GoRestfulContainer, ownTypes, generic, o)
	installConsole(server, generic.Authorization.Authorizer, generic.LoopbackClientConfig)
	setPriorities(generic.AggregatedDiscoveryGroupManager)

	if err := server.RegisterMuxAndDiscoveryCompleteSignal("APIServiceRegistrationControllerInitiated", l.aggregator.Routes()); err != nil {
		return nil, nil, err
	}
	if err := addAutoRegistration(server, delegate, crds, registrations, apiServices, &l.work); err != nil {
		return nil, nil, err
	}
	if err := addHooks(server, l, informers, generic.SharedInformerFactory, events); err != nil {
		return nil, nil, err
	}
	return server, l, nil
}

// listedPaths are the paths of a server that the layer, which lists them, is made
// before. Until there is one there are none.
type listedPaths struct {
	of atomic.Pointer[genericapiserver.GenericAPIServer]
}

func (p *listedPaths) list() []string {
	if server := p.of.Load(); server != nil {
		return server.ListedPaths()
	}
	return nil
}

// tune changes parts of kube-apiserver before the layer, for what they cost each
// request.
func tune(generic genericapiserver.CompletedConfig, layer *aggregator.Aggregator, o chainOptions) error {
	if !o.verifyEachRequest && generic.SecureServing != nil {
		observe, err := expirationObserver()
		if err != nil {
			return err
		}
		generic.Authentication.Authenticator = connauth.Remember(
			generic.Authentication.Authenticator, generic.SecureServing.ClientCA, generic.Authentication.RequestHeaderConfig, observe)
	}
	if generic.FlowControl != nil {
		generic.FlowControl = delegatingFairness{generic.FlowControl, layer}
	}
	generic.BuildHandlerChainFunc = claimedPaths(layer, generic.BuildHandlerChainFunc)
	return nil
}

// installOwnDocuments serves the OpenAPI documents of the layer's own types.
func installOwnDocuments(container *restful.Container, to *mux.PathRecorderMux, generic genericapiserver.CompletedConfig, o chainOptions) {
	if !o.plain {
		openapidocs.Install(container, to, generic.OpenAPIConfig, generic.OpenAPIV3Config)
		return
	}
	documents := routes.OpenAPI{Config: generic.OpenAPIConfig, V3Config: generic.OpenAPIV3Config}
	if documents.Config != nil {
		documents.InstallV2(container, to)
	}
	if documents.V3Config != nil {
		documents.InstallV3(container, to)
	}
}

// setPriorities orders the built-in groups in the aggregated discovery
// document.
func setPriorities(manager aggregated.ResourceManager) {
	if manager == nil {
		return
	}
	for gv, p := range priorities.All() {
		manager.SetGroupVersionPriority(metav1.GroupVersion(gv), int(p.Group), int(p.Version))
	}
	manager.SetGroupVersionPriority(metav1.GroupVersion(apiregistrationv1.SchemeGroupVersion), registrationPriority, 0)
	manager.SetGroupVersionPriority(metav1.GroupVersion(aggregationv1alpha1.GroupVersion), 0, 0) // last, as in /apis
}

// loopbackHost is this server's own host:port.
func loopbackHost(host string) string {
	if u, err := url.Parse(host); err == nil && u.Host != "" {
		return u.Host
	}
	return host
}
