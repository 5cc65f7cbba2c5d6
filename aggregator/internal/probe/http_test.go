package probe

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/annex-api/annex/aggregator/internal/backend"
	"github.com/annex-api/annex/aggregator/internal/backendtest"
	"github.com/annex-api/annex/aggregator/internal/catalog"
	"github.com/annex-api/annex/internal/testcerts"
)

// newCheck is HTTP with a background that is waited for.
func newCheck(t *testing.T) func(context.Context, *catalog.APIService) catalog.Verdict {
	t.Helper()
	pool := backend.New(backend.Config{})
	t.Cleanup(pool.Close)
	check := HTTP(pool)
	return func(ctx context.Context, a *catalog.APIService) catalog.Verdict {
		var background sync.WaitGroup
		defer background.Wait()
		return check(ctx, a, &background)
	}
}

func TestCheckByStatusCode(t *testing.T) {
	for code, ok := range map[int]bool{200: true, 201: true, 204: true, 299: true, 301: false, 302: false, 307: false, 400: false, 403: false, 404: false, 429: false, 500: false, 503: false} {
		s := backendtest.Start(t, "api", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(code)
		}))
		got := newCheck(t)(t.Context(), s.Claim(name))
		url := "https://" + s.Address + "/apis/a.example/v1"
		want := catalog.Verdict{Status: apiregistrationv1.ConditionTrue, Reason: "Passed", Message: "all checks passed"}
		if !ok {
			want = catalog.Verdict{Status: apiregistrationv1.ConditionFalse, Reason: "FailedDiscoveryCheck", Message: fmt.Sprintf(
				"failing or missing response from %s: bad status from %s: %d", url, url, code)}
		}
		if got != want {
			t.Errorf("%d: %+v, want %+v", code, got, want)
		}
		requests := s.Requests()
		if len(requests) != 1 || requests[0].Path != "/apis/a.example/v1" || requests[0].Method != "GET" {
			t.Fatalf("%d: %+v", code, requests)
		}
		if h := requests[0].Header; !slices.Equal(h["X-Remote-User"], []string{"system:kube-aggregator"}) || !slices.Equal(h["X-Remote-Group"], []string{"system:masters"}) {
			t.Errorf("asked as %q of %q", h["X-Remote-User"], h["X-Remote-Group"])
		}
	}
}

func TestCheckOfTheLegacyGroup(t *testing.T) {
	s := backendtest.Start(t, "api", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	if v := newCheck(t)(t.Context(), s.Claim(catalog.LegacyName)); v.Status != apiregistrationv1.ConditionTrue || s.Count("/api/v1") != 1 {
		t.Errorf("%+v, %v", v, s.Requests())
	}
}

func TestCheckOfAHungServer(t *testing.T) {
	s := backendtest.Start(t, "api", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	want := "timed out waiting for https://" + s.Address + "/apis/a.example/v1"
	if v := newCheck(t)(ctx, s.Claim(name)); v.Message != want || v.Reason != "FailedDiscoveryCheck" {
		t.Errorf("%+v, want %q", v, want)
	}
}

// failing servers, each in a way of its own; the same words every time.
func TestMessagesAreStable(t *testing.T) {
	ca := testcerts.New("stranger")
	config := &tls.Config{Certificates: []tls.Certificate{ca.Issue(testcerts.Subject{Hosts: []string{"elsewhere.example"}}).TLS()}}
	ok := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	for what, s := range map[string]*backendtest.Server{
		"refused":    backendtest.Dead(t, "dead"),
		"reset":      backendtest.Start(t, "api", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })),
		"wrong name": backendtest.StartTLS(t, "api", ca.PEM, config, ok),
		"wrong CA":   backendtest.StartTLS(t, "api", testcerts.New("other").PEM, config, ok),
	} {
		t.Run(what, func(t *testing.T) {
			check := newCheck(t)
			first := check(t.Context(), s.Claim(name))
			prefix := "failing or missing response from https://" + s.Address + "/apis/a.example/v1: "
			if first.Status != apiregistrationv1.ConditionFalse || first.Reason != "FailedDiscoveryCheck" || !strings.HasPrefix(first.Message, prefix) {
				t.Errorf("%+v", first)
			}
			for range 5 {
				if again := check(t.Context(), s.Claim(name)); again != first {
					t.Errorf("%q, then %q", first.Message, again.Message)
				}
			}
		})
	}
}

// A reset connection's error names the local port, which is another each time.
func TestMessageNamesNoLocalPort(t *testing.T) {
	s := backendtest.Start(t, "api", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return // over HTTP/2: closed below all the same
		}
		_ = conn.Close()
	}))
	check := newCheck(t)
	first := check(t.Context(), s.Claim(name))
	if strings.Contains(first.Message, "->") {
		t.Errorf("%q", first.Message)
	}
}

// Where several endpoints fail, whichever answers last must not decide.
func TestMessageIsStableWithSeveralEndpoints(t *testing.T) {
	var servers []*backendtest.Server
	for range 4 {
		servers = append(servers, backendtest.Dead(t, "api"))
	}
	claim := catalog.Build(backendtest.Facts([]*apiregistrationv1.APIService{servers[0].APIService(name)}, servers...)).APIServices()[0]
	check := newCheck(t)
	first := check(t.Context(), claim)
	for range 50 {
		if again := check(t.Context(), claim); again != first {
			t.Fatalf("%q, then %q: each change is a write of the condition", first.Message, again.Message)
		}
	}
}

// crypto/x509 puts the time of day into the error: each probe would change the
// condition.
func TestMessageOfAnExpiredCertificateIsStable(t *testing.T) {
	cert := &x509.Certificate{NotAfter: time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)}
	at := func(second int) string {
		err := x509.CertificateInvalidError{Cert: cert, Reason: x509.Expired, Detail: fmt.Sprintf(
			"current time 2026-01-01T00:00:%02dZ is after 2020-01-02T03:04:05Z", second)}
		return message(fmt.Errorf("failing or missing response: %w", &tls.CertificateVerificationError{Err: err}))
	}
	if a, b := at(1), at(2); a != b {
		t.Errorf("%q, then %q", a, b)
	}
	if got := at(1); !strings.Contains(got, "expired") || !strings.Contains(got, "2020-01-02") {
		t.Errorf("%q says too little", got)
	}
}

// One endpoint that answers is enough, however many are dead.
func TestOneEndpointIsEnough(t *testing.T) {
	live := backendtest.Start(t, "api", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	servers := []*backendtest.Server{live, backendtest.Dead(t, "api"), backendtest.Dead(t, "api")}
	claim := catalog.Build(backendtest.Facts([]*apiregistrationv1.APIService{live.APIService(name)}, servers...)).APIServices()[0]
	if len(claim.Target.Endpoints) != 3 {
		t.Fatalf("%+v", claim.Target)
	}
	check := newCheck(t)
	for range 10 {
		if v := check(t.Context(), claim); v.Status != apiregistrationv1.ConditionTrue {
			t.Fatalf("%+v", v)
		}
	}
}

// A hung endpoint delays no verdict, and ends with the context.
func TestAHungEndpointDoesNotDelayTheVerdict(t *testing.T) {
	ca := testcerts.New("api")
	config := &tls.Config{Certificates: []tls.Certificate{ca.Issue(testcerts.Subject{Hosts: []string{backendtest.ServerName("api")}}).TLS()}}
	live := backendtest.StartTLS(t, "api", ca.PEM, config.Clone(), http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	asked := make(chan struct{})
	hung := backendtest.StartTLS(t, "api", ca.PEM, config, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(asked)
		<-r.Context().Done()
	}))
	claim := catalog.Build(backendtest.Facts([]*apiregistrationv1.APIService{live.APIService(name)}, live, hung)).APIServices()[0]
	pool := backend.New(backend.Config{})
	t.Cleanup(pool.Close)
	ctx, cancel := context.WithCancel(t.Context())
	var background sync.WaitGroup
	if v := HTTP(pool)(ctx, claim, &background); v.Status != apiregistrationv1.ConditionTrue {
		t.Errorf("%+v", v)
	}
	<-asked
	cancel()
	background.Wait()
}

func TestBrokenTransport(t *testing.T) {
	s := backendtest.Dead(t, "api")
	s.CA = []byte("no PEM")
	v := newCheck(t)(t.Context(), s.Claim(name))
	if v.Reason != "FailedDiscoveryCheck" || v.Message != "unable to load root certificates: spec.caBundle holds no PEM certificate" {
		t.Errorf("%+v", v)
	}
}

// An extension server decides most of the text of an error. What the condition says of
// it fits in etcd all the same, and reads the same each time.
func TestMessageIsBounded(t *testing.T) {
	garbage := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = conn.Write([]byte(strings.Repeat("\x00", 900<<10) + "\r\n\r\n"))
		_ = conn.Close()
	})
	ca := testcerts.New("api")
	http1 := &tls.Config{
		Certificates: []tls.Certificate{ca.Issue(testcerts.Subject{Hosts: []string{backendtest.ServerName("api")}}).TLS()},
		NextProtos:   []string{"http/1.1"},
	}
	var hosts []string
	for i := range 90 {
		hosts = append(hosts, fmt.Sprintf("%s.%d.example", strings.Repeat(strings.Repeat("x", 60)+".", 3), i))
	}
	names := &tls.Config{Certificates: []tls.Certificate{ca.Issue(testcerts.Subject{Hosts: hosts}).TLS()}}
	for what, s := range map[string]*backendtest.Server{
		"an answer that is none": backendtest.StartTLS(t, "api", ca.PEM, http1, garbage),
		"names of a certificate": backendtest.StartTLS(t, "api", ca.PEM, names, garbage),
	} {
		t.Run(what, func(t *testing.T) {
			check := newCheck(t)
			v := check(t.Context(), s.Claim(name))
			if v.Status != apiregistrationv1.ConditionFalse || len(v.Message) < 1000 || len(v.Message) > 1024 {
				t.Errorf("%s with a message of %d bytes: %.300s", v.Status, len(v.Message), v.Message)
			}
			if again := check(t.Context(), s.Claim(name)); again != v {
				t.Error("the next check says something else")
			}
		})
	}
}
