package backend

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/testutil"

	"github.com/annex-api/annex/aggregator/internal/backend/balance"
	"github.com/annex-api/annex/aggregator/internal/backend/stats"
	"github.com/annex-api/annex/aggregator/internal/catalog"
)

func TestMetricsTellOfEndpoints(t *testing.T) {
	a := &catalog.APIService{
		Registration: catalog.Registration{Name: "v1.a.example", Service: catalog.ServiceRef{Namespace: "ns", Name: "api", Port: 443}},
		Target: catalog.Target{Endpoints: []catalog.Endpoint{
			{Address: "192.0.2.1:443"}, {Address: "192.0.2.2:443"}, {Address: "10.0.0.1:443", Fallback: true},
		}},
	}
	pool := New(Config{})
	b := pool.Get(a)
	choice, err := b.Pick(a.Target, "192.0.2.2:443")
	if err != nil {
		t.Fatal(err)
	}
	defer choice.Done(time.Now(), balance.Neutral)
	choice.NoteRequest(time.Now(), balance.Answered, balance.Request{Took: 40 * time.Millisecond, Error: "answered with 500"})
	failing, err := b.Pick(a.Target, "192.0.2.1:443", "10.0.0.1:443")
	if err != nil || failing.Address != "192.0.2.2:443" || !failing.Done(time.Now(), balance.Failed) {
		t.Fatalf("no endpoint was left out: %v, %v", failing, err)
	}
	b.Probed("192.0.2.2:443", false, "")
	release, refusal := b.Admit(t.Context(), a, alice, UnderWay)
	if refusal != nil {
		t.Fatalf("%+v", refusal)
	}
	defer release()
	release, refusal = b.Admit(t.Context(), a, alice, LongRunning)
	if refusal != nil {
		t.Fatalf("%+v", refusal)
	}
	defer release()

	m := &Metrics{}
	registry := metrics.NewKubeRegistry()
	registry.CustomMustRegister(m)
	if families, err := registry.Gather(); err != nil || len(families) != 0 {
		t.Errorf("without a pool: %v, %v", families, err)
	}
	m.Watch(pool)
	want := `
# HELP annex_aggregation_refusals_held [ALPHA] Refusals that wait before they are told to users who are refused all the time.
# TYPE annex_aggregation_refusals_held gauge
annex_aggregation_refusals_held 0
# HELP annex_aggregation_endpoint_in_flight [ALPHA] Requests under way at an endpoint of an extension server, long-running ones included.
# TYPE annex_aggregation_endpoint_in_flight gauge
annex_aggregation_endpoint_in_flight{endpoint="10.0.0.1:443",kind="cluster_ip",service="ns/api:443"} 0
annex_aggregation_endpoint_in_flight{endpoint="192.0.2.1:443",kind="endpoint",service="ns/api:443"} 1
annex_aggregation_endpoint_in_flight{endpoint="192.0.2.2:443",kind="endpoint",service="ns/api:443"} 0
# HELP annex_aggregation_endpoint_requests_total [ALPHA] Attempts at clients' requests at an endpoint of an extension server.
# TYPE annex_aggregation_endpoint_requests_total counter
annex_aggregation_endpoint_requests_total{endpoint="10.0.0.1:443",kind="cluster_ip",service="ns/api:443"} 0
annex_aggregation_endpoint_requests_total{endpoint="192.0.2.1:443",kind="endpoint",service="ns/api:443"} 1
annex_aggregation_endpoint_requests_total{endpoint="192.0.2.2:443",kind="endpoint",service="ns/api:443"} 0
# HELP annex_aggregation_endpoint_failures_total [ALPHA] Attempts at clients' requests that failed at an endpoint, or were answered with a failure of the server.
# TYPE annex_aggregation_endpoint_failures_total counter
annex_aggregation_endpoint_failures_total{endpoint="10.0.0.1:443",kind="cluster_ip",service="ns/api:443"} 0
annex_aggregation_endpoint_failures_total{endpoint="192.0.2.1:443",kind="endpoint",service="ns/api:443"} 1
annex_aggregation_endpoint_failures_total{endpoint="192.0.2.2:443",kind="endpoint",service="ns/api:443"} 0
# HELP annex_aggregation_endpoint_ejections_total [ALPHA] How often an endpoint was left out because requests failed there.
# TYPE annex_aggregation_endpoint_ejections_total counter
annex_aggregation_endpoint_ejections_total{endpoint="10.0.0.1:443",kind="cluster_ip",service="ns/api:443"} 0
annex_aggregation_endpoint_ejections_total{endpoint="192.0.2.1:443",kind="endpoint",service="ns/api:443"} 0
annex_aggregation_endpoint_ejections_total{endpoint="192.0.2.2:443",kind="endpoint",service="ns/api:443"} 1
# HELP annex_aggregation_endpoint_request_duration_seconds [ALPHA] How long an endpoint of an extension server took to begin its answers to clients' requests; without watches and sessions.
# TYPE annex_aggregation_endpoint_request_duration_seconds histogram
annex_aggregation_endpoint_request_duration_seconds_bucket{endpoint="192.0.2.1:443",kind="endpoint",service="ns/api:443",le="0.005"} 0
annex_aggregation_endpoint_request_duration_seconds_bucket{endpoint="192.0.2.1:443",kind="endpoint",service="ns/api:443",le="0.02"} 0
annex_aggregation_endpoint_request_duration_seconds_bucket{endpoint="192.0.2.1:443",kind="endpoint",service="ns/api:443",le="0.08"} 1
annex_aggregation_endpoint_request_duration_seconds_bucket{endpoint="192.0.2.1:443",kind="endpoint",service="ns/api:443",le="0.32"} 1
annex_aggregation_endpoint_request_duration_seconds_bucket{endpoint="192.0.2.1:443",kind="endpoint",service="ns/api:443",le="1.28"} 1
annex_aggregation_endpoint_request_duration_seconds_bucket{endpoint="192.0.2.1:443",kind="endpoint",service="ns/api:443",le="5.12"} 1
annex_aggregation_endpoint_request_duration_seconds_bucket{endpoint="192.0.2.1:443",kind="endpoint",service="ns/api:443",le="20.48"} 1
annex_aggregation_endpoint_request_duration_seconds_bucket{endpoint="192.0.2.1:443",kind="endpoint",service="ns/api:443",le="+Inf"} 1
annex_aggregation_endpoint_request_duration_seconds_sum{endpoint="192.0.2.1:443",kind="endpoint",service="ns/api:443"} 0.04
annex_aggregation_endpoint_request_duration_seconds_count{endpoint="192.0.2.1:443",kind="endpoint",service="ns/api:443"} 1
# HELP annex_aggregation_endpoint_up [ALPHA] Whether an endpoint of an extension server is sent requests (1) or left out (0). The kind cluster_ip stands in while no endpoint is well.
# TYPE annex_aggregation_endpoint_up gauge
annex_aggregation_endpoint_up{endpoint="10.0.0.1:443",kind="cluster_ip",service="ns/api:443"} 1
annex_aggregation_endpoint_up{endpoint="192.0.2.1:443",kind="endpoint",service="ns/api:443"} 1
annex_aggregation_endpoint_up{endpoint="192.0.2.2:443",kind="endpoint",service="ns/api:443"} 0
# HELP annex_aggregation_requests_in_flight [ALPHA] Requests under way at an extension server that its limit counts.
# TYPE annex_aggregation_requests_in_flight gauge
annex_aggregation_requests_in_flight{service="ns/api:443"} 1
# HELP annex_aggregation_requests_queued [ALPHA] Requests that wait for others at the same extension server to end.
# TYPE annex_aggregation_requests_queued gauge
annex_aggregation_requests_queued{service="ns/api:443"} 0
# HELP annex_aggregation_requests_sending [ALPHA] Requests for an extension server whose body has not arrived yet, those that wait for a place for it included.
# TYPE annex_aggregation_requests_sending gauge
annex_aggregation_requests_sending{service="ns/api:443"} 0
# HELP annex_aggregation_requests_limit [ALPHA] Requests that may be under way at an extension server.
# TYPE annex_aggregation_requests_limit gauge
annex_aggregation_requests_limit{service="ns/api:443"} 400
# HELP annex_aggregation_long_running_in_flight [ALPHA] Watches, sessions and the like under way at an extension server, which its limit does not count.
# TYPE annex_aggregation_long_running_in_flight gauge
annex_aggregation_long_running_in_flight{service="ns/api:443"} 1
# HELP annex_aggregation_ejections_total [ALPHA] How often an endpoint of an extension server was left out because requests failed there.
# TYPE annex_aggregation_ejections_total counter
annex_aggregation_ejections_total{service="ns/api:443"} 1
# HELP annex_aggregation_queue_wait_seconds [ALPHA] How long requests waited for others at the same extension server to end; those that did not wait are left out.
# TYPE annex_aggregation_queue_wait_seconds histogram
annex_aggregation_queue_wait_seconds_bucket{service="ns/api:443",le="0.001"} 0
annex_aggregation_queue_wait_seconds_bucket{service="ns/api:443",le="0.005"} 0
annex_aggregation_queue_wait_seconds_bucket{service="ns/api:443",le="0.025"} 0
annex_aggregation_queue_wait_seconds_bucket{service="ns/api:443",le="0.1"} 0
annex_aggregation_queue_wait_seconds_bucket{service="ns/api:443",le="0.25"} 0
annex_aggregation_queue_wait_seconds_bucket{service="ns/api:443",le="0.5"} 0
annex_aggregation_queue_wait_seconds_bucket{service="ns/api:443",le="1"} 0
annex_aggregation_queue_wait_seconds_bucket{service="ns/api:443",le="2"} 0
annex_aggregation_queue_wait_seconds_bucket{service="ns/api:443",le="5"} 0
annex_aggregation_queue_wait_seconds_bucket{service="ns/api:443",le="+Inf"} 0
annex_aggregation_queue_wait_seconds_sum{service="ns/api:443"} 0
annex_aggregation_queue_wait_seconds_count{service="ns/api:443"} 0
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
	m.Forget(New(Config{})) // another one
	if m.pool.Load() != pool {
		t.Error("forgot the wrong pool")
	}
	if m.Forget(pool); m.pool.Load() != nil {
		t.Error("the pool is kept")
	}
}

func TestMetricsOfEndpointsAreBounded(t *testing.T) {
	var all []measured
	for i := range maxMeasured + 500 {
		service := "ns/a:443"
		if i%2 == 0 {
			service = "ns/b:443"
		}
		h := balance.Health{
			Member: balance.Member{Address: fmt.Sprintf("192.0.2.1:%d", 10000+i)}, InFlight: 1, Requests: 3, Failed: 2, Ejections: 4, Down: i == maxMeasured+498,
		}
		m := measured{service, balance.Totals{Health: h}}
		if i%4 == 0 {
			m.Total = &stats.Total{Requests: 3, Measured: 2, Took: time.Second}
		}
		all = append(all, m, m) // behind two CAs
	}
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	got := bounded(all)
	if len(got) != maxMeasured+1 {
		t.Fatalf("%d endpoints", len(got))
	}
	want := balance.Health{Member: balance.Member{Address: "other"}, InFlight: 500, Requests: 1500, Failed: 1000, Ejections: 2000, Down: true}
	other := got[maxMeasured]
	if other.service != "ns/b:443" || other.Health != want {
		t.Errorf("got %+v, want %+v", other, want)
	}
	if total := other.Total; total == nil || total.Requests != 3*250 || total.Measured != 2*250 || total.Took != 250*time.Second {
		t.Errorf("its requests came to %+v", total)
	}
	if got[0].Address != "192.0.2.1:10001" || got[0].InFlight != 1 {
		t.Errorf("the first is %+v", got[0])
	}
}
