package traffic

import (
	"sync/atomic"

	"k8s.io/component-base/metrics"

	"github.com/annex-api/annex/aggregator/internal/backend/histogram"
)

var (
	requestsDesc = metrics.NewDesc("annex_aggregation_requests_total",
		"Requests for the extension server of an APIService, by class of verb and by the code that the client got; 0 is a client that left before.",
		[]string{"name", "verb", "code"}, nil, metrics.ALPHA, "")
	durationDesc = histogram.NewDesc("annex_aggregation_request_duration_seconds",
		"Time until the header of the extension server's answer was there, waits and all attempts included; without watches and sessions.",
		"name", "verb")
	sizeDesc = histogram.NewDesc("annex_aggregation_response_size_bytes",
		"Sizes of the bodies of extension servers' answers; without watches and sessions.",
		"name")
	retriesDesc = metrics.NewDesc("annex_aggregation_retries_total",
		"Attempts at requests after one that failed.",
		[]string{"name"}, nil, metrics.ALPHA, "")
	hedgesDesc = metrics.NewDesc("annex_aggregation_hedges_total",
		"Attempts at requests beside one that was slow.",
		[]string{"name"}, nil, metrics.ALPHA, "")
)

// Metrics of requests, read when they are collected.
type Metrics struct {
	metrics.BaseStableCollector
	traffic atomic.Pointer[Traffic]
}

// Watch makes the metrics those of t; the last one counts.
func (m *Metrics) Watch(t *Traffic) { m.traffic.Store(t) }

// Forget ends that.
func (m *Metrics) Forget(t *Traffic) { m.traffic.CompareAndSwap(t, nil) }

// DescribeWithStability implements metrics.StableCollector.
func (m *Metrics) DescribeWithStability(ch chan<- *metrics.Desc) {
	for _, d := range []*metrics.Desc{requestsDesc, durationDesc.Desc, sizeDesc.Desc, retriesDesc, hedgesDesc} {
		ch <- d
	}
}

// CollectWithStability implements metrics.StableCollector.
func (m *Metrics) CollectWithStability(ch chan<- metrics.Metric) {
	t := m.traffic.Load()
	if t == nil || t.byName.Load() == nil {
		return
	}
	count := func(d *metrics.Desc, value uint64, labels ...string) {
		ch <- metrics.NewLazyConstMetric(d, metrics.CounterValue, float64(value), labels...)
	}
	for name, c := range *t.byName.Load() {
		for v := range c.verbs {
			counts := c.verbs[v].Load()
			if counts == nil {
				continue
			}
			for i := range counts.codes {
				if n := counts.codes[i].Load(); n > 0 {
					count(requestsDesc, n, name, verbNames[v], codeName(i))
				}
			}
			if Verb(v) != Watch && Verb(v) != Connect {
				ch <- durations.Metric(durationDesc, counts.duration.Read(), name, verbNames[v])
			}
		}
		ch <- sizes.Metric(sizeDesc, c.sizes.Read(), name)
		count(retriesDesc, c.retries.Load(), name)
		count(hedgesDesc, c.hedges.Load(), name)
	}
}
