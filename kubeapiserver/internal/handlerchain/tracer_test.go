package handlerchain

import (
	"testing"

	dto "github.com/prometheus/client_model/go"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"k8s.io/component-base/metrics/legacyregistry"
)

// The exemplar of a filter's latency leads to the filter's own span.
func TestLatenciesBelongToTheirSpans(t *testing.T) {
	ids := newIdentities(t)
	for i, build := range []chain{reference, ours} {
		t.Run([]string{"reference", "ours"}[i], func(t *testing.T) {
			w := newWorld(t, ids, build, func(t *testing.T, w *world) {
				everything(t, w)
				w.trace(sdktrace.AlwaysSample())
			})
			defer w.stop()
			w.warm(t)
			w.warm(t)
			w.observe(t, "h2", call{target: widget, as: "alice"}, nil)
			spans := map[string]string{}
			for _, s := range w.spans.GetSpans() {
				spans[s.SpanContext.SpanID().String()] = s.Name
			}
			found := 0
			for filter, ids := range exemplars(t) {
				for _, id := range ids {
					name, ok := spans[id]
					if !ok {
						continue // of another request
					}
					found++
					if name != filter {
						t.Errorf("the latency of %s has the span of %s", filter, name)
					}
				}
			}
			if found < 3 {
				t.Errorf("%d exemplars have spans, want one for each filter", found)
			}
		})
	}
}

// exemplars are the spans that the latencies of filters name, by filter.
func exemplars(t *testing.T) map[string][]string {
	t.Helper()
	families, err := legacyregistry.DefaultGatherer.Gather()
	if err != nil {
		t.Fatalf("gathering metrics: %v", err)
	}
	found := map[string][]string{}
	for _, f := range families {
		if f.GetName() != "apiserver_request_filter_duration_seconds" {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, b := range m.GetHistogram().GetBucket() {
				if id := label(b.GetExemplar().GetLabel(), "span_id"); id != "" {
					filter := label(m.GetLabel(), "filter")
					found[filter] = append(found[filter], id)
				}
			}
		}
	}
	return found
}

func label(pairs []*dto.LabelPair, name string) string {
	for _, p := range pairs {
		if p.GetName() == name {
			return p.GetValue()
		}
	}
	return ""
}
