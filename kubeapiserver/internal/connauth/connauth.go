// Package connauth has the client certificate of a connection verified once, in
// place of once for each of its requests.
package connauth

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"weak"

	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/authenticatorfactory"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
)

// maxAge bounds how long a certificate is taken as proven without being verified
// again, whatever its own end is.
const maxAge = 10 * time.Minute

// cache is an authenticator that remembers whom the client certificate of a
// connection proved.
type cache struct {
	next    authenticator.Request
	ca      dynamiccertificates.CAContentProvider
	observe func(*http.Request, *x509.Certificate)
	// proxied are headers with which a front proxy tells who the user is.
	proxied func() []string

	generation atomic.Uint64 // of the CA bundle
	known      sync.Map      // weak.Pointer[tls.ConnectionState] -> *proof
}

// proof is what the certificate of one connection proved.
type proof struct {
	response   *authenticator.Response
	generation uint64
	until      time.Time
}

// Remember returns an authenticator with the answers of auth. Those that rest on
// nothing but the client certificate of a connection are remembered for as long as
// that connection, the CA bundle, and every certificate of the chain last, and for
// ten minutes at most.
//
// An answer rests on the certificate alone if k8s.io/apiserver's x509
// authenticator gave it, which its credential ID tells, and the request has no
// other credentials: those may come first. Auth must be built as kube-apiserver
// builds it, so that nothing vetoes afterwards what the certificate proves. The
// ca is that of the listener, proxies the front proxies' settings or nil, and
// observe is called for every request that is answered so.
func Remember(
	auth authenticator.Request, ca dynamiccertificates.CAContentProvider,
	proxies *authenticatorfactory.RequestHeaderConfig, observe func(*http.Request, *x509.Certificate),
) authenticator.Request {
	if auth == nil || ca == nil {
		return auth
	}
	c := &cache{next: auth, ca: ca, observe: observe, proxied: func() []string { return nil }}
	if proxies != nil && proxies.UsernameHeaders != nil {
		c.proxied = proxies.UsernameHeaders.Value
	}
	ca.AddListener(c)
	return c
}

// Enqueue implements dynamiccertificates.Listener: the CA bundle has changed.
func (c *cache) Enqueue() { c.generation.Add(1) }

// AuthenticateRequest implements authenticator.Request.
func (c *cache) AuthenticateRequest(r *http.Request) (*authenticator.Response, bool, error) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 || c.otherCredentials(r.Header) {
		return c.next.AuthenticateRequest(r)
	}
	connection := weak.Make(r.TLS)
	generation := c.generation.Load() // before anything is verified
	if v, ok := c.known.Load(connection); ok {
		p := v.(*proof)
		if p.generation == generation && time.Now().Before(p.until) {
			c.observe(r, r.TLS.PeerCertificates[0])
			response := *p.response
			return &response, true, nil
		}
	}
	response, ok, err := c.next.AuthenticateRequest(r)
	if ok && err == nil && provenBy(response, r.TLS.PeerCertificates[0]) {
		if until := c.validUntil(r.TLS); !until.IsZero() {
			kept := *response
			c.remember(r.TLS, connection, &proof{response: &kept, generation: generation, until: until})
		}
	}
	return response, ok, err
}

// otherCredentials says whether a request has credentials besides those of its
// connection.
func (c *cache) otherCredentials(h http.Header) bool {
	if len(h["Authorization"]) > 0 || len(h["Sec-Websocket-Protocol"]) > 0 {
		return true
	}
	for _, name := range c.proxied() {
		if h.Get(name) != "" {
			return true
		}
	}
	return false
}

// provenBy says whether the x509 authenticator answered, and for this
// certificate.
func provenBy(response *authenticator.Response, leaf *x509.Certificate) bool {
	if response == nil || response.User == nil {
		return false
	}
	ids := response.User.GetExtra()[user.CredentialIDKey]
	if len(ids) != 1 {
		return false
	}
	hash, ok := strings.CutPrefix(ids[0], "X509SHA256=")
	sum := sha256.Sum256(leaf.Raw)
	return ok && hash == hex.EncodeToString(sum[:])
}

// validUntil is when the first certificate of any chain from the connection's
// to the CA bundle ends, or the limit; zero where there is no chain.
func (c *cache) validUntil(state *tls.ConnectionState) time.Time {
	options, ok := c.ca.VerifyOptions()
	if !ok {
		return time.Time{}
	}
	if options.Intermediates == nil {
		options.Intermediates = x509.NewCertPool()
		for _, cert := range state.PeerCertificates[1:] {
			options.Intermediates.AddCert(cert)
		}
	}
	chains, err := state.PeerCertificates[0].Verify(options)
	if err != nil {
		return time.Time{}
	}
	until := time.Now().Add(maxAge)
	for _, chain := range chains {
		for _, cert := range chain {
			if cert.NotAfter.Before(until) {
				until = cert.NotAfter
			}
		}
	}
	return until
}

// remember keeps a proof until its connection's state is garbage.
func (c *cache) remember(state *tls.ConnectionState, connection weak.Pointer[tls.ConnectionState], p *proof) {
	if _, known := c.known.Swap(connection, p); !known {
		runtime.AddCleanup(state, c.forget, connection)
	}
}

func (c *cache) forget(connection weak.Pointer[tls.ConnectionState]) {
	c.known.Delete(connection)
}
