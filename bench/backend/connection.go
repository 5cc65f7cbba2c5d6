package main

import (
	"crypto/tls"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/annex-api/annex/bench/internal/fixture"
	"github.com/annex-api/annex/internal/testcerts"
)

// headerPause is between two bytes of a header.
const headerPause = time.Second

// hostileTLS gives each kind of hostile server the connections that it needs:
// the flapping one shows every other connection a certificate that nobody
// trusts, and the one with slow headers speaks HTTP/1.1.
func hostileTLS(config *tls.Config) *tls.Config {
	stranger := testcerts.New("stranger").Issue(testcerts.Subject{Hosts: []string{fixture.WildcardName}})
	untrusted, plain := config.Clone(), config.Clone()
	untrusted.Certificates = []tls.Certificate{stranger.TLS()}
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
	return config
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
