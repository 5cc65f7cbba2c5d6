package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/annex-api/annex/bench/internal/fixture"
	"github.com/annex-api/annex/internal/testcerts"
)

// serve runs a handler over TLS; the client calls it as the n-th Service.
func serve(t *testing.T, h http.Handler, n int) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	c := s.Client().Transport.(*http.Transport)
	c.DisableCompression = true
	// The test server's certificate has no such name: what is tested is not the certificate.
	c.TLSClientConfig.InsecureSkipVerify = true
	c.TLSClientConfig.ServerName = fixture.Service(n) + "." + fixture.Namespace + ".svc"
	return s
}

func TestTheJournalHasEachRequestForAnObject(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	j, err := openJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	s := serve(t, noting(j, &handler{}), 3)
	for range 2 {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+fixture.Path(3), strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set(fixture.IDHeader, "seven 7")
		resp, err := s.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		if err := resp.Body.Close(); err != nil || resp.StatusCode != http.StatusCreated {
			t.Errorf("status %d, %v", resp.StatusCode, err)
		}
	}
	get(t, s, "/apis", nil)
	get(t, s, fixture.Path(3)+"/one", nil)
	if err := j.close(); err != nil {
		t.Error(err)
	}
	got, err := os.ReadFile(path)
	if want := "POST seven7\nPOST seven7\nGET \n"; err != nil || string(got) != want {
		t.Errorf("%q, %v, want %q", got, err, want)
	}
}

func TestAnOverloadedServerStillTellsWhatItHas(t *testing.T) {
	s := serve(t, failing(&handler{}), 3)
	if resp, _ := get(t, s, fixture.Path(3)+"/one", nil); resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("status %d, want 503", resp.StatusCode)
	}
	if resp, _ := get(t, s, "/apis/"+fixture.Group(3)+"/v1", nil); resp.StatusCode != http.StatusOK {
		t.Errorf("discovery: status %d, want 200", resp.StatusCode)
	}
}

func TestWatchesEndWellWhenTheServerLeaves(t *testing.T) {
	leaving := make(chan struct{})
	s := serve(t, &handler{leaving: leaving}, 3)
	time.AfterFunc(10*time.Millisecond, func() { close(leaving) })
	resp, body := get(t, s, fixture.Path(3)+"?watch=true", nil)
	if want := string(fixture.Bookmark(fixture.Group(3))); resp.StatusCode != http.StatusOK || body != want {
		t.Errorf("status %d, %q, want 200, %q", resp.StatusCode, body, want)
	}
}

func TestConnectionsAreResetAndNoted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	j, err := openJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- resetAll(ctx, listener, j) }()
	// The reset may come before the connection is ready here, or after.
	conn, err := net.Dial("tcp", listener.Addr().String())
	if err == nil {
		_, err = conn.Read(make([]byte, 1))
		t.Cleanup(func() { conn.Close() })
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v, want a reset", err)
	}
	cancel()
	if err := errors.Join(<-ended, j.close()); err != nil {
		t.Error(err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "CONNECT \n" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestHostileDocuments(t *testing.T) {
	h, err := newHostile(&handler{})
	if err != nil {
		t.Fatal(err)
	}
	leasts := map[string]int64{
		"endless": 2 << 20, "huge": hugeBytes, "gzip-bomb": 64 << 20, "many-resources": 5 << 20, "slow": 1, "nested": nestedDepth, "changing": 100,
	}
	for i, kind := range fixture.Hostile {
		// The first is enough of what has no end, and tells it from an empty one.
		least, documents := leasts[kind]
		if !documents {
			continue // What is wrong with it is the connection.
		}
		t.Run(kind, func(t *testing.T) {
			n := fixture.FirstHostile + i
			s := serve(t, h, n)
			if resp, _ := get(t, s, "/apis/"+fixture.Group(n)+"/v1", nil); resp.StatusCode != http.StatusOK {
				t.Errorf("a probe gets status %d", resp.StatusCode)
			}
			for _, path := range []string{"/apis", "/openapi/v2", "/openapi/v3/apis/" + fixture.Group(n) + "/v1"} {
				ctx, cancel := context.WithCancel(t.Context())
				r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+path, nil)
				if err != nil {
					t.Fatal(err)
				}
				resp, err := s.Client().Do(r)
				if err != nil {
					t.Fatal(err)
				}
				var body io.Reader = resp.Body
				if resp.Header.Get("Content-Encoding") == "gzip" {
					if body, err = gzip.NewReader(resp.Body); err != nil {
						t.Fatal(err)
					}
				}
				if got, err := io.CopyN(io.Discard, body, least); err != nil {
					t.Errorf("%s: %d bytes, want %d: %v", path, got, least, err)
				}
				cancel()
				resp.Body.Close()
			}
		})
	}
}

// numberOf is the number of the APIService that stands for a kind.
func numberOf(t *testing.T, kind string) int {
	t.Helper()
	n := slices.Index(fixture.Hostile, kind)
	if n < 0 {
		t.Fatalf("there is no kind %q", kind)
	}
	return fixture.FirstHostile + n
}

func TestDiscoveryChangesWithEveryFetch(t *testing.T) {
	h, err := newHostile(&handler{})
	if err != nil {
		t.Fatal(err)
	}
	n := numberOf(t, "changing")
	s := serve(t, h, n)
	for _, path := range []string{"/apis", "/apis/" + fixture.Group(n) + "/v1", "/openapi/v2", "/openapi/v3"} {
		first, one := get(t, s, path, nil)
		second, other := get(t, s, path, nil)
		if first.StatusCode != http.StatusOK || second.StatusCode != http.StatusOK || one == other {
			t.Errorf("%s: status %d, %d, the same document: %q", path, first.StatusCode, second.StatusCode, one)
		}
	}
}

func TestTheHangingServerHangsOnceItWasAsked(t *testing.T) {
	h, err := newHostile(&handler{})
	if err != nil {
		t.Fatal(err)
	}
	n := numberOf(t, "hanging")
	s := serve(t, h, n)
	discovery := "/apis/" + fixture.Group(n) + "/v1"
	if resp, _ := get(t, s, discovery, nil); resp.StatusCode != http.StatusOK {
		t.Errorf("status %d before it hangs", resp.StatusCode)
	}
	for _, path := range []string{fixture.Path(n) + "/one", discovery} {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp, err := s.Client().Do(r); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v, %v, want no answer", path, resp, err)
		}
		cancel()
	}
}

// startHostile is like serve, with the connections of a hostile server.
func startHostile(t *testing.T, n int) *httptest.Server {
	t.Helper()
	h, err := newHostile(&handler{})
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(h)
	s.EnableHTTP2 = true
	ca := testcerts.New("trusted")
	trusted := ca.Issue(testcerts.Subject{Hosts: []string{fixture.WildcardName}})
	s.TLS = hostileTLS(&tls.Config{Certificates: []tls.Certificate{trusted.TLS()}, NextProtos: []string{"h2", "http/1.1"}})
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // Handshakes fail here.
	s.StartTLS()
	t.Cleanup(s.Close)
	c := s.Client().Transport.(*http.Transport)
	c.TLSClientConfig = &tls.Config{RootCAs: ca.Pool(), ServerName: fixture.Service(n) + "." + fixture.Namespace + ".svc"}
	return s
}

func TestEveryOtherConnectionHasAWrongCertificate(t *testing.T) {
	n := numberOf(t, "flapping")
	s := startHostile(t, n)
	good, wrong := 0, 0
	for range 6 {
		resp, err := s.Client().Get(s.URL + fixture.Path(n) + "/one")
		if err == nil {
			_, err = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		var unknown x509.UnknownAuthorityError
		switch {
		case err == nil:
			good++
		case errors.As(err, &unknown):
			wrong++
		default:
			t.Error(err)
		}
	}
	if good != 3 || wrong != 3 {
		t.Errorf("%d good, %d wrong ones, want 3 of each", good, wrong)
	}
}

func TestHeadersThatHaveNoEnd(t *testing.T) {
	n := numberOf(t, "slow-headers")
	s := startHostile(t, n)
	if resp, _ := get(t, s, "/apis/"+fixture.Group(n)+"/v1", nil); resp.StatusCode != http.StatusOK || resp.ProtoMajor != 1 {
		t.Errorf("a probe gets status %d over %s", resp.StatusCode, resp.Proto)
	}
	config := s.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	conn, err := tls.Dial("tcp", s.Listener.Addr().String(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "GET /apis HTTP/1.1\r\nHost: any\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	want := "HTTP/1.1 200 OK\r\nX-Slow: x"
	got := make([]byte, len(want))
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != want {
		t.Errorf("%q, %v", got, err)
	}
}

func TestTheBombIsSmallUntilItIsOpened(t *testing.T) {
	bomb, err := newBomb()
	if err != nil {
		t.Fatal(err)
	}
	r, err := gzip.NewReader(bytes.NewReader(bomb))
	if err != nil {
		t.Fatal(err)
	}
	opened, err := io.Copy(io.Discard, r)
	if err != nil || opened != bombBytes || len(bomb) > bombBytes/500 {
		t.Errorf("%d bytes are %d, %v", len(bomb), opened, err)
	}
}
