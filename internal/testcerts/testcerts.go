// Package testcerts makes the certificates of tests and benches: authorities, and
// what they sign.
//
// Where one cannot be made the package panics: that is a mistake of the test, or the
// end of the machine's random numbers.
package testcerts

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
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

// Certificates are valid from an hour ago to a day from now.
const (
	past   = time.Hour
	future = 24 * time.Hour
)

// Authority signs certificates.
type Authority struct {
	// PEM is the authority's own certificate.
	PEM []byte

	cert *x509.Certificate
	key  crypto.Signer
}

// Subject says what a certificate is for.
type Subject struct {
	Name   string // the common name
	Groups []string
	// Hosts are DNS names and IP addresses.
	Hosts []string
	// NotBefore and NotAfter say when it is valid, if they are not zero.
	NotBefore, NotAfter time.Time
	// Usage is what it may be used for; servers and clients alike if there is none.
	Usage []x509.ExtKeyUsage
}

// Pair is a certificate with its key, as PEM.
type Pair struct{ Cert, Key []byte }

// New makes an authority that signs itself.
func New(name string) *Authority {
	key := NewKey()
	template := &x509.Certificate{
		SerialNumber: serial(),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-past), NotAfter: time.Now().Add(future),
		IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der := must(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))
	return &Authority{PEM: certPEM(der), cert: must(x509.ParseCertificate(der)), key: key}
}

// Load reads an authority that somebody else has made.
func Load(p Pair) (*Authority, error) {
	pair, err := tls.X509KeyPair(p.Cert, p.Key)
	if err != nil {
		return nil, fmt.Errorf("loading an authority: %w", err)
	}
	key, ok := pair.PrivateKey.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("loading an authority: a %T does not sign", pair.PrivateKey)
	}
	return &Authority{PEM: p.Cert, cert: pair.Leaf, key: key}, nil
}

// Issue signs a certificate.
func (a *Authority) Issue(s Subject) Pair {
	key := NewKey()
	template := &x509.Certificate{
		SerialNumber: serial(),
		Subject:      pkix.Name{CommonName: s.Name, Organization: s.Groups},
		NotBefore:    s.NotBefore, NotAfter: s.NotAfter,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           s.Usage,
	}
	if s.NotBefore.IsZero() {
		template.NotBefore = time.Now().Add(-past)
	}
	if s.NotAfter.IsZero() {
		template.NotAfter = time.Now().Add(future)
	}
	if len(s.Usage) == 0 {
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	}
	for _, host := range s.Hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	der := must(x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key))
	return Pair{Cert: certPEM(der), Key: KeyPEM(key)}
}

// Pool holds the authority alone.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// TLS is the pair as crypto/tls takes it, with its Leaf.
func (p Pair) TLS() tls.Certificate { return must(tls.X509KeyPair(p.Cert, p.Key)) }

// Write writes the pair into a directory, as <name>.crt and <name>.key.
func (p Pair) Write(dir, name string) (certFile, keyFile string, err error) {
	certFile, keyFile = filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key")
	if err := os.WriteFile(certFile, p.Cert, 0o600); err != nil {
		return "", "", fmt.Errorf("writing the certificate of %s: %w", name, err)
	}
	if err := os.WriteFile(keyFile, p.Key, 0o600); err != nil {
		return "", "", fmt.Errorf("writing the key of %s: %w", name, err)
	}
	return certFile, keyFile, nil
}

// NewKey makes a key to sign with.
func NewKey() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) }

// KeyPEM is the key as kube-apiserver reads it, for service accounts too.
func KeyPEM(key *ecdsa.PrivateKey) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: must(x509.MarshalECPrivateKey(key))})
}

func certPEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func serial() *big.Int { return must(rand.Int(rand.Reader, big.NewInt(1<<62))) }

func must[T any](v T, err error) T {
	if err != nil {
		panic(fmt.Sprintf("testcerts: %v", err))
	}
	return v
}
