// SPDX-License-Identifier: MIT

package tokens_test

import (
	"cmp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tests/redistest"
	"github.com/meet-gateway/meet-gateway/tokens"
	"github.com/meet-gateway/meet-gateway/tokens/embedded"
	"github.com/meet-gateway/meet-gateway/tokens/storetest"
)

func TestEmbeddedStore(t *testing.T) {
	server, err := embedded.Start()
	require.NoError(t, err)
	t.Cleanup(server.Close)
	storetest.Run(t, func(t *testing.T) *tokens.Store {
		s, err := server.Connect()
		require.NoError(t, err)
		return s
	})
}

func TestStandaloneStore(t *testing.T) {
	server := redistest.Standalone(t)
	storetest.Run(t, opener(tokens.RedisOptions{URL: server.URL()}))
}

func TestClusterStore(t *testing.T) {
	cluster := redistest.Cluster(t)
	storetest.Run(t, opener(tokens.RedisOptions{Addresses: cluster.Addrs(), Cluster: true}))
}

func TestSentinelStore(t *testing.T) {
	group := redistest.Sentinel(t)
	storetest.Run(t, opener(tokens.RedisOptions{Addresses: group.Addrs(), MasterName: redistest.MasterName, WaitReplicas: 1}))
}

// opener opens a store that waits for a busy machine, unless the test is about a
// shorter timeout.
func opener(o tokens.RedisOptions) storetest.Opener {
	o.Timeout = cmp.Or(o.Timeout, 10*time.Second)
	return func(t *testing.T) *tokens.Store {
		s, err := tokens.OpenRedis(o)
		require.NoError(t, err)
		return s
	}
}
