package connauth

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"

	"github.com/annex-api/annex/internal/testcerts"
)

func TestCertificateIsVerifiedOnceAConnection(t *testing.T) {
	ids := newIdentities(t)
	v := newVerifier(t, ids.clients.PEM, ids.proxies.PEM)
	alice := ids.shown["alice"].Leaf
	first, second, third := shows(t, alice), shows(t, alice), shows(t, ids.shown["admin"].Leaf)
	v.expect(t, "the first request", first, nil, "alice", false)
	v.expect(t, "the second request", first, nil, "alice", true)
	v.expect(t, "another connection", second, nil, "alice", false)
	v.expect(t, "another connection again", second, nil, "alice", true)
	v.expect(t, "another user", third, nil, "admin", false)
	if v.size() != 3 {
		t.Errorf("%d connections are known, want 3", v.size())
	}
	for _, c := range []*tls.ConnectionState{first, second, third} {
		runtime.KeepAlive(c) // what is known of a connection goes with it
	}

	// The answer is the same, and nobody's change of it reaches another request.
	r := &http.Request{Header: http.Header{}, TLS: first}
	want, _, err := v.next.AuthenticateRequest(r)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		got, ok, err := v.AuthenticateRequest(r)
		if err != nil || !ok {
			t.Fatal("refused", err)
		}
		g, w := got.User.(*user.DefaultInfo), want.User.(*user.DefaultInfo)
		if len(g.Groups) != 2 || g.Groups[0] != w.Groups[0] || g.Groups[1] != w.Groups[1] || g.UID != w.UID || g.Extra[user.CredentialIDKey][0] != w.Extra[user.CredentialIDKey][0] {
			t.Errorf("remembered %+v, want %+v", g, w)
		}
		got.User = &user.DefaultInfo{Name: "mallory"}
	}
}

// The first answer goes to the request that was verified, and what that does to it
// reaches no other.
func TestFirstAnswerIsItsRequestsOwn(t *testing.T) {
	ids := newIdentities(t)
	v := newVerifier(t, ids.clients.PEM, ids.proxies.PEM)
	c := shows(t, ids.shown["alice"].Leaf)
	r := &http.Request{Header: http.Header{}, TLS: c}
	for i := range 3 {
		got, ok, err := v.AuthenticateRequest(r)
		if err != nil || !ok {
			t.Fatal("refused", err)
		}
		if name := got.User.GetName(); name != "alice" {
			t.Errorf("request %d is taken for %s", i, name)
		}
		got.User, got.Audiences = &user.DefaultInfo{Name: "mallory"}, nil
	}
}

// What an authenticator says of a certificate that the bundle does not vouch for is
// no proof: nobody knows how long it holds.
func TestCertificateWithoutAChainIsNotRemembered(t *testing.T) {
	ids := newIdentities(t)
	v := newVerifier(t, ids.clients.PEM, ids.proxies.PEM)
	for _, name := range []string{"stranger", "expired"} {
		leaf := ids.shown[name].Leaf
		sum := sha256.Sum256(leaf.Raw)
		v.next = authenticator.RequestFunc(func(*http.Request) (*authenticator.Response, bool, error) {
			return &authenticator.Response{User: &user.DefaultInfo{
				Name: "someone", Extra: map[string][]string{user.CredentialIDKey: {"X509SHA256=" + hex.EncodeToString(sum[:])}},
			}}, true, nil
		})
		c := shows(t, leaf)
		for range 3 {
			v.expect(t, name, c, nil, "someone", false)
		}
		runtime.KeepAlive(c)
	}
	if v.size() != 0 {
		t.Errorf("%d connections are remembered", v.size())
	}
}

func TestChangedBundleIsAsked(t *testing.T) {
	ids := newIdentities(t)
	v := newVerifier(t, ids.clients.PEM, ids.proxies.PEM)
	c := shows(t, ids.shown["alice"].Leaf)
	v.expect(t, "at first", c, nil, "alice", false)
	v.expect(t, "again", c, nil, "alice", true)
	v.clients.set(t, testcerts.New("other").PEM)
	v.expect(t, "without its authority", c, nil, "", false)
	v.expect(t, "without its authority again", c, nil, "", false)
	v.clients.set(t, ids.clients.PEM)
	v.expect(t, "with its authority", c, nil, "alice", false)
	v.expect(t, "with its authority again", c, nil, "alice", true)
}

// What was verified with the old bundle counts for nothing after the change,
// though it is remembered only then.
func TestBundleChangesDuringVerification(t *testing.T) {
	ids := newIdentities(t)
	v := newVerifier(t, ids.clients.PEM, ids.proxies.PEM)
	c := shows(t, ids.shown["alice"].Leaf)
	other := append(testcerts.New("other").PEM, ids.clients.PEM...)
	v.meddle = func() { v.clients.set(t, other) } // the chain still ends in it
	v.expect(t, "during the change", c, nil, "alice", false)
	v.meddle = nil
	v.expect(t, "after the change", c, nil, "alice", false)
	v.expect(t, "again", c, nil, "alice", true)
}

func TestCertificateIsVerifiedAgainInTime(t *testing.T) {
	const short, long = 5 * time.Minute, 50 * time.Hour
	for what, c := range map[string]struct {
		lives lives
		after time.Duration
		then  string
	}{
		"the leaf ends":         {lives{long, long, short}, short, ""},
		"the intermediate ends": {lives{long, short, long}, short, ""},
		"the root ends":         {lives{short, long, long}, short, ""},
		"the limit is reached":  {lives{long, long, long}, maxAge, "alice"},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				root, shown := chainOf(t, c.lives)
				v := newVerifier(t, root, testcerts.New("proxies").PEM)
				conn := shows(t, shown...)
				v.expect(t, "at first", conn, nil, "alice", false)
				time.Sleep(c.after - 2*time.Second)
				v.expect(t, "shortly before", conn, nil, "alice", true)
				time.Sleep(3 * time.Second)
				v.expect(t, "shortly after", conn, nil, c.then, false)
				v.expect(t, "once more", conn, nil, c.then, c.then != "")
			})
		})
	}
}

// A request with a credential of its own is never answered from the cache, whether
// or not the credential is good.
func TestOtherCredentialsAreAsked(t *testing.T) {
	// One authority for all: the front proxy's certificate is also one of a user.
	ids := newIdentities(t)
	v := newVerifier(t, ids.clients.PEM, ids.clients.PEM)
	v.headers.set("X-Remote-User", "x-custom-user")
	c := shows(t, shown(ids.clients, testcerts.Subject{Name: "front-proxy"}).Leaf)
	one := func(key, value string) http.Header { return http.Header{key: {value}} }
	v.expect(t, "nothing else", c, nil, "front-proxy", false)
	for _, s := range []struct {
		what string
		h    http.Header
		name string
	}{
		{"a token", one("Authorization", "Bearer token-of-bob"), "front-proxy"},
		{"a bad token", one("Authorization", "Bearer wrong"), "front-proxy"},
		{"an empty token", one("Authorization", ""), "front-proxy"},
		{"a token by websocket", one("Sec-Websocket-Protocol", "base64url.bearer.authorization.k8s.io.dG9rZW4tb2YtYm9i"), "front-proxy"},
		{"a user by proxy", one("X-Remote-User", "carol"), "carol"},
		{"another user by proxy", one("X-Remote-User", "dave"), "dave"},
		{"a user by a custom header", one("X-Custom-User", "erin"), "erin"},
		{"an empty first header", http.Header{"X-Remote-User": {""}, "X-Custom-User": {"frank"}}, "frank"},
	} {
		for range 2 {
			v.expect(t, s.what, c, s.h, s.name, false)
		}
		v.expect(t, "nothing else after "+s.what, c, nil, "front-proxy", true)
	}
	v.expect(t, "impersonation", c, one("Impersonate-User", "carol"), "front-proxy", true)
	v.expect(t, "an unknown header", c, one("X-New-User", "carol"), "front-proxy", true)
	v.headers.set("X-New-User")
	v.expect(t, "a header that became known", c, one("X-New-User", "carol"), "carol", false)
	v.expect(t, "a header that became unknown", c, one("X-Remote-User", "carol"), "front-proxy", true)
}

// Whom a front proxy names is not remembered, though the proxy's certificate
// proves nobody else.
func TestProxiedUsersAreNotRemembered(t *testing.T) {
	ids := newIdentities(t)
	v := newVerifier(t, ids.clients.PEM, ids.proxies.PEM)
	c := shows(t, ids.shown["proxy"].Leaf)
	v.expect(t, "carol", c, http.Header{"X-Remote-User": {"carol"}}, "carol", false)
	v.expect(t, "nobody", c, nil, "", false)
	v.expect(t, "dave", c, http.Header{"X-Remote-User": {"dave"}}, "dave", false)
	if v.size() != 0 {
		t.Errorf("%d connections are remembered", v.size())
	}
}

func TestOnlyProofsAreRemembered(t *testing.T) {
	ids := newIdentities(t)
	v := newVerifier(t, ids.clients.PEM, ids.proxies.PEM)
	for what, c := range map[string]struct {
		connection *tls.ConnectionState
		name       string
	}{
		"no certificate":       {shows(t), user.Anonymous},
		"no TLS":               {nil, user.Anonymous},
		"a nameless one":       {shows(t, shown(ids.clients, testcerts.Subject{Name: ""}).Leaf), ""},
		"an expired one":       {shows(t, ids.shown["expired"].Leaf), ""},
		"a stranger's":         {shows(t, ids.shown["stranger"].Leaf), ""},
		"a front proxy's only": {shows(t, ids.shown["proxy"].Leaf), ""},
	} {
		for range 2 {
			v.expect(t, what, c.connection, nil, c.name, false)
		}
	}
	// Other authenticators may say what they like.
	alice := ids.shown["alice"].Leaf
	sum := sha256.Sum256(ids.shown["admin"].Leaf.Raw)
	another := "X509SHA256=" + hex.EncodeToString(sum[:])
	sum = sha256.Sum256(alice.Raw)
	own := "X509SHA256=" + hex.EncodeToString(sum[:])
	c := shows(t, alice)
	for what, credentials := range map[string][]string{
		"no credential": nil, "another certificate": {another}, "two credentials": {own, another}, "a token": {"JTI=" + own}, "a bare digest": {own[len("X509SHA256="):]},
	} {
		v.next = authenticator.RequestFunc(func(*http.Request) (*authenticator.Response, bool, error) {
			u := &user.DefaultInfo{Name: "someone"}
			if credentials != nil {
				u.Extra = map[string][]string{user.CredentialIDKey: credentials}
			}
			return &authenticator.Response{User: u}, true, nil
		})
		for range 2 {
			v.expect(t, what, c, nil, "someone", false)
		}
	}
	if v.size() != 0 {
		t.Errorf("%d connections are remembered", v.size())
	}
}

// Many requests of many connections at once, while the bundle changes. After the
// last change nobody is let in any more.
func TestRememberingAtOnce(t *testing.T) {
	ids := newIdentities(t)
	v := newVerifier(t, ids.clients.PEM, ids.proxies.PEM)
	other := testcerts.New("other").PEM
	connections := map[string]*tls.ConnectionState{}
	for _, name := range []string{"alice", "admin"} {
		connections[name] = shows(t, ids.shown[name].Leaf)
	}
	authenticate := func(c *tls.ConnectionState) string {
		response, ok, err := v.AuthenticateRequest(&http.Request{Header: http.Header{}, TLS: c})
		if !ok || err != nil {
			return ""
		}
		return response.User.GetName()
	}
	var wg sync.WaitGroup
	for name, c := range connections {
		for range 4 {
			wg.Go(func() {
				for range 200 {
					if got := authenticate(c); got != name && got != "" {
						t.Errorf("%s is taken for %s", name, got)
					}
				}
			})
		}
	}
	for range 20 {
		v.clients.set(t, other)
		v.clients.set(t, ids.clients.PEM)
	}
	v.clients.set(t, other)
	for name, c := range connections {
		if got := authenticate(c); got != "" {
			t.Errorf("%s is taken for %q without an authority", name, got)
		}
	}
	wg.Wait()
	if v.size() > len(connections) {
		t.Errorf("%d connections are remembered, there are %d", v.size(), len(connections))
	}
}

// What is known of a connection goes with it, also where its state is a part of
// something larger.
func TestConnectionsAreForgotten(t *testing.T) {
	ids := newIdentities(t)
	v := newVerifier(t, ids.clients.PEM, ids.proxies.PEM)
	alice, admin := ids.shown["alice"].Leaf, ids.shown["admin"].Leaf
	kept := shows(t, alice)
	v.expect(t, "the one that stays", kept, nil, "alice", false)
	for range 100 {
		v.expect(t, "a connection", shows(t, alice), nil, "alice", false)
	}
	larger := &[2]tls.ConnectionState{*shows(t, alice), *shows(t, admin)}
	for i, name := range []string{"alice", "admin"} {
		v.expect(t, "a part", &larger[i], nil, name, false)
		v.expect(t, "a part again", &larger[i], nil, name, true)
	}
	runtime.KeepAlive(larger)
	if !until(t.Context(), func() bool {
		runtime.GC()
		return v.size() == 1
	}) {
		t.Errorf("%d connections are remembered, want 1", v.size())
	}
	v.expect(t, "the one that stays", kept, nil, "alice", true)
}

// A server's connections are remembered as long as they last, in HTTP/1.1 and
// HTTP/2.
func TestServedConnectionsAreRemembered(t *testing.T) {
	ids := newIdentities(t)
	v := newVerifier(t, ids.clients.PEM, ids.proxies.PEM)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		response, ok, err := v.AuthenticateRequest(r)
		if !ok || err != nil {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, _ = io.WriteString(w, response.User.GetName())
	}))
	server.EnableHTTP2 = true
	server.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	server.StartTLS()
	defer server.Close()
	for proto, major := range map[string]int{"h2": 2, "http/1.1": 1} {
		asked := v.asked.Load()
		transport := &http.Transport{ForceAttemptHTTP2: major == 2, TLSClientConfig: &tls.Config{
			RootCAs: server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs, NextProtos: []string{proto},
			Certificates: []tls.Certificate{*ids.shown["alice"]},
		}}
		for range 3 {
			answer, err := (&http.Client{Transport: transport}).Get(server.URL)
			if err != nil {
				t.Fatal(err)
			}
			name, err := io.ReadAll(answer.Body)
			answer.Body.Close()
			if err != nil || string(name) != "alice" || answer.ProtoMajor != major {
				t.Errorf("%s: taken for %q in %s, %v", proto, name, answer.Proto, err)
			}
		}
		if n := v.asked.Load() - asked; n != 1 {
			t.Errorf("%s: the authenticators were asked %d times for one connection", proto, n)
		}
		transport.CloseIdleConnections()
	}
	if !until(t.Context(), func() bool {
		runtime.GC()
		return v.size() == 0
	}) {
		t.Errorf("%d connections are remembered that were closed", v.size())
	}
}
