package handlerchain

import (
	"crypto/tls"
	"testing"
	"time"

	"k8s.io/apiserver/pkg/server/dynamiccertificates"

	"github.com/annex-api/annex/kubeapiserver/internal/certtest"
)

// identities are the certificates of all clients, and the authorities of the
// servers; both chains see the same.
type identities struct {
	clients, proxies *certtest.Authority
	serving          dynamiccertificates.CertKeyContentProvider
	shown            map[string]*tls.Certificate
}

func newIdentities(t testing.TB) *identities {
	t.Helper()
	const life = 50 * time.Hour
	ids := &identities{clients: certtest.NewAuthority(t, "clients"), proxies: certtest.NewAuthority(t, "proxies")}
	ids.serving = certtest.Content(t, certtest.NewAuthority(t, "servers").Issue(t, life, "server"))
	ids.shown = map[string]*tls.Certificate{
		"":          nil,
		"admin":     ids.clients.Issue(t, life, "admin", "system:masters"),
		"alice":     ids.clients.Issue(t, life, "alice", "developers"),
		"expired":   ids.clients.Issue(t, -time.Hour, "alice", "developers"),
		"stranger":  certtest.NewAuthority(t, "nobody's").Issue(t, life, "admin", "system:masters"),
		"proxy":     ids.proxies.Issue(t, life, "front-proxy"),
		"not-proxy": ids.proxies.Issue(t, life, "other"),
	}
	return ids
}
