// SPDX-License-Identifier: MIT

package storetest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tests/redistest"
	"github.com/meet-gateway/meet-gateway/tokens"
)

// TestACL_DocumentedUserIsEnough runs the suite as the user that docs/redis.md recommends.
func TestACL_DocumentedUserIsEnough(t *testing.T) {
	command := redistest.DocumentedUser(t, "meet-gateway")
	for name, start := range map[string]func() ([]*redistest.Server, tokens.RedisOptions){
		"server": func() ([]*redistest.Server, tokens.RedisOptions) {
			s := redistest.Standalone(t)
			return []*redistest.Server{s}, tokens.RedisOptions{Addresses: []string{s.Addr()}}
		},
		"cluster": func() ([]*redistest.Server, tokens.RedisOptions) {
			c := redistest.Cluster(t)
			return c.Nodes, tokens.RedisOptions{Addresses: c.Addrs(), Cluster: true}
		},
	} {
		t.Run(name, func(t *testing.T) {
			servers, o := start()
			o.Username, o.Password, o.Timeout = "meet-gateway", redistest.ACLPassword, 10*time.Second
			for _, s := range servers {
				require.NoError(t, s.Client().Do(t.Context(), command...).Err())
			}
			runSuite(t, func(t *testing.T) *tokens.Store {
				s, err := tokens.OpenRedis(o)
				require.NoError(t, err)
				return s
			})
			requireNothingDenied(t, servers)
		})
	}
}

// TestACL_Sentinels does the same in a group watched by Sentinels, over TLS only, as
// the two users that docs/redis.md recommends. It includes a failover, and a phase
// without Sentinels.
func TestACL_Sentinels(t *testing.T) {
	group := redistest.SentinelSecure(t)
	for _, s := range group.Data {
		require.NoError(t, s.Client().Do(t.Context(), redistest.DocumentedUser(t, "meet-gateway")...).Err())
	}
	for _, s := range group.Sentinels {
		require.NoError(t, s.Client().Do(t.Context(), redistest.DocumentedUser(t, "meet-gateway-sentinel")...).Err())
	}
	open := func(t *testing.T) *tokens.Store {
		s, err := tokens.OpenRedis(tokens.RedisOptions{
			Addresses: group.Addrs(), MasterName: redistest.MasterName, TLS: group.Data[0].TLSConfig(), WaitReplicas: 1, Timeout: 10 * time.Second,
			Username: "meet-gateway", Password: redistest.ACLPassword,
			SentinelUsername: "meet-gateway-sentinel", SentinelPassword: redistest.ACLPassword,
		})
		require.NoError(t, err)
		return s
	}
	runSuite(t, open)

	a := Node(t, open)
	app, _ := App(t, a)
	tok := Issue(t, a, app, "alice@example.org")
	group.Failover(t)
	well := func(what string) {
		Eventually(t, what, func() bool {
			if a.Ready(t.Context()) != nil || !a.Fresh() {
				return false
			}
			_, err := a.Inspect(t.Context(), tok.Value)
			return err == nil
		})
	}
	well("the new primary is used")
	requireNothingDenied(t, append(group.Data, group.Sentinels...))
	for _, s := range group.Sentinels {
		s.Kill(t)
	}
	well("the replica vouches for the primary")
	requireNothingDenied(t, group.Data)
}

func requireNothingDenied(t *testing.T, servers []*redistest.Server) {
	t.Helper()
	for _, s := range servers {
		denied, err := s.Client().Do(t.Context(), "ACL", "LOG").Slice()
		require.NoError(t, err)
		require.Empty(t, denied, "Redis refused something")
	}
}
