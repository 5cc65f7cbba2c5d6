package backend

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"golang.org/x/net/http2"
)

const (
	dialTimeout      = 10 * time.Second
	handshakeTimeout = 10 * time.Second
	idleTimeout      = 90 * time.Second
	// maxResponseHeader bounds the header of a response, in bytes.
	maxResponseHeader = 1 << 20
)

// transport sends requests to one extension server. It is made anew when the client
// certificate changes.
type transport struct {
	http  *http.Transport
	conns *connPool
	rt    http.RoundTripper
	tls   *tls.Config
	err   error
}

// retire closes connections that carry no request; the others end with their
// last one.
func (t *transport) retire() {
	if t.http != nil {
		t.http.CloseIdleConnections()
		t.conns.retire()
	}
}

// openFirst sends over an open HTTP/2 connection where there is one.
type openFirst struct{ transport *transport }

// RoundTrip implements http.RoundTripper. The transport for HTTP/1.1, which
// dials, would look for an open connection too, after work of its own.
func (o openFirst) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := o.transport.conns.h2.RoundTrip(r)
	if !errors.Is(err, http2.ErrNoCachedConn) {
		return response, err
	}
	r = r.WithContext(r.Context())
	r.Header = Canonical(r.Header)
	return o.transport.http.RoundTrip(r)
}

// Canonical returns a header with the names spelled as is usual in HTTP/1.1. HTTP/2
// sends them in lower case however they are spelled.
func Canonical(h http.Header) http.Header {
	canonical := make(http.Header, len(h))
	for name, values := range h {
		name = http.CanonicalHeaderKey(name)
		canonical[name] = append(canonical[name], values...)
	}
	return canonical
}

// protocolReset is what the HTTP/2 transport calls a stream that the far end
// reset with PROTOCOL_ERROR.
const protocolReset = "recv_rststream_PROTOCOL_ERROR"

func (b *Backend) newTransport() *transport {
	config := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		ServerName:         b.service.ServerName(),
		RootCAs:            b.roots,
		InsecureSkipVerify: b.insecure, // asked for by the APIService's owner
	}
	if b.client != nil {
		if cert, key := b.client(); len(cert) > 0 {
			pair, err := tls.X509KeyPair(cert, key)
			if err != nil {
				return &transport{err: fmt.Errorf("loading the proxy's client certificate: %w", err)}
			}
			config.Certificates = []tls.Certificate{pair}
		}
	}
	t := &transport{tls: config}
	t.http = &http.Transport{
		// The environment's HTTP proxy is for the outside; extension servers
		// are inside.
		Proxy:                  nil,
		DialContext:            b.dial,
		TLSClientConfig:        config.Clone(),
		TLSHandshakeTimeout:    handshakeTimeout,
		ForceAttemptHTTP2:      true,
		DisableCompression:     true, // the client's own Accept-Encoding passes through
		MaxIdleConnsPerHost:    25,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxResponseHeader,
	}
	var err error
	t.conns, err = usePool(t.http, func(kind string) {
		if kind == protocolReset {
			b.unclear.Add(1)
		}
	})
	if err != nil {
		return &transport{err: err}
	}
	t.rt = openFirst{t}
	if b.wrap != nil {
		t.rt = b.wrap(t.rt)
	}
	return t
}

// RoundTrip sends a request to the endpoint that its URL names, over a shared
// connection. Redirects are not followed.
func (b *Backend) RoundTrip(r *http.Request) (*http.Response, error) {
	t := b.current.Load()
	if t.err != nil {
		return nil, t.err
	}
	return t.rt.RoundTrip(r)
}

// DialUpgrade opens a TLS connection of its own that speaks HTTP/1.1. No byte
// of a request is sent before the certificate is verified.
func (b *Backend) DialUpgrade(ctx context.Context, address string) (net.Conn, error) {
	t := b.current.Load()
	if t.err != nil {
		return nil, t.err
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout+handshakeTimeout)
	defer cancel()
	raw, err := b.dial(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	config := t.tls.Clone()
	config.NextProtos = []string{"http/1.1"}
	conn := tls.Client(raw, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, err
	}
	return conn, nil
}
