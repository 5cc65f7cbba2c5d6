package backend

import (
	"strings"
	"testing"
	"time"

	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/testutil"

	"github.com/annex-api/annex/aggregator/internal/backend/balance"
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
	b.Probed("192.0.2.2:443", false, "")
	release, refusal := b.Admit(t.Context(), a, alice, UnderWay)
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
