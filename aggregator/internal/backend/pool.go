package backend

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/annex-api/annex/aggregator/internal/backend/limit"
	"github.com/annex-api/annex/aggregator/internal/catalog"
)

// DefaultLimits leave room for busy extension servers and keep a frozen one
// from piling up requests.
func DefaultLimits() limit.Config {
	return limit.Config{InFlight: 400, Queue: 400, QueuePerUser: 100, Wait: 2 * time.Second}
}

// DialFunc opens a connection, as net.Dialer.DialContext does.
type DialFunc func(ctx context.Context, network, address string) (net.Conn, error)

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
	// Resolve finds an extension server, in place of what Services say; only the
	// URL's host is used. Its addresses are trusted. Nil means that Services say it.
	Resolve func(namespace, name string, port int32) (*url.URL, error)
	// Wrap observes the round trips of plain requests.
	Wrap func(http.RoundTripper) http.RoundTripper
	// Limits of the requests for one extension server whose APIService sets none.
	Limits limit.Config
	// HoldRefusals has users who are refused all the time wait for their refusals, until
	// it is closed. Nil tells them at once.
	HoldRefusals <-chan struct{}
	// ConnectionLost is called when an extension server ends a connection; it must not
	// block.
	ConnectionLost func(catalog.BackendID)
	// EndpointChanged is called when an endpoint is left out or taken back, or an
	// extension server shows another certificate; it must not block.
	EndpointChanged func()
}

// Pool holds one Backend for each catalog.BackendID in use.
type Pool struct {
	config   Config
	dial     DialFunc
	backends sync.Map        // catalog.BackendID -> *Backend
	refusals *limit.Refusals // of all Backends; nil where they are not held back
	later    timers
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
	if config.Resolve == nil {
		dial = guard(dial, config.DialResolvesNames)
	}
	p := &Pool{config: config, dial: dial}
	if config.HoldRefusals != nil {
		p.refusals = limit.NewRefusals(config.HoldRefusals)
	}
	return p
}

// HoldRefusal returns when a sender may be told of a refusal: see limit.Refusals. Those
// of High and Exempt priority are told at once: components that a cluster needs must not
// wait for an extension server that is gone.
func (p *Pool) HoldRefusal(ctx context.Context, s Sender, body bool) {
	if s.Priority == limit.Ordinary {
		p.refusals.Hold(ctx, s.User, body)
	}
}

// HeldRefusals is how many refusals are held back now.
func (p *Pool) HeldRefusals() int { return p.refusals.Held() }

// Get returns the Backend of a remote APIService, new or known.
func (p *Pool) Get(a *catalog.APIService) *Backend {
	if b, ok := p.backends.Load(a.Backend); ok {
		return b.(*Backend)
	}
	b, _ := p.backends.LoadOrStore(a.Backend, newBackend(p, a))
	return b.(*Backend)
}

// Find returns the Backend of that ID, or nil where none is in use.
func (p *Pool) Find(id catalog.BackendID) *Backend {
	b, ok := p.backends.Load(id)
	if !ok {
		return nil
	}
	return b.(*Backend)
}

// endpointChanged tells of a change, and once more when it ends by itself.
func (p *Pool) endpointChanged(again time.Duration) {
	told := p.config.EndpointChanged
	if told == nil {
		return
	}
	told()
	if again > 0 {
		p.later.after(again, told)
	}
}

// Sync takes over the endpoints and settings of a snapshot, and closes the idle
// connections of Backends that it no longer needs; requests under way on them
// finish.
func (p *Pool) Sync(s *catalog.Snapshot) {
	used := map[catalog.BackendID]bool{}
	asked := map[catalog.BackendID]catalog.Settings{}
	for _, a := range s.Remotes() {
		most := asked[a.Backend]
		most.MaxInFlight = max(most.MaxInFlight, a.Settings.MaxInFlight)
		most.MaxInFlightPerUser = max(most.MaxInFlightPerUser, a.Settings.MaxInFlightPerUser)
		asked[a.Backend] = most
	}
	for _, a := range s.Remotes() {
		if !used[a.Backend] {
			used[a.Backend] = true
			p.Get(a).update(a, asked[a.Backend])
		}
	}
	p.backends.Range(func(id, b any) bool {
		if !used[id.(catalog.BackendID)] {
			p.backends.Delete(id)
			b.(*Backend).retire()
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

// Close closes all idle connections, and ends what was to be done later. Streams at endpoints that
// have left are left to those who hold them.
func (p *Pool) Close() {
	p.later.stop()
	p.backends.Range(func(_, b any) bool {
		b.(*Backend).retire()
		return true
	})
}
