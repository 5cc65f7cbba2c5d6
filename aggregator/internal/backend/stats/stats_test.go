package stats

import (
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func TestBucketsAreEachOthersNeighbours(t *testing.T) {
	for b := range buckets {
		if got := bucketOf(lower(b)); got != b {
			t.Errorf("bucket %d begins at %v, which is in bucket %d", b, lower(b), got)
		}
		if got := bucketOf(lower(b+1) - 1); got != b {
			t.Errorf("bucket %d ends before %v, and what is just before is in bucket %d", b, lower(b+1), got)
		}
	}
	if got := bucketOf(24 * time.Hour); got != buckets-1 {
		t.Errorf("a day is in bucket %d", got)
	}
	for _, bound := range bounds {
		if lower(bucketOf(bound)) != bound {
			t.Errorf("%v is a bound of metrics, and of no bucket", bound)
		}
	}
}

// Whatever the times are, a quantile is off by a bucket's width at most.
func TestQuantiles(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		took := rapid.SliceOfN(rapid.Int64Range(1, int64(200*time.Second)), 1, 300).Draw(t, "took")
		q := rapid.Float64Range(0.01, 1).Draw(t, "q")
		r := &Requests{}
		for _, d := range took {
			r.Record(epoch, Result{Took: time.Duration(d)})
		}
		slices.Sort(took)
		want := float64(took[int(math.Ceil(q*float64(len(took))))-1])
		got := float64(r.Recent(epoch).Quantile(q))
		if math.Abs(got-want) > want/parts+float64(unit) {
			t.Fatalf("got %v, want about %v", time.Duration(got), time.Duration(want))
		}
	})
}

func TestTheLastMinute(t *testing.T) {
	r := &Requests{}
	if r.Recent(epoch) != nil {
		t.Error("there were requests before the first")
	}
	for i, c := range []struct {
		at               time.Duration
		result           Result
		requests, failed uint64
		median           time.Duration
	}{
		{0, Result{Took: 10 * time.Millisecond}, 1, 0, 10 * time.Millisecond},
		{time.Second, Result{}, 2, 0, 10 * time.Millisecond}, // a watch
		{30 * time.Second, Result{Failed: true}, 3, 1, 10 * time.Millisecond},
		{59 * time.Second, Result{Took: 40 * time.Millisecond}, 4, 1, 10 * time.Millisecond},
		{60 * time.Second, Result{Took: 40 * time.Millisecond}, 3, 1, 40 * time.Millisecond}, // the first two are over
		{88 * time.Second, Result{Failed: true}, 4, 2, 40 * time.Millisecond},
		{91 * time.Second, Result{Failed: true}, 4, 2, 40 * time.Millisecond},
		{10 * time.Minute, Result{Took: 80 * time.Millisecond}, 1, 0, 80 * time.Millisecond},
		{9 * time.Minute, Result{Took: 80 * time.Millisecond}, 2, 0, 80 * time.Millisecond}, // told late
	} {
		now := epoch.Add(c.at)
		r.Record(now, c.result)
		got := r.Recent(now)
		if got == nil || got.Requests != c.requests || got.Failed != c.failed {
			t.Fatalf("step %d: %+v, want %d requests, %d failed", i, got, c.requests, c.failed)
		}
		if median := got.Quantile(0.5); median < c.median-c.median/parts || median > c.median+c.median/parts {
			t.Errorf("step %d: a median of %v, want about %v", i, median, c.median)
		}
	}
	if got := r.Recent(epoch.Add(11 * time.Minute)); got != nil {
		t.Errorf("a minute later there were %d", got.Requests)
	}
	if total := r.Total(); total.Requests != 9 || total.Failed != 3 || total.Measured != 5 || total.Took != 250*time.Millisecond {
		t.Errorf("all together: %+v", total)
	}
}

func TestRecentsAddUp(t *testing.T) {
	fast, slow := &Requests{}, &Requests{}
	for range 9 {
		fast.Record(epoch, Result{Took: 2 * time.Millisecond})
	}
	slow.Record(epoch, Result{Took: 2 * time.Second, Failed: true})
	sum := &Recent{}
	sum.Add(fast.Recent(epoch))
	sum.Add(slow.Recent(epoch))
	sum.Add(nil)
	if sum.Requests != 10 || sum.Failed != 1 {
		t.Errorf("%d requests, %d failed", sum.Requests, sum.Failed)
	}
	if p50, p99 := sum.Quantile(0.5), sum.Quantile(0.99); p50 > 3*time.Millisecond || p99 < 1900*time.Millisecond {
		t.Errorf("p50 %v, p99 %v", p50, p99)
	}
	if got := (&Recent{}).Quantile(0.99); got != 0 {
		t.Errorf("of nothing: %v", got)
	}
}

func TestHistogram(t *testing.T) {
	r := &Requests{}
	for _, took := range []time.Duration{time.Millisecond - 1, time.Millisecond, 7 * time.Millisecond, time.Hour} {
		r.Record(epoch, Result{Took: took})
	}
	total := r.Total()
	counts := total.Histogram()
	for bound, want := range map[float64]uint64{0.005: 2, 0.02: 3, 0.08: 3, 20.48: 3} {
		if counts[bound] != want {
			t.Errorf("below %v s: %d, want %d", bound, counts[bound], want)
		}
	}
	if len(counts) != len(bounds) {
		t.Errorf("%d bounds, want %d", len(counts), len(bounds))
	}
	twice := total.Plus(total)
	if got := twice.Histogram(); got[0.005] != 4 || got[20.48] != 6 || twice.Measured != 8 || twice.Requests != 8 || twice.Took != 2*total.Took || total.Measured != 4 {
		t.Errorf("twice the same is %v of %d, %d requests, %v", got, twice.Measured, twice.Requests, twice.Took)
	}
}

// A bound of a metric within a bucket would tell of less than there is.
func TestBoundsAreThoseOfBuckets(t *testing.T) {
	for _, bound := range bounds {
		if got := lower(bucketOf(bound)); got != bound {
			t.Errorf("%v is within the bucket that begins at %v", bound, got)
		}
	}
}

func TestRecordingTakesNoMemory(t *testing.T) {
	r := &Requests{}
	now := epoch
	if n := testing.AllocsPerRun(1000, func() {
		now = now.Add(time.Second)
		r.Record(now, Result{Took: time.Millisecond})
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkRecord(b *testing.B) {
	r := &Requests{}
	now := time.Now()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		r.Record(now, Result{Took: time.Duration(i&0xffff) * time.Microsecond})
	}
}
