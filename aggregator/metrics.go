package aggregator

import (
	"k8s.io/component-base/metrics"

	"github.com/annex-api/annex/aggregator/internal/backend"
	"github.com/annex-api/annex/aggregator/internal/fetch"
	"github.com/annex-api/annex/aggregator/internal/proxy/traffic"
	"github.com/annex-api/annex/aggregator/internal/status"
)

// Metrics tell of availability, requests, endpoints, load and documents. Give them to a
// registry with Register and to an Aggregator in its Config. They show the last Aggregator
// that was given them and runs.
type Metrics struct {
	availability *status.Metrics
	endpoints    *backend.Metrics
	requests     *traffic.Metrics
	downloads    *fetch.Metrics
	observed     *observed
}

// NewMetrics returns Metrics that are in no registry yet.
func NewMetrics() *Metrics {
	return &Metrics{
		availability: status.NewMetrics(), endpoints: &backend.Metrics{},
		requests: &traffic.Metrics{}, downloads: &fetch.Metrics{}, observed: &observed{},
	}
}

// Register adds the metrics to a registry through its two functions, such as
// Register and CustomRegister of k8s.io/component-base/metrics/legacyregistry. It
// returns the registry's error.
func (m *Metrics) Register(register func(metrics.Registerable) error, custom func(metrics.StableCollector) error) error {
	if err := m.availability.Register(register, custom); err != nil {
		return err
	}
	for _, c := range []metrics.StableCollector{m.endpoints, m.requests, m.downloads, m.observed} {
		if err := custom(c); err != nil {
			return err
		}
	}
	return nil
}

// watch has the metrics show an Aggregator until forget is called. A registry lives as
// long as the process, and must not keep one alive that has ended.
func (m *Metrics) watch(a *Aggregator) (forget func()) {
	m.endpoints.Watch(a.backends)
	m.requests.Watch(a.proxy.Traffic())
	m.downloads.Watch(a.fetcher)
	m.observed.aggregator.Store(a)
	return func() {
		m.endpoints.Forget(a.backends)
		m.requests.Forget(a.proxy.Traffic())
		m.downloads.Forget(a.fetcher)
		m.observed.aggregator.CompareAndSwap(a, nil)
	}
}
