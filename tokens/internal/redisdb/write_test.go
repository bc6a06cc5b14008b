// SPDX-License-Identifier: MIT

package redisdb_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tests/redistest"
	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
)

// A slot moves while writes wait for replicas. Redis redirects them, and they succeed.
func TestWrite_SlotMoves(t *testing.T) {
	cluster := redistest.Cluster(t)
	for _, n := range cluster.Nodes {
		cluster.AddReplica(t, n)
	}
	db, err := redisdb.Open(redisdb.Options{Addresses: cluster.Addrs(), Cluster: true, WaitReplicas: 1, Timeout: 5 * time.Second})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	count := redisdb.NewScript(`return redis.call('INCR', KEYS[1])`)
	written := map[string]int64{}
	write := func(stage string) {
		t.Helper()
		for i := range 4 {
			key := fmt.Sprintf("{moving}%d", i)
			written[key]++
			reply, err := db.Write(t.Context(), count, key)
			require.NoError(t, err, stage)
			n, err := reply.Int64()
			require.NoError(t, err, stage)
			require.Equal(t, written[key], n, stage)
		}
	}
	write("before")
	for range 3 {
		move := cluster.BeginSlotMove(t, cluster.Slot(t, "{moving}"))
		require.Equal(t, 2, move.MoveKeys(t, 2))
		write("some keys have moved")
		move.Finish(t)
		write("the slot has moved")
	}
}
