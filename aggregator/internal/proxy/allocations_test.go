//go:build !race

package proxy

import (
	"net/http"
	"runtime"
	"testing"

	"github.com/annex-api/annex/internal/allocated"
)

// What one exchange may allocate, with a body of 400 bytes: 15 % above what was
// measured. The extension server's own part is in it, and the connection's, but
// not that of a server before the proxy.
var (
	maxGet   = allocated.Cost{Allocations: 145, Bytes: 13400} // measured: 126.1 allocations of 11443 bytes, 22 for the names and values of headers at the far end
	maxPost  = allocated.Cost{Allocations: 163, Bytes: 15180} // 144.4 of 13126
	maxEvent = allocated.Cost{Allocations: 3.8, Bytes: 144}   // 3.3 of 125
)

func TestAllocationsOfAnExchange(t *testing.T) {
	for _, c := range []struct {
		what string
		make func(*line) func()
		max  allocated.Cost
	}{
		{"GET", func(l *line) func() { return l.exchange(t, http.MethodGet, nil) }, maxGet},
		{"POST", func(l *line) func() { return l.exchange(t, http.MethodPost, object) }, maxPost},
		{"watch event", func(l *line) func() { return l.follow(t) }, maxEvent},
	} {
		got := allocated.By(400, c.make(newLine(t)))
		t.Logf("%s: %.1f allocations, %.0f bytes", c.what, got.Allocations, got.Bytes)
		if got.Allocations > c.max.Allocations || got.Bytes > c.max.Bytes {
			t.Errorf("%s: %.1f allocations of %.0f bytes, at most %.1f of %.0f are allowed",
				c.what, got.Allocations, got.Bytes, c.max.Allocations, c.max.Bytes)
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
