// SPDX-License-Identifier: MIT

package caddymodule

import (
	"net/http"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/caddymodule/admin/wire"
	"github.com/meet-gateway/meet-gateway/caddymodule/upstream"
)

func TestGateStatus(t *testing.T) {
	app := new(App)
	require.NotNil(t, app.Routes(), "it is empty, not nil")
	require.NotNil(t, app.Backends())
	table, err := newRouteTable([]Route{{Method: http.MethodPatch, Path: "/rooms/{id}", Scope: "rooms:update"}})
	require.NoError(t, err)
	app.handlers = []*Handler{
		{BasePaths: []string{"/"}, host: "sandbox.example.org", routes: table, upstream: upstream.New(new(Sandbox), nil, nil)},
		{
			BasePaths: []string{"/a", "/b"}, host: "meet.example.org", routes: table,
			upstream: upstream.New(&reverseproxy.Handler{Upstreams: reverseproxy.UpstreamPool{
				{Dial: "one:80", Host: new(reverseproxy.Host)}, {Dial: "{http.request.header.x}:80"},
			}}, nil, nil),
		},
		{host: "checked.example.org", routes: table, upstream: upstream.New(&reverseproxy.Handler{
			HealthChecks: &reverseproxy.HealthChecks{Active: &reverseproxy.ActiveHealthChecks{URI: "/__lbheartbeat__"}},
		}, nil, nil)},
	}

	require.Equal(t, []wire.Backend{
		{Host: "sandbox.example.org", Kind: "sandbox", Healthy: true, Checked: true},
		{Host: "meet.example.org", Kind: "reverse_proxy", Healthy: true, Upstreams: []wire.Upstream{
			{Address: "one:80", Available: true}, {Address: "{http.request.header.x}:80", Available: true},
		}},
		{Host: "checked.example.org", Kind: "reverse_proxy", Healthy: true, Checked: true},
	}, app.Backends())
	for _, c := range []*reverseproxy.HealthChecks{
		nil,
		{},
		{Active: &reverseproxy.ActiveHealthChecks{}, Passive: &reverseproxy.PassiveHealthChecks{MaxFails: 3}},
	} {
		require.False(t, checksHealth(c), "nothing is checked")
	}
	require.True(t, checksHealth(&reverseproxy.HealthChecks{Passive: &reverseproxy.PassiveHealthChecks{FailDuration: 1}}))

	gates := app.Routes()
	require.Len(t, gates, 3)
	require.Equal(t, []string{"/a", "/b"}, gates[1].BasePaths)
	require.Contains(t, gates[1].Routes, wire.Route{Method: "PATCH", Path: "/rooms/{id}", Scope: "rooms:update", Endpoint: "operator", Policy: "every mail in the body under the application's domains; access_level by room_access_levels"})
	require.Contains(t, gates[1].Routes, wire.Route{Method: "GET", Path: "/rooms", Scope: "rooms:list", Endpoint: "rooms_list"})
}
