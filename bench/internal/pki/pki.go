// Package pki makes the certificates of one benchmark run.
package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Files are the paths of what Write made. A field X has its key in XKey.
type Files struct {
	CA                      string
	Server, ServerKey       string // kube-apiserver on loopback
	Admin, AdminKey         string // group system:masters
	Extension, ExtensionKey string // the extension server
	ProxyCA                 string
	Proxy, ProxyKey         string // the aggregation layer towards extension servers
	ServiceAccountKey       string
}

const life = 24 * time.Hour

type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// Write makes two authorities and what they sign in dir, which must exist.
// extensionNames are the extension server's names.
func Write(dir string, extensionNames ...string) (Files, error) {
	f := Files{
		CA:     filepath.Join(dir, "ca.crt"),
		Server: filepath.Join(dir, "server.crt"), ServerKey: filepath.Join(dir, "server.key"),
		Admin: filepath.Join(dir, "admin.crt"), AdminKey: filepath.Join(dir, "admin.key"),
		Extension: filepath.Join(dir, "extension.crt"), ExtensionKey: filepath.Join(dir, "extension.key"),
		ProxyCA: filepath.Join(dir, "proxy-ca.crt"),
		Proxy:   filepath.Join(dir, "proxy.crt"), ProxyKey: filepath.Join(dir, "proxy.key"),
		ServiceAccountKey: filepath.Join(dir, "service-account.key"),
	}
	ca, err := newAuthority("bench-ca", f.CA)
	if err != nil {
		return f, err
	}
	proxyCA, err := newAuthority("bench-proxy-ca", f.ProxyCA)
	if err != nil {
		return f, err
	}
	loopback := []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	for _, leaf := range []struct {
		by        authority
		template  x509.Certificate
		cert, key string
	}{
		{ca, x509.Certificate{Subject: pkix.Name{CommonName: "kube-apiserver"}, DNSNames: []string{"localhost"}, IPAddresses: loopback}, f.Server, f.ServerKey},
		{ca, x509.Certificate{Subject: pkix.Name{CommonName: "bench-admin", Organization: []string{"system:masters"}}}, f.Admin, f.AdminKey},
		{ca, x509.Certificate{Subject: pkix.Name{CommonName: "extension"}, DNSNames: extensionNames, IPAddresses: loopback}, f.Extension, f.ExtensionKey},
		{proxyCA, x509.Certificate{Subject: pkix.Name{CommonName: "front-proxy-client"}}, f.Proxy, f.ProxyKey},
	} {
		if err := leaf.by.issue(leaf.template, leaf.cert, leaf.key); err != nil {
			return f, err
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return f, fmt.Errorf("making the service account key: %w", err)
	}
	return f, writeKey(f.ServiceAccountKey, key)
}

func newAuthority(name, file string) (authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return authority{}, fmt.Errorf("making the key of %s: %w", name, err)
	}
	template := x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(life),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	if err != nil {
		return authority{}, fmt.Errorf("making the certificate of %s: %w", name, err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return authority{}, fmt.Errorf("reading back the certificate of %s: %w", name, err)
	}
	return authority{cert, key}, writePEM(file, "CERTIFICATE", der)
}

func (a authority) issue(template x509.Certificate, certFile, keyFile string) error {
	name := template.Subject.CommonName
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 62))
	if err != nil {
		return fmt.Errorf("making a serial number: %w", err)
	}
	template.SerialNumber = serial
	template.NotBefore, template.NotAfter = a.cert.NotBefore, a.cert.NotAfter
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	if len(template.DNSNames) > 0 {
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("making the key of %s: %w", name, err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		return fmt.Errorf("making the certificate of %s: %w", name, err)
	}
	if err := writePEM(certFile, "CERTIFICATE", der); err != nil {
		return err
	}
	return writeKey(keyFile, key)
}

func writeKey(file string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return fmt.Errorf("encoding the key for %s: %w", file, err)
	}
	return writePEM(file, "EC PRIVATE KEY", der)
}

func writePEM(file, kind string, der []byte) error {
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		return fmt.Errorf("writing %s: %w", file, err)
	}
	return nil
}
