package fetch

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/annex-api/annex/aggregator/internal/backendtest"
)

// fill repeats an item up to a size; n stands for its number.
func fill(before, item, after string, size int) string {
	var b strings.Builder
	b.Grow(size)
	b.WriteString(before)
	for i := 0; b.Len() < size-len(item)-len(after)-16; i++ {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strings.ReplaceAll(item, "n", fmt.Sprintf("%x", i)))
	}
	b.WriteString(after)
	return b.String()
}

// Small items decode to large structures: a document within its limit must not
// cost many times the limit.
func TestWellFormedDocumentsOfManySmallItems(t *testing.T) {
	const memoryLimit = 1 << 30
	const list = `{"kind":"APIGroupDiscoveryList","apiVersion":"apidiscovery.k8s.io/v2","items":[`
	for what, c := range map[string]struct {
		path, body string
	}{
		"groups":    {"/apis", fill(list, `{}`, `]}`, maxDiscovery)},
		"versions":  {"/apis", fill(list+`{"versions":[`, `{}`, `]}]}`, maxDiscovery)},
		"resources": {"/apis", fill(list+`{"versions":[{"resources":[`, `{"resource":"n"}`, `]}]}]}`, maxDiscovery)},
		"v2 paths":  {"/openapi/v2", fill(`{"swagger":"2.0","paths":{`, `"/n":{}`, `}}`, 2<<20)},
		"v2 own":    {"/openapi/v2", fill(`{"swagger":"2.0","paths":{`, `"/apis/a.example/v1/n":{}`, `}}`, 2<<20)},
		"v2 all of": {"/openapi/v2", fill(`{"swagger":"2.0","paths":{},"definitions":{"a":{"allOf":[`, `{}`, `]}}}`, 2<<20)},
		"v2 few":    {"/openapi/v2", fill(`{"swagger":"2.0","paths":{},"definitions":{"a":{"allOf":[`, `{}`, `]}}}`, 450_000)},
		"v2 types":  {"/openapi/v2", fill(`{"swagger":"2.0","paths":{},"definitions":{`, `"n":{}`, `}}`, 2<<20)},
		"v3 own":    {ownURL + "A", fill(`{"openapi":"3.0.0","paths":{`, `"/apis/a.example/v1/n":1`, `}}`, 2<<20)},
	} {
		t.Run(what, func(t *testing.T) {
			s := backendtest.Start(t, "api", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.RequestURI() == c.path {
					w.Header().Set("Content-Type", map[bool]string{true: typeV2, false: "application/json"}[c.path == "/apis"])
					_, _ = w.Write([]byte(c.body))
					return
				}
				files{"/openapi/v3": v3Root(map[string]string{key: ownURL + "A"}), ownURL + "A": openAPI3(own)}.ServeHTTP(w, r)
			}))
			f, _ := newFetcher(t, patient())
			members := s.Snapshot(name).Remotes()
			_, allocated := spent(func() {
				if c.path == "/apis" {
					f.discovery(t.Context(), members, &discoveryState{})
				} else {
					f.openAPI(t.Context(), members, &openAPIState{}, true)
				}
			})
			if allocated > memoryLimit {
				t.Errorf("%d MiB for a document of %d KiB", allocated>>20, len(c.body)>>10)
			}
		})
	}
}
