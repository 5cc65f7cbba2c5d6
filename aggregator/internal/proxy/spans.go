package proxy

import (
	"context"
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/annex-api/annex/aggregator/internal/backend/balance"
)

// Names of spans, and of their attributes that OpenTelemetry has no name for.
const (
	waitSpan    = "Wait for a place at the extension server"
	chooseSpan  = "Choose an endpoint"
	attemptSpan = "Attempt at an endpoint"

	apiServiceKey  = "annex.apiservice"
	attemptKey     = "annex.attempt"
	attemptKindKey = "annex.attempt.kind"
	avoidedKey     = "annex.endpoints.avoided"

	endpointKey = "server.address" // these two are OpenTelemetry's
	statusKey   = "http.response.status_code"
)

// Kinds of attempts.
const (
	firstAttempt = "first"
	retryAttempt = "retry"
	hedgeAttempt = "hedge"
)

// tracer is what makes the spans of a request; nil where its trace is not recorded.
func (p *Proxy) tracer(ctx context.Context) trace.Tracer {
	if p.config.Tracer == nil || !trace.SpanFromContext(ctx).IsRecording() {
		return nil
	}
	return p.config.Tracer
}

// startWait begins the span of the wait for admission, which end ends.
func startWait(ctx context.Context, tracer trace.Tracer, apiService string) (end func()) {
	if tracer == nil {
		return func() {}
	}
	_, span := tracer.Start(ctx, waitSpan, trace.WithAttributes(attribute.String(apiServiceKey, apiService)))
	return func() { span.End() }
}

// pick chooses the endpoint for an attempt that avoids those tried before.
func (x *exchange) pick(ctx context.Context, tried ...string) (balance.Choice, error) {
	if x.tracer == nil {
		return x.backend.Pick(x.apiService.Target, tried...)
	}
	_, span := x.tracer.Start(ctx, chooseSpan)
	defer span.End()
	choice, err := x.backend.Pick(x.apiService.Target, tried...)
	span.SetAttributes(attribute.String(apiServiceKey, x.apiService.Name), attribute.Int(avoidedKey, len(tried)))
	if err != nil {
		span.SetStatus(otelcodes.Error, "there is no endpoint")
		return choice, err
	}
	span.SetAttributes(attribute.String(endpointKey, choice.Address))
	return choice, nil
}

// startAttempt begins the span of an attempt, whose round trip is to have the context that
// it returns. The span is nil where the request's trace is not recorded.
func (x *exchange) startAttempt(ctx context.Context, to trial) (context.Context, *attemptTrace) {
	if x.tracer == nil {
		return ctx, nil
	}
	ctx, span := x.tracer.Start(ctx, attemptSpan, trace.WithAttributes(
		attribute.String(apiServiceKey, x.apiService.Name), attribute.String(endpointKey, to.choice.Address),
		attribute.Int(attemptKey, to.number), attribute.String(attemptKindKey, to.kind),
	))
	return ctx, &attemptTrace{span}
}

// attemptTrace is the span of an attempt. Nil is none.
type attemptTrace struct{ span trace.Span }

// answered ends the span with an answer.
func (t *attemptTrace) answered(status int) {
	if t == nil {
		return
	}
	t.span.SetAttributes(attribute.Int(statusKey, status))
	if status >= http.StatusInternalServerError {
		t.span.SetStatus(otelcodes.Error, http.StatusText(status))
	}
	t.span.End()
}

// failed ends the span of an attempt that brought no answer. It says how, in words of this
// server's own: what errors say may be what the extension server has said.
func (t *attemptTrace) failed(f *failure) {
	if t == nil {
		return
	}
	t.span.SetStatus(otelcodes.Error, f.name)
	t.span.End()
}
