//go:build !race

package handlerchain

import (
	"net/http"
	"runtime"
	"runtime/debug"
	"slices"
	"testing"
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

// cost is what one run of something allocates.
type cost struct{ allocations, bytes float64 }

// measure returns the median cost of do, goroutines that it starts included. The
// garbage collector rests meanwhile, so that pools keep what they hold.
func measure(do func()) cost {
	const rounds, runs = 5, 500
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	var allocations, bytes []float64
	var before, after runtime.MemStats
	do()
	for range rounds {
		runtime.ReadMemStats(&before)
		for range runs {
			do()
		}
		runtime.ReadMemStats(&after)
		allocations = append(allocations, float64(after.Mallocs-before.Mallocs)/runs)
		bytes = append(bytes, float64(after.TotalAlloc-before.TotalAlloc)/runs)
	}
	slices.Sort(allocations)
	slices.Sort(bytes)
	return cost{allocations[rounds/2], bytes[rounds/2]}
}

func TestAllocationsOfARequest(t *testing.T) {
	ids := newIdentities(t)
	c := newChains(t, ids)
	of := func(chain http.Handler) cost { return measure(work(t, chain, newRequest(t.Context(), t, ids))) }
	reference, ours := of(c.reference), of(c.ours)
	t.Logf("reference %.1f allocations, %.0f bytes; ours %.1f, %.0f", reference.allocations, reference.bytes, ours.allocations, ours.bytes)
	if ours.allocations > maxAllocations || ours.bytes > maxBytes {
		t.Errorf("%.1f allocations of %.0f bytes, at most %d of %d are allowed", ours.allocations, ours.bytes, maxAllocations, maxBytes)
	}
	if ours.allocations > maxShare*reference.allocations || ours.bytes > maxShare*reference.bytes {
		t.Errorf("%.2f of the reference's allocations and %.2f of its bytes, at most %.2f are allowed",
			ours.allocations/reference.allocations, ours.bytes/reference.bytes, maxShare)
	}
}
