package handlerchain

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	"k8s.io/apiserver/pkg/server/dynamiccertificates"
)

// signer is a certificate authority of one test.
type signer struct {
	pem  []byte
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newSigner(t testing.TB, name string) *signer {
	t.Helper()
	s := &signer{key: newSigningKey(t)}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(100 * time.Hour),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &s.key.PublicKey, s.key)
	if err != nil {
		t.Fatalf("signing the authority %s: %v", name, err)
	}
	if s.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatalf("reading the authority %s: %v", name, err)
	}
	s.pem = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return s
}

// issue signs a certificate that ends after life.
func (s *signer) issue(t testing.TB, life time.Duration, name string, groups ...string) *tls.Certificate {
	t.Helper()
	key := newSigningKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name, Organization: groups},
		DNSNames: []string{name}, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(life),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, s.cert, &key.PublicKey, s.key)
	if err != nil {
		t.Fatalf("signing the certificate of %s: %v", name, err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func newSigningKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// identities are the certificates of all clients, and the authorities of the
// servers; both chains see the same.
type identities struct {
	clients, proxies *signer
	serving          dynamiccertificates.CertKeyContentProvider
	shown            map[string]*tls.Certificate
}

func newIdentities(t testing.TB) *identities {
	t.Helper()
	const life = 50 * time.Hour
	ids := &identities{clients: newSigner(t, "clients"), proxies: newSigner(t, "proxies")}
	ids.serving = content(t, newSigner(t, "servers").issue(t, life, "server"))
	ids.shown = map[string]*tls.Certificate{
		"":          nil,
		"admin":     ids.clients.issue(t, life, "admin", "system:masters"),
		"alice":     ids.clients.issue(t, life, "alice", "developers"),
		"expired":   ids.clients.issue(t, -time.Hour, "alice", "developers"),
		"stranger":  newSigner(t, "nobody's").issue(t, life, "admin", "system:masters"),
		"proxy":     ids.proxies.issue(t, life, "front-proxy"),
		"not-proxy": ids.proxies.issue(t, life, "other"),
	}
	return ids
}

// content is the certificate as servers take it.
func content(t testing.TB, c *tls.Certificate) dynamiccertificates.CertKeyContentProvider {
	t.Helper()
	key, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	provider, err := dynamiccertificates.NewStaticCertKeyContent("server",
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
	if err != nil {
		t.Fatal(err)
	}
	return provider
}
