package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/audit"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/request"

	"github.com/annex-api/annex/aggregator/internal/backend"
	"github.com/annex-api/annex/aggregator/internal/backend/limit"
	"github.com/annex-api/annex/aggregator/internal/backendtest"
	"github.com/annex-api/annex/aggregator/internal/catalog"
	"github.com/annex-api/annex/aggregator/internal/proxy/outgoing"
)

const (
	name = "v1.a.example"
	base = "/apis/a.example/v1"

	ambiguousPath = "the path could be read in two ways, and is not forwarded: it has an empty or dot segment, a percent sign, backslash, semicolon or control character, or is not UTF-8"

	noAnswer = "error trying to reach service: no connection, or it ended without an answer (APIService v1.a.example: see its condition Available and its server's log)"

	patience = 10 * time.Second
)

var alice = &user.DefaultInfo{Name: "alice", UID: "u1", Groups: []string{"dev", "ops"}, Extra: map[string][]string{"a/b": {"x", "y"}}}

// front is a server that sends everything to one extension server, as a host
// would after its filters.
type front struct {
	*httptest.Server
	client *http.Client
	proxy  *Proxy
	probes atomic.Int32
	wrap   func(http.Handler) http.Handler
	http2  bool
	user   atomic.Pointer[user.DefaultInfo] // alice, if no other
	// audited is of the last request.
	audited atomic.Pointer[audit.AuditContext]
}

type setting func(*Config, *front)

func startFront(t *testing.T, a *catalog.APIService, settings ...setting) *front {
	t.Helper()
	f := &front{wrap: func(h http.Handler) http.Handler { return h }}
	f.user.Store(alice)
	pool := backend.New(backend.Config{})
	config := Config{Backends: pool, Outgoing: outgoing.Config{SendUID: true}, ProbeNow: func(*catalog.APIService) { f.probes.Add(1) }}
	for _, s := range settings {
		s(&config, f)
	}
	p := New(config)
	f.proxy = p
	resolver := &request.RequestInfoFactory{APIPrefixes: sets.NewString("api", "apis"), GrouplessAPIPrefixes: sets.NewString("api")}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := request.WithUser(r.Context(), f.user.Load())
		if info, err := resolver.NewRequestInfo(r); err == nil {
			ctx = request.WithRequestInfo(ctx, info)
		}
		ctx = audit.WithAuditContext(ctx)
		audit.WithAuditID(ctx, "audit-1")
		f.audited.Store(audit.AuditContextFrom(ctx))
		p.Serve(w, r.WithContext(ctx), a, limit.Ordinary)
	})
	f.Server = httptest.NewUnstartedServer(f.wrap(handler))
	f.Config.ErrorLog = log.New(io.Discard, "", 0)
	f.EnableHTTP2 = f.http2
	f.StartTLS()
	roots := x509.NewCertPool()
	roots.AddCert(f.Certificate())
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableCompression: true, ForceAttemptHTTP2: f.http2}
	f.client = &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       patience,
	}
	t.Cleanup(func() {
		f.CloseClientConnections()
		f.Close()
		transport.CloseIdleConnections()
		pool.Close()
	})
	return f
}

func (f *front) do(t *testing.T, method, path string, body io.Reader, header http.Header) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, f.URL+path, body)
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range header {
		r.Header[k] = v
	}
	response, err := f.client.Do(r)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	t.Cleanup(func() { _ = response.Body.Close() })
	return response
}

func status(t *testing.T, response *http.Response) metav1.Status {
	t.Helper()
	var s metav1.Status
	if err := json.NewDecoder(response.Body).Decode(&s); err != nil {
		t.Fatalf("the answer is no Status: %v", err)
	}
	if int(s.Code) != response.StatusCode {
		t.Errorf("code %d in the Status and %d in the answer", s.Code, response.StatusCode)
	}
	return s
}

func read(t *testing.T, response *http.Response) string {
	t.Helper()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatalf("reading the answer: %v", err)
	}
	return string(body)
}

func TestIdentityArrivesAndSpoofedOnesDoNot(t *testing.T) {
	s := backendtest.Start(t, "api", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	f := startFront(t, s.Claim(name), func(c *Config, _ *front) {
		c.Outgoing.IdentityHeaders, c.Outgoing.IdentityPrefixes = []string{"X-My-User"}, []string{"X-My-Extra-"}
	})
	f.do(t, "GET", base+"/things?limit=5", nil, http.Header{
		"X-Remote-User": {"root"}, "x-remote-group": {"system:masters"}, "X-REMOTE-UID": {"0"}, "X-Remote-Extra-Evil": {"1"},
		"X_Remote_User": {"root"}, "X-My-User": {"root"}, "X-My-Extra-Evil": {"1"}, "Impersonate-User": {"root"},
		"Authorization": {"Bearer secret"}, "Cookie": {"secret"}, "X-Forwarded-For": {"192.0.2.1"}, "X-Forwarded-Uri": {"/evil"},
		"X-Forwarded-Host": {"evil"}, "X-Forwarded-Proto": {"http"}, "X-Kept": {"1", "2"}, "X-Hop": {"1"}, "Connection": {"X-Hop"},
		"Audit-Id": {"the client's"},
	})
	requests := s.Requests()
	if len(requests) != 1 {
		t.Fatalf("the extension server got %d requests", len(requests))
	}
	h := requests[0].Header
	for key, want := range map[string][]string{
		"X-Remote-User": {"alice"}, "X-Remote-Uid": {"u1"}, "X-Remote-Group": {"dev", "ops"}, "X-Remote-Extra-A%2fb": {"x", "y"},
		"X-Forwarded-Uri": {base + "/things"}, "X-Forwarded-Host": {s.Address}, "X-Forwarded-Proto": {"https"}, "X-Forwarded-For": {"192.0.2.1, 127.0.0.1"},
		"Audit-Id": {"audit-1"}, "X-Kept": {"1", "2"},
	} {
		if !slices.Equal(h[key], want) {
			t.Errorf("%s: %q, want %q", key, h[key], want)
		}
	}
	for key, values := range h {
		lower := strings.ToLower(strings.ReplaceAll(key, "_", "-"))
		for _, bad := range []string{"x-remote-extra-evil", "x-my-", "impersonate", "authorization", "cookie", "x-hop"} {
			if strings.HasPrefix(lower, bad) {
				t.Errorf("%s: %q arrived", key, values)
			}
		}
		if slices.Contains(values, "root") || slices.Contains(values, "system:masters") {
			t.Errorf("%s: %q arrived", key, values)
		}
	}
	if requests[0].Path != base+"/things?limit=5" || requests[0].Proto != "HTTP/2.0" {
		t.Errorf("%s over %s", requests[0].Path, requests[0].Proto)
	}
}

// What the proxy itself answers, and what it tells the prober.
func TestFailures(t *testing.T) {
	live := backendtest.Start(t, "api", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case base + "/redirect":
			w.Header().Set("Location", "https://evil.example/")
			w.WriteHeader(302)
		case base + "/reset":
			panic(http.ErrAbortHandler)
		}
	}))
	claim := func(change func(*catalog.APIService)) *catalog.APIService {
		a := *live.Claim(name)
		change(&a)
		return &a
	}
	for what, c := range map[string]struct {
		a       *catalog.APIService
		path    string
		header  http.Header
		code    int
		message string
		probes  int32
	}{
		"unavailable": {claim(func(a *catalog.APIService) {
			a.Verdict = catalog.Verdict{Status: "False", Reason: "FailedDiscoveryCheck"}
		}), "/x", nil, 503, "service unavailable (APIService v1.a.example: see its condition Available)", 0},
		"unresolved": {claim(func(a *catalog.APIService) { a.Target = catalog.Target{Unresolved: "secret address"} }), "/x", nil, 503, "service unavailable (APIService v1.a.example: see the endpoints of its Service)", 0},
		"bad CA": {claim(func(a *catalog.APIService) {
			a.CABundle, a.Backend = []byte("no PEM"), catalog.BackendID{Insecure: true}
		}), "/x", nil, 500, "unable to load root certificates: spec.caBundle holds no PEM certificate (APIService v1.a.example: see its caBundle, or the proxy's client certificate)", 0},
		"dead":              {backendtest.Dead(t, "dead").Claim(name), "/x", nil, 503, noAnswer, 1},
		"reset":             {live.Claim(name), "/reset", nil, 503, noAnswer, 1},
		"redirect":          {live.Claim(name), "/redirect", nil, 502, "the backend attempted to redirect this request, which is not permitted (APIService v1.a.example: see its condition Available and its server's log)", 0},
		"upgrade":           {backendtest.Dead(t, "dead").Claim(name), "/x", http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}}, 503, noAnswer, 1},
		"upgrade to foo":    {live.Claim(name), "/x", http.Header{"Connection": {"Upgrade"}, "Upgrade": {"foo"}}, 400, "only upgrades to websocket and SPDY/3.1 are supported", 0},
		"dot segment":       {live.Claim(name), "/x/../y", nil, 400, ambiguousPath, 0},
		"escaped dots":      {live.Claim(name), "/x/%2e%2e/y", nil, 400, ambiguousPath, 0},
		"empty segment":     {live.Claim(name), "/x//y", nil, 400, ambiguousPath, 0},
		"escaped separator": {live.Claim(name), "/x%2F%2Fy", nil, 400, ambiguousPath, 0},
		"not UTF-8":         {live.Claim(name), "/x%ff", nil, 400, ambiguousPath, 0},
		"bad resource":      {live.Claim(name), "/%c0%ae/y", nil, 400, ambiguousPath, 0},
		"path parameters":   {live.Claim(name), "/x/..;/y", nil, 400, ambiguousPath, 0},
		"query not UTF-8":   {live.Claim(name), "/x?labelSelector=a%ff", nil, 400, "the query is not UTF-8, and is not forwarded", 0},
	} {
		t.Run(what, func(t *testing.T) {
			f := startFront(t, c.a)
			response := f.do(t, "GET", base+c.path, nil, c.header)
			s := status(t, response)
			if response.StatusCode != c.code || s.Message != c.message {
				t.Errorf("%d %q, want %d %q", response.StatusCode, s.Message, c.code, c.message)
			}
			if s.Details == nil || s.Details.Name != name || len(s.Details.Causes) != 1 {
				t.Errorf("details %+v", s.Details)
			}
			if n := f.probes.Load(); n != c.probes {
				t.Errorf("probed %d times, want %d", n, c.probes)
			}
		})
	}
}

func TestNoUser(t *testing.T) {
	pool := backend.New(backend.Config{})
	defer pool.Close()
	w := httptest.NewRecorder()
	s := backendtest.Start(t, "api", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	New(Config{Backends: pool}).Serve(w, httptest.NewRequest("GET", base, nil), s.Claim(name), limit.Ordinary)
	if got := status(t, w.Result()); got.Message != "missing user" || got.Code != 500 || len(s.Requests()) != 0 {
		t.Errorf("%+v, %d requests", got, len(s.Requests()))
	}
}

func TestRedirectsAreForwardedWhereAskedFor(t *testing.T) {
	s := backendtest.Start(t, "api", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		location := "https://" + r.Host + base + "/other"
		if strings.HasSuffix(r.URL.Path, "away") {
			location = "https://elsewhere.example/"
		}
		w.Header().Set("Location", location)
		w.WriteHeader(http.StatusTemporaryRedirect)
	}))
	f := startFront(t, s.Claim(name), func(c *Config, _ *front) { c.ForwardRedirects = true })
	for path, want := range map[string]string{"/own": base + "/other", "/away": "https://elsewhere.example/"} {
		response := f.do(t, "GET", base+path, nil, nil)
		if got := response.Header.Get("Location"); response.StatusCode != 307 || got != want {
			t.Errorf("%d %s, want %s", response.StatusCode, got, want)
		}
	}
	if n := len(s.Requests()); n != 2 {
		t.Errorf("%d requests: redirects were followed", n)
	}
}

// Discovery requests have a bound of their own, others do not.
func TestDiscoveryTimeout(t *testing.T) {
	var bounded atomic.Int32
	s := backendtest.Start(t, "api", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == base {
			<-r.Context().Done()
			bounded.Add(1)
		}
	}))
	f := startFront(t, s.Claim(name), func(c *Config, _ *front) { c.DiscoveryTimeout = 50 * time.Millisecond })
	response := f.do(t, "GET", base, nil, nil)
	if got := status(t, response); got.Code != 503 || !strings.HasPrefix(got.Message, "error trying to reach service: timed out (APIService v1.a.example") {
		t.Errorf("%+v", got)
	}
	if f.probes.Load() != 1 {
		t.Error("a server that does not answer discovery is not probed")
	}
	if response := f.do(t, "GET", base+"/things", nil, nil); response.StatusCode != 200 {
		t.Errorf("another request: %d", response.StatusCode)
	}
}

func TestRequestDeadlineOfOthersIsTheirOwn(t *testing.T) {
	s := backendtest.Start(t, "api", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	f := startFront(t, s.Claim(name), func(_ *Config, f *front) {
		f.wrap = func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				ctx, cancel := context.WithTimeout(r.Context(), 50*time.Millisecond)
				defer cancel()
				h.ServeHTTP(w, r.WithContext(ctx))
			})
		}
	})
	if got := status(t, f.do(t, "GET", base+"/things", nil, nil)); got.Code != 503 {
		t.Errorf("%+v", got)
	}
	if f.probes.Load() != 0 {
		t.Error("the server is probed because the client's own deadline passed")
	}
}
