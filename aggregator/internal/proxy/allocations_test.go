//go:build !race

package proxy

import (
	"net/http"
	"runtime"
	"runtime/debug"
	"slices"
	"testing"
)

// cost is what one run of something allocates.
type cost struct{ allocations, bytes float64 }

// What one exchange may allocate, with a body of 400 bytes: 15 % above what was
// measured. The extension server's own part is in it, and the connection's, but
// not that of a server before the proxy.
var (
	maxGet   = cost{139, 13230} // measured: 121.1 allocations of 11505 bytes
	maxPost  = cost{156, 15370} // 135.4 of 13369
	maxEvent = cost{3.8, 144}   // 3.3 of 125
)

// measure returns the median cost of do, that of other goroutines included. The
// garbage collector rests meanwhile, so that pools keep what they hold.
func measure(do func()) cost {
	const rounds, runs = 5, 400
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	runtime.GC()
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	var allocations, bytes []float64
	var before, after runtime.MemStats
	for range runs / 10 {
		do()
	}
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

func TestAllocationsOfAnExchange(t *testing.T) {
	for _, c := range []struct {
		what string
		make func(*line) func()
		max  cost
	}{
		{"GET", func(l *line) func() { return l.exchange(t, http.MethodGet, nil) }, maxGet},
		{"POST", func(l *line) func() { return l.exchange(t, http.MethodPost, object) }, maxPost},
		{"watch event", func(l *line) func() { return l.follow(t) }, maxEvent},
	} {
		got := measure(c.make(newLine(t)))
		t.Logf("%s: %.1f allocations, %.0f bytes", c.what, got.allocations, got.bytes)
		if got.allocations > c.max.allocations || got.bytes > c.max.bytes {
			t.Errorf("%s: %.1f allocations of %.0f bytes, at most %.1f of %.0f are allowed",
				c.what, got.allocations, got.bytes, c.max.allocations, c.max.bytes)
		}
	}
}

// maxSilent bounds what a watch holds while it is silent, in bytes, both ends of
// its stream included: 14 to 16 KiB were measured, and a buffer is 32 KiB.
const maxSilent = 24 << 10

func TestSilentWatchesHoldNoBuffer(t *testing.T) {
	const watches = 50
	l := newLine(t)
	l.follow(t) // the connection is there
	before := heap()
	for range watches {
		l.follow(t)
	}
	got := (heap() - before) / watches
	t.Logf("%d bytes for a silent watch", got)
	if got > maxSilent {
		t.Errorf("a silent watch holds %d bytes, at most %d are allowed", got, maxSilent)
	}
}

// heap is what is in use after what pools held is gone: they drop it in the
// second of two collections.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
