// SPDX-License-Identifier: MIT

package admin

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/caddymodule/admin/wire"
	"github.com/meet-gateway/meet-gateway/tokens"
)

func TestStatus(t *testing.T) {
	a := newTester(t)
	a.gateway.backends = []wire.Backend{{Host: "meet.example.org", Kind: "reverse_proxy", Upstreams: []wire.Upstream{{Address: "one:80"}}}}
	a.gateway.routes = []wire.Routes{{BasePaths: []string{"/a"}, Routes: []wire.Route{{Method: "PATCH", Path: "/rooms/{id}", Scope: "rooms:update", Endpoint: "operator"}}}}

	require.Eventually(t, a.authority.Fresh, 10*time.Second, time.Millisecond)
	w := a.call(http.MethodGet, "status", "")
	require.Equal(t, http.StatusOK, w.Code)
	var s wire.Status
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &s))
	require.True(t, s.Ready)
	require.Equal(t, "embedded", s.Store.Mode)
	require.True(t, s.Feed.Fresh)
	require.Len(t, s.Keys, 1)
	require.Equal(t, "v1, Caddy v2", s.Version)
	require.Equal(t, a.gateway.backends, s.Backends)

	require.Equal(t, map[string]any{"gates": []any{map[string]any{"base_paths": []any{"/a"}, "routes": []any{
		map[string]any{"method": "PATCH", "path": "/rooms/{id}", "scope": "rooms:update", "endpoint": "operator"},
	}}}}, a.object(http.StatusOK, http.MethodGet, "routes", ""))
}

func TestHealth(t *testing.T) {
	a := newTester(t)
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
		ready, reason := readiness(tc.problem, tokens.FeedStatus{Fresh: tc.fresh})
		require.Equal(t, tc.ready, ready)
		require.Equal(t, tc.reason, reason != "")
	}
}
