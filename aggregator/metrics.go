package aggregator

import (
	"k8s.io/component-base/metrics"

	"github.com/annex-api/annex/aggregator/internal/backend"
	"github.com/annex-api/annex/aggregator/internal/status"
)

// Metrics tell of availability, endpoints and load. They belong to the last
// Aggregator that they were given to.
type Metrics struct {
	availability *status.Metrics
	endpoints    *backend.Metrics
}

// NewMetrics returns Metrics that the host registers.
func NewMetrics() *Metrics {
	return &Metrics{availability: status.NewMetrics(), endpoints: &backend.Metrics{}}
}

// Register adds the metrics to a registry through its two functions.
func (m *Metrics) Register(register func(metrics.Registerable) error, custom func(metrics.StableCollector) error) error {
	if err := m.availability.Register(register, custom); err != nil {
		return err
	}
	return custom(m.endpoints)
}
