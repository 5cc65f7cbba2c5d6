package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/annex-api/annex/bench/internal/fixture"
)

// newServer serves over TLS with HTTP/2; the client calls it by the name of the
// third Service.
func newServer(t *testing.T) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(&handler{})
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	c := s.Client().Transport.(*http.Transport).TLSClientConfig
	// The test server's certificate has no such name: what is tested is not the certificate.
	c.InsecureSkipVerify = true
	c.ServerName = fixture.Service(3) + "." + fixture.Namespace + ".svc"
	return s
}

func get(t *testing.T, s *httptest.Server, path string, header http.Header) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header = header
	resp, err := s.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func TestResources(t *testing.T) {
	s := newServer(t)
	group := fixture.Group(3)
	for path, want := range map[string]string{
		fixture.Path(3):          string(fixture.List(group)),
		fixture.Path(3) + "/one": string(fixture.Item(group, "one")),
	} {
		if resp, body := get(t, s, path, nil); resp.StatusCode != http.StatusOK || body != want || resp.ProtoMajor != 2 {
			t.Errorf("%s: status %d, %d bytes by HTTP/%d, want 200, %d bytes by HTTP/2", path, resp.StatusCode, len(body), resp.ProtoMajor, len(want))
		}
	}
	for _, path := range []string{"/", "/openapi/v2", "/openapi/v3", "/apis/apps/v1", fixture.Path(3) + "/two"} {
		if resp, _ := get(t, s, path, nil); resp.StatusCode != http.StatusNotFound {
			t.Errorf("%s: status %d, want 404", path, resp.StatusCode)
		}
	}
}

func TestDiscoveryIsOfTheServiceThatWasCalled(t *testing.T) {
	s := newServer(t)
	resp, body := get(t, s, "/apis", http.Header{"Accept": {aggregatedType + ",application/json"}})
	var list struct {
		Kind  string
		Items []struct{ Metadata struct{ Name string } }
	}
	if err := json.Unmarshal([]byte(body), &list); err != nil {
		t.Fatal(err)
	}
	if list.Kind != "APIGroupDiscoveryList" || len(list.Items) != 1 || list.Items[0].Metadata.Name != fixture.Group(3) || resp.Header.Get("Content-Type") != aggregatedType {
		t.Errorf("%s %s", resp.Header.Get("Content-Type"), body)
	}
	if resp, _ := get(t, s, "/apis", http.Header{"If-None-Match": {resp.Header.Get("ETag")}}); resp.StatusCode != http.StatusNotModified {
		t.Errorf("status %d with the ETag, want 304", resp.StatusCode)
	}
	for path, kind := range map[string]string{"/apis": "APIGroupList", "/apis/" + fixture.Group(3): "APIGroup", "/apis/" + fixture.Group(3) + "/v1": "APIResourceList"} {
		_, body := get(t, s, path, http.Header{"Accept": {"application/json"}})
		if !json.Valid([]byte(body)) || !strings.Contains(body, `"kind":"`+kind+`"`) || !strings.Contains(body, fixture.Group(3)) {
			t.Errorf("%s: %s", path, body)
		}
	}
}

func TestDiscoveryOfAnUnknownServer(t *testing.T) {
	s := newServer(t)
	s.Client().Transport.(*http.Transport).TLSClientConfig = &tls.Config{InsecureSkipVerify: true, ServerName: "other.example.com"}
	if resp, _ := get(t, s, "/apis", nil); resp.StatusCode != http.StatusNotFound {
		t.Errorf("status %d, want 404", resp.StatusCode)
	}
}

func TestWatchSendsOneEventAndStaysOpen(t *testing.T) {
	s := newServer(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+fixture.Path(3)+"?watch=1", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := s.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewReader(resp.Body)
	if line, err := lines.ReadString('\n'); err != nil || line != string(fixture.Bookmark(fixture.Group(3))) {
		t.Errorf("first event %q, %v", line, err)
	}
	cancel()
	if rest, err := io.ReadAll(lines); err == nil {
		t.Errorf("the watch ended by itself, after %q", rest)
	}
}
