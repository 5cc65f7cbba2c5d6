package stats

import (
	"math/bits"
	"time"
)

// Times are counted in buckets. Up to eight units each unit has its own; from there on
// each doubling has eight of the same width.
const (
	unit    = 62_500 * time.Nanosecond // so that a millisecond is a bound
	parts   = 8                        // of each doubling
	buckets = 160                      // up to 262 s; the last one has what is longer too
)

// bounds are those of histograms for metrics: each is one of the buckets'. They are few, since each
// endpoint has all of them.
var bounds = [...]time.Duration{
	5 * time.Millisecond, 20 * time.Millisecond, 80 * time.Millisecond, 320 * time.Millisecond,
	1280 * time.Millisecond, 5120 * time.Millisecond, 20480 * time.Millisecond,
}

func bucketOf(d time.Duration) int {
	units := uint64(d) / uint64(unit)
	if units < 2*parts {
		return int(units)
	}
	doublings := bits.Len64(units) - 4
	return min(doublings*parts+int(units>>doublings), buckets-1)
}

// lower is where a bucket begins.
func lower(bucket int) time.Duration {
	if bucket < 2*parts {
		return time.Duration(bucket) * unit
	}
	doublings := bucket/parts - 1
	return time.Duration(bucket%parts+parts) << doublings * unit
}
