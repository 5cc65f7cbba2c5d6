package backend

import (
	"sync/atomic"

	"k8s.io/component-base/metrics"

	"github.com/annex-api/annex/aggregator/internal/backend/balance"
)

var (
	endpointUp = metrics.NewDesc("annex_aggregation_endpoint_up",
		"Whether an endpoint of an extension server is sent requests (1) or left out (0). The kind cluster_ip stands in while no endpoint is well.",
		[]string{"service", "endpoint", "kind"}, nil, metrics.ALPHA, "")
	endpointInFlight = metrics.NewDesc("annex_aggregation_endpoint_in_flight",
		"Requests under way at an endpoint of an extension server, long-running ones included.",
		[]string{"service", "endpoint", "kind"}, nil, metrics.ALPHA, "")
	requestsInFlight = metrics.NewDesc("annex_aggregation_requests_in_flight",
		"Requests under way at an extension server that its limit counts.",
		[]string{"service"}, nil, metrics.ALPHA, "")
	requestsQueued = metrics.NewDesc("annex_aggregation_requests_queued",
		"Requests that wait for others at the same extension server to end.",
		[]string{"service"}, nil, metrics.ALPHA, "")
	requestsSending = metrics.NewDesc("annex_aggregation_requests_sending",
		"Requests for an extension server whose body has not arrived yet, those that wait for a place for it included.",
		[]string{"service"}, nil, metrics.ALPHA, "")
	refusalsHeld = metrics.NewDesc("annex_aggregation_refusals_held",
		"Refusals that wait before they are told to users who are refused all the time.",
		nil, nil, metrics.ALPHA, "")
)

// Metrics of the endpoints of extension servers, read when they are collected.
type Metrics struct {
	metrics.BaseStableCollector
	pool atomic.Pointer[Pool]
}

// Watch makes the metrics those of a pool; the last one counts.
func (m *Metrics) Watch(p *Pool) { m.pool.Store(p) }

// Forget ends that. A registry lives as long as the process, and must not keep
// a pool and all that it knows alive with it.
func (m *Metrics) Forget(p *Pool) { m.pool.CompareAndSwap(p, nil) }

// DescribeWithStability implements metrics.StableCollector.
func (m *Metrics) DescribeWithStability(ch chan<- *metrics.Desc) {
	for _, d := range []*metrics.Desc{endpointUp, endpointInFlight, requestsInFlight, requestsQueued, requestsSending, refusalsHeld} {
		ch <- d
	}
}

// CollectWithStability implements metrics.StableCollector.
func (m *Metrics) CollectWithStability(ch chan<- metrics.Metric) {
	pool := m.pool.Load()
	if pool == nil {
		return
	}
	gauge := func(d *metrics.Desc, value float64, labels ...string) {
		ch <- metrics.NewLazyConstMetric(d, metrics.GaugeValue, value, labels...)
	}
	// Backends of one Service with different CAs are added up: a label for the CA
	// would tell nobody anything.
	type load struct{ inFlight, queued, sending int }
	loads := map[string]load{}
	seen := map[[2]string]bool{}
	pool.Each(func(b *Backend) {
		service := b.service.String()
		inFlight, queued := b.Load()
		l := loads[service]
		loads[service] = load{l.inFlight + inFlight, l.queued + queued, l.sending + b.Sending()}
		for _, h := range b.Health() {
			key := [2]string{service, h.Address}
			if seen[key] {
				continue
			}
			seen[key] = true
			up := 1.0
			if h.Down || h.Ejected {
				up = 0
			}
			gauge(endpointUp, up, service, h.Address, kind(h))
			gauge(endpointInFlight, float64(h.InFlight), service, h.Address, kind(h))
		}
	})
	for service, l := range loads {
		gauge(requestsInFlight, float64(l.inFlight), service)
		gauge(requestsQueued, float64(l.queued), service)
		gauge(requestsSending, float64(l.sending), service)
	}
	gauge(refusalsHeld, float64(pool.HeldRefusals()))
}

func kind(h balance.Health) string {
	if h.Fallback {
		return "cluster_ip"
	}
	return "endpoint"
}
