// SPDX-License-Identifier: MIT

package cluster

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tests/gatewaytest"
	"github.com/meet-gateway/meet-gateway/tests/redistest"
)

// TestSecret_Mismatch: a gateway with a wrong secret reports it, and answers 503 instead of 401 to
// valid tokens and credentials.
func TestSecret_Mismatch(t *testing.T) {
	t.Parallel()
	redis := redistest.Standalone(t)
	c := startCluster(t, settings{store: func(int) string { return "store redis " + redis.URL() }})
	app := c.nodes[0].addApplication(t, "")
	token := app.mustMint(t, c.nodes[0], "alice@example.org")
	g := c.nodes[1]
	require.Equal(t, 200, g.rooms(t, token))

	mistaken := g.config
	mistaken.global = strings.Replace(mistaken.global, secret, "mistaken-"+secret, 1)
	require.Equal(t, http.StatusOK, g.reload(t, mistaken).Status)
	eventually(t, "the log line", func() bool { return strings.Contains(g.output(t), "keys that are not configured here") })
	status := g.call(t, http.MethodGet, g.admin+"/meet-gateway/status", "")
	require.Contains(t, status.Body, `"missing_keys"`)
	answers := atOnce(t, 4, func(i int) (*gatewaytest.Answer, error) {
		bearer := []string{"Authorization", gatewaytest.Bearer(token)}
		switch i {
		case 0:
			return g.try(http.MethodGet, roomsPath, "", bearer...)
		case 1:
			return g.try(http.MethodGet, identityPath, "", bearer...)
		case 2:
			return app.mint(g, "alice@example.org")
		default:
			return app.revoke(g, token)
		}
	})
	for _, a := range answers {
		require.Equal(t, http.StatusServiceUnavailable, a.Status, a.Body)
		require.NotEmpty(t, a.Header.Get("Retry-After"))
	}

	require.Equal(t, http.StatusOK, g.reload(t, g.config).Status)
	require.Equal(t, 200, g.rooms(t, token))
	require.Equal(t, 200, c.nodes[2].rooms(t, token))
}
