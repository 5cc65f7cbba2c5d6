package connauth

import (
	"context"
	"crypto/tls"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/annex-api/annex/kubeapiserver/internal/certtest"
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
	clients, proxies *certtest.Authority
	shown            map[string]*tls.Certificate
}

func newIdentities(t testing.TB) *identities {
	t.Helper()
	const life = 50 * time.Hour
	ids := &identities{clients: certtest.NewAuthority(t, "clients"), proxies: certtest.NewAuthority(t, "proxies")}
	ids.shown = map[string]*tls.Certificate{
		"admin":    ids.clients.Issue(t, life, "admin", "system:masters"),
		"alice":    ids.clients.Issue(t, life, "alice", "developers"),
		"expired":  ids.clients.Issue(t, -time.Hour, "alice", "developers"),
		"stranger": certtest.NewAuthority(t, "nobody's").Issue(t, life, "admin", "system:masters"),
		"proxy":    ids.proxies.Issue(t, life, "front-proxy"),
	}
	return ids
}
