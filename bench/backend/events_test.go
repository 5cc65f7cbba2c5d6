package main

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/annex-api/annex/bench/internal/fixture"
)

func post(t *testing.T, s *httptest.Server, path, body string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := s.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(answer)
}

func TestEveryWatchSendsEveryEvent(t *testing.T) {
	s := newServer(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var watches []*bufio.Reader
	for range 3 {
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
		if _, err := lines.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		watches = append(watches, lines)
	}
	const count = 5
	if resp, body := post(t, s, fixture.EmitPath(3, 1000, count), ""); resp.StatusCode != http.StatusOK {
		t.Fatalf("status %d: %s", resp.StatusCode, body)
	}
	for i, lines := range watches {
		for n := range count {
			if line, err := lines.ReadString('\n'); err != nil || line != string(fixture.Event(fixture.Group(3))) {
				t.Errorf("watch %d, event %d: %q, %v", i, n, line, err)
			}
		}
	}
}

func TestTooManyEventsAreRefused(t *testing.T) {
	s := newServer(t)
	for _, query := range []string{"", "rate=0&count=1", "rate=1", "rate=x&count=1", "rate=100000&count=1", "rate=1&count=1000"} {
		if resp, body := post(t, s, fixture.Path(3)+"/"+fixture.Emit+"?"+query, ""); resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%q: status %d: %s", query, resp.StatusCode, body)
		}
	}
}

func TestAnObjectThatIsPostedComesBack(t *testing.T) {
	s := newServer(t)
	item := string(fixture.Item(fixture.Group(3), "new"))
	if resp, body := post(t, s, fixture.Path(3), item); resp.StatusCode != http.StatusCreated || body != item {
		t.Errorf("status %d: %s", resp.StatusCode, body)
	}
	if resp, _ := post(t, s, fixture.Path(3), strings.Repeat("x", maxObject+1)); resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("status %d for an object that is too large", resp.StatusCode)
	}
}
