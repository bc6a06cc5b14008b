// SPDX-License-Identifier: MIT

package main

import (
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestWarnOfNeighbour(t *testing.T) {
	file := filepath.Join(t.TempDir(), "Caddyfile")
	require.NoError(t, os.WriteFile(file, []byte("{$MEET_GATEWAY_ADDR::8080} {\n}\n"), 0o600))
	var out strings.Builder
	warning := func(args ...string) string {
		out.Reset()
		warnOfNeighbour(append([]string{"meet-gateway"}, args...), &out)
		return out.String()
	}
	before := caddy.DefaultAdminListen
	t.Cleanup(func() { caddy.DefaultAdminListen = before })
	caddy.DefaultAdminListen = "127.0.0.1:1"

	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Setenv("MEET_GATEWAY_ADDR", l.Addr().String())
	require.Contains(t, warning("run", "--config", file), "MEET_GATEWAY_ADDR")
	require.Empty(t, warning("validate", "--config", file))
	require.Empty(t, warning("run", "--config", file+"-none"))
	t.Setenv("LISTEN_FDS", "1")
	require.Empty(t, warning("run", "--config", file), "systemd passes the socket of this port")
	t.Setenv("LISTEN_FDS", "")
	require.NoError(t, l.Close())
	require.Empty(t, warning("run", "--config="+file))

	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		assert.Equal(t, "/meet-gateway/health/live", r.URL.Path)
	}))
	defer other.Close()
	caddy.DefaultAdminListen = strings.TrimPrefix(other.URL, "http://")
	require.Contains(t, warning("run"), "another gateway is running")
}
