//go:build !race

package handlerchain

import (
	"net/http"
	"testing"

	"github.com/annex-api/annex/internal/allocated"
)

// What one GET by a client certificate may allocate in our chain, with priority
// and fairness and without auditing; net/http's part is not in it. Bounds are
// 15 % above what was measured: 110 and 6176, and 123 and 7320 where tracing is
// on and the request is not sampled.
func TestAllocationsOfARequest(t *testing.T) {
	ids := newIdentities(t)
	for _, test := range []struct {
		name           string
		chains         chains
		maxAllocations float64
		maxBytes       float64
		maxShare       float64 // of the reference's
	}{
		{"untraced", newChains(t, ids), 126, 7102, 0.5},
		{"traced, not sampled", newChains(t, ids, unsampled), 141, 8418, 0.55},
	} {
		t.Run(test.name, func(t *testing.T) {
			of := func(chain http.Handler) allocated.Cost {
				return allocated.By(500, work(t, chain, newRequest(t.Context(), t, ids)))
			}
			reference, ours := of(test.chains.reference), of(test.chains.ours)
			t.Logf("reference %.1f allocations, %.0f bytes; ours %.1f, %.0f", reference.Allocations, reference.Bytes, ours.Allocations, ours.Bytes)
			if ours.Allocations > test.maxAllocations || ours.Bytes > test.maxBytes {
				t.Errorf("%.1f allocations of %.0f bytes, at most %.0f of %.0f are allowed", ours.Allocations, ours.Bytes, test.maxAllocations, test.maxBytes)
			}
			if ours.Allocations > test.maxShare*reference.Allocations || ours.Bytes > test.maxShare*reference.Bytes {
				t.Errorf("%.2f of the reference's allocations and %.2f of its bytes, at most %.2f are allowed",
					ours.Allocations/reference.Allocations, ours.Bytes/reference.Bytes, test.maxShare)
			}
		})
	}
}
