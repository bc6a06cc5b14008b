// SPDX-License-Identifier: MIT

package tests

import (
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/meet-gateway/meet-gateway/backendclient/sandbox"
	"github.com/meet-gateway/meet-gateway/caddymodule/audit"
	"github.com/meet-gateway/meet-gateway/tests/gatewaytest"
	"github.com/meet-gateway/meet-gateway/tests/redistest"
	"github.com/meet-gateway/meet-gateway/tokens"
)

// receiver accepts spans over OTLP/HTTP, like an OpenTelemetry collector.
type receiver struct {
	mu    sync.Mutex
	spans []*trace.Span
	raw   strings.Builder // all received data
}

// startReceiver makes Caddy send the spans of the test to a receiver.
func startReceiver(t *testing.T) *receiver {
	t.Helper()
	r := new(receiver)
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", server.URL)
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	var sent collector.ExportTraceServiceRequest
	if err != nil || req.URL.Path != "/v1/traces" || proto.Unmarshal(body, &sent) != nil {
		http.Error(w, "no traces", http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.raw.Write(body)
	for _, resource := range sent.ResourceSpans {
		for _, scope := range resource.ScopeSpans {
			r.spans = append(r.spans, scope.Spans...)
		}
	}
}

// of waits for the root of a trace, which ends last, and returns the spans.
func (r *receiver) of(t *testing.T, traceID string) traceSpans {
	t.Helper()
	var spans traceSpans
	require.Eventually(t, func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		spans = slices.DeleteFunc(slices.Clone(r.spans), func(s *trace.Span) bool { return hex.EncodeToString(s.TraceId) != traceID })
		return slices.ContainsFunc(spans, func(s *trace.Span) bool { return s.Name == "meet" })
	}, 20*time.Second, 10*time.Millisecond)
	return spans
}

type traceSpans []*trace.Span

// named returns the spans with a name below another span.
func (spans traceSpans) named(t *testing.T, name string, parent *trace.Span) traceSpans {
	t.Helper()
	var found traceSpans
	for _, s := range spans {
		if s.Name == name && (parent == nil || string(s.ParentSpanId) == string(parent.SpanId)) {
			found = append(found, s)
		}
	}
	require.NotEmpty(t, found, name)
	return found
}

// attributes returns the attributes of a span, as texts.
func attributes(s *trace.Span) map[string]string {
	values := map[string]string{}
	for _, a := range s.Attributes {
		values[a.Key] = a.Value.GetStringValue()
		if n, isNumber := a.Value.Value.(*common.AnyValue_IntValue); isNumber {
			values[a.Key] = strconv.FormatInt(n.IntValue, 10)
		}
	}
	return values
}

// listeningMeet is a Meet that records the headers of requests.
type listeningMeet struct {
	*gatewaytest.Meet
	mu   sync.Mutex
	seen []http.Header
}

func startListeningMeet(t *testing.T) *listeningMeet {
	t.Helper()
	l := new(listeningMeet)
	l.Meet = gatewaytest.StartMeet(t, sandbox.Quickstart(), func(meet http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			l.mu.Lock()
			l.seen = append(l.seen, r.Header.Clone())
			l.mu.Unlock()
			meet.ServeHTTP(w, r)
		})
	})
	return l
}

func (l *listeningMeet) take() []http.Header {
	l.mu.Lock()
	defer l.mu.Unlock()
	seen := l.seen
	l.seen = nil
	return seen
}

const (
	callersTrace = "0af7651916cd43dd8448eb211c80319c"
	callersSpan  = "b7ad6b7169203331"
)

// callersHeaders are trace headers of a caller, in all formats.
var callersHeaders = []string{
	"Traceparent", "00-" + callersTrace + "-" + callersSpan + "-01", "Tracestate", "caller=canary-state", "Baggage", "user=canary-baggage",
	"B3", "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1", "X-B3-TraceId", "80f198ee56343ba864fe8b2a57d3eff7",
	"X-B3-SpanId", "e457b5a2e4d86bd1", "X-B3-Sampled", "1", "Uber-Trace-Id", "canary-jaeger:1:0:1", "X-Amzn-Trace-Id", "Root=canary-aws",
	"X-Cloud-Trace-Context", "canary-google/1;o=1",
}

// With Caddy's tracing, a request is one trace from the caller to Meet. Its spans have the right
// parents and the attributes of OpenTelemetry's conventions. Log and audit trail contain the trace's
// id. The collector gets no credentials and no mail addresses.
func TestTracing_Spans(t *testing.T) {
	spans := startReceiver(t)
	redis := redistest.Standalone(t)
	meet := startListeningMeet(t)
	trail := filepath.Join(t.TempDir(), "audit.log")
	g := gatewaytest.Start(t, gatewaytest.Config{
		Site: "tracing {\nspan meet\n}", Gate: meet.Backend(),
		Global: "store redis " + redis.URL() + "\nsecret tracing-test-0123456789-0123456789\naudit {\noutput file " + trail + "\n}",
	})
	app := g.AddApplication(func(a *tokens.Application) { a.Domains = []string{"example.org"} })
	const mail = "canary.user@example.org"
	requests := 0
	// traced makes a request within a caller's trace and returns its spans.
	traced := func(want int, method, path, body string, headers ...string) (*gatewaytest.Answer, string, traceSpans) {
		t.Helper()
		requests++
		id := fmt.Sprintf("%032x", requests)
		a := g.Do(method, "/external-api/v1.0"+path, body, append([]string{"Content-Type", "application/json", "Traceparent", "00-" + id + "-" + callersSpan + "-01"}, headers...)...)
		require.Equal(t, want, a.Status, a.Body)
		return a, id, spans.of(t, id)
	}

	// A token request has the exchange, with the request to Meet below it.
	answer, id, sent := traced(http.StatusOK, http.MethodPost, "/application/token", gatewaytest.TokenBody(app.ID, app.Secret, mail))
	token, _ := answer.JSON(t)["access_token"].(string)
	root := sent.named(t, "meet", nil)[0]
	require.Equal(t, callersSpan, hex.EncodeToString(root.ParentSpanId))
	require.Equal(t, "token", attributes(root)["meet_gateway.endpoint"])
	require.Equal(t, "ok", attributes(root)["meet_gateway.outcome"])
	require.Equal(t, app.ID, attributes(root)["meet_gateway.application"])
	require.Equal(t, "/external-api/v1.0/application/token", attributes(root)["http.route"])
	exchange := sent.named(t, "meet_gateway.exchange", root)[0]
	post := sent.named(t, "POST", exchange)[0]
	require.Equal(t, trace.Span_SPAN_KIND_CLIENT, post.Kind)
	require.Equal(t, map[string]string{
		"http.request.method": "POST", "server.address": "meet.example.org", "server.port": "443", "http.response.status_code": "200",
		"url.full": "https://meet.example.org/external-api/v1.0/application/token/", "meet_gateway.operation": "exchange",
	}, attributes(post))
	requireParent(t, meet.take(), id, post)
	commands := 0
	for _, s := range sent {
		if attributes(s)["db.system.name"] == "redis" {
			commands++
			require.Equal(t, trace.Span_SPAN_KIND_CLIENT, s.Kind)
			require.Equal(t, map[string]string{"db.system.name": "redis", "db.operation.name": s.Name}, attributes(s))
			require.True(t, slices.ContainsFunc(sent, func(p *trace.Span) bool { return string(p.SpanId) == string(s.ParentSpanId) }))
		}
	}
	require.Positive(t, commands)

	// A request for a room has the token's check and the request to Meet as siblings.
	bearer := []string{"Authorization", gatewaytest.Bearer(token)}
	answer, id, sent = traced(http.StatusCreated, http.MethodPost, "/rooms", "{}", bearer...)
	root = sent.named(t, "meet", nil)[0]
	sent.named(t, "meet_gateway.verify", root)
	post = sent.named(t, "POST", root)[0]
	require.Equal(t, "201", attributes(post)["http.response.status_code"])
	require.Equal(t, "rooms", attributes(post)["meet_gateway.operation"])
	requireParent(t, meet.take(), id, post)
	room, _ := answer.JSON(t)["id"].(string)
	_, err := audit.Query([]string{trail}, audit.Filter{Room: room}, func(l audit.Line) error {
		require.Equal(t, id, l.TraceID)
		return nil
	})
	require.NoError(t, err)

	// A refusal by Meet is an error of its span. The log has the trace's id with a refusal by the
	// gateway.
	_, id, sent = traced(http.StatusNotFound, http.MethodGet, "/rooms/5eed0000-0000-4000-8000-000000000000", "", bearer...)
	get := sent.named(t, "GET", sent.named(t, "meet", nil)[0])[0]
	require.Equal(t, trace.Status_STATUS_CODE_ERROR, get.Status.GetCode())
	require.Equal(t, "404", attributes(get)["error.type"])
	requireParent(t, meet.take(), id, get)
	_, id, sent = traced(http.StatusUnauthorized, http.MethodGet, "/rooms", "", "Authorization", "Bearer canary-token")
	root = sent.named(t, "meet", nil)[0]
	verify := sent.named(t, "meet_gateway.verify", root)[0]
	require.Equal(t, "not_a_jwt", attributes(verify)["error.type"])
	require.Equal(t, "not_a_jwt", attributes(root)["meet_gateway.outcome"])
	require.Contains(t, g.Logs(), `"trace_id":"`+id+`"`)

	// An exchange during a request for rooms belongs to its trace, also at Meet.
	_, err = g.Authority().UpdateApplication(t.Context(), app.ID, 0, func(a *tokens.Application) error {
		a.Note = "edited"
		return nil
	})
	require.NoError(t, err)
	_, id, sent = traced(http.StatusOK, http.MethodGet, "/rooms", "", bearer...)
	root = sent.named(t, "meet", nil)[0]
	seen := meet.take()
	require.Len(t, seen, 2)
	requireParent(t, seen[:1], id, sent.named(t, "POST", root)[0])
	requireParent(t, seen[1:], id, sent.named(t, "GET", root)[0])

	spans.mu.Lock()
	defer spans.mu.Unlock()
	for _, canary := range []string{
		mail, "canary", app.Secret, token, strings.Split(token, ".")[2], gatewaytest.MeetClientSecret, "mg1:",
	} {
		require.NotContains(t, spans.raw.String(), canary)
	}
}

// requireParent checks that Meet got one request whose parent is a given span.
func requireParent(t *testing.T, seen []http.Header, traceID string, parent *trace.Span) {
	t.Helper()
	require.Len(t, seen, 1)
	require.Equal(t, "00-"+traceID+"-"+hex.EncodeToString(parent.SpanId)+"-01", seen[0].Get("Traceparent"))
	require.Empty(t, seen[0].Get("Baggage"))
}

// Without tracing, no trace header of a caller reaches Meet, with a bare backend and with options.
func TestTracing_OffDropsCallersHeaders(t *testing.T) {
	for _, option := range []string{"", "header_up X-Backend-Option on"} {
		meet := startListeningMeet(t)
		g := gatewaytest.Start(t, gatewaytest.Config{Gate: meet.Backend(option) + "\nroute PATCH /rooms/{id} rooms:update"})
		app := g.AddApplication(nil)
		headers := append([]string{"Content-Type", "application/json"}, callersHeaders...)
		answer := g.Do(http.MethodPost, "/external-api/v1.0/application/token", gatewaytest.TokenBody(app.ID, app.Secret, "ada@example.org"), headers...)
		token, _ := answer.JSON(t)["access_token"].(string)
		headers = append(headers, "Authorization", gatewaytest.Bearer(token))
		answer = g.Do(http.MethodPost, "/external-api/v1.0/rooms", "{}", headers...)
		require.Equal(t, http.StatusCreated, answer.Status, answer.Body)
		id, _ := answer.JSON(t)["id"].(string)
		for _, path := range []string{"/external-api/v1.0/rooms", "/external-api/v1.0/rooms/" + id} {
			require.Equal(t, http.StatusOK, g.Do(http.MethodGet, path, "", headers...).Status)
		}
		g.Do(http.MethodPatch, "/external-api/v1.0/rooms/"+id, "{}", headers...)
		seen := meet.take()
		require.GreaterOrEqual(t, len(seen), 5)
		for _, h := range seen {
			for i := 0; i < len(callersHeaders); i += 2 {
				require.Empty(t, h.Values(callersHeaders[i]), "%q: %s", option, callersHeaders[i])
			}
		}
	}
}
