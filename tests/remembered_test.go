// SPDX-License-Identifier: MIT

package tests

import (
	"encoding/json"
	"net/http"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tests/gatewaytest"
	"github.com/meet-gateway/meet-gateway/tests/redistest"
	"github.com/meet-gateway/meet-gateway/tokens"
)

// A token request is decided from memory, but before a refusal the gateway reads the application
// from Redis, because it may have missed a change.
func TestToken_RefusalReadsRedis(t *testing.T) {
	server := redistest.Standalone(t)
	g := gatewaytest.Start(t, gatewaytest.Config{Global: "store redis " + server.URL() + "\nsecret 0123456789-0123456789-0123456789-abc"})
	// unheard changes the record in Redis without publishing the change.
	unheard := func(c *gatewaytest.Client, member string, value any) {
		t.Helper()
		key := "mg1:a:" + c.ID
		var document map[string]any
		require.NoError(t, json.Unmarshal([]byte(server.Client().HGet(t.Context(), key, "d").Val()), &document))
		document[member] = value
		text, err := json.Marshal(document)
		require.NoError(t, err)
		require.NoError(t, server.Client().HSet(t.Context(), key, "d", text).Err())
		require.NoError(t, server.Client().HIncrBy(t.Context(), key, "v", 1).Err())
	}
	status := func(c *gatewaytest.Client, mail string) int { return g.TokenRequest(c, mail).Status }

	app := g.AddApplication(func(a *tokens.Application) { a.Domains = []string{"example.com"} })
	for range 2 {
		require.Equal(t, http.StatusOK, status(app, "alice@example.com"))
		require.Equal(t, http.StatusForbidden, status(app, "alice@example.net"))
	}
	unheard(app, "domains", []string{"example.com", "example.net"})
	require.Equal(t, http.StatusOK, status(app, "alice@example.net"))

	elsewhere := g.AddApplication(func(a *tokens.Application) {
		a.Domains, a.Networks = []string{"example.com"}, []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	})
	for range 2 {
		require.Equal(t, http.StatusForbidden, status(elsewhere, "alice@example.com"))
	}
	unheard(elsewhere, "nets", nil)
	require.Equal(t, http.StatusOK, status(elsewhere, "alice@example.com"))

	off := g.AddApplication(nil)
	_, err := g.Authority().UpdateApplication(t.Context(), off.ID, 0, func(a *tokens.Application) error {
		a.Active, a.Domains = false, []string{"example.com"}
		return nil
	})
	require.NoError(t, err)
	for range 2 {
		require.Equal(t, http.StatusUnauthorized, status(off, "alice@example.com"))
	}
	unheard(off, "active", true)
	require.Equal(t, http.StatusOK, status(off, "alice@example.com"))
}
