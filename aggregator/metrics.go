package aggregator

import (
	"k8s.io/component-base/metrics"

	"github.com/annex-api/annex/aggregator/internal/backend"
	"github.com/annex-api/annex/aggregator/internal/status"
)

// Metrics tell of availability, endpoints and load. Give them to a registry with
// Register and to an Aggregator in its Config. They show the last Aggregator that
// was given them and runs.
type Metrics struct {
	availability *status.Metrics
	endpoints    *backend.Metrics
}

// NewMetrics returns Metrics that are in no registry yet.
func NewMetrics() *Metrics {
	return &Metrics{availability: status.NewMetrics(), endpoints: &backend.Metrics{}}
}

// Register adds the metrics to a registry through its two functions, such as
// Register and CustomRegister of k8s.io/component-base/metrics/legacyregistry. It
// returns the registry's error.
func (m *Metrics) Register(register func(metrics.Registerable) error, custom func(metrics.StableCollector) error) error {
	if err := m.availability.Register(register, custom); err != nil {
		return err
	}
	return custom(m.endpoints)
}
