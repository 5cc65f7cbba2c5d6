package main

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/annex-api/annex/bench/internal/fixture"
	"github.com/annex-api/annex/bench/internal/pki"
)

func TestTheProxyShowsItsCertificateAndChecksTheName(t *testing.T) {
	files, err := pki.Write(t.TempDir(), fixture.WildcardName)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(files.Extension, files.ExtensionKey)
	if err != nil {
		t.Fatal(err)
	}
	pem, err := os.ReadFile(files.ProxyCA)
	if err != nil {
		t.Fatal(err)
	}
	clients := x509.NewCertPool()
	clients.AppendCertsFromPEM(pem)
	extension := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.Proto+" "+r.URL.Path)
	}))
	extension.EnableHTTP2 = true
	extension.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients}
	extension.StartTLS()
	defer extension.Close()

	for name, want := range map[string]int{"s000.bench.svc": http.StatusOK, "other.example.com": http.StatusBadGateway} {
		proxy, err := newProxy(backend{
			address: strings.TrimPrefix(extension.URL, "https://"), serverName: name,
			ca: files.CA, cert: files.Proxy, key: files.ProxyKey,
		})
		if err != nil {
			t.Fatal(err)
		}
		w := httptest.NewRecorder()
		withProfiles(proxy).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/apis/x", nil))
		if w.Code != want || (want == http.StatusOK && w.Body.String() != "HTTP/2.0 /apis/x") {
			t.Errorf("%s: status %d, body %q", name, w.Code, w.Body)
		}
	}
}

func TestMemoryCanBeMeasured(t *testing.T) {
	w := httptest.NewRecorder()
	withProfiles(http.NotFoundHandler()).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/debug/pprof/heap?debug=1", nil))
	if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "# HeapInuse = ") {
		t.Errorf("status %d, %.200q", w.Code, w.Body)
	}
}
