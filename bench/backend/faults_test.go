package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/annex-api/annex/bench/internal/fixture"
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
	for i, kind := range fixture.Hostile {
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
				// The first is enough of what has no end, and tells it from an empty one.
				least := map[string]int64{"endless": 2 << 20, "huge": hugeBytes, "gzip-bomb": 64 << 20, "many-resources": 5 << 20, "slow": 1, "nested": nestedDepth}[kind]
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
