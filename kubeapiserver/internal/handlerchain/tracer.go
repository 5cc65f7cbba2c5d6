package handlerchain

import (
	"context"
	"net/http"
	"reflect"
	"slices"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/filters"
	"k8s.io/apiserver/pkg/endpoints/request"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/component-base/tracing"
)

// Traced says whether spans that a provider makes are seen by anyone.
func Traced(provider trace.TracerProvider) bool {
	return provider != nil && reflect.TypeOf(provider) != reflect.TypeOf(tracing.NewNoopTracerProvider())
}

// tracer makes the spans that k8s.io/apiserver's chain makes.
type tracer struct {
	provider trace.TracerProvider // nil: nobody sees spans
	filters  trace.Tracer
}

func newTracer(c *genericapiserver.Config) *tracer {
	if !Traced(c.TracerProvider) {
		return &tracer{}
	}
	return &tracer{
		provider: c.TracerProvider,
		filters:  c.TracerProvider.Tracer("k8s.op/apiserver/pkg/endpoints/filterlatency"), // as filterlatency.TrackStarted spells it
	}
}

// timed notes that the filter before it is over and that the named one begins.
func (t *tracer) timed(name string, filter http.Handler) http.Handler {
	begin := func(r *http.Request) {
		rc := contextOf(r)
		now := rc.recordFilter(r)
		rc.filter, rc.started = name, now
	}
	timedFilter := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begin(r)
		filter.ServeHTTP(w, r)
	})
	if t.provider == nil {
		return timedFilter
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if Ignored(trace.SpanFromContext(r.Context())) {
			timedFilter(w, r)
			return
		}
		begin(r) // what is recorded of the filter before belongs to its span
		ctx, span := t.filters.Start(r.Context(), name)
		defer span.End()
		filter.ServeHTTP(w, r.WithContext(ctx))
	})
}

// Ignored says that a span belongs to a trace that is not recorded: neither are
// spans below it.
func Ignored(span trace.Span) bool { return span.SpanContext().IsValid() && !span.IsRecording() }

// requests notes that the filter before it is over and gives a request its span.
//
// Whether the span is recorded is asked before the filter that makes it runs: that
// filter costs more than all others together, and is skipped where the answer is no.
// A sampler of an embedding program is therefore told of the request's parent only,
// not of its name and attributes.
func (t *tracer) requests(next http.Handler) http.Handler {
	if t.provider == nil {
		return filterEnded(next)
	}
	resumed := &resuming{TracerProvider: t.provider}
	recorded := filters.WithTracing(next, resumed)
	return filterEnded(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := tracing.Propagators().Extract(r.Context(), propagation.HeaderCarrier(r.Header))
		options := []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindServer)}
		if parent := trace.SpanContextFromContext(ctx); !mayJoin(ctx) {
			options = append(options, trace.WithNewRoot())
			if parent.IsValid() && parent.IsRemote() {
				options = append(options, trace.WithLinks(trace.Link{SpanContext: parent}))
			}
		}
		ctx, span := resumed.tracer.Start(ctx, r.Method, options...)
		if !span.IsRecording() {
			next.ServeHTTP(w, r.WithContext(ctx))
			return
		}
		recorded.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), startedSpanKey{}, span)))
	}))
}

// mayJoin says whether the user of a request may say which trace it belongs to,
// and with that whether it is recorded (k8s.io/apiserver/pkg/endpoints/filters/traces.go).
func mayJoin(ctx context.Context) bool {
	u, ok := request.UserFrom(ctx)
	return ok && (slices.Contains(u.GetGroups(), user.SystemPrivilegedGroup) || slices.Contains(u.GetGroups(), user.MonitoringGroup))
}

// resuming is a provider whose tracers hand out the span of the request's context
// that was started already.
type resuming struct {
	trace.TracerProvider
	tracer trace.Tracer // the last that was asked for, without the started span
}

type startedSpanKey struct{}

// Tracer implements trace.TracerProvider.
func (b *resuming) Tracer(name string, options ...trace.TracerOption) trace.Tracer {
	b.tracer = b.TracerProvider.Tracer(name, options...)
	return resumingTracer{b.tracer}
}

type resumingTracer struct{ trace.Tracer }

// Start implements trace.Tracer.
func (t resumingTracer) Start(ctx context.Context, name string, options ...trace.SpanStartOption) (context.Context, trace.Span) {
	span, ok := ctx.Value(startedSpanKey{}).(trace.Span)
	if !ok {
		return t.Tracer.Start(ctx, name, options...)
	}
	config := trace.NewSpanStartConfig(options...)
	span.SetName(name)
	span.SetAttributes(config.Attributes()...)
	return trace.ContextWithSpan(ctx, span), span
}
