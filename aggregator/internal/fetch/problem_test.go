package fetch

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/annex-api/annex/aggregator/internal/backendtest"
	"github.com/annex-api/annex/internal/testcerts"
)

// What is known and said of a failed download is bounded, whatever the server answers.
func TestProblemsAreBounded(t *testing.T) {
	ca := testcerts.New("api")
	http1 := &tls.Config{
		Certificates: []tls.Certificate{ca.Issue(testcerts.Subject{Hosts: []string{backendtest.ServerName("api")}}).TLS()},
		NextProtos:   []string{"http/1.1"},
	}
	s := backendtest.StartTLS(t, "api", ca.PEM, http1, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/openapi/v3" {
			_, _ = w.Write([]byte(v3Root(map[string]string{key: "/openapi/v3/x"})))
			return
		}
		if r.URL.Path == "/openapi/v3/x" {
			_, _ = w.Write([]byte(`no document`))
			return
		}
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = conn.Write([]byte(strings.Repeat("\x00", 900<<10) + "\r\n\r\n"))
		_ = conn.Close()
	}))
	f, l := newFetcher(t, patient())
	var said []string
	f.logf = func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) }
	members := s.Snapshot(name).Remotes()
	f.discovery(t.Context(), members, &discoveryState{})
	if problem := l.get(name).Problem; len(problem) < 1000 || len(problem) > 1024 {
		t.Errorf("the problem is told in %d bytes", len(problem))
	}
	f.openAPI(t.Context(), members, &openAPIState{}, true)
	if len(said) != 1 || len(said[0]) > 2048 {
		t.Errorf("%d lines are logged, the first of %d bytes", len(said), len(strings.Join(said, "")))
	}
}
