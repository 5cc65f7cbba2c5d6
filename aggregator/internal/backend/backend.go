// Package backend keeps the connections to extension servers: TLS and its
// rotation, HTTP/2, and the health of endpoints.
package backend

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
	"k8s.io/apiserver/pkg/util/flowcontrol"

	"github.com/annex-api/annex/aggregator/internal/backend/balance"
	"github.com/annex-api/annex/aggregator/internal/backend/limit"
	"github.com/annex-api/annex/aggregator/internal/backend/retry"
	"github.com/annex-api/annex/aggregator/internal/catalog"
)

const (
	dialTimeout      = 10 * time.Second
	handshakeTimeout = 10 * time.Second
	idleTimeout      = 90 * time.Second
	// maxResponseHeader bounds the header of a response, in bytes.
	maxResponseHeader = 1 << 20
	// maxStreams bounds the long-running requests for one extension server.
	maxStreams = 20_000
	// A fifth of the requests may be sent again, and a few each second in any
	// case.
	retryShare, retryRate, retryBurst = 0.2, 10, 100
	// Long-running requests at an endpoint that leaves are ended after
	// drainAfter, spread over drainOver.
	drainAfter = 2 * time.Second
	drainOver  = 20 * time.Second
)

// DefaultLimits leave room for busy extension servers and keep a frozen one
// from piling up requests.
func DefaultLimits() limit.Config {
	return limit.Config{InFlight: 400, Queue: 400, QueuePerUser: 100, Wait: 2 * time.Second}
}

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
	// Limits of the requests for one extension server whose APIService sets none.
	Limits limit.Config
	// ConnectionLost is called when an extension server ends a connection; it must not
	// block.
	ConnectionLost func(catalog.BackendID)
}

// Pool holds one Backend for each catalog.BackendID in use.
type Pool struct {
	config   Config
	dial     DialFunc
	backends sync.Map // catalog.BackendID -> *Backend
}

// New returns an empty Pool.
func New(config Config) *Pool {
	if config.Limits == (limit.Config{}) {
		config.Limits = DefaultLimits()
	}
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

// Sync takes over the endpoints and settings of a snapshot, and closes the idle
// connections of Backends that it no longer needs; requests under way on them
// finish.
func (p *Pool) Sync(s *catalog.Snapshot) {
	used := map[catalog.BackendID]bool{}
	inFlight := map[catalog.BackendID]int{}
	for _, a := range s.Remotes() {
		inFlight[a.Backend] = max(inFlight[a.Backend], a.Settings.MaxInFlight)
	}
	for _, a := range s.Remotes() {
		if !used[a.Backend] {
			used[a.Backend] = true
			p.Get(a).update(a, inFlight[a.Backend])
		}
	}
	p.backends.Range(func(id, b any) bool {
		if !used[id.(catalog.BackendID)] {
			p.backends.Delete(id)
			b.(*Backend).current.Load().retire()
		}
		return true
	})
}

// Each calls do with every Backend.
func (p *Pool) Each(do func(*Backend)) {
	p.backends.Range(func(_, b any) bool {
		do(b.(*Backend))
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
		b.(*Backend).current.Load().retire()
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
	unclear  atomic.Uint64
	current  atomic.Pointer[transport]

	// Limiter bounds the requests under way, Streams the long-running ones.
	Limiter, Streams *limit.Limiter
	// Dropped tells how long clients are to wait before they try again.
	Dropped Dropped
	// Refused spreads clients of an extension server that is unavailable.
	Refused limit.RefusalRate
	// Retries bounds what is sent again.
	Retries      *retry.Budget
	limits       limit.Config
	set          *balance.Set
	target       atomic.Pointer[catalog.Target] // that of the last update
	reachability reachability
}

// Dropped counts the requests that were turned away. The more they are, the
// longer clients are asked to wait: from 1 to 32 seconds, as priority and
// fairness asks for.
type Dropped struct {
	tracker flowcontrol.DroppedRequestsTracker
}

// Add counts one, and returns how long its client is to wait, in seconds.
func (d Dropped) Add() int {
	d.tracker.RecordDroppedRequest("")
	return int(d.tracker.GetRetryAfter(""))
}

// transport sends requests to one extension server. It is made anew when the client
// certificate changes.
type transport struct {
	http  *http.Transport
	conns *connPool
	rt    http.RoundTripper
	tls   *tls.Config
	err   error
}

// retire closes connections that carry no request; the others end with their
// last one.
func (t *transport) retire() {
	if t.http != nil {
		t.http.CloseIdleConnections()
		t.conns.retire()
	}
}

// openFirst sends over an open HTTP/2 connection where there is one.
type openFirst struct{ transport *transport }

// RoundTrip implements http.RoundTripper. The transport for HTTP/1.1, which
// dials, would look for an open connection too, after work of its own.
func (o openFirst) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := o.transport.conns.h2.RoundTrip(r)
	if !errors.Is(err, http2.ErrNoCachedConn) {
		return response, err
	}
	r = r.WithContext(r.Context())
	r.Header = Canonical(r.Header)
	return o.transport.http.RoundTrip(r)
}

// Canonical returns a header with the names spelled as is usual in HTTP/1.1. HTTP/2
// sends them in lower case however they are spelled.
func Canonical(h http.Header) http.Header {
	canonical := make(http.Header, len(h))
	for name, values := range h {
		name = http.CanonicalHeaderKey(name)
		canonical[name] = append(canonical[name], values...)
	}
	return canonical
}

// protocolReset is what the HTTP/2 transport calls a stream that the far end
// reset with PROTOCOL_ERROR.
const protocolReset = "recv_rststream_PROTOCOL_ERROR"

func newBackend(p *Pool, a *catalog.APIService) *Backend {
	b := &Backend{
		service:  a.Service,
		resolver: p.config.Resolver,
		wrap:     p.config.Wrap,
		insecure: a.InsecureSkipTLSVerify,
		client:   p.config.ClientCertificate,
		set:      balance.New(rand.IntN),
		Limiter:  limit.New(p.config.Limits),
		Dropped:  Dropped{flowcontrol.NewDroppedRequestsTracker()},
		Streams:  limit.New(limit.Config{InFlight: maxStreams}),
		Retries:  retry.NewBudget(retryShare, retryRate, retryBurst),
		limits:   p.config.Limits,
	}
	id, lost := a.Backend, func() {}
	if p.config.ConnectionLost != nil {
		lost = func() { p.config.ConnectionLost(id) }
	}
	b.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := p.dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return newWatchedConn(conn, lost), nil
	}
	b.update(a, a.Settings.MaxInFlight)
	if len(a.CABundle) > 0 {
		b.roots = x509.NewCertPool()
		if !b.roots.AppendCertsFromPEM(a.CABundle) {
			b.broken = true
			b.current.Store(&transport{err: errors.New("unable to load root certificates: spec.caBundle holds no PEM certificate")})
			return b
		}
	}
	b.current.Store(b.newTransport())
	return b
}

func (b *Backend) newTransport() *transport {
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
				return &transport{err: fmt.Errorf("loading the proxy's client certificate: %w", err)}
			}
			config.Certificates = []tls.Certificate{pair}
		}
	}
	t := &transport{tls: config}
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
	}
	var err error
	t.conns, err = usePool(t.http, func(kind string) {
		if kind == protocolReset {
			b.unclear.Add(1)
		}
	})
	if err != nil {
		return &transport{err: err}
	}
	t.rt = openFirst{t}
	if b.wrap != nil {
		t.rt = b.wrap(t.rt)
	}
	return t
}

func (b *Backend) reload() {
	if b.broken {
		return
	}
	b.current.Swap(b.newTransport()).retire()
}

// Err is why no connection can be made at all; nil when one can.
func (b *Backend) Err() error { return b.current.Load().err }

// CloseIdle closes the connections to an endpoint that carry no request, and those
// over HTTP/1.1 to all endpoints.
func (b *Backend) CloseIdle(address string) {
	if t := b.current.Load(); t.http != nil {
		t.http.CloseIdleConnections()
		t.conns.closeIdle(address)
	}
}

// update takes over the endpoints of an APIService, and the largest limit that
// the APIServices behind the same Service ask for; zero for the default.
func (b *Backend) update(a *catalog.APIService, inFlight int) {
	limits := b.limits
	if inFlight > 0 {
		limits.InFlight = inFlight
	}
	b.Limiter.Set(limits)
	if old := b.target.Load(); old != nil && slices.Equal(old.Endpoints, a.Target.Endpoints) {
		return
	}
	b.target.Store(&a.Target)
	members := make([]balance.Member, len(a.Target.Endpoints))
	for i, e := range a.Target.Endpoints {
		members[i] = balance.Member{Address: e.Address, OtherZone: e.OtherZone, Terminating: e.Terminating, Fallback: e.Fallback}
	}
	drain(b.set.Update(time.Now(), members))
}

// drain ends long-running requests one after the other, so that their clients
// do not all come back in the same moment.
func drain(streams []*balance.Stream) {
	for i, s := range streams {
		time.AfterFunc(drainAfter+drainOver*time.Duration(i)/time.Duration(len(streams)), s.End)
	}
}

// Pick chooses the endpoint for a request, or for another attempt at it that
// avoids those tried before. The error says why there is none.
func (b *Backend) Pick(t catalog.Target, tried ...string) (balance.Choice, error) {
	if t.Resolver {
		u, err := b.resolver.ResolveEndpoint(b.service.Namespace, b.service.Name, b.service.Port)
		if err != nil {
			return balance.Choice{}, err
		}
		return balance.Fixed(u.Host), nil
	}
	if t.Unresolved != "" {
		return balance.Choice{}, errors.New(t.Unresolved)
	}
	return b.set.Pick(time.Now(), tried)
}

// UnclearResets counts resets that leave it open whether the request was begun,
// though the transport takes such a request for safe to be sent again.
func (b *Backend) UnclearResets() uint64 { return b.unclear.Load() }

// Health lists the endpoints with what is known of them.
func (b *Backend) Health() []balance.Health { return b.set.Health(time.Now()) }

// Probed takes note of an active probe of an endpoint.
func (b *Backend) Probed(address string, passed bool) {
	b.set.Probed(address, passed)
	b.logReachability(address, passed)
}

// All lists the endpoints of a target, for probes.
func (b *Backend) All(t catalog.Target) ([]catalog.Endpoint, error) {
	if len(t.Endpoints) > 0 {
		return t.Endpoints, nil
	}
	c, err := b.Pick(t)
	if err != nil {
		return nil, err
	}
	c.Done(time.Now(), balance.Neutral)
	return []catalog.Endpoint{{Address: c.Address}}, nil
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
func (b *Backend) DialUpgrade(ctx context.Context, address string) (net.Conn, error) {
	t := b.current.Load()
	if t.err != nil {
		return nil, t.err
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout+handshakeTimeout)
	defer cancel()
	raw, err := b.dial(ctx, "tcp", address)
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
