package serving

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"time"
)

// backdate is how much earlier than it is made a certificate is valid: a client whose
// clock is a little behind accepts it too.
const backdate = 5 * time.Minute

// pair is a certificate with its key, as PEM and parsed.
type pair struct {
	cert, key []byte
	leaf      *x509.Certificate
	signer    crypto.Signer
}

func parsePair(cert, key []byte) (pair, error) {
	parsed, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return pair{}, fmt.Errorf("read a certificate and its key: %w", err)
	}
	signer, ok := parsed.PrivateKey.(crypto.Signer)
	if !ok {
		return pair{}, fmt.Errorf("a key of type %T does not sign", parsed.PrivateKey)
	}
	return pair{cert: cert, key: key, leaf: parsed.Leaf, signer: signer}, nil
}

// made is when the certificate was made.
func (p pair) made() time.Time { return p.leaf.NotBefore.Add(backdate) }

// renewal is when two thirds of its life are over.
func (p pair) renewal() time.Time {
	return p.made().Add(p.leaf.NotAfter.Sub(p.made()) / 3 * 2)
}

func newCA(name string, now time.Time, life time.Duration) (pair, error) {
	template := &x509.Certificate{
		// Old and new CA have names of their own, for clients that choose by name.
		Subject:   pkix.Name{CommonName: commonName(fmt.Sprintf("ca-%d.%s", now.Unix(), name))},
		NotBefore: now.Add(-backdate), NotAfter: now.Add(life),
		KeyUsage: x509.KeyUsageCertSign, IsCA: true, MaxPathLenZero: true,
	}
	return sign(template, nil)
}

// newServing makes a certificate that does not outlive its CA.
func newServing(name string, hosts []string, ca pair, now time.Time, life time.Duration) (pair, error) {
	template := &x509.Certificate{
		Subject:   pkix.Name{CommonName: commonName(name)},
		NotBefore: now.Add(-backdate), NotAfter: now.Add(life),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if template.NotAfter.After(ca.leaf.NotAfter) {
		template.NotAfter = ca.leaf.NotAfter
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	return sign(template, &ca)
}

// sign makes a key, and the certificate that ca signs, or that signs itself. Keys are
// ECDSA: making an RSA key would be the longest step of a start.
func sign(template *x509.Certificate, ca *pair) (pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return pair{}, fmt.Errorf("make a key: %w", err)
	}
	if template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120)); err != nil {
		return pair{}, fmt.Errorf("make a serial number: %w", err)
	}
	template.BasicConstraintsValid = true
	parent, signer := template, crypto.Signer(key)
	if ca != nil {
		parent, signer = ca.leaf, ca.signer
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		return pair{}, fmt.Errorf("sign a certificate: %w", err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return pair{}, fmt.Errorf("encode a key: %w", err)
	}
	return parsePair(encodeCertificate(der), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
}

func encodeCertificate(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func parseCertificate(text []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("no certificate in PEM")
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read a certificate: %w", err)
	}
	return certificate, nil
}

// commonName cuts a name to the 64 characters that X.509 allows.
func commonName(name string) string { return name[:min(len(name), 64)] }
