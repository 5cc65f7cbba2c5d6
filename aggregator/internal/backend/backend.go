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
	"net/url"
	"slices"
	"sync/atomic"
	"time"

	"github.com/annex-api/annex/aggregator/internal/backend/balance"
	"github.com/annex-api/annex/aggregator/internal/backend/limit"
	"github.com/annex-api/annex/aggregator/internal/catalog"
)

// Long-running requests at an endpoint that leaves are ended after drainAfter,
// spread over drainOver.
const (
	drainAfter = 2 * time.Second
	drainOver  = 20 * time.Second
)

// Backend is one extension server.
type Backend struct {
	service   catalog.ServiceRef
	resolve   func(namespace, name string, port int32) (*url.URL, error) // nil where Services say where it is
	limits    limit.Config
	transport transportConfig
	later     *timers // the Pool's

	admission    *admission
	current      atomic.Pointer[transport]
	resets       resets
	endpoints    *balance.Set
	target       atomic.Pointer[catalog.Target] // that of the last update
	reachability reachability
	certificates certificates
}

func newBackend(p *Pool, a *catalog.APIService) *Backend {
	b := &Backend{
		service:   a.Service,
		resolve:   p.config.Resolve,
		limits:    p.config.Limits,
		later:     &p.later,
		admission: newAdmission(p.config.Limits),
		endpoints: balance.New(rand.IntN, p.endpointChanged),
	}
	id, lost := a.Backend, func() {}
	if p.config.ConnectionLost != nil {
		lost = func() { p.config.ConnectionLost(id) }
	}
	b.transport = transportConfig{
		serverName: a.Service.ServerName(),
		caBundle:   a.CABundle,
		insecure:   a.InsecureSkipTLSVerify,
		dial: func(ctx context.Context, network, address string) (*watchedConn, error) {
			conn, err := p.dial(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return newWatchedConn(conn, lost), nil
		},
		clientCertificate: p.config.ClientCertificate,
		wrap:              p.config.Wrap,
		resets:            &b.resets,
		shown: func(address string, certificate *x509.Certificate) {
			if b.certificates.note(address, certificate, time.Now()) {
				p.endpointChanged(0)
			}
		},
	}
	b.current.Store(newTransport(b.transport))
	b.update(a, a.Settings)
	return b
}

// Err is why no connection can be made at all; nil when one can.
func (b *Backend) Err() error { return b.current.Load().err }

// RoundTrip sends a request to the endpoint that its URL names, over a shared
// connection. Redirects are not followed.
func (b *Backend) RoundTrip(r *http.Request) (*http.Response, error) {
	return b.current.Load().roundTrip(r)
}

// DialUpgrade opens a TLS connection of its own that speaks HTTP/1.1. No byte
// of a request is sent before the certificate is verified.
func (b *Backend) DialUpgrade(ctx context.Context, address string) (net.Conn, error) {
	return b.current.Load().dialUpgrade(ctx, address)
}

// UnclearResets counts resets that leave it open whether the request was begun,
// though the transport takes such a request for safe to be sent again.
func (b *Backend) UnclearResets() uint64 { return b.resets.unclear.Load() }

// RefusedStreams counts requests that were refused before they were begun.
func (b *Backend) RefusedStreams() uint64 { return b.resets.refused.Load() }

// CloseIdle closes the connections to an endpoint that carry no request, and those
// over HTTP/1.1 to all endpoints.
func (b *Backend) CloseIdle(address string) { b.current.Load().closeIdle(address) }

// retire closes connections that carry no request; the others end with their last
// one.
func (b *Backend) retire() { b.current.Load().retire() }

// reload goes on with new connections, which have the current client certificate.
func (b *Backend) reload() { b.current.Swap(newTransport(b.transport)).retire() }

// update takes over the endpoints of an APIService, and the largest limits that
// the APIServices behind the same Service ask for; zero for the default.
func (b *Backend) update(a *catalog.APIService, asked catalog.Settings) {
	limits := b.limits
	if asked.MaxInFlight > 0 {
		limits.InFlight = asked.MaxInFlight
	}
	if asked.MaxInFlightPerUser > 0 {
		limits.PerUser = asked.MaxInFlightPerUser
	}
	b.admission.set(limits)
	if old := b.target.Load(); old != nil && slices.Equal(old.Endpoints, a.Target.Endpoints) {
		return
	}
	b.target.Store(&a.Target)
	b.certificates.follow(&a.Target)
	members := make([]balance.Member, len(a.Target.Endpoints))
	for i, e := range a.Target.Endpoints {
		members[i] = balance.Member{Address: e.Address, OtherZone: e.OtherZone, Terminating: e.Terminating, Fallback: e.Fallback}
	}
	b.drain(b.endpoints.Update(time.Now(), members))
}

// drain ends long-running requests one after the other, so that their clients
// do not all come back in the same moment.
func (b *Backend) drain(streams []*balance.Stream) {
	for i, s := range streams {
		b.later.after(drainAfter+drainOver*time.Duration(i)/time.Duration(len(streams)), s.End)
	}
}

// Pick chooses the endpoint for a request, or for another attempt at it that
// avoids those tried before. The error says why there is none.
func (b *Backend) Pick(t catalog.Target, tried ...string) (balance.Choice, error) {
	if t.Resolver {
		u, err := b.resolve(b.service.Namespace, b.service.Name, b.service.Port)
		if err != nil {
			return balance.Choice{}, err
		}
		return balance.Fixed(u.Host), nil
	}
	if t.Unresolved != "" {
		return balance.Choice{}, errors.New(t.Unresolved)
	}
	return b.endpoints.Pick(time.Now(), tried)
}

// Health lists the endpoints with what is known of them.
func (b *Backend) Health() []balance.Health { return b.endpoints.Health(time.Now()) }

// Traffic is Health with what clients' requests of the last minute came to.
func (b *Backend) Traffic() []balance.Traffic { return b.endpoints.Traffic(time.Now()) }

// Totals is Health with what all of clients' requests came to, for metrics.
func (b *Backend) Totals() []balance.Totals { return b.endpoints.Totals(time.Now()) }

// ClientCertificate is what this server shows to the extension server; nil for none.
func (b *Backend) ClientCertificate() *x509.Certificate { return b.current.Load().clientCertificate() }

// Probed takes note of an active probe of an endpoint. Failure says what is wrong with
// its answer, or why there was none; empty if all is well.
func (b *Backend) Probed(address string, passed bool, failure string) {
	b.endpoints.Probed(time.Now(), address, passed, failure)
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
