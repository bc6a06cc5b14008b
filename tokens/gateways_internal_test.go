// SPDX-License-Identifier: MIT

package tokens

import (
	"fmt"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tokens/gateways"
	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
)

var (
	rightSecret = []byte("gateways-right-secret-0123456789abcdef")
	wrongSecret = []byte("gateways-wrong-secret-0123456789abcdef")
)

func withSecrets(secrets ...[]byte) func(*Options) {
	return func(o *Options) { o.Secrets = secrets }
}

// Among gateways with different secrets, only those that lack the secret of the
// installation are not ready, whichever started first.
func TestReady_MissingSecret(t *testing.T) {
	ready := func(t *testing.T, a *Authority, want bool) {
		t.Helper()
		eventually(t, func() bool {
			s := a.Status(t.Context())
			require.True(t, s.Store.Available)
			return len(s.MissingKeys) > 0 && (s.KeysError == "") == want
		})
		if err := a.Ready(t.Context()); want {
			require.NoError(t, err)
		} else {
			require.ErrorIs(t, err, ErrUnavailable)
		}
	}
	t.Run("with applications", func(t *testing.T) {
		server := miniredis.RunT(t)
		wrong, _ := testNode(t, server, withSecrets(wrongSecret)) // started first
		a, _ := testNode(t, server, withSecrets(rightSecret))
		testApp(t, a)
		ready(t, wrong, false)
		ready(t, a, true)
	})
	t.Run("without applications", func(t *testing.T) {
		server := miniredis.RunT(t)
		a, _ := testNode(t, server, withSecrets(rightSecret))
		eventually(t, func() bool { return server.Exists(redisdb.KeyGateways) })
		b, _ := testNode(t, server, withSecrets(wrongSecret))
		ready(t, b, false)
		ready(t, a, true)
	})
	t.Run("documented rotation", func(t *testing.T) {
		server := miniredis.RunT(t)
		for _, secrets := range [][][]byte{{rightSecret}, {rightSecret, wrongSecret}, {wrongSecret, rightSecret}} {
			a, _ := testNode(t, server, withSecrets(secrets...))
			eventually(t, a.Fresh)
			require.NoError(t, a.Ready(t.Context()))
		}
	})
}

// Every gateway lists all running gateways.
func TestGateways_List(t *testing.T) {
	ctx := t.Context()
	server := miniredis.RunT(t)
	a, _ := testNode(t, server, func(o *Options) { o.Version = "v1" })
	b, _ := testNode(t, server, func(o *Options) { o.Version = "v2" })
	var list []Gateway
	eventually(t, func() bool {
		var err error
		list, err = a.Gateways(ctx)
		require.NoError(t, err)
		return len(list) == 2
	})
	versions := map[string]bool{}
	for _, g := range list {
		versions[g.Version] = g.Self
		require.NotEmpty(t, g.Host)
		require.Equal(t, []string{a.keys.First().ID}, g.Keys)
		require.Equal(t, g.Keys, g.Uses)
		require.False(t, g.Silent)
	}
	require.Equal(t, map[string]bool{"v1": true, "v2": false}, versions)

	// A gateway that stopped without notice is listed as silent, and later removed.
	entry := func(age time.Duration) {
		server.HSet(redisdb.KeyGateways, "dead", fmt.Sprintf(`%d {"version":"v0"}`, time.Now().Add(-age).UnixMicro()))
	}
	entry(gateways.SilentAfter + time.Second)
	list, err := a.Gateways(ctx)
	require.NoError(t, err)
	require.Len(t, list, 3)
	require.True(t, list[0].Silent)
	entry(gateways.GoneAfter + time.Second)
	list, err = a.Gateways(ctx)
	require.NoError(t, err)
	require.Len(t, list, 2)
	require.Empty(t, server.HGet(redisdb.KeyGateways, "dead"))

	require.NoError(t, b.Close())
	list, err = a.Gateways(ctx)
	require.NoError(t, err)
	require.Len(t, list, 1)
}
