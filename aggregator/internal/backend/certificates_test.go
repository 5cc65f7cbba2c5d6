package backend

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/annex-api/annex/aggregator/internal/backendtest"
	"github.com/annex-api/annex/aggregator/internal/catalog"
	"github.com/annex-api/annex/internal/testcerts"
)

// Of replicas with certificates of their own the first to expire is told, whichever shook hands
// last.
func TestReplicasKeepTheirCertificates(t *testing.T) {
	ca := testcerts.New("server")
	start := func(subject string, expires time.Duration) *backendtest.Server {
		pair := ca.Issue(testcerts.Subject{Name: subject, Hosts: []string{backendtest.ServerName("api")}, NotAfter: time.Now().Add(expires)})
		return backendtest.StartTLS(t, "api", ca.PEM, &tls.Config{Certificates: []tls.Certificate{pair.TLS()}}, http.NotFoundHandler())
	}
	late, early := start("late", 2*time.Hour), start("early", time.Hour)
	claim := func(servers ...*backendtest.Server) *catalog.Snapshot {
		return catalog.Build(backendtest.Facts([]*apiService{late.APIService(name)}, servers...))
	}
	var told atomic.Int64
	p := newPool(t, Config{EndpointChanged: func() { told.Add(1) }})
	snapshot := claim(late, early)
	p.Sync(snapshot)
	b := p.Get(snapshot.Remotes()[0])
	handshake := func(s *backendtest.Server) {
		t.Helper()
		conn, err := b.DialUpgrade(t.Context(), s.Address)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
	}
	expect := func(when, subject string) {
		t.Helper()
		got := "nobody"
		if s := b.Certificate(); s.Certificate != nil {
			got = s.Subject.CommonName
		}
		if got != subject {
			t.Errorf("%s: the certificate of %s, want that of %s", when, got, subject)
		}
	}
	handshake(late)
	expect("the first", "late")
	for range 3 {
		handshake(early)
		expect("after early", "early")
		handshake(late)
		expect("after late", "early")
	}
	if n := told.Load(); n != 2 {
		t.Errorf("%d changes are told of two certificates", n)
	}

	// Each is asked for its own, the one that was shown longest ago first.
	var order []string
	for range 4 {
		before := shownAt(b)
		b.ShowCertificate(t.Context(), func(Shown) bool { return true })
		for subject, at := range shownAt(b) {
			if at != before[subject] {
				order = append(order, subject)
			}
		}
	}
	if want := []string{"early", "late", "early", "late"}; !slices.Equal(order, want) {
		t.Errorf("%q showed theirs again, want %q", order, want)
	}

	// What has left is forgotten, and a handshake that it ends late with is not noted.
	p.Sync(claim(late))
	expect("without early", "late")
	handshake(early)
	expect("after a handshake of what has left", "late")
}

func shownAt(b *Backend) map[string]time.Time {
	at := map[string]time.Time{}
	for _, s := range b.certificates.all() {
		at[s.Subject.CommonName] = s.At
	}
	return at
}

// Behind the Service's own address there is any of the endpoints, and where a resolver is asked
// nobody knows how many addresses there will be.
func TestWhoseCertificatesAreKept(t *testing.T) {
	now := time.Now()
	expires := func(in time.Duration) *x509.Certificate {
		return &x509.Certificate{Raw: []byte(in.String()), NotAfter: now.Add(in)}
	}
	var c certificates
	expect := func(when string, want ...time.Duration) {
		t.Helper()
		var got []time.Duration
		for _, s := range c.all() {
			got = append(got, s.NotAfter.Sub(now))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: they expire in %v, want %v", when, got, want)
		}
	}
	c.follow(&catalog.Target{Endpoints: []catalog.Endpoint{{Address: "a:1"}, {Address: "b:1"}, {Address: "service:1", Fallback: true}}})
	expect("before a handshake")
	c.note("service:1", expires(time.Minute), now)
	expect("of the Service alone", time.Minute)
	c.note("b:1", expires(2*time.Hour), now)
	c.note("a:1", expires(time.Hour), now)
	expect("of endpoints too", time.Hour, 2*time.Hour)
	if c.note("a:1", expires(time.Hour), now) || !c.note("a:1", expires(3*time.Hour), now) || c.note("c:1", expires(0), now) {
		t.Error("told of a certificate that was known, or not of another, or of one that is nobody's")
	}
	expect("after one is renewed", 2*time.Hour, 3*time.Hour)

	c = certificates{}
	c.follow(&catalog.Target{Resolver: true})
	for i := range 5 {
		c.note("address-"+string(rune('a'+i)), expires(time.Duration(i)*time.Hour), now)
	}
	expect("what a resolver gave last", 4*time.Hour)
}
