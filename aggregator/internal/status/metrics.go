package status

import (
	"sync/atomic"

	"k8s.io/component-base/metrics"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/annex-api/annex/aggregator/internal/catalog"
)

var unavailableDesc = metrics.NewDesc(
	"aggregator_unavailable_apiservice",
	"Whether this server holds an APIService for unavailable (1) or available (0).",
	[]string{"name"}, nil, metrics.ALPHA, "",
)

const watchListHelp = "1 for what this server found of the watches of an APIService that ask for initial events: " +
	"the extension server ends these (Works), does not (Missing), or refuses such watches (Refused)."

var watchListDesc = metrics.NewDesc(
	"annex_aggregation_watch_list", watchListHelp,
	[]string{"name", "support"}, nil, metrics.ALPHA, "",
)

// Metrics of availability, as this server itself sees it.
type Metrics struct {
	metrics.BaseStableCollector
	total    *metrics.CounterVec
	snapshot atomic.Pointer[catalog.Snapshot]
}

// NewMetrics returns Metrics that are not registered yet.
func NewMetrics() *Metrics {
	return &Metrics{total: metrics.NewCounterVec(&metrics.CounterOpts{
		Name:           "aggregator_unavailable_apiservice_total",
		Help:           "How often an APIService became unavailable, by APIService name and reason.",
		StabilityLevel: metrics.ALPHA,
	}, []string{"name", "reason"})}
}

// Register adds the metrics to a registry through its two functions.
func (m *Metrics) Register(register func(metrics.Registerable) error, custom func(metrics.StableCollector) error) error {
	if err := register(m.total); err != nil {
		return err
	}
	return custom(m)
}

// DescribeWithStability implements metrics.StableCollector.
func (m *Metrics) DescribeWithStability(ch chan<- *metrics.Desc) {
	ch <- unavailableDesc
	ch <- watchListDesc
}

// CollectWithStability implements metrics.StableCollector.
func (m *Metrics) CollectWithStability(ch chan<- metrics.Metric) {
	s := m.snapshot.Load()
	if s == nil {
		return
	}
	for _, a := range s.APIServices() {
		value := 1.0
		if a.Verdict.Status == apiregistrationv1.ConditionTrue {
			value = 0
		}
		ch <- metrics.NewLazyConstMetric(unavailableDesc, metrics.GaugeValue, value, a.Name)
		if a.WatchList != catalog.WatchListUnknown {
			ch <- metrics.NewLazyConstMetric(watchListDesc, metrics.GaugeValue, 1, a.Name, string(a.WatchList))
		}
	}
}

// Sync takes over a snapshot and counts the APIServices that it lost.
func (m *Metrics) Sync(s *catalog.Snapshot) {
	before := map[string]bool{}
	if old := m.snapshot.Swap(s); old != nil {
		for _, a := range old.APIServices() {
			before[a.Name] = a.Verdict.Status == apiregistrationv1.ConditionTrue || a.Verdict.Status == ""
		}
	}
	for _, a := range s.APIServices() {
		wasUp, known := before[a.Name]
		down := a.Verdict.Status != apiregistrationv1.ConditionTrue && a.Verdict.Status != ""
		if down && (wasUp || !known) {
			m.total.WithLabelValues(a.Name, a.Verdict.Reason).Inc()
		}
	}
}
