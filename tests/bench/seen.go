// SPDX-License-Identifier: MIT

package main

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
)

// startCollector serves an OpenTelemetry collector that discards all traces.
func startCollector() *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
}

// traced adds Caddy's tracing to a site, with one recorded request in a hundred.
func (c caddySite) traced(collector string) caddySite {
	c.site = "tracing {\nspan meet\n}\n" + c.site
	c.env = append(c.env,
		"OTEL_EXPORTER_OTLP_ENDPOINT="+collector, "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf",
		"OTEL_TRACES_SAMPLER=parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG=0.01")
	return c
}

// seen measures the cost of observability, which is the audit trail, metrics by application and
// traces, under a mixture of requests.
func (b *bench) seen(ctx context.Context) error {
	l, _, err := b.mixture(ctx)
	if err != nil {
		return err
	}
	collector := startCollector()
	defer collector.Close()

	// The cost of Caddy's own tracing is measured by itself and subtracted.
	plain, err := b.startCaddy(ctx, "plain-traced", caddySite{site: "reverse_proxy " + b.upstream.address}.traced(collector.URL))
	if err != nil {
		return err
	}
	defer plain.stop()
	one, err := b.oneToken(ctx)
	if err != nil {
		return err
	}
	caddys := &result{ID: "seen-traced-plain", Name: "Caddy's `tracing` alone, one request in a hundred recorded", A: "plain", B: "plain, traced"}
	if err := b.compare(ctx, caddys, b.s.fewer(), on(one, b.plain), on(one, plain)); err != nil {
		return err
	}
	var tracing float64
	if len(caddys.Pairs) > 0 {
		tracing = spreadOf(caddys.Pairs, func(p pair) float64 { return p.B.cpuPerRequest() - p.A.cpuPerRequest() }).Median
	}

	for _, c := range []struct {
		*result
		collector string
	}{
		{&result{ID: "seen", Name: "a mixture, with the audit trail and metrics by application", A: "gateway", Budget: 1.03}, ""},
		{&result{ID: "seen-traced", Name: "the same, with traces", A: "gateway, plus the cost of `tracing` for plain", Budget: 1.03, Extra: tracing}, collector.URL},
	} {
		gate, err := b.startGate(ctx, "gate-"+c.ID, gateOptions{audit: filepath.Join(b.dir, c.ID+".audit.log"), collector: c.collector})
		if err != nil {
			return err
		}
		c.B = "gateway, observed"
		if err = b.compare(ctx, c.result, b.s.Pairs, on(l, b.gate), on(l, gate)); err == nil {
			err = b.explain(ctx, c.result, on(l, gate))
		}
		gate.stop()
		if err != nil {
			return err
		}
	}
	return nil
}
