package aggregator

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"go.opentelemetry.io/otel/trace"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/endpoints/discovery/aggregated"
	coordinationclient "k8s.io/client-go/kubernetes/typed/coordination/v1"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	apiregistrationclient "k8s.io/kube-aggregator/pkg/client/clientset_generated/clientset/typed/apiregistration/v1"

	"github.com/annex-api/annex/aggregator/internal/backend"
	"github.com/annex-api/annex/aggregator/internal/catalog"
	"github.com/annex-api/annex/aggregator/internal/discovery"
	"github.com/annex-api/annex/aggregator/internal/fetch"
	"github.com/annex-api/annex/aggregator/internal/openapi"
	"github.com/annex-api/annex/aggregator/internal/probe"
	"github.com/annex-api/annex/aggregator/internal/proxy"
	"github.com/annex-api/annex/aggregator/internal/proxy/outgoing"
	"github.com/annex-api/annex/aggregator/internal/status"
	"github.com/annex-api/annex/aggregator/internal/watchlist"
)

// DefaultDiscoveryTimeout bounds a discovery request to an extension server.
const DefaultDiscoveryTimeout = 5 * time.Second

// unboundedDiscovery bounds downloads where the discovery timeout is lifted.
const unboundedDiscovery = time.Minute

// Addressing says how a Service with a cluster IP is reached.
type Addressing int

const (
	// WhatWorks sends to the endpoints, and to the cluster IP while none of them
	// can be reached from here.
	WhatWorks Addressing = iota
	// ClusterIP sends to the Service's own address only.
	ClusterIP
	// EndpointAddresses sends to the endpoints only.
	EndpointAddresses
)

// internal converts a for the parts of the layer.
func (a Addressing) internal() catalog.Addressing {
	switch a {
	case ClusterIP:
		return catalog.ClusterIP
	case EndpointAddresses:
		return catalog.EndpointAddresses
	default:
		return catalog.WhatWorks
	}
}

// Resolver finds the extension server behind a Service.
type Resolver interface {
	// ResolveEndpoint returns a URL of which only the host, host:port, is used. It
	// is asked for each attempt at a request, from many goroutines, and must not
	// block. Where it fails clients get 503, and the Available condition has its
	// error.
	//
	// The address is trusted: the host vouches for it. Of addresses that Services
	// name those are refused that are link-local, multicast, unspecified or of cloud
	// metadata. In any case the server's certificate must be for
	// <name>.<namespace>.svc.
	ResolveEndpoint(namespace, name string, port int32) (*url.URL, error)
}

// Config of an [Aggregator]. Only Source is required; what is left out has the
// default that its field names, or is not done.
type Config struct {
	// Source of the APIServices. Required.
	Source Source
	// Resolver overrides where Services say that extension servers are. Without it
	// an APIService whose Service the Source does not publish leads nowhere.
	Resolver Resolver
	// Addressing says how Services with a cluster IP are reached. The zero value
	// finds out what works.
	Addressing Addressing
	// Zone is this server's own, as in the hints of EndpointSlices. Empty means
	// that hints are not heeded. SetZone changes it.
	Zone string
	// Self is this server's own host:port, where requests for the Service
	// default/kubernetes at port 443 are sent. Empty means that this Service is
	// resolved like any other.
	Self string
	// ReservedGroups are API groups that the local handler always answers, whatever
	// is registered.
	ReservedGroups []string

	// ClientCertificate returns the certificate and key, as PEM, by which extension
	// servers know this proxy. They believe its X-Remote-* headers only then. After a
	// change, call ReloadClientCertificate. Nil presents none.
	ClientCertificate func() (cert, key []byte)
	// Dial opens connections to extension servers. Nil dials directly, for 10 s at
	// most.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// DialResolvesNames says that Dial resolves host names at its far end: then they
	// are not resolved here to see whether they lead to a refused address.
	DialResolvesNames bool
	// WrapTransport observes requests to extension servers, probes and downloads
	// included, upgrades excepted. Nil does not.
	WrapTransport func(http.RoundTripper) http.RoundTripper

	// TracerProvider makes spans of the wait for an extension server, the choice of its
	// endpoint and each attempt, where the span in a request's context is recorded. Nil
	// makes none. What is sent of traces to extension servers is WrapTransport's to say.
	TracerProvider trace.TracerProvider

	// ForwardRedirects passes redirects of extension servers to clients. They are
	// answered with 502 otherwise: a redirect can lead a client's credentials
	// elsewhere.
	ForwardRedirects bool
	// DiscoveryTimeout bounds discovery requests and downloads from extension
	// servers whose APIServices set no bound of their own. Zero means
	// DefaultDiscoveryTimeout. Negative lifts the bound of requests; a download has a
	// minute then.
	DiscoveryTimeout time.Duration
	// HoldRefusals makes users who are refused all the time, as they send more than an
	// extension server may have or ask for one that is unavailable, wait some seconds
	// for each refusal. It is closed when the host shuts down. Leave it nil, which holds
	// back nothing, where a request takes a place of the host's while it waits.
	HoldRefusals <-chan struct{}
	// IdentityHeaders and IdentityHeaderPrefixes are names besides X-Remote-*
	// that extension servers may take an identity from. They are removed from
	// clients' requests.
	IdentityHeaders, IdentityHeaderPrefixes []string
	// SendUID passes users' UIDs on in X-Remote-Uid.
	SendUID bool

	// Interim returns how interim answers (1xx) of extension servers are sent to the
	// client of a request whose handler has this context: past filters that take the
	// first status which they see for that of the answer. A nil function leaves them
	// out. The default sends them by the ResponseWriter, if it has no method Unwrap.
	Interim func(context.Context) func(code int, header http.Header)

	// Local is the host's own handler, asked in process for the discovery and
	// OpenAPI documents that Discovery and OpenAPI do not give. It must end with its
	// request's context: Run waits for it. Nil means that there are none.
	Local http.Handler
	// Discovery is the host's aggregated discovery, which the layer adds to.
	// Nil means that Local is asked instead, once a second at most.
	Discovery aggregated.ResourceManager
	// PeerDiscovery serves /apis merged with that of peer API servers, to clients
	// that do not ask for this server's own. Nil means that there are no peers.
	PeerDiscovery http.Handler
	// FirstGroups are listed first in /apis, and LastGroups last, whatever APIServices there
	// are. They are ReservedGroups too.
	FirstGroups, LastGroups []metav1.APIGroup
	// OpenAPI lists handlers that serve OpenAPI documents of the host, most
	// important first. They must end with their request's context: Run waits for
	// them. Empty means Local.
	OpenAPI []http.Handler
	// LocalPaths lists the host's paths for the index at /, which the layer answers
	// then. Nil leaves / to the local handler.
	LocalPaths func() []string

	// Memory keeps discovery documents over a restart. Nil forgets them.
	Memory Memory
	// Status says how the Available condition is written. Nil writes none.
	Status *StatusConfig
	// Metrics are kept up to date. Nil keeps none.
	Metrics *Metrics
	// FaultCode gives the code by which a fault with this reason is explained to people, in
	// what Observe says and in metrics; empty for none. Nil knows none.
	FaultCode func(reason string) string
}

// StatusConfig says how the Available condition of APIServices is written. Of all
// servers that share a Lease one writes.
type StatusConfig struct {
	// Client writes the status of APIServices. Required.
	Client apiregistrationclient.APIServicesGetter
	// Leases elects the one that writes, and tells it where the others see
	// otherwise. All verbs but deletecollection are used. Nil means that there is
	// only this server.
	Leases coordinationclient.LeasesGetter
	// Namespace and Name are those of the Lease. Required with Leases.
	Namespace, Name string
	// Identity of this server in the Lease: unique among the servers and the same
	// after a restart. Required with Leases.
	Identity string
	// Server is what messages call this server. Empty means Identity.
	Server string
	// Ready blocks until Leases can be written, or returns the error of its
	// context. Nil means that they can.
	Ready func(context.Context) error
	// Events records one Event for each change of state of an APIService, from the server
	// that writes conditions. Nil records none.
	Events EventRecorder
	// Observe is called after a condition was changed. It may be nil.
	Observe func(before, after *apiregistrationv1.APIService)
}

// EventRecorder records Events. Those of k8s.io/client-go/tools/record do, and give the
// Event a name and a time. It must not block.
type EventRecorder interface {
	// Event records that something happened to an object; about is a *corev1.ObjectReference.
	Event(about runtime.Object, eventType, reason, message string)
}

// internal converts c for the status writer.
func (c StatusConfig) internal() status.Config {
	return status.Config{
		Client:    c.Client,
		Leases:    c.Leases,
		Namespace: c.Namespace,
		Name:      c.Name,
		Identity:  c.Identity,
		Server:    c.Server,
		Ready:     c.Ready,
		Observe:   c.Observe,
	}
}

func (c *Config) validate() error {
	switch {
	case c.Source == nil:
		return errors.New("aggregator: Config.Source is required")
	case c.Addressing < WhatWorks || c.Addressing > EndpointAddresses:
		return fmt.Errorf("aggregator: Config.Addressing is %d, which is none", c.Addressing)
	case c.Status == nil:
		return nil
	case c.Status.Client == nil:
		return errors.New("aggregator: Config.Status.Client is required")
	case c.Status.Leases != nil && (c.Status.Namespace == "" || c.Status.Name == "" || c.Status.Identity == ""):
		return errors.New("aggregator: Config.Status.Namespace, Name and Identity are required with Leases")
	}
	return nil
}

func (c *Config) setDefaults() {
	if c.DiscoveryTimeout == 0 {
		c.DiscoveryTimeout = DefaultDiscoveryTimeout
	}
	if c.FaultCode == nil {
		c.FaultCode = func(string) string { return "" }
	}
}

func (c *Config) backends(connectionLost func(catalog.BackendID), endpointChanged func()) *backend.Pool {
	config := backend.Config{
		Limits:            backend.DefaultLimits(),
		HoldRefusals:      c.HoldRefusals,
		ConnectionLost:    connectionLost,
		EndpointChanged:   endpointChanged,
		ClientCertificate: c.ClientCertificate,
		Dial:              c.Dial,
		DialResolvesNames: c.DialResolvesNames,
		Wrap:              c.WrapTransport,
	}
	if c.Resolver != nil {
		config.Resolve = c.Resolver.ResolveEndpoint
	}
	return backend.New(config)
}

func (c *Config) proxy(backends *backend.Pool, probeNow func(*catalog.APIService)) *proxy.Proxy {
	var tracer trace.Tracer
	if c.TracerProvider != nil {
		tracer = c.TracerProvider.Tracer("github.com/annex-api/annex/aggregator")
	}
	return proxy.New(proxy.Config{
		Backends:         backends,
		Tracer:           tracer,
		ForwardRedirects: c.ForwardRedirects,
		DiscoveryTimeout: max(0, c.DiscoveryTimeout),
		Outgoing: outgoing.Config{
			IdentityHeaders:  c.IdentityHeaders,
			IdentityPrefixes: c.IdentityHeaderPrefixes,
			SendUID:          c.SendUID,
		},
		Interim:  c.Interim,
		ProbeNow: probeNow,
	})
}

func (c *Config) fetcher(backends *backend.Pool, changed, noted func()) *fetch.Fetcher {
	timing := fetch.DefaultTiming()
	if timing.DiscoveryTimeout = c.DiscoveryTimeout; c.DiscoveryTimeout < 0 {
		timing.DiscoveryTimeout = unboundedDiscovery
	}
	return fetch.New(timing, backends, changed, noted)
}

func (c *Config) prober(backends *backend.Pool, report func(*catalog.APIService, catalog.Verdict)) *probe.Prober {
	return probe.New(probe.Config{
		Timing: probe.DefaultTiming(), Check: probe.HTTP(backends), Degraded: probe.Degraded(backends), Report: report,
	})
}

func (c *Config) watchLists(backends *backend.Pool, report func(*catalog.APIService, catalog.WatchListSupport)) *watchlist.Finder {
	return watchlist.New(watchlist.Config{Timing: watchlist.DefaultTiming(), Try: watchlist.HTTP(backends), Report: report})
}

func (c *Config) writer(peersChanged func()) *status.Writer {
	if c.Status == nil {
		return nil
	}
	config := c.Status.internal()
	config.PeersChanged = peersChanged
	return status.New(config)
}

func (c *Config) discovery() *discovery.Service {
	return discovery.New(discovery.Config{Manager: c.Discovery, Peers: c.PeerDiscovery, First: c.FirstGroups, Last: c.LastGroups, Local: c.Local})
}

func (c *Config) openAPI() *openapi.Service {
	locals := c.OpenAPI
	if len(locals) == 0 && c.Local != nil {
		locals = []http.Handler{c.Local}
	}
	return openapi.New(openapi.Config{Locals: locals})
}
