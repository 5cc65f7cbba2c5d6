//go:build !race

package discovery

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"k8s.io/client-go/discovery"
)

// allocations bounds those of one request for a document that did not change,
// whatever its length. The negotiation and the metrics make 44 of them; one
// that encodes makes 73 or more.
const allocations = 60

func TestAllocationsOfAnUnchangedDocument(t *testing.T) {
	for _, accept := range []string{discovery.AcceptV2, protobufV2, "application/json"} {
		p := newPair(false)
		fill(p.manager, 200, 20)
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/apis", nil)
		r.Header.Set("Accept", accept)
		got := testing.AllocsPerRun(100, func() { p.ours.ServeHTTP(&discard{header: http.Header{}}, r) })
		if got > allocations {
			t.Errorf("%s: %.0f allocations, at most %d are allowed", accept, got, allocations)
		}
	}
}
