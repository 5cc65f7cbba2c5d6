// Package histogram counts values in buckets, at the cost of two additions a value, and makes
// metrics of the counts when they are collected.
package histogram

import (
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/component-base/metrics"
)

// Buckets are the upper bounds of buckets, lowest first; one without a bound follows.
type Buckets struct {
	bounds []int64
	unit   float64 // how many of the counted unit are one of the metric's
}

// Durations are bounds of times. The metric is in seconds.
func Durations(bounds ...time.Duration) Buckets {
	b := Buckets{unit: float64(time.Second)}
	for _, d := range bounds {
		b.bounds = append(b.bounds, int64(d))
	}
	return b
}

// Sizes are bounds of sizes in bytes.
func Sizes(bounds ...int64) Buckets { return Buckets{bounds: bounds, unit: 1} }

// Histogram counts values. Make one with New.
type Histogram struct {
	bounds []int64
	counts []atomic.Uint64 // one more than bounds
	sum    atomic.Int64
}

// New returns a Histogram that has counted nothing.
func (b Buckets) New() *Histogram {
	return &Histogram{bounds: b.bounds, counts: make([]atomic.Uint64, len(b.bounds)+1)}
}

// Count counts a value: nanoseconds or bytes.
func (h *Histogram) Count(value int64) {
	i := 0
	for i < len(h.bounds) && value > h.bounds[i] {
		i++
	}
	h.counts[i].Add(1)
	h.sum.Add(value)
}

// Counts are what a Histogram has counted at some time, or several of the same buckets.
type Counts struct {
	counts []uint64
	sum    int64
}

// Read returns what has been counted.
func (h *Histogram) Read() Counts {
	c := Counts{counts: make([]uint64, len(h.counts)), sum: h.sum.Load()}
	for i := range h.counts {
		c.counts[i] = h.counts[i].Load()
	}
	return c
}

// Plus is what both have counted. The zero Counts adds nothing.
func (c Counts) Plus(other Counts) Counts {
	if c.counts == nil {
		return other
	}
	sum := Counts{counts: slices.Clone(c.counts), sum: c.sum + other.sum}
	for i, n := range other.counts {
		sum.counts[i] += n
	}
	return sum
}

// Desc describes a metric that is a histogram.
type Desc struct {
	*metrics.Desc
	made *prometheus.Desc
}

// NewDesc describes one of stability ALPHA.
func NewDesc(name, help string, labels ...string) Desc {
	return Desc{
		Desc: metrics.NewDesc(name, help, labels, nil, metrics.ALPHA, ""),
		// What the registry makes of the above, and does not give: a metric has to have it.
		made: prometheus.NewDesc(name, "[ALPHA] "+help, labels, nil),
	}
}

// Metric is a histogram that was counted elsewhere: how many values there were, their sum, and how many
// of them each bound is above.
func (d Desc) Metric(count uint64, sum float64, cumulative map[float64]uint64, labels ...string) metrics.Metric {
	return prometheus.MustNewConstHistogram(d.made, count, sum, cumulative, labels...)
}

// Metric is what has been counted, as a metric.
func (b Buckets) Metric(d Desc, c Counts, labels ...string) metrics.Metric {
	cumulative, total := make(map[float64]uint64, len(b.bounds)), uint64(0)
	for i, n := range c.counts {
		total += n
		if i < len(b.bounds) {
			cumulative[float64(b.bounds[i])/b.unit] = total
		}
	}
	return d.Metric(total, float64(c.sum)/b.unit, cumulative, labels...)
}
