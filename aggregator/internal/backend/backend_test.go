package backend

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/annex-api/annex/aggregator/internal/backendtest"
	"github.com/annex-api/annex/aggregator/internal/catalog"
	"github.com/annex-api/annex/internal/testcerts"
)

type apiService = apiregistrationv1.APIService

const name = "v1.a.example"

func get(t *testing.T, p *Pool, a *catalog.APIService) (Reply, error) {
	t.Helper()
	b := p.Get(a)
	if err := b.Err(); err != nil {
		return Reply{}, err
	}
	e, err := b.Pick(a.Target)
	if err != nil {
		return Reply{}, err
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	return b.Get(ctx, e.Address, Call{As: Aggregator, Path: "/apis/a.example/v1", Limit: 1 << 20})
}

func newPool(t *testing.T, config Config) *Pool {
	t.Helper()
	p := New(config)
	t.Cleanup(p.Close)
	return p
}

// No byte of a request reaches a server whose certificate is not right, neither
// plainly nor by an upgrade.
func TestCertificatesAreVerified(t *testing.T) {
	ca, stranger := testcerts.New("right"), testcerts.New("stranger")
	right := []string{backendtest.ServerName("api")}
	for what, c := range map[string]struct {
		pair     testcerts.Pair
		caBundle []byte
		insecure bool
		refused  string
	}{
		"right":         {ca.Issue(testcerts.Subject{Hosts: right}), ca.PEM, false, ""},
		"wrong CA":      {stranger.Issue(testcerts.Subject{Hosts: right}), ca.PEM, false, "unknown authority"},
		"system roots":  {ca.Issue(testcerts.Subject{Hosts: right}), nil, false, "unknown authority"},
		"wrong name":    {ca.Issue(testcerts.Subject{Hosts: []string{"api.other.svc"}}), ca.PEM, false, "not " + right[0]},
		"name only":     {ca.Issue(testcerts.Subject{Hosts: []string{"localhost", "127.0.0.1"}}), ca.PEM, false, "not " + right[0]},
		"name in CN":    {ca.Issue(testcerts.Subject{Name: right[0]}), ca.PEM, false, "Common Name"},
		"expired":       {ca.Issue(testcerts.Subject{Hosts: right, NotAfter: time.Now().Add(-time.Minute)}), ca.PEM, false, "expired"},
		"not yet valid": {ca.Issue(testcerts.Subject{Hosts: right, NotBefore: time.Now().Add(30 * time.Minute)}), ca.PEM, false, "not yet valid"},
		"for clients":   {ca.Issue(testcerts.Subject{Hosts: right, Usage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}), ca.PEM, false, "key usage"},
		"insecure":      {stranger.Issue(testcerts.Subject{Hosts: []string{"else"}}), nil, true, ""},
	} {
		t.Run(what, func(t *testing.T) {
			config := &tls.Config{Certificates: []tls.Certificate{c.pair.TLS()}}
			s := backendtest.StartTLS(t, "api", c.caBundle, config, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
			o := s.APIService(name)
			o.Spec.InsecureSkipTLSVerify = c.insecure
			a := catalog.Build(backendtest.Facts([]*apiService{o}, s)).APIServices()[0]
			p := newPool(t, Config{})
			_, plain := get(t, p, a)
			conn, upgrade := p.Get(a).DialUpgrade(t.Context(), a.Target.Endpoints[0].Address)
			if conn != nil {
				defer conn.Close()
			}
			for kind, err := range map[string]error{"plain": plain, "upgrade": upgrade} {
				if (c.refused == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), c.refused) {
					t.Errorf("%s: %v, want %q", kind, err, c.refused)
				}
			}
			if n := len(s.Requests()); c.refused != "" && n != 0 {
				t.Errorf("%d requests arrived", n)
			}
		})
	}
}

func TestHTTP2IsUsedAndHTTP1ForUpgrades(t *testing.T) {
	s := backendtest.Start(t, "api", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	p, a := newPool(t, Config{}), s.Claim(name)
	if _, err := get(t, p, a); err != nil {
		t.Fatal(err)
	}
	if proto := s.Requests()[0].Proto; proto != "HTTP/2.0" {
		t.Errorf("a plain request went over %s", proto)
	}
	conn, err := p.Get(a).DialUpgrade(t.Context(), a.Target.Endpoints[0].Address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	state := conn.(*tls.Conn).ConnectionState()
	if state.NegotiatedProtocol == "h2" || state.ServerName != backendtest.ServerName("api") {
		t.Errorf("an upgrade speaks %q to %q", state.NegotiatedProtocol, state.ServerName)
	}
}

// Servers that speak HTTP/1.1 alone get names as they are usual there: not all of them
// take any spelling.
func TestHeaderNamesOverHTTP1(t *testing.T) {
	ca := testcerts.New("api")
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{ca.Issue(testcerts.Subject{Hosts: []string{backendtest.ServerName("api")}}).TLS()},
		NextProtos:   []string{"http/1.1"},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	heads := make(chan string, 2)
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		for lines := bufio.NewReader(conn); ; {
			var head strings.Builder
			for line := "x"; strings.TrimSpace(line) != ""; head.WriteString(line) {
				if line, err = lines.ReadString('\n'); err != nil {
					return
				}
			}
			heads <- head.String()
			_, _ = io.WriteString(conn, "HTTP/1.1 204 No Content\r\n\r\n")
		}
	}()
	s := &backendtest.Server{Service: "api", Address: listener.Addr().String(), CA: ca.PEM}
	b := newPool(t, Config{}).Get(s.Claim(name))
	for range 2 { // over a new connection, and over the same
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+s.Address+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header = http.Header{"x-remote-user": {"jane"}, "x-remote-extra-a%2fb": {"1", "2"}, "X-Kept": {"3"}, "x-kept": {"4"}}
		before := r.Header.Clone()
		response, err := b.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		head := <-heads
		for _, want := range []string{"X-Remote-User: jane", "X-Remote-Extra-A%2fb: 1", "X-Remote-Extra-A%2fb: 2", "X-Kept: 3", "X-Kept: 4"} {
			if !strings.Contains(head, "\r\n"+want+"\r\n") {
				t.Errorf("%q is not in\n%s", want, head)
			}
		}
		if !maps.EqualFunc(r.Header, before, slices.Equal) {
			t.Errorf("the request's header became %v", r.Header)
		}
	}
}

// A server that renews its certificate shows that to new connections alone.
func TestACertificateIsShownAgain(t *testing.T) {
	ca := testcerts.New("server")
	var current atomic.Pointer[tls.Certificate]
	renew := func(subject string) {
		certificate := ca.Issue(testcerts.Subject{Name: subject, Hosts: []string{backendtest.ServerName("api")}}).TLS()
		current.Store(&certificate)
	}
	renew("old")
	s := backendtest.StartTLS(t, "api", ca.PEM, &tls.Config{
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return current.Load(), nil },
	}, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	p, a := newPool(t, Config{}), s.Claim(name)
	expect := func(subject string) (at time.Time) {
		t.Helper()
		shown := p.Get(a).Certificate()
		if shown.Certificate == nil || shown.Subject.CommonName != subject {
			t.Errorf("the certificate is %v, want that of %s", shown.Certificate, subject)
		}
		return shown.At
	}
	if s := p.Get(a).Certificate(); s.Certificate != nil || !s.At.IsZero() {
		t.Errorf("before a handshake: %+v", s)
	}
	ask := func() {
		t.Helper()
		if _, err := get(t, p, a); err != nil {
			t.Fatal(err)
		}
	}
	ask()
	before := expect("old")
	renew("new")
	ask()
	if at := expect("old"); !at.Equal(before) {
		t.Errorf("a request over a connection that is kept shows a certificate: %v, %v", before, at)
	}
	p.Get(a).ShowCertificate(t.Context(), func(Shown) bool { return false })
	expect("old")
	p.Get(a).ShowCertificate(t.Context(), func(s Shown) bool { return s.Subject.CommonName == "old" })
	if at := expect("new"); !at.After(before) {
		t.Errorf("shown at %v and at %v", before, at)
	}
}

func TestClientCertificateRotation(t *testing.T) {
	server, clients := testcerts.New("server"), testcerts.New("clients")
	pair := func(name string) testcerts.Pair {
		return clients.Issue(testcerts.Subject{Name: name})
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(clients.PEM)
	seen := make(chan string, 10)
	config := &tls.Config{
		Certificates: []tls.Certificate{server.Issue(testcerts.Subject{Hosts: []string{backendtest.ServerName("api")}}).TLS()},
		ClientAuth:   tls.RequireAndVerifyClientCert, ClientCAs: roots,
	}
	s := backendtest.StartTLS(t, "api", server.PEM, config, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		seen <- r.TLS.PeerCertificates[0].Subject.CommonName
	}))
	var current atomic.Pointer[testcerts.Pair]
	p, a := newPool(t, Config{ClientCertificate: func() ([]byte, []byte) { c := current.Load(); return c.Cert, c.Key }}), s.Claim(name)
	for _, who := range []string{"one", "one", "two", "two"} {
		if old := current.Load(); old == nil || who == "two" {
			next := pair(who)
			current.Store(&next)
			p.ReloadClientCertificate()
		}
		if _, err := get(t, p, a); err != nil {
			t.Fatal(err)
		}
		if got := <-seen; got != who {
			t.Errorf("the server saw %s, want %s", got, who)
		}
	}
	bad := testcerts.Pair{Cert: []byte("no PEM"), Key: []byte("secret")}
	current.Store(&bad)
	p.ReloadClientCertificate()
	if _, err := get(t, p, a); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("a broken pair: %v", err)
	}
	good := pair("three")
	current.Store(&good)
	p.ReloadClientCertificate()
	if _, err := get(t, p, a); err != nil || <-seen != "three" {
		t.Errorf("after a broken pair: %v", err)
	}
}

func TestRequestsUnderWaySurviveAReload(t *testing.T) {
	started, proceed := make(chan struct{}), make(chan struct{})
	s := backendtest.Start(t, "api", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { close(started); <-proceed }))
	p, a := newPool(t, Config{}), s.Claim(name)
	result := make(chan error, 1)
	go func() { _, err := get(t, p, a); result <- err }()
	<-started
	p.ReloadClientCertificate()
	p.Sync(catalog.Build(catalog.Facts{})) // and the APIService goes
	close(proceed)
	if err := <-result; err != nil {
		t.Errorf("a request under way failed: %v", err)
	}
}

func TestGuardDialsNothingRefused(t *testing.T) {
	var dialled []string
	dial := func(_ context.Context, _, address string) (net.Conn, error) {
		dialled = append(dialled, address)
		return nil, errors.New("reached")
	}
	for _, c := range []struct {
		address     string
		remoteNames bool
		dialled     string // the host, empty for none
	}{
		{"192.0.2.1:443", false, "192.0.2.1"},
		{"[2001:db8::1]:443", false, "2001:db8::1"},
		{"169.254.169.254:80", false, ""},
		{"169.254.169.254:80", true, ""},
		{"[fe80::1%25lo]:443", false, ""},
		{"[::ffff:169.254.169.254]:443", false, ""},
		{"0.0.0.0:443", false, ""},
		{"[::]:443", true, ""},
		{"224.0.0.1:443", false, ""},
		{"no port", false, ""},
		{"far.example:443", true, "far.example"}, // resolved at the far end
		{"localhost:443", false, "127.0.0.1"},
	} {
		dialled = nil
		_, err := guard(dial, c.remoteNames)(t.Context(), "tcp", c.address)
		if err == nil {
			t.Errorf("%s: no error", c.address)
		}
		if c.dialled == "" {
			if len(dialled) != 0 {
				t.Errorf("%s: dialled %q", c.address, dialled)
			}
			continue
		}
		hosts := map[string]bool{}
		for _, address := range dialled {
			host, _, _ := net.SplitHostPort(address)
			hosts[host] = true
		}
		if !hosts[c.dialled] {
			t.Errorf("%s: dialled %q (%v), want %s", c.address, dialled, err, c.dialled)
		}
	}
}

// The numeric spellings that some resolvers understand lead nowhere either.
func TestGuardRefusesOddSpellings(t *testing.T) {
	for _, host := range []string{"2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "169.254.43518", "0", "0.0"} {
		dial := func(_ context.Context, _, address string) (net.Conn, error) {
			t.Errorf("%s: dialled %s", host, address)
			return nil, errors.New("reached")
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		if _, err := guard(dial, false)(ctx, "tcp", host+":443"); err == nil {
			t.Errorf("%s: no error", host)
		}
		cancel()
	}
}

// A resolver that the host brings is trusted, and its error passed on.
func TestResolver(t *testing.T) {
	dialled := ""
	resolve := func(_, service string, _ int32) (*url.URL, error) {
		if service == "missing" {
			return nil, errors.New("no such thing")
		}
		return &url.URL{Host: "169.254.1.1:443"}, nil
	}
	p := newPool(t, Config{Resolve: resolve, Dial: func(_ context.Context, _, address string) (net.Conn, error) {
		dialled = address
		return nil, errors.New("reached")
	}})
	resolved := func(service string) *catalog.APIService {
		f := backendtest.Facts([]*apiService{(&backendtest.Server{Service: service}).APIService(name)})
		f.Resolver, f.Services = true, nil
		return catalog.Build(f).APIServices()[0]
	}
	if _, err := get(t, p, resolved("api")); err == nil || dialled != "169.254.1.1:443" {
		t.Errorf("dialled %q, %v", dialled, err)
	}
	if _, err := get(t, p, resolved("missing")); err == nil || err.Error() != "no such thing" {
		t.Errorf("%v", err)
	}
}

func TestResponseHeadersAreBounded(t *testing.T) {
	s := backendtest.Start(t, "api", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for i := range 40 {
			w.Header().Set("X-Large-"+string(rune('A'+i%26))+string(rune('A'+i/26)), strings.Repeat("x", 64<<10))
		}
	}))
	if _, err := get(t, newPool(t, Config{}), s.Claim(name)); err == nil {
		t.Error("2.5 MiB of response header were taken")
	}
}

func TestEndpointsTakeTurns(t *testing.T) {
	ok := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	ca := testcerts.New("both")
	config := func() *tls.Config {
		return &tls.Config{Certificates: []tls.Certificate{ca.Issue(testcerts.Subject{Hosts: []string{backendtest.ServerName("api")}}).TLS()}}
	}
	one, two := backendtest.StartTLS(t, "api", ca.PEM, config(), ok), backendtest.StartTLS(t, "api", ca.PEM, config(), ok)
	a := catalog.Build(backendtest.Facts([]*apiService{one.APIService(name)}, one, two)).APIServices()[0]
	p := newPool(t, Config{})
	for range 10 {
		if _, err := get(t, p, a); err != nil {
			t.Fatal(err)
		}
	}
	if a, b := len(one.Requests()), len(two.Requests()); a != 5 || b != 5 {
		t.Errorf("%d and %d requests", a, b)
	}
}

func TestBodyLimit(t *testing.T) {
	s := backendtest.Start(t, "api", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(make([]byte, 100)) }))
	a, p := s.Claim(name), newPool(t, Config{})
	for limit, ok := range map[int64]bool{0: true, 99: false, 100: true, 101: true} {
		reply, err := p.Get(a).Get(t.Context(), a.Target.Endpoints[0].Address, Call{Path: "/", Limit: limit})
		if (err == nil) != ok {
			t.Errorf("limit %d: %v", limit, err)
		}
		if want := map[bool]int{true: 100, false: 0}[ok && limit > 0]; len(reply.Body) != want {
			t.Errorf("limit %d: %d bytes", limit, len(reply.Body))
		}
	}
}
