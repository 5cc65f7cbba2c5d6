package aggregator

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/endpoints/discovery/aggregated"

	"github.com/annex-api/annex/aggregator/internal/backend"
	"github.com/annex-api/annex/aggregator/internal/catalog"
	"github.com/annex-api/annex/aggregator/internal/discovery"
	"github.com/annex-api/annex/aggregator/internal/fetch"
	"github.com/annex-api/annex/aggregator/internal/openapi"
	"github.com/annex-api/annex/aggregator/internal/probe"
	"github.com/annex-api/annex/aggregator/internal/proxy"
	"github.com/annex-api/annex/aggregator/internal/source"
	"github.com/annex-api/annex/aggregator/internal/status"
)

// DefaultDiscoveryTimeout bounds a discovery request to an extension server.
const DefaultDiscoveryTimeout = 5 * time.Second

// unboundedDiscovery bounds downloads where the discovery timeout is lifted.
const unboundedDiscovery = time.Minute

// Ways to reach a Service with a cluster IP.
const (
	// WhatWorks sends to the endpoints, and to the cluster IP while none of them
	// can be reached from here.
	WhatWorks = catalog.WhatWorks
	// ClusterIP sends to the Service's own address only.
	ClusterIP = catalog.ClusterIP
	// EndpointAddresses sends to the endpoints only.
	EndpointAddresses = catalog.EndpointAddresses
)

type (
	// Addressing says how a Service with a cluster IP is reached.
	Addressing = catalog.Addressing
	// Source publishes the APIServices of a host. NewInformerSource and
	// NewStaticSource return implementations.
	Source = source.Source
	// State is what a Source publishes.
	State = source.State
	// ServiceFacts is a Service with its EndpointSlices in a State.
	ServiceFacts = catalog.ServiceFacts
	// StaticSource is a Source whose state is set by hand.
	StaticSource = source.Static
	// StatusConfig says how the Available condition is written.
	StatusConfig = status.Config
)

var (
	// NewInformerSource returns the Source of a Kubernetes API server.
	NewInformerSource = source.NewInformers
	// NewStaticSource returns a StaticSource with a first state.
	NewStaticSource = source.NewStatic
)

// Resolver finds the extension server behind a Service; only the host of the
// URL is used. It is asked for every request and must not block. Its addresses
// are trusted: the host vouches for them.
type Resolver interface {
	ResolveEndpoint(namespace, name string, port int32) (*url.URL, error)
}

// Config of an Aggregator. Only Source is required.
type Config struct {
	// Source of the APIServices.
	Source Source
	// Resolver overrides where Services say that extension servers are. It is
	// required where the Source publishes no Services.
	Resolver Resolver
	// Addressing says how Services with a cluster IP are reached. The zero value
	// finds out what works.
	Addressing Addressing
	// Zone is this server's own, for the hints in EndpointSlices; empty where it
	// is not known.
	Zone string
	// Self is this server's host:port, for the Service default/kubernetes.
	Self string
	// ReservedGroups are always answered by the local handler, whatever is
	// registered.
	ReservedGroups []string

	// ClientCertificate returns the PEM pair by which extension servers know
	// this proxy. After a change, call ReloadClientCertificate.
	ClientCertificate func() (cert, key []byte)
	// Dial replaces the dialer. DialResolvesNames says that it resolves host
	// names itself, at its far end.
	Dial              func(ctx context.Context, network, address string) (net.Conn, error)
	DialResolvesNames bool
	// WrapTransport observes requests to extension servers, upgrades excepted.
	WrapTransport func(http.RoundTripper) http.RoundTripper

	// ForwardRedirects passes redirects of extension servers to clients.
	ForwardRedirects bool
	// DiscoveryTimeout bounds discovery requests to extension servers. Zero
	// means DefaultDiscoveryTimeout; negative lifts the bound.
	DiscoveryTimeout time.Duration
	// IdentityHeaders and IdentityHeaderPrefixes are names besides X-Remote-*
	// that extension servers may take an identity from. They are removed from
	// clients' requests.
	IdentityHeaders, IdentityHeaderPrefixes []string
	// SendUID passes users' UIDs on in X-Remote-Uid.
	SendUID bool

	// Local is the host's own handler, asked in process for the discovery and
	// OpenAPI documents that Discovery and OpenAPI do not give. It may be nil.
	Local http.Handler
	// Discovery is the host's aggregated discovery, which the layer adds to.
	// Nil means that Local is asked instead.
	Discovery aggregated.ResourceManager
	// PeerDiscovery serves /apis merged with that of peer API servers.
	PeerDiscovery http.Handler
	// FirstGroups are listed first in /apis; they have no APIService.
	FirstGroups []metav1.APIGroup
	// OpenAPI lists handlers that serve OpenAPI documents of the host, most
	// important first. Empty means Local.
	OpenAPI []http.Handler
	// LocalPaths lists the host's paths for the index at /. Nil leaves / to
	// the local handler.
	LocalPaths func() []string

	// Memory keeps discovery documents over a restart; nil for none.
	Memory Memory
	// Status says how to report; nil reports nothing.
	Status *StatusConfig
	// Metrics are kept up to date; nil for none.
	Metrics *Metrics
}

func (c *Config) validate() error {
	if c.Source == nil {
		return errors.New("aggregator: Config.Source is required")
	}
	return nil
}

func (c *Config) setDefaults() {
	if c.DiscoveryTimeout == 0 {
		c.DiscoveryTimeout = DefaultDiscoveryTimeout
	}
}

func (c *Config) backends(connectionLost func(catalog.BackendID)) *backend.Pool {
	config := backend.Config{
		Limits:            backend.DefaultLimits(),
		ConnectionLost:    connectionLost,
		ClientCertificate: c.ClientCertificate,
		Dial:              c.Dial,
		DialResolvesNames: c.DialResolvesNames,
		Wrap:              c.WrapTransport,
	}
	if c.Resolver != nil {
		config.Resolver = c.Resolver
	}
	return backend.New(config)
}

func (c *Config) proxy(backends *backend.Pool, probeNow func(*catalog.APIService)) *proxy.Proxy {
	return proxy.New(proxy.Config{
		Backends:         backends,
		ForwardRedirects: c.ForwardRedirects,
		DiscoveryTimeout: max(0, c.DiscoveryTimeout),
		IdentityHeaders:  c.IdentityHeaders,
		IdentityPrefixes: c.IdentityHeaderPrefixes,
		SendUID:          c.SendUID,
		ProbeNow:         probeNow,
	})
}

func (c *Config) fetcher(backends *backend.Pool, changed func()) *fetch.Fetcher {
	timing := fetch.DefaultTiming()
	if timing.DiscoveryTimeout = c.DiscoveryTimeout; c.DiscoveryTimeout < 0 {
		timing.DiscoveryTimeout = unboundedDiscovery
	}
	return fetch.New(timing, backends, changed)
}

func (c *Config) prober(backends *backend.Pool, report func(string, catalog.Verdict)) *probe.Prober {
	p := probe.New(probe.DefaultTiming(), probe.HTTP(backends), report)
	p.Watch(backends)
	return p
}

func (c *Config) discovery() *discovery.Service {
	return discovery.New(discovery.Config{Manager: c.Discovery, Peers: c.PeerDiscovery, First: c.FirstGroups, Local: c.Local})
}

func (c *Config) openAPI() *openapi.Service {
	locals := c.OpenAPI
	if len(locals) == 0 && c.Local != nil {
		locals = []http.Handler{c.Local}
	}
	return openapi.New(openapi.Config{Locals: locals})
}
