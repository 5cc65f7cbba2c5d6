package proxy

import (
	"net/http"
	"testing"

	"github.com/annex-api/annex/aggregator/internal/backendtest"
)

// A client that is allowed what a selector picks gets no more by what ends the query
// for an extension server in another language.
func TestQueriesOnTheWire(t *testing.T) {
	http2 := backendtest.Start(t, "api", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	for protocol, s := range map[string]*backendtest.Server{"HTTP/2": http2, "HTTP/1.1": startHTTP1(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))} {
		f := startFront(t, s.Claim(name))
		for query, want := range map[string]string{
			"?#&fieldSelector=metadata.name%3Dmine":         "?%23=&fieldSelector=metadata.name%3Dmine",
			"?fieldSelector=metadata.name%3Dmine#":          "?fieldSelector=metadata.name%3Dmine%23",
			"?fieldSelector=metadata.name%3Dmine&limit=500": "?fieldSelector=metadata.name%3Dmine&limit=500",
			"?": "?",
			"":  "",
		} {
			before := len(s.Requests())
			if code := f.raw(t, "GET "+base+"/things"+query+" HTTP/1.1"); code != http.StatusOK {
				t.Fatalf("%s: %d", query, code)
			}
			if got := s.Requests()[before:]; len(got) != 1 || got[0].Path != base+"/things"+want {
				t.Errorf("%s, %s: %v arrived, want %s", protocol, query, got, want)
			}
		}
	}
}
