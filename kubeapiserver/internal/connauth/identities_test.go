package connauth

import (
	"context"
	"crypto/tls"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/annex-api/annex/internal/testcerts"
)

// patience bounds a wait for the garbage collector.
const patience = 20 * time.Second

// until polls for something to become true.
func until(ctx context.Context, done func() bool) bool {
	return wait.PollUntilContextTimeout(ctx, time.Millisecond, patience, true, func(context.Context) (bool, error) {
		return done(), nil
	}) == nil
}

// identities are two authorities, and what clients show.
type identities struct {
	clients, proxies *testcerts.Authority
	shown            map[string]*tls.Certificate
}

func newIdentities(t testing.TB) *identities {
	t.Helper()
	ids := &identities{clients: testcerts.New("clients"), proxies: testcerts.New("proxies")}
	ids.shown = map[string]*tls.Certificate{
		"admin":    shown(ids.clients, testcerts.Subject{Name: "admin", Groups: []string{"system:masters"}}),
		"alice":    shown(ids.clients, testcerts.Subject{Name: "alice", Groups: []string{"developers"}}),
		"expired":  shown(ids.clients, testcerts.Subject{Name: "alice", Groups: []string{"developers"}, NotAfter: time.Now().Add(-time.Minute)}),
		"stranger": shown(testcerts.New("nobody's"), testcerts.Subject{Name: "admin", Groups: []string{"system:masters"}}),
		"proxy":    shown(ids.proxies, testcerts.Subject{Name: "front-proxy"}),
	}
	return ids
}

// shown is a certificate as its owner shows it.
func shown(a *testcerts.Authority, s testcerts.Subject) *tls.Certificate {
	c := a.Issue(s).TLS()
	return &c
}
