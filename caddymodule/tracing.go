// SPDX-License-Identifier: MIT

package caddymodule

import (
	"context"
	"net"
	"net/http"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/meet-gateway/meet-gateway/tokens"
)

const tracerName = "github.com/meet-gateway/meet-gateway"

// Spans are children of the span of Caddy's `tracing` directive. Without it, nothing is
// allocated.

// startSpan starts a child of the span in ctx. If that is not recording, it returns ctx
// and nil.
func startSpan(ctx context.Context, name string, o ...trace.SpanStartOption) (context.Context, trace.Span) {
	parent := trace.SpanFromContext(ctx)
	if !parent.IsRecording() {
		return ctx, nil
	}
	return parent.TracerProvider().Tracer(tracerName).Start(ctx, name, o...)
}

// endSpan ends a span of startSpan. A failure shows its reason, from a closed set.
func (c *call) endSpan(span trace.Span, err error) {
	if span == nil {
		return
	}
	if err != nil {
		failSpan(span, refusalOf(err, c.endpoint).reason)
	}
	span.End()
}

func failSpan(span trace.Span, reason string) {
	span.SetStatus(codes.Error, reason)
	span.SetAttributes(attribute.String("error.type", reason))
}

// traceID returns the id of the call's trace, or "".
func (c *call) traceID() string {
	if s := trace.SpanContextFromContext(c.ctx); s.HasTraceID() {
		return s.TraceID().String()
	}
	return ""
}

// traceCall adds the outcome to Caddy's span.
func (c *call) traceCall(outcome string) {
	span := trace.SpanFromContext(c.ctx)
	if !span.IsRecording() {
		return
	}
	attributes := []attribute.KeyValue{
		attribute.String("meet_gateway.endpoint", string(c.endpoint)), attribute.String("meet_gateway.outcome", outcome),
	}
	if c.match.pattern != nil {
		attributes = append(attributes, attribute.String("http.route", c.base+c.match.pattern.template))
	}
	if c.application != nil {
		attributes = append(attributes, attribute.String("meet_gateway.application", c.application.ID))
	}
	span.SetAttributes(attributes...)
}

// detachedTrace returns a background context in the trace of ctx.
func detachedTrace(ctx context.Context) context.Context {
	span := trace.SpanFromContext(ctx)
	if !span.SpanContext().IsValid() {
		return context.Background()
	}
	return trace.ContextWithSpan(context.Background(), span)
}

// traceCommand adds a span for a finished Redis command, with OpenTelemetry's
// attributes for databases but no keys or values.
func traceCommand(ctx context.Context, cmd tokens.Command) {
	parent := trace.SpanFromContext(ctx)
	if !parent.IsRecording() {
		return
	}
	_, span := parent.TracerProvider().Tracer(tracerName).Start(ctx, cmd.Name,
		trace.WithSpanKind(trace.SpanKindClient), trace.WithTimestamp(cmd.Began),
		trace.WithAttributes(attribute.String("db.system.name", "redis"), attribute.String("db.operation.name", cmd.Name)))
	if cmd.Problem != "" {
		failSpan(span, cmd.Problem)
	}
	span.End(trace.WithTimestamp(cmd.Began.Add(cmd.Took)))
}

// observedTransport measures and traces requests to Meet.
type observedTransport struct {
	next http.RoundTripper
	host string
	// token is the path of Meet's token endpoint.
	token string
}

// RoundTrip implements http.RoundTripper.
func (t *observedTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	began := time.Now()
	operation := "rooms"
	if req.URL.Path == t.token {
		operation = "exchange"
	}
	span := t.start(req, operation)
	res, err := t.next.RoundTrip(req)
	status := "error"
	if err == nil {
		status = statusClass(res.StatusCode)
	}
	meetSeconds.WithLabelValues(operation, status).Observe(time.Since(began).Seconds())
	if span != nil {
		endMeetSpan(span, res, err)
	}
	return res, err //nolint:wrapcheck // the transport's own
}

// start starts a span for a request and propagates the trace to Meet, also one that is
// not recorded here.
func (t *observedTransport) start(req *http.Request, operation string) trace.Span {
	ctx := req.Context()
	parent := trace.SpanFromContext(ctx)
	if !parent.SpanContext().IsValid() {
		return nil
	}
	var span trace.Span
	if parent.IsRecording() {
		address, port := hostAndPort(t.host)
		ctx, span = parent.TracerProvider().Tracer(tracerName).Start(ctx, req.Method,
			trace.WithSpanKind(trace.SpanKindClient),
			trace.WithAttributes(
				attribute.String("http.request.method", req.Method),
				attribute.String("server.address", address),
				attribute.Int("server.port", port),
				attribute.String("url.full", "https://"+t.host+req.URL.EscapedPath()), // no query: it may contain personal data
				attribute.String("meet_gateway.operation", operation),
			))
	}
	propagation.TraceContext{}.Inject(ctx, propagation.HeaderCarrier(req.Header))
	return span
}

// hostAndPort splits a host; the default port is 443.
func hostAndPort(host string) (name string, port int) {
	name, text, err := net.SplitHostPort(host)
	if err != nil {
		return host, 443
	}
	port, err = strconv.Atoi(text)
	if err != nil {
		return name, 443
	}
	return name, port
}

func endMeetSpan(span trace.Span, res *http.Response, err error) {
	switch {
	case err != nil:
		span.SetStatus(codes.Error, "no answer")
		span.SetAttributes(attribute.String("error.type", "no_answer"))
	default:
		span.SetAttributes(attribute.Int("http.response.status_code", res.StatusCode))
		if res.StatusCode >= http.StatusBadRequest {
			span.SetStatus(codes.Error, "")
			span.SetAttributes(attribute.String("error.type", strconv.Itoa(res.StatusCode)))
		}
	}
	span.End()
}

// Interface guards
var _ http.RoundTripper = (*observedTransport)(nil)
