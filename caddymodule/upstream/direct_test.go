// SPDX-License-Identifier: MIT

package upstream

import (
	"context"
	"encoding/json"
	"net/http"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
)

func TestBareAddress(t *testing.T) {
	for _, tc := range []struct{ raw, want string }{
		{`{"handler":"reverse_proxy","upstreams":[{"dial":"meet.internal:8000"}]}`, "meet.internal:8000"},
		{`{"handler":"reverse_proxy","upstreams":[{"dial":"[::1]:8000"}]}`, "[::1]:8000"},
		{`{"handler":"reverse_proxy","upstreams":[{"dial":"meet.internal:443"}],"transport":{"protocol":"http","tls":{"server_name":"{env.NAME}"}}}`, "meet.internal:443"},
		{`{"handler":"reverse_proxy","upstreams":[{"dial":"a:1"}],"transport":{"protocol":"http","versions":["1.1"],"response_header_timeout":5}}`, "a:1"},

		{`{"handler":"reverse_proxy","upstreams":[{"dial":"a:1"},{"dial":"b:1"}]}`, ""},
		{`{"handler":"reverse_proxy","upstreams":[{"dial":"a:1","max_requests":3}]}`, ""},
		{`{"handler":"reverse_proxy","upstreams":[]}`, ""},
		{`{"handler":"reverse_proxy","dynamic_upstreams":{"source":"srv"}}`, ""},
		{`{"handler":"reverse_proxy","upstreams":[{"dial":"a:1"}],"headers":{}}`, ""},
		{`{"handler":"reverse_proxy","upstreams":[{"dial":"a:1"}],"load_balancing":{"retries":2}}`, ""},
		{`{"handler":"reverse_proxy","upstreams":[{"dial":"a:1"}],"health_checks":{}}`, ""},
		{`{"handler":"reverse_proxy","upstreams":[{"dial":"a:1"}],"not_in_this_caddy":1}`, ""},
		{`{"handler":"reverse_proxy","upstreams":[{"dial":"a:1"}],"transport":{"protocol":"fastcgi"}}`, ""},
		{`{"handler":"reverse_proxy","upstreams":[{"dial":"a:1"}],"transport":{"protocol":"http","proxy_protocol":"v2"}}`, ""},
		{`{"handler":"reverse_proxy","upstreams":[{"dial":"a:1"}],"transport":{"protocol":"http","network_proxy":{"from":"none"}}}`, ""},
		{`{"handler":"reverse_proxy","upstreams":[{"dial":"{env.MEET}"}]}`, ""},
		{`{"handler":"reverse_proxy","upstreams":[{"dial":"unix//run/meet.sock"}]}`, ""},
		{`{"handler":"reverse_proxy","upstreams":[{"dial":"a:1-2"}]}`, ""},
		{`{"handler":"reverse_proxy","upstreams":[{"dial":":8000"}]}`, ""},
		{`{"handler":"meet_sandbox"}`, ""},
		{`{"handler":"subroute","routes":[]}`, ""},
		{``, ""},
	} {
		require.Equal(t, tc.want, bareAddress(json.RawMessage(tc.raw)), tc.raw)
	}
}

// roundTripFunc is a function that is used as a transport.
type roundTripFunc func(*http.Request) (*http.Response, error)

func (f roundTripFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// X-Forwarded-For holds the client address that Caddy trusts, and the peer if it is another
// address.
func TestDirectTransport_ForwardedHeaders(t *testing.T) {
	for _, tc := range []struct{ peer, clientIP, want string }{
		{"192.0.2.1:1234", "192.0.2.1", "192.0.2.1"},
		{"192.0.2.1:1234", "203.0.113.9", "203.0.113.9, 192.0.2.1"},
		{"[2001:db8::1]:1234", "", "2001:db8::1"},
		{"@", "203.0.113.9", "203.0.113.9"},
		{"@", "", ""},
	} {
		ctx := context.WithValue(context.Background(), caddyhttp.OriginalRequestCtxKey, http.Request{RemoteAddr: tc.peer})
		ctx = context.WithValue(ctx, caddyhttp.VarsCtxKey, map[string]any{caddyhttp.ClientIPVarKey: tc.clientIP})
		direct := &directTransport{
			address: "meet.internal:8000", logger: zap.NewNop(),
			transport: roundTripFunc(func(r *http.Request) (*http.Response, error) {
				require.Equal(t, tc.want, r.Header.Get("X-Forwarded-For"))
				require.Equal(t, "meet.example.org", r.Header.Get("X-Forwarded-Host"))
				require.Equal(t, "https", r.Header.Get("X-Forwarded-Proto"))
				require.Equal(t, "1.1 Caddy", r.Header.Get("Via"))
				require.Equal(t, "meet.example.org", r.Host)
				require.Equal(t, "meet.internal:8000", r.URL.Host)
				caddyhttp.SetVar(r.Context(), "set", "here")
				return &http.Response{StatusCode: http.StatusNoContent, Body: http.NoBody}, nil
			}),
		}
		res, err := (&Upstream{direct: direct}).RoundTrip(meetRequest(ctx, t))
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		require.Nil(t, caddyhttp.GetVar(ctx, "set"), "variables of the request to Meet do not reach the client's request")
	}
}
