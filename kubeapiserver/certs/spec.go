package certs

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"slices"
	"time"
)

const (
	ca               = "ca"
	server           = "apiserver"
	admin            = "admin"
	frontProxyCA     = "front-proxy-ca"
	frontProxyClient = "front-proxy-client"
)

// spec says what a certificate is for.
type spec struct {
	name         string
	signer       string // "" for a CA, which signs itself
	commonName   string
	organization []string
	use          x509.ExtKeyUsage
	names        []string
	addresses    []net.IP
}

func specs(o Options) []spec {
	serviceIP := o.ServiceIP
	if serviceIP == nil {
		serviceIP = net.IPv4(10, 96, 0, 1)
	}
	srv := spec{name: server, signer: ca, commonName: "kube-apiserver", use: x509.ExtKeyUsageServerAuth}
	srv.addHosts([]string{
		"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
		"localhost", "127.0.0.1", "::1", serviceIP.String(),
	})
	if host, err := os.Hostname(); err == nil && host != "" {
		srv.addHosts([]string{host})
	}
	srv.addHosts(o.Hosts)
	return []spec{
		{name: ca, commonName: "annex-ca"},
		srv,
		{name: admin, signer: ca, commonName: "annex-admin", organization: []string{"system:masters"}, use: x509.ExtKeyUsageClientAuth},
		{name: frontProxyCA, commonName: "annex-front-proxy-ca"},
		{name: frontProxyClient, signer: frontProxyCA, commonName: "front-proxy-client", use: x509.ExtKeyUsageClientAuth},
	}
}

// addHosts adds names and addresses, each once. An unspecified address is no one's.
func (sp *spec) addHosts(hosts []string) {
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip == nil {
			if !slices.Contains(sp.names, h) {
				sp.names = append(sp.names, h)
			}
		} else if !ip.IsUnspecified() && !slices.ContainsFunc(sp.addresses, ip.Equal) {
			sp.addresses = append(sp.addresses, ip)
		}
	}
}

// covers reports whether the certificate names every host that it must.
func (sp *spec) covers(c *x509.Certificate) bool {
	for _, n := range sp.names {
		if !slices.Contains(c.DNSNames, n) {
			return false
		}
	}
	for _, ip := range sp.addresses {
		if !slices.ContainsFunc(c.IPAddresses, ip.Equal) {
			return false
		}
	}
	return true
}

// issue signs a certificate for key and writes it.
func (sp *spec) issue(path string, key *ecdsa.PrivateKey, signer authority, now time.Time) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("make a serial number for %s: %w", path, err)
	}
	start := now.Add(-backdate)
	t := &x509.Certificate{
		SerialNumber:          serial.Add(serial, big.NewInt(1)),
		Subject:               pkix.Name{CommonName: sp.commonName, Organization: sp.organization},
		NotBefore:             start,
		NotAfter:              start.Add(LeafLife),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		DNSNames:              sp.names,
		IPAddresses:           sp.addresses,
	}
	if sp.signer == "" {
		t.NotAfter = start.Add(CALife)
		t.IsCA = true
		t.KeyUsage |= x509.KeyUsageCertSign | x509.KeyUsageCRLSign
		signer = authority{cert: t, key: key}
	} else {
		t.ExtKeyUsage = []x509.ExtKeyUsage{sp.use}
		if t.NotAfter.After(signer.cert.NotAfter) {
			t.NotAfter = signer.cert.NotAfter
		}
		if t.NotBefore.Before(signer.cert.NotBefore) {
			t.NotBefore = signer.cert.NotBefore
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, signer.cert, &key.PublicKey, signer.key)
	if err != nil {
		return nil, fmt.Errorf("sign certificate %s: %w", path, err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("parse new certificate %s: %w", path, err)
	}
	if err := WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})); err != nil {
		return nil, err
	}
	return cert, nil
}
