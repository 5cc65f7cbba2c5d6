package fetch

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"strings"
	"sync"
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

// statuses answer each path with its code, where it has one, and others as files do.
type statuses struct {
	codes map[string]int
	files files
}

func (s statuses) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if code := s.codes[r.URL.Path]; code != 0 {
		http.Error(w, "no", code)
		return
	}
	s.files.ServeHTTP(w, r)
}

// A server that has no OpenAPI of a version may say so in other ways than by 404: the
// version is made from the other one, and that is no failure.
func TestVersionsThatAServerDoesNotHaveAreMadeFromTheOther(t *testing.T) {
	all := files{"/openapi/v2": swagger(own), "/openapi/v3": v3Root(map[string]string{key: ownURL + "A"}), ownURL + "A": openAPI3(own)}
	for code, lacking := range map[int]bool{
		400: true, 403: true, 404: true, 405: true, 406: true, 410: true, 501: true,
		401: false, 408: false, 425: false, 429: false, 500: false, 502: false, 503: false, 204: false, 302: false,
	} {
		for _, path := range []string{"/openapi/v2", "/openapi/v3"} {
			s := backendtest.Start(t, "api", statuses{map[string]int{path: code}, all})
			f, l := newFetcher(t, patient())
			f.logf = t.Logf
			members, state := s.Snapshot(name).Remotes(), &openAPIState{}
			f.openAPI(t.Context(), members, state, true)
			if ok := f.openAPI(t.Context(), members, state, true); ok != lacking {
				t.Errorf("%s answers %d: succeeds %v", path, code, ok)
			}
			d := l.get(name)
			if v2, v3 := pathsOf(t, d.OpenAPIV2), pathsOf(t, d.OpenAPIV3); (len(v2) == 1 && len(v3) == 1) != lacking {
				t.Errorf("%s answers %d: v2 has %q, v3 has %q", path, code, v2, v3)
			}
		}
	}
}

// A server that refuses its documents for a while keeps what is known of them, and has
// them again as soon as it tells them; one that has none any more loses them.
func TestDocumentsThatAreRefusedForAWhileAreBack(t *testing.T) {
	all := files{"/openapi/v2": swagger(own), "/openapi/v3": v3Root(map[string]string{key: ownURL + "?hash=A"}), ownURL + "?hash=A": openAPI3(own), ownURL: openAPI3(own)}
	for code, stays := range map[int]bool{403: true, 400: true, 404: false, 410: false} {
		for _, paths := range [][]string{{"/openapi/v3"}, {"/openapi/v2", "/openapi/v3"}} {
			var mu sync.Mutex
			handler := &statuses{nil, all}
			s := backendtest.Start(t, "api", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				defer mu.Unlock()
				handler.ServeHTTP(w, r)
			}))
			f, l := newFetcher(t, patient())
			f.logf = t.Logf
			members, state := s.Snapshot(name).Remotes(), &openAPIState{}
			step := func(refused map[string]int) (v2, v3 bool) {
				mu.Lock()
				*handler = statuses{refused, all}
				mu.Unlock()
				f.openAPI(t.Context(), members, state, true)
				f.openAPI(t.Context(), members, state, true)
				d := l.get(name)
				return len(d.OpenAPIV2.Data) > 0, len(d.OpenAPIV3.Data) > 0
			}
			step(nil)
			original := string(l.get(name).OpenAPIV3.Data)
			refused := map[string]int{}
			for _, path := range paths {
				refused[path] = code
			}
			v2, v3 := step(refused)
			if kept := stays || len(paths) == 1; v2 != kept || v3 != kept {
				t.Errorf("%d at %q: v2 %v, v3 %v, want %v", code, paths, v2, v3, kept)
			}
			step(nil)
			if got := string(l.get(name).OpenAPIV3.Data); got != original {
				t.Errorf("%d at %q, and then no more: v3 is %.100q, want %.100q", code, paths, got, original)
			}
		}
	}
}

// There is one line for each change: none again because a member comes or goes, a
// download fails in between, or nothing could be made.
func TestWhatWasLoggedIsNotSaidAgain(t *testing.T) {
	v3 := files{"/openapi/v3": v3Root(map[string]string{key: ownURL + "A"}), ownURL + "A": openAPI3(own)}
	handler := &statuses{map[string]int{"/openapi/v3": http.StatusInternalServerError}, v3}
	var mu sync.Mutex
	s := backendtest.Start(t, "api", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		handler.ServeHTTP(w, r)
	}))
	f, _ := newFetcher(t, patient())
	var lines []string
	f.logf = func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	members, state := s.Snapshot(name).Remotes(), openAPIState{}
	step := func(what string, change statuses, want ...string) {
		t.Helper()
		mu.Lock()
		*handler = change
		mu.Unlock()
		lines = nil
		for range 2 {
			f.openAPI(t.Context(), members, &state, true)
			state = state.forOtherMembers()
		}
		if len(lines) != len(want) || len(want) == 1 && !strings.Contains(lines[0], want[0]) {
			t.Errorf("%s: the lines are %q, want %q", what, lines, want)
		}
	}
	fails := func(path string) map[string]int { return map[string]int{path: http.StatusInternalServerError} }
	broken := files{"/openapi/v3": v3["/openapi/v3"], ownURL + "A": "no document"}
	both := files{"/openapi/v2": swagger(own), "/openapi/v3": v3["/openapi/v3"], ownURL + "A": openAPI3(own)}
	step("v3 fails", statuses{fails("/openapi/v3"), v3})
	step("v3 works", statuses{nil, v3}, "made from its v3")
	step("v2 fails", statuses{fails("/openapi/v2"), v3})
	step("v3 cannot be used", statuses{nil, broken}, "cannot be used")
	step("and fails", statuses{fails("/openapi/v3"), broken})
	step("and still cannot be used", statuses{nil, broken})
	step("it can be", statuses{nil, v3})
	step("there is a v2", statuses{nil, both}, "of its own now")
}
