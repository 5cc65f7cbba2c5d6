package main

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestExample does what the command's documentation says.
func TestExample(t *testing.T) {
	handler, err := newHandler(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	base := server.URL
	for path, want := range map[string]string{
		"/apis/example.com/v1/greetings": "hello guest",
		"/apis":                          `"groupVersion":"example.com/v1"`,
		"/":                              "the program's own answer",
	} {
		waitFor(t, base+path, want)
	}
}

func waitFor(t *testing.T, url, want string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var last string
	for ticker := time.NewTicker(10 * time.Millisecond); ; {
		response, err := http.Get(url)
		if err == nil {
			body, _ := io.ReadAll(response.Body)
			_ = response.Body.Close()
			if last = string(body); strings.Contains(last, want) {
				return
			}
		}
		select {
		case <-ctx.Done():
			t.Fatalf("GET %s: got %q (%v), want %q", url, last, err, want)
		case <-ticker.C:
		}
	}
}
