package histogram

import (
	"strings"
	"testing"
	"time"

	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/testutil"
)

var (
	buckets = Durations(time.Millisecond, time.Second)
	desc    = NewDesc("annex_test_seconds", "How long.", "name")
)

type collector struct {
	metrics.BaseStableCollector
	counts Counts
}

func (c *collector) DescribeWithStability(ch chan<- *metrics.Desc) { ch <- desc.Desc }

func (c *collector) CollectWithStability(ch chan<- metrics.Metric) {
	ch <- buckets.Metric(desc, c.counts, "v1.a")
}

func TestHistogramAsAMetric(t *testing.T) {
	one, other := buckets.New(), buckets.New()
	for _, d := range []time.Duration{0, time.Millisecond, time.Millisecond + 1, time.Second, time.Minute} {
		one.Count(int64(d))
	}
	other.Count(int64(time.Hour))
	registry := metrics.NewKubeRegistry()
	registry.CustomMustRegister(&collector{counts: Counts{}.Plus(one.Read()).Plus(other.Read())})
	want := `
# HELP annex_test_seconds [ALPHA] How long.
# TYPE annex_test_seconds histogram
annex_test_seconds_bucket{name="v1.a",le="0.001"} 2
annex_test_seconds_bucket{name="v1.a",le="1"} 4
annex_test_seconds_bucket{name="v1.a",le="+Inf"} 6
annex_test_seconds_sum{name="v1.a"} 3661.002000001
annex_test_seconds_count{name="v1.a"} 6
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
	if got := one.Read().counts[2]; got != 1 {
		t.Errorf("adding counts changed one of them: %d", got)
	}
}

func TestCountAllocatesNothing(t *testing.T) {
	h := Sizes(1, 10, 100).New()
	if n := testing.AllocsPerRun(100, func() { h.Count(50) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkCount(b *testing.B) {
	h := buckets.New()
	for b.Loop() {
		h.Count(int64(10 * time.Millisecond))
	}
}
