package openapi

import (
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/NYTimes/gziphandler"
	"github.com/google/go-cmp/cmp"
	"k8s.io/kube-openapi/pkg/handler3"
	"k8s.io/kube-openapi/pkg/spec3"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// recorded is what a client sees.
type recorded struct {
	Code   int
	Header http.Header
	Body   string
}

func record(h http.Handler, method, path string, header http.Header) recorded {
	r := httptest.NewRequest(method, path, nil)
	r.Header = header.Clone()
	w := httptest.NewRecorder()
	w.Header().Add("Vary", "Origin") // as a filter outside does
	h.ServeHTTP(w, r)
	return recorded{w.Code, w.Result().Header, w.Body.String()}
}

// headers are the ways to ask that the answer depends on.
func headers(etags ...string) []http.Header {
	var all []http.Header
	for _, accept := range []string{"", "application/json", v3Types.protobuf, v3Types.oldProtobuf, "application/com.github.proto-openapi.spec.v2@v1.0+protobuf", "image/png"} {
		for _, encoding := range []string{"", "gzip", "deflate, gzip, br", "gzip;q=0.5", "gzip, gzip;q=0", "GZIP", "identity"} {
			base := http.Header{}
			if accept != "" {
				base.Set("Accept", accept)
			}
			if encoding != "" {
				base.Set("Accept-Encoding", encoding)
			}
			all = append(all, base)
			for _, more := range []http.Header{
				{"Range": {"bytes=0-99"}},
				{"If-Modified-Since": {time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)}},
				{"If-Match": {`"none"`}},
				{"If-None-Match": {"*"}},
			} {
				h := base.Clone()
				for k, v := range more {
					h[k] = v
				}
				all = append(all, h)
			}
			for _, etag := range etags {
				h := base.Clone()
				h.Set("If-None-Match", etag)
				all = append(all, h)
			}
		}
	}
	return all
}

// longDoc is long enough to be compressed.
func longDoc(title string) string { return v3Doc(strings.Repeat(title+" ", 2000)) }

func TestCompressedDocumentsEqualTheHandlers(t *testing.T) {
	f := newFixture()
	direct := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/openapi/v2" {
			f.serveV2.ServeHTTP(w, r)
			return
		}
		gziphandler.GzipHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			f.serveDocument(w, r, gizmoKey, f.current.Load().byKey[gizmoKey].v3)
		})).ServeHTTP(w, r)
	})
	served := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/openapi/v2" {
			f.ServeV2(w, r)
			return
		}
		f.ServeV3(w, r)
	})
	compressed := 0
	var etags []string
	for i, doc := range []string{longDoc("first"), longDoc("second"), v3Doc("short")} {
		e := gizmoV3(doc)
		e.v2 = swagger("A", map[string]string{"A": object(doc)}, onGizmos)
		e.etag = fmt.Sprint(i)
		f.Sync(snapshot(e))
		for _, path := range []string{"/openapi/v2", "/openapi/v3/" + gizmoKey, url3(gizmoKey, doc), url3(gizmoKey, "another")} {
			etags = append(etags, record(direct, http.MethodGet, path, http.Header{}).Header.Get("Etag"))
			for _, header := range headers(etags...) {
				for _, method := range []string{http.MethodGet, http.MethodHead} {
					want := record(direct, method, path, header)
					for n := range 2 {
						if diff := cmp.Diff(want, record(served, method, path, header)); diff != "" {
							t.Fatalf("document %d, %s %s %v, request %d (-handler +cache):\n%.2000s", i, method, path, header, n, diff)
						}
					}
					if want.Header.Get("Content-Encoding") == "gzip" {
						compressed++
					}
				}
			}
		}
	}
	if compressed < 100 {
		t.Errorf("only %d answers were compressed: what is compared here is not what it is for", compressed)
	}
}

// compressor is a handler that counts how often it compresses.
type compressor struct {
	document atomic.Pointer[string]
	times    atomic.Int64
}

func (c *compressor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Accept-Encoding") != "" {
		c.times.Add(1)
	}
	document := *c.document.Load()
	gziphandler.GzipHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", jsonType)
		w.Header().Set("Etag", `"`+hash([]byte(document))+`"`)
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(document))
	})).ServeHTTP(w, r)
}

func unzipped(t *testing.T, z *gzipCache, path string, h http.Handler) string {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, path, nil)
	r.Header.Set("Accept-Encoding", "gzip")
	w := httptest.NewRecorder()
	z.serve(w, r, h)
	g, err := gzip.NewReader(w.Body)
	if err != nil {
		t.Error(err)
		return ""
	}
	b, err := io.ReadAll(g)
	if err != nil {
		t.Error(err)
	}
	return string(b)
}

func TestADocumentIsCompressedOnce(t *testing.T) {
	z, c := newGzipCache(maxGzipped), &compressor{}
	for i := range 3 {
		document := longDoc(fmt.Sprint(i))
		c.document.Store(&document)
		var wait sync.WaitGroup
		for range 20 {
			wait.Go(func() {
				if got := unzipped(t, z, "/a", c); got != document {
					t.Errorf("document %d: %.50s", i, got)
				}
			})
		}
		wait.Wait()
		expect(t, "compressions", c.times.Load(), int64(i+1))
	}
}

// Documents of the host, which its own handler leaves as they are, are compressed too.
func TestLocalDocumentsAreCompressedOnce(t *testing.T) {
	service := handler3.NewOpenAPIService()
	var compressed atomic.Int64
	local := http.NewServeMux()
	local.HandleFunc("/openapi/v3", service.HandleDiscovery)
	local.HandleFunc("/openapi/v3/", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept-Encoding") != "" {
			compressed.Add(1)
		}
		service.HandleGroupVersion(w, r)
	})
	f := newFixture(local)
	f.Sync(snapshot())
	const path = "/openapi/v3/api/v1"
	for i := range 3 {
		document := &spec3.OpenAPI{Version: "3.0.0", Info: &spec.Info{InfoProps: spec.InfoProps{Title: strings.Repeat(fmt.Sprint(i), 4000), Version: "1"}}, Paths: &spec3.Paths{}}
		service.UpdateGroupVersion("api/v1", document)
		before := compressed.Load()
		for _, accept := range []string{"", jsonType, v3Types.oldProtobuf} {
			header := http.Header{"Accept": {accept}}
			plain := record(http.HandlerFunc(service.HandleGroupVersion), http.MethodGet, path, header)
			plain.Header.Add("Vary", "Accept-Encoding")
			slices.Sort(plain.Header["Vary"])
			header.Set("Accept-Encoding", "gzip")
			want := record(gziphandler.GzipHandler(http.HandlerFunc(service.HandleGroupVersion)), http.MethodGet, path, header)
			if want.Header.Get("Content-Encoding") != "gzip" {
				t.Fatalf("%s: not compressed: %v", accept, want.Header)
			}
			for range 5 {
				if diff := cmp.Diff(want, record(http.HandlerFunc(f.ServeV3), http.MethodGet, path, header)); diff != "" {
					t.Errorf("document %d as %q (-compressed by each request +served):\n%.2000s", i, accept, diff)
				}
			}
			header.Del("Accept-Encoding")
			got := record(http.HandlerFunc(f.ServeV3), http.MethodGet, path, header)
			slices.Sort(got.Header["Vary"])
			if diff := cmp.Diff(plain, got); diff != "" {
				t.Errorf("document %d as %q, not compressed (-handler +served):\n%.2000s", i, accept, diff)
			}
		}
		// None accepted is JSON too.
		expect(t, "compressions", compressed.Load()-before, int64(2))
	}
}

// Over a connection, lengths and chunks depend on how an answer is written.
func TestCompressedDocumentsEqualTheHandlersOnTheWire(t *testing.T) {
	z, c := newGzipCache(maxGzipped), &compressor{}
	once := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { z.serve(w, r, c) })
	for _, http2 := range []bool{false, true} {
		start := func(h http.Handler) *httptest.Server {
			server := httptest.NewUnstartedServer(h)
			server.EnableHTTP2 = http2
			server.StartTLS()
			t.Cleanup(server.Close)
			return server
		}
		direct, served := start(c), start(once)
		for _, n := range []int{10, 1400, 100_000} {
			var random strings.Builder
			for i := range n / 10 {
				fmt.Fprintf(&random, "%.10s", hash([]byte(fmt.Sprint(i))))
			}
			document := random.String()
			c.document.Store(&document)
			fetch := func(server *httptest.Server) (out recorded, length int64, transfer []string) {
				r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/a", nil)
				if err != nil {
					t.Fatal(err)
				}
				r.Header.Set("Accept-Encoding", "gzip")
				response, err := server.Client().Do(r)
				if err != nil {
					t.Fatal(err)
				}
				defer response.Body.Close()
				body, err := io.ReadAll(response.Body)
				if err != nil {
					t.Fatal(err)
				}
				response.Header.Del("Date")
				return recorded{response.StatusCode, response.Header, string(body)}, response.ContentLength, response.TransferEncoding
			}
			want, length, transfer := fetch(direct)
			for range 2 {
				got, l, x := fetch(served)
				if diff := cmp.Diff(want, got); diff != "" || l != length || !slices.Equal(x, transfer) {
					t.Errorf("HTTP/2 %v, %d bytes: length %d %q, want %d %q (-handler +cache):\n%.1000s", http2, n, l, x, length, transfer, diff)
				}
			}
		}
	}
}

// What is changed while others ask shows at once.
func TestChangedDocumentsShowAtOnce(t *testing.T) {
	z, c := newGzipCache(maxGzipped), &compressor{}
	var documents []string
	for i := range 50 {
		documents = append(documents, longDoc(fmt.Sprintf("document %d", i)))
	}
	c.document.Store(&documents[0])
	var published atomic.Int64
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			for published.Load() < int64(len(documents)-1) {
				least := published.Load()
				if got := slices.Index(documents, unzipped(t, z, "/a", c)); int64(got) < least {
					t.Errorf("document %d after %d was published", got, least)
					return
				}
			}
		})
	}
	for i := range documents {
		c.document.Store(&documents[i])
		published.Store(int64(i))
		unzipped(t, z, "/a", c)
	}
	wait.Wait()
}

func TestCompressedBytesStayWithinTheLimit(t *testing.T) {
	var c compressor
	document := longDoc("document")
	c.document.Store(&document)
	z := newGzipCache(maxGzipped)
	unzipped(t, z, "/a", &c)
	one := z.size
	if one == 0 {
		t.Fatal("nothing is kept")
	}
	z = newGzipCache(3*one + one/2)
	for i := range 10 {
		expect(t, "document", unzipped(t, z, fmt.Sprintf("/%d", i), &c), document)
		if want := min(i+1, 3); z.size != want*one || len(z.kept) != want {
			t.Errorf("after %d: %d documents of %d bytes, want %d of %d", i+1, len(z.kept), z.size, want, want*one)
		}
	}
	z = newGzipCache(one - 1)
	expect(t, "document", unzipped(t, z, "/a", &c), document)
	expect(t, "kept of what is too long", len(z.kept), 0)
}

func BenchmarkDocuments(b *testing.B) {
	// 200 extension servers with a long document each, and the host's own.
	var list []extension
	for i := range 200 {
		path := fmt.Sprintf("/apis/group%03d.example.com/v1/things", i)
		list = append(list, extension{
			group: fmt.Sprintf("group%03d.example.com", i), version: "v1", group2: 1000, version2: 10, etag: "1",
			v2: swagger("A", map[string]string{"A": object(path)}, path), v3: longDoc(path),
		})
	}
	locals := make([]http.Handler, 3)
	for i := range locals {
		locals[i] = newLocal(map[string]string{"/openapi/v2": good(fmt.Sprintf("/api/v1/local%d", i)), "/openapi/v3": v3Root(fmt.Sprintf("api/v%d", i))})
	}
	f := newFixture(locals...)
	f.Sync(snapshot(list...))
	v3 := "/openapi/v3/apis/group001.example.com/v1"
	for _, c := range []struct {
		name, path string
		handler    http.HandlerFunc
	}{
		{"v2/each", "/openapi/v2", f.serveV2.ServeHTTP},
		{"v2/once", "/openapi/v2", f.ServeV2},
		{"v3/each", v3, func(w http.ResponseWriter, r *http.Request) {
			gziphandler.GzipHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				f.serveDocument(w, r, "apis/group001.example.com/v1", f.current.Load().byKey["apis/group001.example.com/v1"].v3)
			})).ServeHTTP(w, r)
		}},
		{"v3/once", v3, f.ServeV3},
		{"root", "/openapi/v3", f.ServeV3},
	} {
		for _, condition := range []string{"", "not modified"} {
			r := httptest.NewRequest(http.MethodGet, c.path, nil)
			r.Header.Set("Accept-Encoding", "gzip")
			first := httptest.NewRecorder()
			c.handler(first, r)
			if condition != "" {
				r.Header.Set("If-None-Match", first.Header().Get("Etag"))
			}
			b.Run(c.name+condition, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					c.handler(&discard{header: http.Header{}}, r)
				}
			})
		}
	}
}

// discard is a ResponseWriter that keeps nothing.
type discard struct{ header http.Header }

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
func (d *discard) WriteHeader(int)             {}
