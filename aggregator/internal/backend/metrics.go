package backend

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync/atomic"

	"k8s.io/component-base/metrics"

	"github.com/annex-api/annex/aggregator/internal/backend/balance"
	"github.com/annex-api/annex/aggregator/internal/backend/histogram"
	"github.com/annex-api/annex/aggregator/internal/backend/limit"
	"github.com/annex-api/annex/aggregator/internal/backend/stats"
)

var (
	endpointUp = metrics.NewDesc("annex_aggregation_endpoint_up",
		"Whether an endpoint of an extension server is sent requests (1) or left out (0). The kind cluster_ip stands in while no endpoint is well.",
		[]string{"service", "endpoint", "kind"}, nil, metrics.ALPHA, "")
	endpointInFlight = metrics.NewDesc("annex_aggregation_endpoint_in_flight",
		"Requests under way at an endpoint of an extension server, long-running ones included.",
		[]string{"service", "endpoint", "kind"}, nil, metrics.ALPHA, "")
	endpointRequests = metrics.NewDesc("annex_aggregation_endpoint_requests_total",
		"Attempts at clients' requests at an endpoint of an extension server.",
		[]string{"service", "endpoint", "kind"}, nil, metrics.ALPHA, "")
	endpointFailures = metrics.NewDesc("annex_aggregation_endpoint_failures_total",
		"Attempts at clients' requests that failed at an endpoint, or were answered with a failure of the server.",
		[]string{"service", "endpoint", "kind"}, nil, metrics.ALPHA, "")
	endpointDuration = histogram.NewDesc("annex_aggregation_endpoint_request_duration_seconds",
		"How long an endpoint of an extension server took to begin its answers to clients' requests; without watches and sessions.",
		"service", "endpoint", "kind")
	endpointEjections = metrics.NewDesc("annex_aggregation_endpoint_ejections_total",
		"How often an endpoint was left out because requests failed there.",
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
	requestsLimit = metrics.NewDesc("annex_aggregation_requests_limit",
		"Requests that may be under way at an extension server.",
		[]string{"service"}, nil, metrics.ALPHA, "")
	longRunningInFlight = metrics.NewDesc("annex_aggregation_long_running_in_flight",
		"Watches, sessions and the like under way at an extension server, which its limit does not count.",
		[]string{"service"}, nil, metrics.ALPHA, "")
	queueWait = histogram.NewDesc("annex_aggregation_queue_wait_seconds",
		"How long requests waited for others at the same extension server to end; those that did not wait are left out.",
		"service")
	ejections = metrics.NewDesc("annex_aggregation_ejections_total",
		"How often an endpoint of an extension server was left out because requests failed there.",
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
	for _, d := range []*metrics.Desc{
		endpointUp, endpointInFlight, endpointRequests, endpointFailures, endpointDuration.Desc, endpointEjections,
		requestsInFlight, requestsQueued, requestsSending, requestsLimit, longRunningInFlight, queueWait.Desc, ejections, refusalsHeld,
	} {
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
	count := func(d *metrics.Desc, value uint64, labels ...string) {
		ch <- metrics.NewLazyConstMetric(d, metrics.CounterValue, float64(value), labels...)
	}
	loads, endpoints := map[string]load{}, []measured{}
	pool.Each(func(b *Backend) {
		service := b.service.String()
		loads[service] = loads[service].plus(b)
		for _, t := range b.Totals() {
			endpoints = append(endpoints, measured{service, t})
		}
	})
	for service, l := range loads {
		gauge(requestsInFlight, float64(l.inFlight), service)
		gauge(requestsQueued, float64(l.queued), service)
		gauge(requestsSending, float64(l.sending), service)
		gauge(requestsLimit, float64(l.limit), service)
		gauge(longRunningInFlight, float64(l.longRunning), service)
		ch <- limit.Waits.Metric(queueWait, l.waited, service)
		count(ejections, l.ejections, service)
	}
	for _, e := range bounded(endpoints) {
		up := 1.0
		if e.Down || e.Ejected {
			up = 0
		}
		gauge(endpointUp, up, e.service, e.Address, kind(e.Health))
		gauge(endpointInFlight, float64(e.InFlight), e.service, e.Address, kind(e.Health))
		count(endpointRequests, e.Requests, e.service, e.Address, kind(e.Health))
		count(endpointFailures, e.Failed, e.service, e.Address, kind(e.Health))
		count(endpointEjections, e.Ejections, e.service, e.Address, kind(e.Health))
		if t := e.Total; t != nil && t.Measured > 0 {
			ch <- endpointDuration.Metric(t.Measured, t.Took.Seconds(), t.Histogram(), e.service, e.Address, kind(e.Health))
		}
	}
	gauge(refusalsHeld, float64(pool.HeldRefusals()))
}

// load is that of the Backends of one Service. Those with different CAs are added up: a
// label for the CA would tell nobody anything.
type load struct {
	inFlight, queued, sending, limit, longRunning int
	waited                                        histogram.Counts
	ejections                                     uint64
}

func (l load) plus(b *Backend) load {
	inFlight, queued := b.Load()
	return load{
		inFlight: l.inFlight + inFlight, queued: l.queued + queued, sending: l.sending + b.Sending(),
		limit: l.limit + b.MaxInFlight(), longRunning: l.longRunning + b.LongRunning(),
		waited: l.waited.Plus(b.Waited()), ejections: l.ejections + b.endpoints.Ejections(),
	}
}

const (
	// maxMeasured is how many endpoints have metrics of their own.
	maxMeasured = 1000
	// otherEndpoints is the address of the rest.
	otherEndpoints = "other"
)

// measured is an endpoint with what is told of it.
type measured struct {
	service string
	balance.Totals
}

// bounded are the endpoints to be told of, each once: the first ones by Service and
// address, and one that stands for the others of its Service, and that is up while all of
// these are.
func bounded(all []measured) []measured {
	slices.SortFunc(all, func(a, b measured) int {
		return cmp.Or(strings.Compare(a.service, b.service), strings.Compare(a.Address, b.Address))
	})
	all = slices.CompactFunc(all, func(a, b measured) bool { return a.service == b.service && a.Address == b.Address })
	if len(all) <= maxMeasured {
		return all
	}
	others := map[string]measured{}
	for _, e := range all[maxMeasured:] {
		o := others[e.service]
		o.service, o.Address = e.service, otherEndpoints
		o.InFlight += e.InFlight
		o.Requests += e.Requests
		o.Failed += e.Failed
		o.Ejections += e.Ejections
		o.Total = together(o.Total, e.Total)
		o.Down = o.Down || e.Down || e.Ejected
		others[e.service] = o
	}
	return append(all[:maxMeasured:maxMeasured], slices.Collect(maps.Values(others))...)
}

// together is what two endpoints' requests came to; nil is none.
func together(a, b *stats.Total) *stats.Total {
	if a == nil || b == nil {
		return cmp.Or(a, b)
	}
	sum := a.Plus(*b)
	return &sum
}

func kind(h balance.Health) string {
	if h.Fallback {
		return "cluster_ip"
	}
	return "endpoint"
}
