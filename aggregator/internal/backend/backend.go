// Package backend keeps the connections to extension servers: TLS and its
// rotation, HTTP/2, and the health of endpoints.
package backend

import (
	"context"
	"crypto/x509"
	"errors"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"k8s.io/apiserver/pkg/util/flowcontrol"

	"github.com/annex-api/annex/aggregator/internal/backend/balance"
	"github.com/annex-api/annex/aggregator/internal/backend/limit"
	"github.com/annex-api/annex/aggregator/internal/backend/retry"
	"github.com/annex-api/annex/aggregator/internal/catalog"
)

const (
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
