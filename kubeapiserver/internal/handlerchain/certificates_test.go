package handlerchain

import (
	"crypto/tls"
	"testing"
	"time"

	"k8s.io/apiserver/pkg/server/dynamiccertificates"

	"github.com/annex-api/annex/internal/testcerts"
)

// identities are the certificates of all clients, and the authorities of the
// servers; both chains see the same.
type identities struct {
	clients, proxies *testcerts.Authority
	serving          dynamiccertificates.CertKeyContentProvider
	shown            map[string]*tls.Certificate
}

func newIdentities(t testing.TB) *identities {
	t.Helper()
	ids := &identities{clients: testcerts.New("clients"), proxies: testcerts.New("proxies")}
	server := testcerts.New("servers").Issue(testcerts.Subject{Name: "server", Hosts: []string{"server"}})
	var err error
	if ids.serving, err = dynamiccertificates.NewStaticCertKeyContent("server", server.Cert, server.Key); err != nil {
		t.Fatal(err)
	}
	ids.shown = map[string]*tls.Certificate{
		"":          nil,
		"admin":     shown(ids.clients, testcerts.Subject{Name: "admin", Groups: []string{"system:masters"}}),
		"alice":     shown(ids.clients, testcerts.Subject{Name: "alice", Groups: []string{"developers"}}),
		"expired":   shown(ids.clients, testcerts.Subject{Name: "alice", Groups: []string{"developers"}, NotAfter: time.Now().Add(-time.Minute)}),
		"stranger":  shown(testcerts.New("nobody's"), testcerts.Subject{Name: "admin", Groups: []string{"system:masters"}}),
		"proxy":     shown(ids.proxies, testcerts.Subject{Name: "front-proxy"}),
		"not-proxy": shown(ids.proxies, testcerts.Subject{Name: "other"}),
	}
	return ids
}

// shown is a certificate as its owner shows it.
func shown(a *testcerts.Authority, s testcerts.Subject) *tls.Certificate {
	c := a.Issue(s).TLS()
	return &c
}
