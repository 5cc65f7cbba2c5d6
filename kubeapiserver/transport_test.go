package kubeapiserver

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"k8s.io/component-base/tracing"
)

// Extension servers are told of the trace as the reference's transport tells
// them, and spans are made of the same requests.
func TestTracedRequests(t *testing.T) {
	var told http.Header
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { told = r.Header }))
	defer server.Close()
	for name, sampler := range map[string]sdktrace.Sampler{
		"recorded": sdktrace.ParentBased(sdktrace.AlwaysSample()),
		"ignored":  sdktrace.ParentBased(sdktrace.NeverSample()),
	} {
		t.Run(name, func(t *testing.T) {
			spans := tracetest.NewInMemoryExporter()
			provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans), sdktrace.WithSampler(sampler))
			wrap, err := wrapTransport(provider)
			if err != nil {
				t.Fatal(err)
			}
			request := func(ctx context.Context, rt http.RoundTripper) (traceID, flags string, made int) {
				t.Helper()
				spans.Reset()
				r, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL, nil)
				if err != nil {
					t.Fatal(err)
				}
				r.Header.Set("Traceparent", "00-11111111111111111111111111111111-1111111111111111-01") // the client's
				response, err := rt.RoundTrip(r)
				if err != nil {
					t.Fatal(err)
				}
				_ = response.Body.Close()
				if sent := r.Header.Get("Traceparent"); !strings.Contains(sent, "1111") {
					t.Errorf("the caller's request was changed: %q", sent)
				}
				parts := strings.Split(told.Get("Traceparent"), "-")
				if len(parts) != 4 {
					t.Fatalf("the extension server was told %q", told.Get("Traceparent"))
				}
				return parts[1], parts[3], len(spans.GetSpans())
			}
			reference := tracing.WrapperFor(provider)(http.DefaultTransport)
			ours := wrap(http.DefaultTransport)

			ctx, span := provider.Tracer("test").Start(t.Context(), "request")
			wantID, wantFlags, wantMade := request(ctx, reference)
			gotID, gotFlags, gotMade := request(ctx, ours)
			if gotID != wantID || gotID != span.SpanContext().TraceID().String() || gotFlags != wantFlags || gotMade != wantMade {
				t.Errorf("trace %s, flags %s, %d spans; the reference's %s, %s, %d", gotID, gotFlags, gotMade, wantID, wantFlags, wantMade)
			}
			// Without a request, as probes are sent, the sampler decides.
			_, wantFlags, wantMade = request(t.Context(), reference)
			if _, gotFlags, gotMade = request(t.Context(), ours); gotFlags != wantFlags || gotMade != wantMade {
				t.Errorf("of nobody's request: flags %s, %d spans; the reference's %s, %d", gotFlags, gotMade, wantFlags, wantMade)
			}
		})
	}
}
