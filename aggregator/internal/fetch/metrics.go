package fetch

import (
	"sync/atomic"

	"k8s.io/component-base/metrics"
)

var downloadsDesc = metrics.NewDesc("annex_aggregation_downloads_total",
	"Downloads of documents from the extension server behind a Service, by what they brought.",
	[]string{"service", "document", "result"}, nil, metrics.ALPHA, "")

// Metrics of downloads, read when they are collected.
type Metrics struct {
	metrics.BaseStableCollector
	fetcher atomic.Pointer[Fetcher]
}

// Watch makes the metrics those of f; the last one counts.
func (m *Metrics) Watch(f *Fetcher) { m.fetcher.Store(f) }

// Forget ends that.
func (m *Metrics) Forget(f *Fetcher) { m.fetcher.CompareAndSwap(f, nil) }

// DescribeWithStability implements metrics.StableCollector.
func (m *Metrics) DescribeWithStability(ch chan<- *metrics.Desc) { ch <- downloadsDesc }

// CollectWithStability implements metrics.StableCollector.
func (m *Metrics) CollectWithStability(ch chan<- metrics.Metric) {
	f := m.fetcher.Load()
	if f == nil {
		return
	}
	for service, counts := range f.countedDownloads() {
		for document := range counts {
			for result, n := range counts[document] {
				ch <- metrics.NewLazyConstMetric(downloadsDesc, metrics.CounterValue, float64(n), service, documentNames[document], resultNames[result])
			}
		}
	}
}

// countedDownloads are those of each Service: what differs in the CA alone is added up.
func (f *Fetcher) countedDownloads() map[string][documents][results]uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := map[string][documents][results]uint64{}
	for id, srv := range f.servers {
		counts := all[id.Service.String()]
		for document := range counts {
			for result := range counts[document] {
				counts[document][result] += srv.downloads[document][result].Load()
			}
		}
		all[id.Service.String()] = counts
	}
	return all
}
