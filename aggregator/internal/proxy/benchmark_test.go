package proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/audit"
	"k8s.io/apiserver/pkg/endpoints/request"

	"github.com/annex-api/annex/aggregator/internal/backend"
	"github.com/annex-api/annex/aggregator/internal/backend/limit"
	"github.com/annex-api/annex/aggregator/internal/backendtest"
	"github.com/annex-api/annex/aggregator/internal/catalog"
	"github.com/annex-api/annex/internal/testcerts"
)

const (
	// objectSize is that of an object and of a watch event here, in bytes.
	objectSize = 400
	// watchLimit bounds a watch, and so the wait for an event that does not come.
	watchLimit = 2 * time.Minute
)

var object = bytes.Repeat([]byte("x"), objectSize)

// line is a proxy with one extension server behind it, and no server before it.
type line struct {
	proxy *Proxy
	claim *catalog.APIService
	next  chan struct{} // each makes the server send one event
}

// newLine starts a real TLS server that speaks HTTP/2 and, unlike those of the
// other tests, remembers nothing. It answers with objects, and watches with one
// event at once and one for each value of next.
func newLine(tb testing.TB) *line {
	tb.Helper()
	l := &line{next: make(chan struct{})}
	length := []string{strconv.Itoa(objectSize)}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 {
			w.WriteHeader(http.StatusHTTPVersionNotSupported)
			return
		}
		if strings.HasPrefix(r.URL.RawQuery, "watch=") {
			l.watch(w, r)
			return
		}
		if n, err := io.Copy(io.Discard, r.Body); err != nil || n != max(0, r.ContentLength) {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		w.Header()["Content-Length"] = length
		_, _ = w.Write(object)
	}))
	ca := testcerts.New("api")
	pair := ca.Issue(testcerts.Subject{Hosts: []string{backendtest.ServerName("api")}})
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair.TLS()}}
	server.EnableHTTP2 = true
	server.StartTLS()
	stand := &backendtest.Server{Service: "api", Address: server.Listener.Addr().String(), CA: ca.PEM}
	pool := backend.New(backend.Config{})
	l.proxy, l.claim = New(Config{Backends: pool}), stand.Claim(name)
	l.proxy.Sync(stand.Snapshot(name)) // it counts requests
	tb.Cleanup(func() {
		pool.Close()
		server.CloseClientConnections()
		server.Close()
	})
	return l
}

func (l *line) watch(w http.ResponseWriter, r *http.Request) {
	for {
		_, _ = w.Write(object)
		w.(http.Flusher).Flush()
		select {
		case <-l.next:
		case <-r.Context().Done():
			return
		}
	}
}

// newRequest is one as it comes from the filters.
func newRequest(ctx context.Context, tb testing.TB, method, query string, body []byte) *http.Request {
	tb.Helper()
	r := httptest.NewRequestWithContext(ctx, method, "https://server"+base+"/things"+query, nil)
	if body != nil {
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	}
	r.Header.Set("User-Agent", "client/1")
	r.Header.Set("Accept", "application/json")
	resolver := &request.RequestInfoFactory{APIPrefixes: sets.NewString("api", "apis"), GrouplessAPIPrefixes: sets.NewString("api")}
	info, err := resolver.NewRequestInfo(r)
	if err != nil {
		tb.Fatalf("reading the request: %v", err)
	}
	ctx = audit.WithAuditContext(request.WithRequestInfo(request.WithUser(ctx, alice), info))
	audit.WithAuditID(ctx, "audit-1")
	return r.WithContext(ctx)
}

// drain is a writer that costs nothing. It tells arrived, if there is one, of
// every object that is whole.
type drain struct {
	header  http.Header
	status  int
	bytes   int
	arrived chan struct{}
}

func (w *drain) Header() http.Header { return w.header }

func (w *drain) WriteHeader(status int) { w.status = status }

func (w *drain) Flush() {}

func (w *drain) Write(p []byte) (int, error) {
	w.bytes += len(p)
	if w.arrived != nil && w.bytes >= objectSize {
		w.bytes -= objectSize
		w.arrived <- struct{}{}
	}
	return len(p), nil
}

// exchange returns what sends one request and takes its answer.
func (l *line) exchange(tb testing.TB, method string, body []byte) func() {
	tb.Helper()
	r := newRequest(tb.Context(), tb, method, "", body)
	source := bytes.NewReader(body)
	w := &drain{header: http.Header{}}
	return func() {
		clear(w.header)
		w.status, w.bytes = 0, 0
		if body != nil {
			source.Reset(body)
			r.Body = io.NopCloser(source)
		}
		l.proxy.Serve(w, r, l.claim, limit.Ordinary)
		if w.status != http.StatusOK || w.bytes != objectSize {
			tb.Fatalf("%s: status %d and %d bytes", method, w.status, w.bytes)
		}
	}
}

// follow opens a watch. After its first event it is silent until the result is
// called: that sends one event, through this watch if it is the only one.
func (l *line) follow(tb testing.TB) (event func()) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), watchLimit)
	w := &drain{header: http.Header{}, arrived: make(chan struct{}, 1)}
	ended := make(chan struct{})
	r := newRequest(ctx, tb, http.MethodGet, "?watch=1", nil)
	go func() {
		defer close(ended)
		defer func() {
			if p := recover(); p != nil && p != http.ErrAbortHandler { // that is how a watch is cut off
				panic(p)
			}
		}()
		l.proxy.Serve(w, r, l.claim, limit.Ordinary)
	}()
	tb.Cleanup(func() {
		cancel()
		<-ended
	})
	arrive := func() {
		select {
		case <-w.arrived:
		case <-ended:
			tb.Fatalf("a watch ended with status %d", w.status)
		}
	}
	arrive()
	return func() {
		select {
		case l.next <- struct{}{}:
			arrive()
		case <-ended:
			tb.Fatal("a watch ended")
		}
	}
}

func BenchmarkGet(b *testing.B)   { benchmark(b, newLine(b).exchange(b, http.MethodGet, nil)) }
func BenchmarkPost(b *testing.B)  { benchmark(b, newLine(b).exchange(b, http.MethodPost, object)) }
func BenchmarkEvent(b *testing.B) { benchmark(b, newLine(b).follow(b)) }

func benchmark(b *testing.B, do func()) {
	b.Helper()
	b.ReportAllocs()
	for b.Loop() {
		do()
	}
}
