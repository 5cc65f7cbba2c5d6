package status

import (
	"strings"
	"testing"

	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/testutil"

	"github.com/annex-api/annex/aggregator/internal/catalog"
)

func TestMetricsFollowVerdicts(t *testing.T) {
	s, m, registry := newStored(t), NewMetrics(), metrics.NewKubeRegistry()
	if err := m.Register(registry.Register, func(c metrics.StableCollector) error { return registry.CustomRegister(c) }); err != nil {
		t.Fatal(err)
	}
	for i, c := range []struct {
		verdict     catalog.Verdict
		unavailable string
		total       string
	}{
		{catalog.Verdict{}, "1", ""}, // no verdict yet: not counted as lost
		{up, "0", ""},
		{down, "1", "1"},
		{gone, "1", "1"}, // still the same outage
		{up, "0", "1"},
		{down, "1", "2"},
	} {
		m.Sync(s.snapshot(c.verdict))
		want := "# HELP aggregator_unavailable_apiservice [ALPHA] Whether this server holds an APIService for unavailable (1) or available (0).\n" +
			"# TYPE aggregator_unavailable_apiservice gauge\naggregator_unavailable_apiservice{name=\"" + name + "\"} " + c.unavailable + "\n"
		if c.total != "" {
			want += "# HELP aggregator_unavailable_apiservice_total [ALPHA] How often an APIService became unavailable, by APIService name and reason.\n" +
				"# TYPE aggregator_unavailable_apiservice_total counter\naggregator_unavailable_apiservice_total{name=\"" + name + "\",reason=\"FailedDiscoveryCheck\"} " + c.total + "\n"
		}
		if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "aggregator_unavailable_apiservice", "aggregator_unavailable_apiservice_total"); err != nil {
			t.Errorf("step %d: %v", i, err)
		}
	}
	m.Sync(catalog.Build(catalog.Facts{}))
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "aggregator_unavailable_apiservice" {
			t.Errorf("a metric of an APIService that is gone: %v", f)
		}
	}
}

func TestMetricOfWatchLists(t *testing.T) {
	s, m, registry := newStored(t), NewMetrics(), metrics.NewKubeRegistry()
	if err := m.Register(registry.Register, func(c metrics.StableCollector) error { return registry.CustomRegister(c) }); err != nil {
		t.Fatal(err)
	}
	for _, support := range []catalog.WatchListSupport{catalog.WatchListUnknown, catalog.WatchListMissing, catalog.WatchListWorks, catalog.WatchListRefused} {
		f := factsOf(s.object(), up)
		f.WatchLists = map[string]catalog.WatchListSupport{name: support}
		m.Sync(catalog.Build(f))
		want := ""
		if support != catalog.WatchListUnknown {
			want = "# HELP annex_aggregation_watch_list [ALPHA] " + watchListHelp + "\n# TYPE annex_aggregation_watch_list gauge\n" +
				"annex_aggregation_watch_list{name=\"" + name + "\",support=\"" + string(support) + "\"} 1\n"
		}
		if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "annex_aggregation_watch_list"); err != nil {
			t.Errorf("%q: %v", support, err)
		}
	}
}
