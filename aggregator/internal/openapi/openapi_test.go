package openapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/kube-openapi/pkg/handler3"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"github.com/annex-api/annex/aggregator/internal/catalog"
)

// fakeLocal is a local handler whose documents can be changed.
type fakeLocal struct {
	mu sync.Mutex
	// documents and etags by path; a path without a document is 404.
	documents map[string]string
	etags     map[string]string
	answer    http.HandlerFunc
	asked     map[string]int
	users     map[string]bool
}

func newLocal(documents map[string]string) *fakeLocal {
	l := &fakeLocal{documents: documents, etags: map[string]string{}, asked: map[string]int{}, users: map[string]bool{}}
	for path := range documents {
		l.etags[path] = `"first"`
	}
	return l
}

func (l *fakeLocal) set(path, document, etag string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.documents[path], l.etags[path] = document, etag
}

func (l *fakeLocal) override(h http.HandlerFunc) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.answer = h
}

func (l *fakeLocal) count(path string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.asked[path]
}

func (l *fakeLocal) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	l.asked[r.URL.Path]++
	if u, ok := request.UserFrom(r.Context()); ok {
		l.users[u.GetName()] = true
	}
	document, etag, answer := l.documents[r.URL.Path], l.etags[r.URL.Path], l.answer
	l.mu.Unlock()
	if answer != nil {
		answer(w, r)
		return
	}
	if document == "" {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Etag", etag)
	if r.Header.Get("If-None-Match") == etag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	w.Write([]byte(document))
}

// swagger makes a document of paths, whose GET returns the definition, and of
// definitions as JSON.
func swagger(definition string, definitions map[string]string, paths ...string) string {
	var p, d []string
	for _, path := range paths {
		p = append(p, fmt.Sprintf(`%q:{"get":{"description":%q,"responses":{"200":{"description":"OK","schema":{"$ref":"#/definitions/%s"}}}}}`, path, definition, definition))
	}
	for name, body := range definitions {
		d = append(d, fmt.Sprintf("%q:%s", name, body))
	}
	return fmt.Sprintf(`{"swagger":"2.0","info":{"title":"test","version":"v1"},"paths":{%s},"definitions":{%s}}`, strings.Join(p, ","), strings.Join(d, ","))
}

func object(description string) string {
	return fmt.Sprintf(`{"type":"object","description":%q}`, description)
}

func kinds(description string, groups ...string) string {
	var list []string
	for _, g := range groups {
		list = append(list, fmt.Sprintf(`{"group":%q,"kind":"Options","version":"v1"}`, g))
	}
	return fmt.Sprintf(`{"type":"object","description":%q,"x-kubernetes-group-version-kind":[%s]}`, description, strings.Join(list, ","))
}

func v3Root(keys ...string) string {
	all := handler3.OpenAPIV3Discovery{Paths: map[string]handler3.OpenAPIV3DiscoveryGroupVersion{}}
	for _, k := range keys {
		all.Paths[k] = handler3.OpenAPIV3DiscoveryGroupVersion{ServerRelativeURL: "/openapi/v3/" + k + "?hash=LOCAL"}
	}
	b, err := json.Marshal(all)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func v3Doc(title string) string {
	return fmt.Sprintf(`{"openapi":"3.0.0","info":{"title":%q,"version":"v1"},"paths":{}}`, title)
}

// extension is one remote registration of a test's snapshot.
type extension struct {
	group, version   string
	group2, version2 int32
	v2, v3           string
	etag             string
	local            bool
}

func snapshot(list ...extension) *catalog.Snapshot {
	f := catalog.Facts{Registrations: map[string]catalog.Registration{}, Documents: map[string]catalog.Document{}, Resolver: true}
	for _, e := range list {
		name := e.version + "." + e.group
		f.Registrations[name] = catalog.Registration{
			Name: name, Group: e.group, Version: e.version, Local: e.local,
			Service:              catalog.ServiceRef{Namespace: "ns", Name: "svc", Port: 443},
			GroupPriorityMinimum: e.group2, VersionPriority: e.version2,
		}
		var d catalog.Document
		if e.v2 != "" {
			d.OpenAPIV2 = catalog.Blob{ETag: e.etag, Data: []byte(e.v2)}
		}
		if e.v3 != "" {
			d.OpenAPIV3 = catalog.Blob{ETag: e.etag, Data: []byte(e.v3)}
		}
		f.Documents[name] = d
	}
	return catalog.Build(f)
}

// clock is a time that a test sets.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) logf(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, fmt.Sprintf(format, args...))
}

func (j *journal) all() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return append([]string(nil), j.lines...)
}

type fixture struct {
	*Service
	clock *clock
	log   *journal
}

func newFixture(locals ...http.Handler) fixture {
	f := fixture{clock: &clock{at: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}, log: &journal{}}
	f.Service = newService(Config{Locals: locals}, f.clock.now, f.log.logf)
	return f
}

func (f fixture) get(url string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, url, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	if strings.HasPrefix(url, "/openapi/v2") {
		f.ServeV2(w, r)
	} else {
		f.ServeV3(w, r)
	}
	return w
}

func (f fixture) v2(t *testing.T) *spec.Swagger {
	t.Helper()
	w := f.get("/openapi/v2")
	if w.Code != http.StatusOK {
		t.Fatalf("GET /openapi/v2: %d %s", w.Code, w.Body)
	}
	s, err := parseV2(w.Body.Bytes())
	if err != nil {
		t.Fatalf("parse /openapi/v2: %v", err)
	}
	return s
}

func (f fixture) roots(t *testing.T) map[string]string {
	t.Helper()
	w := f.get("/openapi/v3")
	if w.Code != http.StatusOK {
		t.Fatalf("GET /openapi/v3: %d %s", w.Code, w.Body)
	}
	d, err := parseV3Root(w.Body.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for k, v := range d.Paths {
		out[k] = v.ServerRelativeURL
	}
	return out
}

// described gives, by path, the description of its GET.
func described(s *spec.Swagger) map[string]string {
	out := map[string]string{}
	for path, item := range s.Paths.Paths {
		out[path] = ""
		if item.Get != nil {
			out[path] = item.Get.Description
		}
	}
	return out
}

func expect[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func expectMap(t *testing.T, what string, got, want map[string]string) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s:\n got %v\nwant %v", what, got, want)
	}
}
