package fetch

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/annex-api/annex/aggregator/internal/backendtest"
	"github.com/annex-api/annex/aggregator/internal/catalog"
)

// swagger is an OpenAPI v2 document with those paths, each with a definition.
func swagger(paths ...string) string {
	var items, definitions []string
	for i, p := range paths {
		items = append(items, fmt.Sprintf(`%q:{"get":{"responses":{"200":{"description":"OK","schema":{"$ref":"#/definitions/d%d"}}}}}`, p, i))
		definitions = append(definitions, fmt.Sprintf(`"d%d":{"type":"object","description":"of %s"}`, i, p))
	}
	return fmt.Sprintf(`{"swagger":"2.0","info":{"title":"x","version":"1"},"paths":{%s},"definitions":{%s}}`,
		strings.Join(items, ","), strings.Join(definitions, ","))
}

// openAPI3 is an OpenAPI v3 document with those paths.
func openAPI3(paths ...string) string {
	var items []string
	for _, p := range paths {
		items = append(items, fmt.Sprintf(`%q:{"get":{"responses":{"200":{"description":"OK"}}}}`, p))
	}
	return fmt.Sprintf(`{"openapi":"3.0.0","info":{"title":"x","version":"1"},"paths":{%s}}`, strings.Join(items, ","))
}

// v3Root is the list at /openapi/v3.
func v3Root(urls map[string]string) string {
	paths := map[string]map[string]string{}
	for gv, u := range urls {
		paths[gv] = map[string]string{"serverRelativeURL": u}
	}
	body, err := json.Marshal(map[string]any{"paths": paths})
	if err != nil {
		panic(err)
	}
	return string(body)
}

// files answers each request URI with its text, and others with 404.
type files map[string]string

func (f files) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, ok := f[r.URL.RequestURI()]
	if !ok {
		http.NotFound(w, r)
		return
	}
	if r.URL.Path == "/openapi/v3" {
		etag := strconv.Quote(digest([]byte(body)))
		w.Header().Set("ETag", etag)
		if r.Header.Get("If-None-Match") == etag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write([]byte(body))
}

func pathsOf(t *testing.T, b catalog.Blob) []string {
	t.Helper()
	if b.ETag == "" {
		return nil
	}
	var document struct{ Paths map[string]json.RawMessage }
	if err := json.Unmarshal(b.Data, &document); err != nil {
		t.Fatalf("a published document does not parse: %v\n%s", err, b.Data)
	}
	return slices.Sorted(maps.Keys(document.Paths))
}

const (
	own     = "/apis/a.example/v1/things"
	ownItem = "/apis/a.example/v1/things/{name}"
	key     = "apis/a.example/v1"
	ownURL  = "/openapi/v3/apis/a.example/v1?hash="
)

func TestOpenAPIV2IsConfined(t *testing.T) {
	s := backendtest.Start(t, "api", files{"/openapi/v2": swagger(
		own, ownItem, "/apis/apps/v1/deployments", "/apis/a.example/v2/things", "/apis/a.example/v11/x", "/apis/", "/healthz", "/api/v1/pods")})
	f, l := newFetcher(t, patient())
	if !f.openAPI(t.Context(), s.Snapshot(name).Remotes(), &openAPIState{}, true) {
		t.Error("failed")
	}
	d := l.get(name)
	if got := pathsOf(t, d.OpenAPIV2); !slices.Equal(got, []string{own, ownItem}) {
		t.Errorf("OpenAPI v2 has %q", got)
	}
	if strings.Contains(string(d.OpenAPIV2.Data), "deployments") {
		t.Error("a definition of a foreign path is left")
	}
	// There is no /openapi/v3: the v2 is converted.
	if got := pathsOf(t, d.OpenAPIV3); !slices.Equal(got, []string{own, ownItem}) {
		t.Errorf("OpenAPI v3 has %q", got)
	}
	var v3 map[string]any
	if err := json.Unmarshal(d.OpenAPIV3.Data, &v3); err != nil || v3["openapi"] == nil || v3["components"] == nil {
		t.Errorf("not an OpenAPI v3 document: %s", d.OpenAPIV3.Data)
	}
	for _, r := range s.Requests() {
		if got := r.Header["X-Remote-User"]; !slices.Equal(got, []string{"system:aggregator"}) {
			t.Errorf("%s was asked for as %q", r.Path, got)
		}
	}
}

func TestOpenAPIV2IsConfirmedByETag(t *testing.T) {
	s := backendtest.Start(t, "api", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path != "/openapi/v2":
			http.NotFound(w, r)
		case r.Header.Get("If-None-Match") == `"one"`:
			w.WriteHeader(http.StatusNotModified)
		default:
			w.Header().Set("ETag", `"one"`)
			_, _ = w.Write([]byte(swagger(own)))
		}
	}))
	f, l := newFetcher(t, patient())
	members, state := s.Snapshot(name).Remotes(), &openAPIState{}
	for range 2 {
		if !f.openAPI(t.Context(), members, state, true) {
			t.Error("failed")
		}
		if got := pathsOf(t, l.get(name).OpenAPIV2); !slices.Equal(got, []string{own}) {
			t.Errorf("%q", got)
		}
	}
	requests := s.Requests()
	if got := requests[len(requests)-1].Header.Get("If-None-Match"); got != `"one"` {
		t.Errorf("If-None-Match: %q", got)
	}
}

// A server that says that nothing changed is believed, unless the URL of a
// document does not tell of its content, or a download of one failed.
func TestOpenAPIV3IsConfirmedByETag(t *testing.T) {
	for what, c := range map[string]struct {
		url       string
		fails     bool
		confirmed bool
	}{
		"every document known":     {ownURL + "A", false, true},
		"a URL without a hash":     {"/openapi/v3/" + key, false, false},
		"a download that failed":   {ownURL + "A", true, false},
		"a hash without any value": {ownURL, false, false},
	} {
		t.Run(what, func(t *testing.T) {
			s := backendtest.Start(t, "api", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch {
				case r.URL.Path == "/openapi/v3" && r.Header.Get("If-None-Match") == `"one"`:
					w.WriteHeader(http.StatusNotModified)
				case r.URL.Path == "/openapi/v3":
					w.Header().Set("ETag", `"one"`)
					_, _ = w.Write([]byte(v3Root(map[string]string{key: c.url})))
				case r.URL.RequestURI() == c.url && !c.fails:
					_, _ = w.Write([]byte(openAPI3(own)))
				default:
					http.NotFound(w, r)
				}
			}))
			f, l := newFetcher(t, patient())
			members, state := s.Snapshot(name).Remotes(), &openAPIState{}
			for range 3 {
				if f.openAPI(t.Context(), members, state, true) == c.fails {
					t.Errorf("succeeded: %v", !c.fails)
				}
			}
			if got := pathsOf(t, l.get(name).OpenAPIV3); slices.Equal(got, []string{own}) == c.fails {
				t.Errorf("%q", got)
			}
			var asked []string
			for _, r := range s.Requests() {
				if r.Path == "/openapi/v3" {
					asked = append(asked, r.Header.Get("If-None-Match"))
				}
			}
			want := []string{"", "", ""}
			if c.confirmed {
				want = []string{"", `"one"`, `"one"`}
			}
			if !slices.Equal(asked, want) {
				t.Errorf("If-None-Match: %q, want %q", asked, want)
			}
			if n := s.Count(c.url); c.confirmed != (n == 1) {
				t.Errorf("the document was asked for %d times", n)
			}
		})
	}
}

func TestOpenAPIV3IsDownloadedOncePerHash(t *testing.T) {
	server := files{
		"/openapi/v3": v3Root(map[string]string{key: ownURL + "A", "apis/apps/v1": "/openapi/v3/apis/apps/v1?hash=X", "version": "/openapi/v3/version?hash=Y"}),
		ownURL + "A":  openAPI3(own, ownItem), ownURL + "B": openAPI3(own),
		"/openapi/v3/apis/apps/v1?hash=X": openAPI3("/apis/apps/v1/deployments"),
		"/openapi/v2":                     swagger(own),
	}
	s := backendtest.Start(t, "api", server)
	f, l := newFetcher(t, patient())
	members, state := s.Snapshot(name).Remotes(), &openAPIState{}
	for range 3 {
		f.openAPI(t.Context(), members, state, true)
	}
	if got := pathsOf(t, l.get(name).OpenAPIV3); !slices.Equal(got, []string{own, ownItem}) {
		t.Errorf("%q", got)
	}
	if n := s.Count(ownURL + "A"); n != 1 {
		t.Errorf("a document with a hash was downloaded %d times", n)
	}
	if n := s.Count("/openapi/v3/apis/apps/v1?hash=X"); n != 0 {
		t.Error("another group version's document was downloaded")
	}
	server["/openapi/v3"] = v3Root(map[string]string{key: ownURL + "B"})
	f.openAPI(t.Context(), members, state, true)
	if got := pathsOf(t, l.get(name).OpenAPIV3); !slices.Equal(got, []string{own}) {
		t.Errorf("after the hash changed: %q", got)
	}
	server["/openapi/v3"] = v3Root(nil)
	f.openAPI(t.Context(), members, state, true)
	if got := pathsOf(t, l.get(name).OpenAPIV3); got != nil {
		t.Errorf("no longer listed, still published: %q", got)
	}
	server["/openapi/v3"] = v3Root(map[string]string{key: ownURL + "B"})
	f.openAPI(t.Context(), members, state, true)
	if got := pathsOf(t, l.get(name).OpenAPIV3); !slices.Equal(got, []string{own}) {
		t.Errorf("listed again under the same hash: %q", got)
	}
}

func TestOpenAPIV3WithoutHashIsAlwaysDownloaded(t *testing.T) {
	plain := "/openapi/v3/apis/a.example/v1"
	s := backendtest.Start(t, "api", files{"/openapi/v3": v3Root(map[string]string{key: plain}), plain: openAPI3(own)})
	f, _ := newFetcher(t, patient())
	members, state := s.Snapshot(name).Remotes(), &openAPIState{}
	f.openAPI(t.Context(), members, state, true)
	f.openAPI(t.Context(), members, state, true)
	if n := s.Count(plain); n != 2 {
		t.Errorf("downloaded %d times, want 2", n)
	}
}

// The root may name only what lies below /openapi/v3/ of the server itself.
func TestOpenAPIV3ForeignURLs(t *testing.T) {
	elsewhere := backendtest.Start(t, "elsewhere", files{})
	for _, foreign := range []string{
		"https://" + elsewhere.Address + "/openapi/v3/apis/a.example/v1",
		"//" + elsewhere.Address + "/openapi/v3/apis/a.example/v1",
		"http:/openapi/v3/apis/a.example/v1", "file:///openapi/v3/x", "javascript:x",
		"/openapi/v3/../../secret", "/openapi/v3/%2e%2e/%2E%2E/secret", "/openapi/v3/x/..%2fsecret",
		"/secret", "/openapi/v2", "openapi/v3/x", "/openapi/v3", "", "?hash=A", "/openapi/v3x/", "%", "/openapi/v3/\x00",
	} {
		s := backendtest.Start(t, "api", files{"/openapi/v3": v3Root(map[string]string{key: foreign})})
		f, l := newFetcher(t, patient())
		if f.openAPI(t.Context(), s.Snapshot(name).Remotes(), &openAPIState{}, true) {
			t.Errorf("%q was taken for a success", foreign)
		}
		if l.get(name).OpenAPIV3.ETag != "" {
			t.Errorf("%q: a document was published", foreign)
		}
		for _, r := range s.Requests() {
			if r.Path != "/openapi/v3" && r.Path != "/openapi/v2" {
				t.Errorf("%q: the server was asked for %s", foreign, r.Path)
			}
		}
	}
	if r := elsewhere.Requests(); len(r) != 0 {
		t.Errorf("another server was asked: %v", r)
	}
}

// Many servers have OpenAPI v3 alone, and kubectl and others still read v2.
func TestOpenAPIV2IsMadeFromV3(t *testing.T) {
	third := func(definition string) string {
		return fmt.Sprintf(`{"openapi":"3.0.0","info":{"title":"x","version":"1"},"paths":{%q:{"get":{"responses":{"200":{"description":"OK","content":{"application/json":{"schema":{"$ref":"#/components/schemas/%s"}}}}}}},"/apis/apps/v1/deployments":{}},
			"components":{"schemas":{%q:{"type":"object"},"unused":{}}}}`, own, definition, definition)
	}
	now := atomic.Pointer[files]{}
	serve := func(f files) { now.Store(&f) }
	serve(files{"/openapi/v3": v3Root(map[string]string{key: ownURL + "A"}), ownURL + "A": third("first")})
	s := backendtest.Start(t, "api", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { now.Load().ServeHTTP(w, r) }))
	f, l := newFetcher(t, patient())
	var lines []string
	f.logf = func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	members, state := s.Snapshot(name).Remotes(), &openAPIState{}
	expect := func(what, definition string, asked int) {
		t.Helper()
		if !f.openAPI(t.Context(), members, state, false) {
			t.Errorf("%s: failed", what)
		}
		v2 := l.get(name).OpenAPIV2
		if got := pathsOf(t, v2); !slices.Equal(got, []string{own}) || !strings.Contains(string(v2.Data), `"#/definitions/`+definition+`"`) {
			t.Errorf("%s: OpenAPI v2 is %s", what, v2.Data)
		}
		if strings.Contains(string(v2.Data), "unused") {
			t.Errorf("%s: a definition that no path needs is left", what)
		}
		if got := s.Count("/openapi/v2"); got != asked {
			t.Errorf("%s: v2 was asked for %d times, want %d", what, got, asked)
		}
	}
	expect("at first", "first", 1)
	expect("unchanged", "first", 1)
	serve(files{"/openapi/v3": v3Root(map[string]string{key: ownURL + "B"}), ownURL + "B": third("second")})
	expect("changed", "second", 1)
	if len(lines) != 1 || !strings.Contains(lines[0], "made from its v3") {
		t.Errorf("want one line: %q", lines)
	}
	state.v2Asked = time.Now().Add(-absentAgain)
	expect("after an hour", "second", 2)
	serve(files{"/openapi/v3": v3Root(map[string]string{key: ownURL + "B"}), ownURL + "B": third("second"), "/openapi/v2": swagger(own)})
	state.v2Asked = time.Now().Add(-absentAgain)
	expect("with a v2 of its own", "d0", 3)
	if len(lines) != 2 {
		t.Errorf("want a second line: %q", lines)
	}
}
