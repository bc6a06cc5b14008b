// SPDX-License-Identifier: MIT

package upstream

import (
	"context"
	"net/http"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/stretchr/testify/require"
)

func TestGuestRequest_HasCaddyContext(t *testing.T) {
	t.Setenv("GUEST_REQUEST_TEST", "from the environment")
	group := caddy.CtxKey("route_group")
	outer := context.WithValue(context.Background(), group, map[string]struct{}{"taken": {}})
	outer = context.WithValue(outer, caddyhttp.VarsCtxKey, map[string]any{caddyhttp.ClientIPVarKey: "203.0.113.9", "outer": "yes"})
	outer = context.WithValue(outer, http.LocalAddrContextKey, "kept")
	rec := new(recorder)
	rec.reset()
	g := New(nil, nil, nil).newContext(outer)
	ctx := context.Context(g)
	g.take(meetRequest(ctx, t), rec)

	require.Equal(t, "kept", ctx.Value(http.LocalAddrContextKey))
	require.Nil(t, g.full, "it is built on first use")
	repl := ctx.Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	caddyhttp.SetVar(ctx, "inner", "set")
	for key, want := range map[string]any{
		"http.request.host":                     "meet.example.org",
		"http.request.uri.path":                 "/external-api/v1.0/rooms/",
		"http.request.uri.query.page":           "1",
		"http.request.header.X-Forwarded-Proto": "https",
		"http.vars.client_ip":                   "203.0.113.9",
		"http.vars.inner":                       "set",
		"http.vars.outer":                       nil,
		"env.GUEST_REQUEST_TEST":                "from the environment",
	} {
		got, ok := repl.Get(key)
		require.True(t, ok, key)
		require.Equal(t, want, got, key)
	}
	_, ok := repl.Get("http.reverse_proxy.status_code")
	require.False(t, ok)
	require.Empty(t, ctx.Value(group), "a route group of its own")
	require.NotNil(t, ctx.Value(caddyhttp.ExtraLogFieldsCtxKey))
	require.Equal(t, "/external-api/v1.0/rooms/", ctx.Value(caddyhttp.OriginalRequestCtxKey).(http.Request).URL.Path)
}

func TestPeerIP(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.1:80": "192.0.2.1", "[2001:db8::1]:80": "2001:db8::1", "[fe80::1%eth0]:80": "fe80::1", "@": "@", "": "",
	} {
		require.Equal(t, want, peerIP(in), in)
	}
}
