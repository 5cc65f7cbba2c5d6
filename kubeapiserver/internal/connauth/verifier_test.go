package connauth

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/authenticatorfactory"
	"k8s.io/apiserver/pkg/authentication/group"
	"k8s.io/apiserver/pkg/authentication/request/anonymous"
	"k8s.io/apiserver/pkg/authentication/request/bearertoken"
	"k8s.io/apiserver/pkg/authentication/request/headerrequest"
	"k8s.io/apiserver/pkg/authentication/request/union"
	"k8s.io/apiserver/pkg/authentication/request/websocket"
	x509request "k8s.io/apiserver/pkg/authentication/request/x509"
	"k8s.io/apiserver/pkg/authentication/token/tokenfile"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"

	"github.com/annex-api/annex/internal/testcerts"
)

// bundle is a CA bundle that can be replaced, as a file can.
type bundle struct {
	current atomic.Pointer[dynamiccertificates.CAContentProvider]

	mu        sync.Mutex
	listeners []dynamiccertificates.Listener
}

func newBundle(t testing.TB, pem []byte) *bundle {
	b := &bundle{}
	b.set(t, pem)
	return b
}

// set replaces the bundle, then tells the listeners, as that of a file does.
func (b *bundle) set(t testing.TB, pem []byte) {
	t.Helper()
	c, err := dynamiccertificates.NewStaticCAContent("bundle", pem)
	if err != nil {
		t.Fatal(err)
	}
	b.current.Store(&c)
	b.mu.Lock()
	listeners := b.listeners
	b.mu.Unlock()
	for _, l := range listeners {
		l.Enqueue()
	}
}

func (b *bundle) Name() string                   { return "bundle" }
func (b *bundle) CurrentCABundleContent() []byte { return (*b.current.Load()).CurrentCABundleContent() }

func (b *bundle) VerifyOptions() (x509.VerifyOptions, bool) {
	return (*b.current.Load()).VerifyOptions()
}

func (b *bundle) AddListener(l dynamiccertificates.Listener) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.listeners = append(b.listeners, l)
}

// names are header names that may change.
type names struct{ current atomic.Pointer[[]string] }

func (n *names) set(list ...string) { n.current.Store(&list) }
func (n *names) Value() []string    { return *n.current.Load() }

// verifier is an authenticator like kube-apiserver's that counts its requests,
// with a cache before it.
type verifier struct {
	*cache
	next     authenticator.Request
	clients  *bundle
	headers  *names
	asked    atomic.Int64 // requests that were not answered from the cache
	observed atomic.Int64 // requests that were
	meddle   func()       // called after something was verified
}

// newVerifier trusts one authority for clients and another for proxies.
func newVerifier(t testing.TB, clients, proxies []byte) *verifier {
	t.Helper()
	v := &verifier{clients: newBundle(t, clients), headers: &names{}}
	v.headers.set("X-Remote-User")
	front := newBundle(t, proxies)
	config := &authenticatorfactory.RequestHeaderConfig{
		UsernameHeaders: v.headers, UIDHeaders: headerrequest.StaticStringSlice{},
		GroupHeaders: headerrequest.StaticStringSlice{"X-Remote-Group"}, ExtraHeaderPrefixes: headerrequest.StaticStringSlice{"X-Remote-Extra-"},
		CAContentProvider: front, AllowedClientNames: headerrequest.StaticStringSlice{"front-proxy"},
	}
	tokens := tokenfile.New(map[string]*user.DefaultInfo{"token-of-bob": {Name: "bob"}})
	v.next = union.NewFailOnError(group.NewAuthenticatedGroupAdder(union.New(
		headerrequest.NewDynamicVerifyOptionsSecure(front.VerifyOptions, config.AllowedClientNames, config.UsernameHeaders,
			config.UIDHeaders, config.GroupHeaders, config.ExtraHeaderPrefixes),
		x509request.NewDynamic(v.clients.VerifyOptions, x509request.CommonNameUserConversion),
		bearertoken.New(tokens), websocket.NewProtocolAuthenticator(tokens),
	)), anonymous.NewAuthenticator([]apiserver.AnonymousAuthCondition{}))
	full := authenticator.RequestFunc(func(r *http.Request) (*authenticator.Response, bool, error) {
		v.asked.Add(1)
		response, ok, err := v.next.AuthenticateRequest(r)
		if v.meddle != nil {
			v.meddle()
		}
		return response, ok, err
	})
	ca := dynamiccertificates.NewUnionCAContentProvider(v.clients, front) // as a listener's is
	v.cache = Remember(full, ca, config, func(*http.Request, *x509.Certificate) {
		v.observed.Add(1)
	}).(*cache)
	return v
}

// who says for whom a request on a connection is taken, and whether that was
// remembered; "" if it is refused.
func (v *verifier) who(t testing.TB, connection *tls.ConnectionState, h http.Header) (name string, remembered bool) {
	t.Helper()
	r, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "https://server/apis/g.example.com/v1/widgets", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.TLS = connection
	if h != nil {
		r.Header = h.Clone()
	}
	before, seen := v.asked.Load(), v.observed.Load()
	response, ok, err := v.AuthenticateRequest(r)
	remembered = v.asked.Load() == before
	if remembered != (v.observed.Load() == seen+1) {
		t.Errorf("answered from the cache: %v, but counted %d times", remembered, v.observed.Load()-seen)
	}
	if err != nil || !ok {
		return "", remembered
	}
	return response.User.GetName(), remembered
}

// expect fails unless a request has this outcome.
func (v *verifier) expect(t testing.TB, what string, connection *tls.ConnectionState, h http.Header, name string, remembered bool) {
	t.Helper()
	if n, r := v.who(t, connection, h); n != name || r != remembered {
		t.Errorf("%s: taken for %q, from the cache: %v; want %q, %v", what, n, r, name, remembered)
	}
}

func (v *verifier) size() int {
	n := 0
	v.known.Range(func(any, any) bool { n++; return true })
	return n
}

// shows is a connection on which a client shows certificates.
func shows(t testing.TB, certificates ...*x509.Certificate) *tls.ConnectionState {
	t.Helper()
	return &tls.ConnectionState{HandshakeComplete: true, Version: tls.VersionTLS13, PeerCertificates: certificates}
}

// lives are for how long the certificates of a chain last.
type lives struct{ root, intermediate, leaf time.Duration }

// chainOf returns the bundle with the root, and what alice shows.
func chainOf(t testing.TB, l lives) (root []byte, shown []*x509.Certificate) {
	t.Helper()
	var parent *x509.Certificate
	var signer *ecdsa.PrivateKey
	var all []*x509.Certificate
	for i, life := range []time.Duration{l.root, l.intermediate, l.leaf} {
		key := testcerts.NewKey()
		template := &x509.Certificate{
			SerialNumber: big.NewInt(int64(i + 1)), Subject: pkix.Name{CommonName: []string{"root", "intermediate", "alice"}[i]},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(life), BasicConstraintsValid: true, IsCA: i < 2,
			KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		}
		if i == 0 {
			parent, signer = template, key
		}
		der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
		if err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		parent, signer, all = c, key, append(all, c)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: all[0].Raw}), []*x509.Certificate{all[2], all[1]}
}
