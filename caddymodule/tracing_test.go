// SPDX-License-Identifier: MIT

package caddymodule

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/meet-gateway/meet-gateway/backendclient"
	"github.com/meet-gateway/meet-gateway/tokens"
)

// Within a span of Caddy, the token check, the exchange, Redis and Meet have spans of the same
// trace, and Meet receives the id of the trace. No span contains a credential or a mail
// address. Without a span, no trace header of the caller reaches Meet.
func TestTracing(t *testing.T) {
	var mu sync.Mutex
	var parents []string
	guest := handlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		mu.Lock()
		parents = append(parents, r.Header.Get("Traceparent"))
		for _, name := range []string{"Tracestate", "Baggage", "B3", "X-B3-Traceid", "X-Cloud-Trace-Context"} {
			if len(r.Header[name]) > 0 {
				parents = append(parents, name)
			}
		}
		mu.Unlock()
		return meetGuest(w, r)
	})
	h, app := newGate(t, guest)
	var err error
	h.client, err = backendclient.New(backendclient.Options{
		Transport: &observedTransport{next: h.upstream, host: "meet.example.org", token: "/external-api/v1.0/application/token/"},
		Context:   h.upstream.Context, Detach: detachedTrace, Host: "meet.example.org", Store: h.app.Authority(),
	})
	require.NoError(t, err)
	token := issue(t, h, app)
	serve := func(r *http.Request) {
		r.Header.Set("Authorization", "Bearer "+token)
		r.Header.Set("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
		r.Header.Set("Tracestate", "canary=1")
		r.Header.Set("Baggage", "canary=1")
		r.Header.Set("B3", "canary")
		w := httptest.NewRecorder()
		require.NoError(t, h.ServeHTTP(w, caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, new(caddyhttp.Server)), noNext))
		require.Equal(t, http.StatusOK, w.Code, w.Body.String())
	}
	path := "/external-api/v1.0/rooms/" + sampleID
	serve(httptest.NewRequest(http.MethodGet, path, nil))
	require.Equal(t, []string{"", ""}, parents, "exchange and room, without a trace")

	parents = nil
	// The gateway keeps no token of Meet for this user.
	issued, err := h.app.Authority().Issue(t.Context(), tokens.Grant{Application: app, Mail: "bob@example.org", BackendUserID: sampleID, Scopes: app.Scopes})
	require.NoError(t, err)
	token = issued.Value
	recorder := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder))
	ctx, root := provider.Tracer("caddy").Start(t.Context(), "handler")
	serve(httptest.NewRequest(http.MethodGet, path, nil).WithContext(ctx))
	root.End()
	trace := root.SpanContext().TraceID().String()
	require.Len(t, parents, 2, "exchange and room")
	for _, p := range parents {
		require.Contains(t, p, trace)
	}
	names := map[string]int{}
	var all strings.Builder
	for _, s := range recorder.Ended() {
		names[s.Name()]++
		require.Equal(t, trace, s.SpanContext().TraceID().String())
		fmt.Fprintln(&all, s.Name(), s.Attributes(), s.Status(), s.Events())
	}
	require.Equal(t, 1, names["meet_gateway.verify"], names)
	require.Equal(t, 1, names["POST"], names)
	require.Equal(t, 1, names["GET"], names)
	require.Contains(t, all.String(), "meet_gateway.outcome")
	for _, canary := range []string{"bob@example.org", token, "canary", "secret", "a.b.c"} {
		require.NotContains(t, all.String(), canary)
	}
}

func TestTracing_OffAllocatesNothing(t *testing.T) {
	h, _ := newGate(t, meetGuest)
	c := &call{h: h, ctx: t.Context()}
	require.Zero(t, testing.AllocsPerRun(100, func() {
		_, span := startSpan(c.ctx, "meet_gateway.verify")
		if span != nil || c.traceID() != "" {
			t.Error("there is no trace")
		}
		c.traceCall(outcomeOK)
	}))
}
