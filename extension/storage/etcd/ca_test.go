package etcd_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-logr/logr"

	"github.com/annex-api/annex/extension/storage"
	"github.com/annex-api/annex/extension/storage/etcd"
)

// authority signs certificates of servers.
type authority struct {
	t           *testing.T
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CA"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return authority{t, certificate, key}
}

func (a authority) write(path string) {
	a.t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.certificate.Raw}), 0o600); err != nil {
		a.t.Fatal(err)
	}
}

func (a authority) server(names []string, addresses ...net.IP) tls.Certificate {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotAfter: time.Now().Add(time.Hour), DNSNames: names, IPAddresses: addresses,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// handshake is that of a client with these settings, which connects to a host, with a server that has this certificate.
func handshake(settings *tls.Config, host string, certificate tls.Certificate) error {
	near, far := net.Pipe()
	defer near.Close()
	served := make(chan struct{})
	go func() {
		defer close(served)
		defer far.Close()
		_ = tls.Server(far, &tls.Config{Certificates: []tls.Certificate{certificate}}).Handshake() // the client says what is wrong
	}()
	settings = settings.Clone()
	settings.ServerName = host
	err := tls.Client(near, settings).Handshake()
	_ = near.Close()
	<-served
	return err
}

func TestTheAuthoritiesMayBeRenewed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ca.crt")
	before, after := newAuthority(t), newAuthority(t)
	before.write(path)
	e, err := storage.Open(t.Context(), "etcd://etcd.example:2379,10.0.0.1:2379?ca="+path, logr.Discard(), etcd.Driver())
	if err != nil {
		t.Fatal(err)
	}
	name, address := []string{"etcd.example"}, net.ParseIP("10.0.0.1")
	check := func(what, host string, certificate tls.Certificate, good bool) {
		t.Helper()
		if err := handshake(e.TLS, host, certificate); (err == nil) != good {
			t.Errorf("%s: %v", what, err)
		}
	}
	check("by name", "etcd.example", before.server(name), true)
	check("by address", "10.0.0.1", before.server(nil, address), true)
	check("of another name", "etcd.example", before.server([]string{"other.example"}), false)
	check("of another address", "10.0.0.1", before.server(nil, net.ParseIP("10.0.0.2")), false)
	check("of an authority that is not there yet", "etcd.example", after.server(name), false)
	after.write(path)
	check("of the new authority", "etcd.example", after.server(name), true)
	check("of the old authority", "etcd.example", before.server(name), false)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	check("without authorities", "etcd.example", after.server(name), false)
}
