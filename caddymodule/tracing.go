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

// tracerName is the instrumentation scope of the gateway's spans.
const tracerName = "github.com/meet-gateway/meet-gateway"

// Where Caddy's `tracing` stands before the directive, a request's context holds a
// span, and the gateway's own spans are below it. Without it nothing here costs more
// than looking.

// startSpan begins a span below that of ctx. Without one it returns ctx and nil.
func startSpan(ctx context.Context, name string, o ...trace.SpanStartOption) (context.Context, trace.Span) {
	parent := trace.SpanFromContext(ctx)
	if !parent.IsRecording() {
		return ctx, nil
	}
	return parent.TracerProvider().Tracer(tracerName).Start(ctx, name, o...)
}

// endSpan ends a span that startSpan returned. A failure is shown by its reason, which
// comes from a closed set.
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

// traceID is the id of the trace that the call is part of; "" if it is part of none.
func (c *call) traceID() string {
	if s := trace.SpanContextFromContext(c.ctx); s.HasTraceID() {
		return s.TraceID().String()
	}
	return ""
}

// traceCall says in Caddy's span what the request was and what became of it.
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

// keepTrace is the context of what goes on when the caller has left: the trace of the
// one who came first, and nothing else.
func keepTrace(ctx context.Context) context.Context {
	span := trace.SpanFromContext(ctx)
	if !span.SpanContext().IsValid() {
		return context.Background()
	}
	return trace.ContextWithSpan(context.Background(), span)
}

// traceCommand writes a span for a command to Redis that is over, by OpenTelemetry's
// conventions for databases. Keys and values are not in it.
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

// observedTransport measures requests to Meet, and makes them part of a trace.
type observedTransport struct {
	next http.RoundTripper
	host string
	// token is the path of the token endpoint at Meet.
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
		endRequest(span, res, err)
	}
	return res, err //nolint:wrapcheck // the transport's own
}

// start begins the span of a request and tells Meet of it. A trace that is not
// recorded here is passed on all the same.
func (t *observedTransport) start(req *http.Request, operation string) trace.Span {
	ctx := req.Context()
	parent := trace.SpanFromContext(ctx)
	if !parent.SpanContext().IsValid() {
		return nil
	}
	var span trace.Span
	if parent.IsRecording() {
		address, port := addressOf(t.host)
		ctx, span = parent.TracerProvider().Tracer(tracerName).Start(ctx, req.Method,
			trace.WithSpanKind(trace.SpanKindClient),
			trace.WithAttributes(
				attribute.String("http.request.method", req.Method),
				attribute.String("server.address", address),
				attribute.Int("server.port", port),
				attribute.String("url.full", "https://"+t.host+req.URL.EscapedPath()), // no query: it may name somebody
				attribute.String("meet_gateway.operation", operation),
			))
	}
	propagation.TraceContext{}.Inject(ctx, propagation.HeaderCarrier(req.Header))
	return span
}

// addressOf parts a host, as Meet is asked for, into its name and its port.
func addressOf(host string) (name string, port int) {
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

func endRequest(span trace.Span, res *http.Response, err error) {
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
