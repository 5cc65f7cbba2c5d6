package backend

import (
	"cmp"
	"context"
	"crypto/x509"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/annex-api/annex/aggregator/internal/backend/balance"
	"github.com/annex-api/annex/aggregator/internal/catalog"
)

// Shown is the certificate that an endpoint showed in its last handshake, whether it was
// trusted or not. It may have another by now: connections are kept for as long as there are
// requests.
type Shown struct {
	*x509.Certificate
	// At is when it was shown.
	At time.Time

	address  string
	fallback bool // of an address behind which any endpoint may be
}

// certificates are what the endpoints of an extension server showed: replicas may have
// certificates of their own.
type certificates struct {
	mu sync.Mutex
	// of has an entry for each endpoint, and one without an address where a resolver is asked.
	of map[string]Shown
}

// follow keeps what the endpoints of a target showed, and forgets the others.
func (c *certificates) follow(t *catalog.Target) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.of
	c.of = make(map[string]Shown, len(t.Endpoints))
	if t.Resolver {
		c.of[""] = before[""]
	}
	for _, e := range t.Endpoints {
		shown := before[e.Address]
		shown.address, shown.fallback = e.Address, e.Fallback
		c.of[e.Address] = shown
	}
}

// note takes note of a handshake, and says whether another certificate was shown than before.
func (c *certificates) note(address string, certificate *x509.Certificate, now time.Time) (another bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := address
	if _, resolved := c.of[""]; resolved {
		key = ""
	}
	before, follows := c.of[key]
	if !follows {
		return false // it has left
	}
	c.of[key] = Shown{Certificate: certificate, At: now, address: address, fallback: before.fallback}
	return before.Certificate == nil || !before.Equal(certificate)
}

// all lists what was shown, the first to expire first. What the Service's own address showed is
// left out while an endpoint showed something: it leads now to this one and then to that one.
func (c *certificates) all() []Shown {
	c.mu.Lock()
	defer c.mu.Unlock()
	var own, fallback []Shown
	for _, s := range c.of {
		switch {
		case s.Certificate == nil:
		case s.fallback:
			fallback = append(fallback, s)
		default:
			own = append(own, s)
		}
	}
	if len(own) == 0 {
		own = fallback
	}
	slices.SortFunc(own, func(a, b Shown) int {
		return cmp.Or(a.NotAfter.Compare(b.NotAfter), strings.Compare(a.address, b.address))
	})
	return own
}

// Certificate is, of what the endpoints showed, what expires first; without a certificate where
// there was no handshake.
func (b *Backend) Certificate() Shown {
	all := b.certificates.all()
	if len(all) == 0 {
		return Shown{}
	}
	return all[0]
}

// ShowCertificate connects, for no more than its certificate, to one of the endpoints that are
// well and whose certificates are due: the one that showed it longest ago.
func (b *Backend) ShowCertificate(ctx context.Context, due func(Shown) bool) {
	all := slices.DeleteFunc(b.certificates.all(), func(s Shown) bool { return !due(s) })
	slices.SortStableFunc(all, func(x, y Shown) int { return x.At.Compare(y.At) })
	for _, s := range all {
		address, ok := b.wellAt(s.address)
		if !ok {
			continue
		}
		if conn, err := b.current.Load().dialUpgrade(ctx, address); err == nil {
			_ = conn.Close() // nothing was sent on it
		}
		return
	}
}

// wellAt is where the endpoint of an address is to be found, if it is well. What a resolver
// gives now takes the place of what it gave.
func (b *Backend) wellAt(address string) (now string, ok bool) {
	if t := b.target.Load(); t.Resolver {
		c, err := b.Pick(*t)
		return c.Address, err == nil
	}
	return address, slices.ContainsFunc(b.Health(), func(h balance.Health) bool {
		return h.Address == address && h.State == balance.Healthy
	})
}
