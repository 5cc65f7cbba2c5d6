package traffic

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/testutil"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/annex-api/annex/aggregator/internal/catalog"
)

func snapshot(groups ...string) *catalog.Snapshot {
	f := catalog.Facts{Registrations: map[string]catalog.Registration{}, Resolver: true}
	for _, group := range groups {
		o := &apiregistrationv1.APIService{ObjectMeta: metav1.ObjectMeta{Name: "v1." + group}, Spec: apiregistrationv1.APIServiceSpec{
			Group: group, Version: "v1", Service: &apiregistrationv1.ServiceReference{Namespace: "ns", Name: "api"},
		}}
		f.Registrations[o.Name] = catalog.NewRegistration(o)
	}
	return catalog.Build(f)
}

func TestMetricsOfRequests(t *testing.T) {
	m, traffic, registry := &Metrics{}, &Traffic{}, metrics.NewKubeRegistry()
	registry.CustomMustRegister(m)
	m.Watch(traffic)
	traffic.Of("v1.a.example").Answered(Get, 200, 0) // not known yet: nothing happens
	traffic.Sync(snapshot("a.example", "b.example"))
	a := traffic.Of("v1.a.example")
	a.Answered(Get, 200, 7*time.Millisecond)
	a.Answered(Get, 299, time.Second)
	a.Answered(Watch, 200, time.Second)
	a.Refused(Write, 503)
	a.Refused(Watch, NoAnswer)
	a.Sent(9000)
	a.Retried()
	a.Hedged()
	traffic.Sync(snapshot("a.example", "c.example")) // its counts stay, b's go
	if traffic.Of("v1.a.example") != a || traffic.Of("v1.b.example") != nil || traffic.Of("v1.c.example") == nil {
		t.Fatal("the wrong counts were kept")
	}
	want := `
# HELP annex_aggregation_requests_total [ALPHA] Requests for the extension server of an APIService, by class of verb and by the code that the client got; 0 is a client that left before.
# TYPE annex_aggregation_requests_total counter
annex_aggregation_requests_total{code="200",name="v1.a.example",verb="get"} 1
annex_aggregation_requests_total{code="2xx",name="v1.a.example",verb="get"} 1
annex_aggregation_requests_total{code="200",name="v1.a.example",verb="watch"} 1
annex_aggregation_requests_total{code="0",name="v1.a.example",verb="watch"} 1
annex_aggregation_requests_total{code="503",name="v1.a.example",verb="write"} 1
# HELP annex_aggregation_retries_total [ALPHA] Attempts at requests after one that failed.
# TYPE annex_aggregation_retries_total counter
annex_aggregation_retries_total{name="v1.a.example"} 1
annex_aggregation_retries_total{name="v1.c.example"} 0
# HELP annex_aggregation_hedges_total [ALPHA] Attempts at requests beside one that was slow.
# TYPE annex_aggregation_hedges_total counter
annex_aggregation_hedges_total{name="v1.a.example"} 1
annex_aggregation_hedges_total{name="v1.c.example"} 0
`
	names := []string{"annex_aggregation_requests_total", "annex_aggregation_retries_total", "annex_aggregation_hedges_total"}
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), names...); err != nil {
		t.Error(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, s := range f.GetMetric() {
			h, labels := s.GetHistogram(), fmt.Sprint(s.GetLabel())
			switch name := f.GetName(); {
			case h == nil || strings.Contains(labels, "v1.c.example"):
			case name == "annex_aggregation_response_size_bytes" && (h.GetSampleCount() != 1 || h.GetSampleSum() != 9000):
				t.Errorf("%s%s: %v", name, labels, h)
			case name == "annex_aggregation_request_duration_seconds" && strings.Contains(labels, "watch"):
				t.Errorf("how long a watch took was counted: %s", labels)
			case name == "annex_aggregation_request_duration_seconds" && strings.Contains(labels, "get") && h.GetSampleCount() != 2:
				t.Errorf("%s%s: %v", name, labels, h)
			}
		}
	}
	m.Forget(&Traffic{}) // another one
	if m.traffic.Load() != traffic {
		t.Error("forgot the wrong one")
	}
	m.Forget(traffic)
	if families, err := registry.Gather(); err != nil || len(families) != 0 {
		t.Errorf("after Forget: %v, %v", families, err)
	}
}

// TestLabelsAreBounded has an extension server and a client say what they like.
func TestLabelsAreBounded(t *testing.T) {
	names := map[string]bool{}
	for code := -1000; code < 2000; code++ {
		names[codeName(indexOf(code))] = true
	}
	for _, code := range []int{math.MinInt, math.MaxInt} {
		names[codeName(indexOf(code))] = true
	}
	if len(names) != codes {
		t.Errorf("%d names of codes, want %d: %v", len(names), codes, names)
	}
	for code, want := range map[int]string{200: "200", 0: "0", 222: "2xx", 599: "5xx", 600: "other", 99: "other", -1: "other", 103: "1xx"} {
		if got := codeName(indexOf(code)); got != want {
			t.Errorf("%d: got %q, want %q", code, got, want)
		}
	}
	for verb, want := range map[string]Verb{"get": Get, "deletecollection": Write, "proxy": Connect, "": Other, "x\x1b": Other} {
		if got := VerbOf(verb); got != want {
			t.Errorf("%q: got %v, want %v", verb, got, want)
		}
	}
}

func TestCountingAllocatesNothing(t *testing.T) {
	traffic := &Traffic{}
	traffic.Sync(snapshot("a.example"))
	if n := testing.AllocsPerRun(100, func() { countOne(traffic) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func countOne(traffic *Traffic) {
	c := traffic.Of("v1.a.example")
	c.Answered(VerbOf("get"), 200, 3*time.Millisecond)
	c.Sent(400)
}

// BenchmarkCounting is all that one GET costs here, with two looks at the clock.
func BenchmarkCounting(b *testing.B) {
	groups := make([]string, 200)
	for i := range groups {
		groups[i] = fmt.Sprintf("g%d.example", i)
	}
	traffic := &Traffic{}
	traffic.Sync(snapshot(append(groups, "a.example")...))
	b.ReportAllocs()
	for b.Loop() {
		began := time.Now()
		c := traffic.Of("v1.a.example")
		c.Answered(VerbOf("get"), 200, time.Since(began))
		c.Sent(400)
	}
}
