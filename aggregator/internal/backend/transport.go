package backend

//lint:file-ignore SA1019 see connpool.go.

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
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

// What the HTTP/2 transport calls a stream that the far end reset.
const (
	protocolReset = "recv_rststream_PROTOCOL_ERROR"
	refusedReset  = "recv_rststream_REFUSED_STREAM"
)

// resets counts streams that the far end of any connection reset, by what they mean.
type resets struct {
	unclear atomic.Uint64 // with PROTOCOL_ERROR
	refused atomic.Uint64 // with REFUSED_STREAM
}

func (r *resets) count(kind string) {
	switch kind {
	case protocolReset:
		r.unclear.Add(1)
	case refusedReset:
		r.refused.Add(1)
	}
}

// transportConfig is what all transports to one extension server have in common.
type transportConfig struct {
	serverName string
	caBundle   []byte // PEM; empty for the system's roots
	insecure   bool
	dial       func(ctx context.Context, network, address string) (*watchedConn, error)
	// clientCertificate and wrap may be nil.
	clientCertificate func() (cert, key []byte)
	wrap              func(http.RoundTripper) http.RoundTripper
	resets            *resets
	// shown is told the certificate of an address after each handshake in which it
	// showed one, verified or not.
	shown func(address string, certificate *x509.Certificate)
}

// transport sends requests to one extension server with one client certificate.
type transport struct {
	err error // why nothing can be sent; the other fields are not set then

	dial  func(ctx context.Context, network, address string) (*watchedConn, error)
	tls   *tls.Config
	shown func(address string, certificate *x509.Certificate)
	http1 *http.Transport // dials, and hands connections that speak HTTP/2 to conns
	conns *connPool
	rt    http.RoundTripper
}

// newTransport reads the client certificate as it is now.
func newTransport(c transportConfig) *transport {
	config, err := c.tls()
	if err != nil {
		return &transport{err: err}
	}
	t := &transport{dial: c.dial, tls: config, shown: c.shown}
	t.http1 = &http.Transport{
		// The environment's HTTP proxy is for the outside; extension servers
		// are inside.
		Proxy: nil,
		DialTLSContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			conn, err := t.dialTLS(ctx, address, http2.NextProtoTLS, "http/1.1")
			switch {
			case err != nil: // a nil *tls.Conn is no nil net.Conn
				return nil, err
			case conn.ConnectionState().NegotiatedProtocol == http2.NextProtoTLS:
				return conn, nil // the pool takes it
			}
			return newSecuredConn(conn), nil
		},
		ForceAttemptHTTP2:      true,
		DisableCompression:     true, // the client's own Accept-Encoding passes through
		MaxIdleConnsPerHost:    25,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxResponseHeader,
	}
	t.conns, err = usePool(t.http1, c.resets.count)
	if err != nil {
		return &transport{err: err}
	}
	t.rt = openFirst{t.conns.h2, t.http1}
	if c.wrap != nil {
		t.rt = c.wrap(t.rt)
	}
	return t
}

func (c transportConfig) tls() (*tls.Config, error) {
	config := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		ServerName:         c.serverName,
		InsecureSkipVerify: c.insecure, // asked for by the APIService's owner
	}
	if len(c.caBundle) > 0 {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(c.caBundle) {
			return nil, errors.New("unable to load root certificates: spec.caBundle holds no PEM certificate")
		}
	}
	if c.clientCertificate == nil {
		return config, nil
	}
	if cert, key := c.clientCertificate(); len(cert) > 0 {
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("loading the proxy's client certificate: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

// roundTrip sends a request to the endpoint that its URL names, over a shared
// connection. Redirects are not followed.
func (t *transport) roundTrip(r *http.Request) (*http.Response, error) {
	if t.err != nil {
		return nil, t.err
	}
	return t.rt.RoundTrip(r)
}

// dialUpgrade opens a TLS connection of its own that speaks HTTP/1.1. No byte
// of a request is sent before the certificate is verified.
func (t *transport) dialUpgrade(ctx context.Context, address string) (net.Conn, error) {
	if t.err != nil {
		return nil, t.err
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout+handshakeTimeout)
	defer cancel()
	conn, err := t.dialTLS(ctx, address, "http/1.1")
	if err != nil { // a nil *tls.Conn is no nil net.Conn
		return nil, err
	}
	return conn, nil
}

// errHandshakeTimeout ends a connection that does not become a TLS one in time.
var errHandshakeTimeout = errors.New("TLS handshake timeout")

// dialTLS opens a TLS connection over a watched one, for the first of these protocols
// that the far end speaks.
func (t *transport) dialTLS(ctx context.Context, address string, protocols ...string) (*tls.Conn, error) {
	raw, err := t.dial(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	config := t.tls.Clone()
	config.NextProtos = protocols
	conn := tls.Client(raw, config)
	ctx, cancel := context.WithTimeoutCause(ctx, handshakeTimeout, errHandshakeTimeout)
	defer cancel()
	err = conn.HandshakeContext(ctx)
	if certificate := shownCertificate(conn, err); certificate != nil {
		t.shown(address, certificate)
	}
	if err != nil {
		_ = raw.Close()
		if errors.Is(context.Cause(ctx), errHandshakeTimeout) {
			return nil, errHandshakeTimeout
		}
		return nil, err
	}
	return conn, nil
}

// shownCertificate is that of the far end after a handshake, which may have failed for
// its sake; nil where the handshake did not come that far.
func shownCertificate(conn *tls.Conn, handshake error) *x509.Certificate {
	shown := conn.ConnectionState().PeerCertificates
	if refused := (*tls.CertificateVerificationError)(nil); errors.As(handshake, &refused) {
		shown = refused.UnverifiedCertificates
	}
	if len(shown) == 0 {
		return nil
	}
	return shown[0]
}

// clientCertificate is what this end shows; nil for none.
func (t *transport) clientCertificate() *x509.Certificate {
	if t.err != nil || len(t.tls.Certificates) == 0 {
		return nil
	}
	return t.tls.Certificates[0].Leaf
}

// closeIdle closes the connections to an endpoint that carry no request, and those
// over HTTP/1.1 to all endpoints.
func (t *transport) closeIdle(address string) {
	if t.err == nil {
		t.http1.CloseIdleConnections()
		t.conns.closeIdle(address)
	}
}

// retire closes connections that carry no request; the others end with their
// last one.
func (t *transport) retire() {
	if t.err == nil {
		t.http1.CloseIdleConnections()
		t.conns.retire()
	}
}

// openFirst sends over an open HTTP/2 connection where there is one. The transport
// for HTTP/1.1, which dials, would look for one too, after work of its own.
type openFirst struct {
	http2 *http2.Transport
	http1 *http.Transport
}

// RoundTrip implements http.RoundTripper.
func (o openFirst) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := o.http2.RoundTrip(r)
	if !errors.Is(err, http2.ErrNoCachedConn) {
		return response, err
	}
	var conn net.Conn
	r = r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) { conn = info.Conn },
	}))
	r.Header = Canonical(r.Header)
	response, err = o.http1.RoundTrip(r)
	if secured, ok := conn.(securedConn); ok && err == nil {
		response.TLS = secured.state // which the transport knows of a *tls.Conn only
	}
	return response, err
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
