package conformance

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"k8s.io/client-go/rest"
)

// Whoever waits for a watch's end sees it, however close it comes to the last event.
func TestTheEndOfAWatchIsSeen(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
	}))
	defer server.Close()
	c, err := newClient(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2000 {
		w, err := openWatch(t.Context(), c, request{method: http.MethodGet, path: "/"})
		if err != nil {
			t.Fatal(err)
		}
		if !w.ended(t.Context(), time.Minute) {
			t.Fatalf("watch %d is taken for open after its end", i)
		}
		w.stop()
	}
}
