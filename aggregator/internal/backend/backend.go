// Package backend keeps the connections to extension servers: TLS and its
// rotation, HTTP/2, and the choice of an endpoint.
package backend

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/annex-api/annex/aggregator/internal/catalog"
)

const (
	dialTimeout      = 10 * time.Second
	handshakeTimeout = 10 * time.Second
	idleTimeout      = 90 * time.Second
	// A silent HTTP/2 connection is asked for a sign of life after pingAfter
	// and given up pingTimeout later.
	pingAfter   = 15 * time.Second
	pingTimeout = 5 * time.Second
	// maxResponseHeader bounds the header of a response, in bytes.
	maxResponseHeader = 1 << 20
)

// DialFunc opens a connection, as net.Dialer.DialContext does.
type DialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// Resolver finds an extension server; only the URL's host is used.
type Resolver interface {
	ResolveEndpoint(namespace, name string, port int32) (*url.URL, error)
}

// Config of a Pool. The zero value works: it dials directly and presents no
// client certificate.
type Config struct {
	// ClientCertificate returns the PEM pair that identifies this proxy; empty
	// for none. It is asked again after ReloadClientCertificate.
	ClientCertificate func() (cert, key []byte)
	// Dial replaces the network's dialer.
	Dial DialFunc
	// DialResolvesNames is true when Dial resolves host names at its far end.
	DialResolvesNames bool
	// Resolver overrides what Services say. Its addresses are trusted.
	Resolver Resolver
	// Wrap observes the round trips of plain requests.
	Wrap func(http.RoundTripper) http.RoundTripper
}

// Pool holds one Backend for each catalog.BackendID in use.
type Pool struct {
	config   Config
	dial     DialFunc
	backends sync.Map // catalog.BackendID -> *Backend
}

// New returns an empty Pool.
func New(config Config) *Pool {
	dial := config.Dial
	if dial == nil {
		dial = (&net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}).DialContext
	}
	if config.Resolver == nil {
		dial = guard(dial, config.DialResolvesNames)
	}
	return &Pool{config: config, dial: dial}
}

// Get returns the Backend of a remote APIService, new or known.
func (p *Pool) Get(a *catalog.APIService) *Backend {
	if b, ok := p.backends.Load(a.Backend); ok {
		return b.(*Backend)
	}
	b, _ := p.backends.LoadOrStore(a.Backend, newBackend(p, a))
	return b.(*Backend)
}

// Sync closes the idle connections of Backends that the snapshot no longer
// needs; requests under way on them finish.
func (p *Pool) Sync(s *catalog.Snapshot) {
	used := map[catalog.BackendID]bool{}
	for _, a := range s.Remotes() {
		used[a.Backend] = true
	}
	p.backends.Range(func(id, b any) bool {
		if !used[id.(catalog.BackendID)] {
			p.backends.Delete(id)
			b.(*Backend).CloseIdle()
		}
		return true
	})
}

// ReloadClientCertificate makes the next request of every Backend use a new
// connection with the current client certificate.
func (p *Pool) ReloadClientCertificate() {
	p.backends.Range(func(_, b any) bool {
		b.(*Backend).reload()
		return true
	})
}

// Close closes all idle connections.
func (p *Pool) Close() {
	p.backends.Range(func(_, b any) bool {
		b.(*Backend).CloseIdle()
		return true
	})
}

// Backend is one extension server.
type Backend struct {
	service  catalog.ServiceRef
	resolver Resolver
	dial     DialFunc
	wrap     func(http.RoundTripper) http.RoundTripper
	roots    *x509.CertPool
	insecure bool
	client   func() (cert, key []byte)
	broken   bool // no certificate can mend it
	next     atomic.Uint32
	current  atomic.Pointer[wire]
}

// wire is what requests travel on; it is rebuilt when the client certificate changes.
type wire struct {
	http *http.Transport
	rt   http.RoundTripper
	tls  *tls.Config
	err  error
}

func newBackend(p *Pool, a *catalog.APIService) *Backend {
	b := &Backend{
		service:  a.Service,
		resolver: p.config.Resolver,
		dial:     p.dial,
		wrap:     p.config.Wrap,
		insecure: a.InsecureSkipTLSVerify,
		client:   p.config.ClientCertificate,
	}
	if len(a.CABundle) > 0 {
		b.roots = x509.NewCertPool()
		if !b.roots.AppendCertsFromPEM(a.CABundle) {
			b.broken = true
			b.current.Store(&wire{err: errors.New("unable to load root certificates: spec.caBundle holds no PEM certificate")})
			return b
		}
	}
	b.current.Store(b.newWire())
	return b
}

func (b *Backend) newWire() *wire {
	config := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		ServerName:         b.service.ServerName(),
		RootCAs:            b.roots,
		InsecureSkipVerify: b.insecure, // asked for by the APIService's owner
	}
	if b.client != nil {
		if cert, key := b.client(); len(cert) > 0 {
			pair, err := tls.X509KeyPair(cert, key)
			if err != nil {
				return &wire{err: fmt.Errorf("loading the proxy's client certificate: %w", err)}
			}
			config.Certificates = []tls.Certificate{pair}
		}
	}
	t := &wire{tls: config}
	t.http = &http.Transport{
		// The environment's HTTP proxy is for the outside; extension servers
		// are inside.
		Proxy:                  nil,
		DialContext:            b.dial,
		TLSClientConfig:        config.Clone(),
		TLSHandshakeTimeout:    handshakeTimeout,
		ForceAttemptHTTP2:      true,
		DisableCompression:     true, // the client's own Accept-Encoding passes through
		MaxIdleConnsPerHost:    25,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxResponseHeader,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
	}
	t.rt = t.http
	if b.wrap != nil {
		t.rt = b.wrap(t.rt)
	}
	return t
}

func (b *Backend) reload() {
	if b.broken {
		return
	}
	old := b.current.Swap(b.newWire())
	if old.http != nil {
		old.http.CloseIdleConnections()
	}
}

// Err is why no connection can be made at all; nil when one can.
func (b *Backend) Err() error { return b.current.Load().err }

// CloseIdle closes connections that carry no request.
func (b *Backend) CloseIdle() {
	if t := b.current.Load(); t.http != nil {
		t.http.CloseIdleConnections()
	}
}

// Pick chooses the endpoint for one request. The error says why there is none.
func (b *Backend) Pick(t catalog.Target) (catalog.Endpoint, error) {
	if t.Resolver {
		u, err := b.resolver.ResolveEndpoint(b.service.Namespace, b.service.Name, b.service.Port)
		if err != nil {
			return catalog.Endpoint{}, err
		}
		return catalog.Endpoint{Address: u.Host}, nil
	}
	if len(t.Endpoints) == 0 {
		return catalog.Endpoint{}, errors.New(t.Unresolved)
	}
	return t.Endpoints[int(b.next.Add(1)-1)%len(t.Endpoints)], nil
}

// All lists the endpoints of a target, for probes.
func (b *Backend) All(t catalog.Target) ([]catalog.Endpoint, error) {
	if len(t.Endpoints) > 0 {
		return t.Endpoints, nil
	}
	e, err := b.Pick(t)
	if err != nil {
		return nil, err
	}
	return []catalog.Endpoint{e}, nil
}

// RoundTrip sends a request to the endpoint that its URL names, over a shared
// connection. Redirects are not followed.
func (b *Backend) RoundTrip(r *http.Request) (*http.Response, error) {
	t := b.current.Load()
	if t.err != nil {
		return nil, t.err
	}
	return t.rt.RoundTrip(r)
}

// DialUpgrade opens a TLS connection of its own that speaks HTTP/1.1. No byte
// of a request is sent before the certificate is verified.
func (b *Backend) DialUpgrade(ctx context.Context, e catalog.Endpoint) (net.Conn, error) {
	t := b.current.Load()
	if t.err != nil {
		return nil, t.err
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout+handshakeTimeout)
	defer cancel()
	raw, err := b.dial(ctx, "tcp", e.Address)
	if err != nil {
		return nil, err
	}
	config := t.tls.Clone()
	config.NextProtos = []string{"http/1.1"}
	conn := tls.Client(raw, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, err
	}
	return conn, nil
}
