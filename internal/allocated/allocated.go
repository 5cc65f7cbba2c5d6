// Package allocated measures for tests what a piece of work allocates.
package allocated

import (
	"runtime"
	"runtime/debug"
	"slices"
)

// Cost is what one run of a work allocates: how many objects, and of how many
// bytes together.
type Cost struct{ Allocations, Bytes float64 }

// By returns the median cost of do over five rounds of as many runs, that of the
// goroutines it uses included. It warms up first, and the garbage collector
// rests meanwhile, so that pools keep what they hold. Nothing else may run in
// the process.
func By(runs int, do func()) Cost {
	const rounds = 5
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	runtime.GC()
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	for range runs/10 + 1 {
		do()
	}
	var allocations, bytes []float64
	var before, after runtime.MemStats
	for range rounds {
		runtime.ReadMemStats(&before)
		for range runs {
			do()
		}
		runtime.ReadMemStats(&after)
		allocations = append(allocations, float64(after.Mallocs-before.Mallocs)/float64(runs))
		bytes = append(bytes, float64(after.TotalAlloc-before.TotalAlloc)/float64(runs))
	}
	slices.Sort(allocations)
	slices.Sort(bytes)
	return Cost{allocations[rounds/2], bytes[rounds/2]}
}
