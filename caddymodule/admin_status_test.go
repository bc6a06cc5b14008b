package caddymodule

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/backendclient"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

func TestAdminStatus(t *testing.T) {
	a := newAdminTester(t)
	table, err := newRouteTable([]Route{{Method: http.MethodPatch, Path: "/rooms/{id}", Scope: "rooms:update"}})
	require.NoError(t, err)
	sandbox := &Handler{BasePaths: []string{"/"}, host: "sandbox.example.org", routes: table, guest: newGuestTransport(fakeSandbox{&Sandbox{}})}
	proxy := &Handler{
		BasePaths: []string{"/a", "/b"}, host: "meet.example.org", routes: table,
		guest: newGuestTransport(&reverseproxy.Handler{Upstreams: reverseproxy.UpstreamPool{
			{Dial: "one:80", Host: new(reverseproxy.Host)}, {Dial: "{http.request.header.x}:80"},
		}}),
	}
	a.app.gates = []*Handler{sandbox, proxy}

	require.Eventually(t, a.authority.Fresh, 10*time.Second, time.Millisecond)
	w := a.call(http.MethodGet, "status", "")
	require.Equal(t, http.StatusOK, w.Code)
	var s gatewayStatus
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &s))
	require.True(t, s.Ready)
	require.Equal(t, "embedded", s.Store.Mode)
	require.True(t, s.Feed.Fresh)
	require.Len(t, s.Keys, 1)
	require.Equal(t, []backendStatus{
		{Host: "sandbox.example.org", Kind: "sandbox", Healthy: true},
		{Host: "meet.example.org", Kind: "reverse_proxy", Healthy: true, Upstreams: []upstreamHealth{
			{Address: "one:80", Available: true}, {Address: "{http.request.header.x}:80", Available: true},
		}},
	}, s.Backends)

	gates := a.object(http.StatusOK, http.MethodGet, "routes", "")["gates"].([]any)
	require.Len(t, gates, 2)
	gate := gates[1].(map[string]any)
	require.Equal(t, []any{"/a", "/b"}, gate["base_paths"])
	require.Contains(t, gate["routes"], map[string]any{"method": "PATCH", "path": "/rooms/{id}", "scope": "rooms:update", "endpoint": "operator"})
	require.Contains(t, gate["routes"], map[string]any{"method": "GET", "path": "/rooms", "scope": "rooms:list", "endpoint": "rooms_list"})
}

// fakeSandbox is a sandbox that was not provisioned.
type fakeSandbox struct{ *Sandbox }

func (fakeSandbox) Quickstart() (string, backendclient.Credentials) {
	return "", backendclient.Credentials{}
}

func TestAdminHealth(t *testing.T) {
	a := newAdminTester(t)
	require.Equal(t, http.StatusOK, a.call(http.MethodHead, "health/live", "").Code)
	require.Equal(t, map[string]any{"live": true}, a.object(http.StatusOK, http.MethodGet, "health/live", ""))
	require.Equal(t, true, a.object(http.StatusOK, http.MethodGet, "health/ready", "")["ready"])

	a.redis.Close()
	w := a.call(http.MethodGet, "health/ready", "")
	require.Equal(t, http.StatusServiceUnavailable, w.Code)
	require.NotEmpty(t, w.Header().Get("Retry-After"))
	require.Equal(t, http.StatusOK, a.call(http.MethodGet, "health/live", "").Code)
	s := a.object(http.StatusOK, http.MethodGet, "status", "")
	require.Equal(t, false, s["ready"])
	require.Equal(t, false, s["store"].(map[string]any)["available"])
}

func TestReadiness(t *testing.T) {
	for _, tc := range []struct {
		problem       string
		fresh         bool
		ready, reason bool
	}{
		{"", true, true, false},
		{"", false, true, true},
		{"redis does not answer", true, false, true},
		{"redis does not answer", false, false, true},
	} {
		ready, reason := readiness(tc.problem, tc.fresh)
		require.Equal(t, tc.ready, ready)
		require.Equal(t, tc.reason, reason != "")
	}
}
