package kubeapiserver

import (
	"net/http"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"k8s.io/component-base/tracing"

	"github.com/annex-api/annex/kubeapiserver/internal/handlerchain"
)

// wrapTransport observes requests to extension servers: deprecated
// certificates are counted, and traces go on where somebody sees them.
func wrapTransport(provider tracing.TracerProvider) (func(http.RoundTripper) http.RoundTripper, error) {
	count, err := certificateCounter()
	if err != nil {
		return nil, err
	}
	if !handlerchain.Traced(provider) {
		return count, nil // what clients send of traces is forwarded as it is
	}
	record := tracing.WrapperFor(provider)
	return func(rt http.RoundTripper) http.RoundTripper {
		counted := count(rt)
		return traced{ignored: counted, recorded: record(counted)}
	}, nil
}

// traced makes spans of requests that are recorded, and tells extension servers
// which trace the others belong to and that nobody records it: the attributes
// of a span cost much, though nobody sees them.
type traced struct{ ignored, recorded http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (t traced) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx := r.Context()
	if !handlerchain.Ignored(trace.SpanFromContext(ctx)) {
		return t.recorded.RoundTrip(r)
	}
	out := r.WithContext(ctx)
	out.Header = r.Header.Clone()
	if out.Header == nil {
		out.Header = http.Header{}
	}
	tracing.Propagators().Inject(ctx, propagation.HeaderCarrier(out.Header))
	return t.ignored.RoundTrip(out)
}
