//go:build !race

package handlerchain

import (
	"net/http"
	"testing"

	"github.com/annex-api/annex/internal/allocated"
)

// What one GET by a client certificate may allocate in our chain, with priority
// and fairness and without auditing; net/http's part is not in it:
// 15 % above what was measured, 110 and 6544.
const (
	maxAllocations = 126
	maxBytes       = 7525
)

// maxShare is the part of the reference's that ours may be.
const maxShare = 0.5

func TestAllocationsOfARequest(t *testing.T) {
	ids := newIdentities(t)
	c := newChains(t, ids)
	of := func(chain http.Handler) allocated.Cost {
		return allocated.By(500, work(t, chain, newRequest(t.Context(), t, ids)))
	}
	reference, ours := of(c.reference), of(c.ours)
	t.Logf("reference %.1f allocations, %.0f bytes; ours %.1f, %.0f", reference.Allocations, reference.Bytes, ours.Allocations, ours.Bytes)
	if ours.Allocations > maxAllocations || ours.Bytes > maxBytes {
		t.Errorf("%.1f allocations of %.0f bytes, at most %d of %d are allowed", ours.Allocations, ours.Bytes, maxAllocations, maxBytes)
	}
	if ours.Allocations > maxShare*reference.Allocations || ours.Bytes > maxShare*reference.Bytes {
		t.Errorf("%.2f of the reference's allocations and %.2f of its bytes, at most %.2f are allowed",
			ours.Allocations/reference.Allocations, ours.Bytes/reference.Bytes, maxShare)
	}
}
