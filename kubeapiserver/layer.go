package kubeapiserver

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"reflect"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apiserver/pkg/endpoints/discovery/aggregated"
	genericfeatures "k8s.io/apiserver/pkg/features"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	"k8s.io/apiserver/pkg/server/egressselector"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/component-base/metrics/legacyregistry"
	"k8s.io/klog/v2"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	"k8s.io/kube-aggregator/pkg/client/clientset_generated/clientset"
	apiregistrationinformers "k8s.io/kube-aggregator/pkg/client/informers/externalversions"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"

	"github.com/annex-api/annex/aggregator"
	aggregationv1alpha1 "github.com/annex-api/annex/apis/aggregation/v1alpha1"
	"github.com/annex-api/annex/kubeapiserver/internal/handlerchain"
)

// statusLease is the Lease that names the one writer of conditions.
const statusLease = "annex-aggregation-status"

// availability is shared by all servers of a process: the metrics registry is
// the process's.
var availability = sync.OnceValues(func() (*aggregator.Metrics, error) {
	m := aggregator.NewMetrics()
	return m, m.Register(legacyregistry.Register, legacyregistry.CustomRegister)
})

// layer is the aggregation layer with what it needs to run in kube-apiserver.
type layer struct {
	aggregator  *aggregator.Aggregator
	clientCerts *dynamiccertificates.DynamicCertKeyPairContent // nil where no pair is configured
	nodes       kubernetes.Interface                           // to learn the zone from; nil where it was given
	run         func(context.Context) error                    // the aggregator's work
	work        work
	failed      chan error // with what that ended, if it was not asked to
}

// layerParts is what the chain gives to the layer.
type layerParts struct {
	client        kubernetes.Interface
	registrations clientset.Interface
	informers     apiregistrationinformers.SharedInformerFactory
	peers         aggregated.PeerAggregatedResourceManager
	openAPI       []http.Handler
	paths         func() []string
	events        *events
}

func newLayer(config app.CompletedConfig, parts layerParts, o chainOptions) (*layer, error) {
	generic, extra := config.Aggregator.GenericConfig, config.Aggregator.ExtraConfig
	l := &layer{failed: make(chan error, 1)}
	if o.zone == "" {
		l.nodes = parts.client
	}
	source, err := aggregator.NewInformerSource(
		parts.informers.Apiregistration().V1().APIServices(),
		generic.SharedInformerFactory.Core().V1().Services(),
		generic.SharedInformerFactory.Discovery().V1().EndpointSlices(),
	)
	if err != nil {
		return nil, err
	}
	metrics, err := availability()
	if err != nil {
		return nil, fmt.Errorf("registering metrics: %w", err)
	}
	wrap, err := wrapTransport(generic.TracerProvider)
	if err != nil {
		return nil, err
	}
	names, err := metadata.NewForConfig(generic.LoopbackClientConfig)
	if err != nil {
		return nil, fmt.Errorf("making the metadata client: %w", err)
	}
	remembering := configMapMemory{
		configMaps: parts.client.CoreV1().ConfigMaps(metav1.NamespaceSystem),
		metadata:   names.Resource(corev1.SchemeGroupVersion.WithResource("configmaps")).Namespace(metav1.NamespaceSystem),
	}
	c := aggregator.Config{
		Source:           source,
		Interim:          handlerchain.Interim,
		Resolver:         configuredResolver(extra.ServiceResolver),
		Addressing:       o.addressing(config.Options.EnableAggregatorRouting),
		Zone:             o.zone,
		Self:             loopbackHost(generic.LoopbackClientConfig.Host),
		ReservedGroups:   []string{apiregistrationv1.GroupName, aggregationv1alpha1.GroupVersion.Group},
		WrapTransport:    wrap,
		ForwardRedirects: !extra.RejectForwardingRedirects,
		DiscoveryTimeout: discoveryTimeout(),
		SendUID:          utilfeature.DefaultFeatureGate.Enabled(genericfeatures.RemoteRequestHeaderUID),
		Discovery:        generic.AggregatedDiscoveryGroupManager,
		FirstGroups:      []metav1.APIGroup{registrationGroup()},
		LastGroups:       []metav1.APIGroup{aggregationGroup()},
		OpenAPI:          parts.openAPI,
		Metrics:          metrics,
		FaultCode:        codeOf,
		Memory:           remembering,
		Status: &aggregator.StatusConfig{
			Client:    parts.registrations.ApiregistrationV1(),
			Leases:    parts.client.CoordinationV1(),
			Namespace: metav1.NamespaceSystem,
			Name:      statusLease,
			Identity:  identity(config),
			Server:    serverName(config),
			Ready:     namespaceExists(parts.client, metav1.NamespaceSystem),
			Events:    parts.events.recorder,
		},
	}
	if !o.plain && generic.FlowControl != nil { // requests hold no seat while they wait: see delegatingFairness
		c.HoldRefusals = generic.ShutdownInitiatedNotify()
	}
	if handlerchain.Traced(generic.TracerProvider) {
		c.TracerProvider = generic.TracerProvider
	}
	if parts.peers != nil {
		c.PeerDiscovery = parts.peers
	}
	if generic.EnableIndex {
		c.LocalPaths = parts.paths
	}
	if h := config.Options.Authentication.RequestHeader; h != nil {
		c.IdentityHeaders = slices.Concat(h.UsernameHeaders, h.UIDHeaders, h.GroupHeaders)
		c.IdentityHeaderPrefixes = h.ExtraHeaderPrefixes
	}
	switch {
	case generic.EgressSelector != nil:
		dial, err := generic.EgressSelector.Lookup(egressselector.Cluster.AsNetworkContext())
		if err != nil {
			return nil, fmt.Errorf("looking up the egress dialer: %w", err)
		}
		c.Dial, c.DialResolvesNames = dial, dial != nil
	case extra.ProxyTransport != nil:
		c.Dial = extra.ProxyTransport.DialContext
	}
	if extra.ProxyClientCertFile != "" && extra.ProxyClientKeyFile != "" {
		certs, err := dynamiccertificates.NewDynamicServingContentFromFiles("aggregator-proxy-cert", extra.ProxyClientCertFile, extra.ProxyClientKeyFile)
		if err != nil {
			return nil, fmt.Errorf("loading the proxy's client certificate: %w", err)
		}
		l.clientCerts, c.ClientCertificate = certs, certs.CurrentCertKeyContent
	}
	if l.aggregator, err = aggregator.New(c); err != nil {
		return nil, err
	}
	l.run = l.aggregator.Run
	if l.clientCerts != nil {
		l.clientCerts.AddListener(l)
	}
	return l, nil
}

// Enqueue implements dynamiccertificates.Listener: the client certificate has
// changed.
func (l *layer) Enqueue() { l.aggregator.ReloadClientCertificate() }

// start runs the layer until ctx ends. It is called once.
func (l *layer) start(ctx context.Context) {
	l.work.Go(func() {
		if err := l.run(ctx); err != nil && ctx.Err() == nil {
			l.failed <- fmt.Errorf("the aggregation layer stopped: %w", err)
		}
	})
	if l.nodes == nil {
		return
	}
	l.work.Go(func() {
		node, err := ownNode()
		if err != nil {
			klog.FromContext(ctx).V(2).Info("This server's zone stays unknown", "err", err)
			return
		}
		followZone(ctx, l.nodes, node, l.aggregator.SetZone)
	})
}

// namespaceExists waits for a namespace that the server itself makes soon after
// its start.
func namespaceExists(client kubernetes.Interface, name string) func(context.Context) error {
	return func(ctx context.Context) error {
		return wait.PollUntilContextCancel(ctx, 100*time.Millisecond, true, func(ctx context.Context) (bool, error) {
			_, err := client.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
			return err == nil, nil
		})
	}
}

// identity names this server in the Lease: another one on the same host has
// another port, and the same one keeps its name over a restart.
func identity(config app.CompletedConfig) string {
	return withPort(config.Aggregator.GenericConfig.APIServerID, config)
}

// serverName is the same for people: the host's name and the port.
func serverName(config app.CompletedConfig) string {
	host, err := os.Hostname()
	if err != nil || host == "" {
		return identity(config)
	}
	return withPort(host, config)
}

// withPort adds the port that this server listens on, where it does.
func withPort(name string, config app.CompletedConfig) string {
	if s := config.Aggregator.GenericConfig.SecureServing; s != nil && s.Listener != nil {
		if _, port, err := net.SplitHostPort(s.Listener.Addr().String()); err == nil {
			return name + ":" + port
		}
	}
	return name
}

// configuredResolver returns the resolver of the config, unless it is one that
// the reference makes for Services: those the layer resolves itself, endpoint
// by endpoint.
func configuredResolver(r aggregator.Resolver) aggregator.Resolver {
	if r == nil {
		return nil
	}
	if t := reflect.TypeOf(r); t.Kind() == reflect.Pointer && t.Elem().PkgPath() == "k8s.io/kube-aggregator/pkg/apiserver" {
		return nil
	}
	return r
}

func registrationGroup() metav1.APIGroup {
	v1 := metav1.GroupVersionForDiscovery{
		GroupVersion: apiregistrationv1.SchemeGroupVersion.String(),
		Version:      apiregistrationv1.SchemeGroupVersion.Version,
	}
	return metav1.APIGroup{
		Name:             apiregistrationv1.GroupName,
		Versions:         []metav1.GroupVersionForDiscovery{v1},
		PreferredVersion: v1,
	}
}
