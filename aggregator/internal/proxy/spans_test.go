package proxy

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/annex-api/annex/aggregator/internal/backendtest"
	"github.com/annex-api/annex/aggregator/internal/catalog"
)

// spansOf sends requests until the layer has tried one twice, and returns the spans of that
// one, each with its attributes; those of the last one if there are at most so many attempts.
func spansOf(t *testing.T, sampler sdktrace.Sampler) (spans []string) {
	t.Helper()
	dead := backendtest.Dead(t, "api")
	s := backendtest.Start(t, "api", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
	snapshot := catalog.Build(backendtest.Facts([]*apiregistrationv1.APIService{s.APIService(name)}, s, dead))
	exporter := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter), sdktrace.WithSampler(sampler))
	f := startFront(t, snapshot.Remotes()[0], func(c *Config, f *front) {
		c.Tracer = provider.Tracer("annex")
		f.wrap = func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				ctx, span := provider.Tracer("host").Start(r.Context(), "request")
				defer span.End()
				h.ServeHTTP(w, r.WithContext(ctx))
			})
		}
	})
	for range 50 { // the choice is by chance
		exporter.Reset()
		if got := f.do(t, http.MethodGet, base+"/things", nil, http.Header{"Authorization": {"Bearer secret"}}); got.StatusCode != http.StatusTeapot {
			t.Fatalf("got %d", got.StatusCode)
		}
		spans = nil
		for _, span := range exporter.GetSpans() {
			said := []string{}
			for _, a := range span.Attributes {
				said = append(said, fmt.Sprintf("%s=%s", a.Key, a.Value.String()))
			}
			slices.Sort(said)
			line := span.Name + ": " + strings.Join(said, " ") + " " + span.Status.Description
			line = strings.NewReplacer(s.Address, "LIVE", dead.Address, "DEAD").Replace(line)
			spans = append(spans, strings.TrimSpace(line))
		}
		if strings.Contains(strings.Join(spans, " "), retryAttempt) {
			return spans
		}
	}
	return spans
}

func TestSpansOfAttempts(t *testing.T) {
	got := spansOf(t, sdktrace.AlwaysSample())
	want := []string{
		"Wait for a place at the extension server: annex.apiservice=v1.a.example",
		"Choose an endpoint: annex.apiservice=v1.a.example annex.endpoints.avoided=0 server.address=DEAD",
		"Attempt at an endpoint: annex.apiservice=v1.a.example annex.attempt.kind=first annex.attempt=1 server.address=DEAD no connection could be made",
		"Choose an endpoint: annex.apiservice=v1.a.example annex.endpoints.avoided=1 server.address=LIVE",
		"Attempt at an endpoint: annex.apiservice=v1.a.example annex.attempt.kind=retry annex.attempt=2 http.response.status_code=418 server.address=LIVE",
	}
	for _, w := range want {
		if !slices.Contains(got, w) {
			t.Errorf("got\n%s\nwithout\n%s", strings.Join(got, "\n"), w)
		}
	}
	if len(got) != len(want)+1 { // and the host's
		t.Errorf("%d spans: %q", len(got), got)
	}
}

func TestNoSpansOfATraceThatIsNotRecorded(t *testing.T) {
	if got := spansOf(t, sdktrace.NeverSample()); len(got) != 0 {
		t.Errorf("got %q", got)
	}
}
