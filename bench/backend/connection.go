package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/big"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/annex-api/annex/bench/internal/fixture"
)

// headerPause is between two bytes of a header.
const headerPause = time.Second

// hostileTLS gives each kind of hostile server the connections that it needs:
// the flapping one shows every other connection a certificate that nobody
// trusts, and the one with slow headers speaks HTTP/1.1.
func hostileTLS(config *tls.Config) (*tls.Config, error) {
	stranger, err := newStranger()
	if err != nil {
		return nil, fmt.Errorf("making a certificate that nobody trusts: %w", err)
	}
	untrusted, plain := config.Clone(), config.Clone()
	untrusted.Certificates = []tls.Certificate{stranger}
	untrusted.NextProtos = []string{"h2", "http/1.1"}
	plain.NextProtos = []string{"http/1.1"}
	var connections atomic.Int64
	config = config.Clone()
	config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		group, _ := fixture.GroupOfServerName(hello.ServerName)
		kind, _ := fixture.HostileKind(group)
		switch {
		case kind == "slow-headers":
			return plain, nil
		case kind == "flapping" && connections.Add(1)%2 == 0:
			return untrusted, nil
		}
		return nil, nil // As configured.
	}
	return config, nil
}

// newStranger is a certificate with the right name that signs itself.
func newStranger() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{fixture.WildcardName},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

// crawl answers with a header that has no end, a byte at a time, until the
// client leaves.
func crawl(w http.ResponseWriter) {
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, "HTTP/1.1 only", http.StatusHTTPVersionNotSupported)
		return
	}
	defer conn.Close()
	if _, err = buffered.WriteString("HTTP/1.1 200 OK\r\nX-Slow: "); err == nil {
		err = buffered.Flush()
	}
	tick := time.NewTicker(headerPause)
	defer tick.Stop()
	for err == nil {
		<-tick.C
		_, err = conn.Write([]byte("x"))
	}
}
