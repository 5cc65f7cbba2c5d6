package discovery

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/discovery"
)

// wired is an answer as it comes over a connection.
type wired struct {
	Code     int
	Header   http.Header
	Length   int64
	Transfer []string
	Body     string
}

func fetch(t *testing.T, server *httptest.Server, header http.Header) wired {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/apis", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header = header
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
	return wired{response.StatusCode, response.Header, response.ContentLength, slices.Clone(response.TransferEncoding), string(body)}
}

// Over a connection, lengths and chunks depend on how an answer is written.
func TestCachedAnswersEqualEncodedOnesOnTheWire(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		for _, groups := range []int{0, 1, 5, 40} {
			t.Run(fmt.Sprintf("HTTP/2 %v, %d groups", http2, groups), func(t *testing.T) {
				p := newPair(false)
				fill(p.manager, groups, 20)
				start := func(h http.Handler) *httptest.Server {
					server := httptest.NewUnstartedServer(h)
					server.EnableHTTP2 = http2
					server.StartTLS()
					t.Cleanup(server.Close)
					server.Client().Transport.(*http.Transport).DisableCompression = true
					return server
				}
				encoded, cached := start(p.plain), start(p.ours)
				etag := serve(t.Context(), p.plain, "/apis", http.Header{"Accept": {discovery.AcceptV2}}).Header.Get("Etag")
				for _, accept := range []string{discovery.AcceptV2, protobufV2, "application/json", "application/yaml", "image/png"} {
					for _, header := range []http.Header{
						{"Accept": {accept}},
						{"Accept": {accept}, "Accept-Encoding": {"gzip"}},
						{"Accept": {accept}, "If-None-Match": {etag}},
						{"Accept": {accept}, "If-None-Match": {`"of old"`}},
					} {
						want := fetch(t, encoded, header)
						for n := range 2 {
							if diff := cmp.Diff(want, fetch(t, cached, header)); diff != "" {
								t.Errorf("%v, request %d (-encoded +cached):\n%.2000s", header, n, diff)
							}
						}
					}
				}
			})
		}
	}
}
