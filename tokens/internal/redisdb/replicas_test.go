// SPDX-License-Identifier: MIT

package redisdb

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tests/redistest"
)

// awaitReplica changes a key until the replica of its server has confirmed it.
func awaitReplica(t *testing.T, db *DB, key string, replica *redistest.Server) {
	t.Helper()
	require.Eventually(t, func() bool {
		return db.Set(context.WithoutCancel(t.Context()), key, "x", 0) == nil && slices.Equal(db.replicas(context.WithoutCancel(t.Context())), []string{replica.Addr()})
	}, 20*time.Second, 20*time.Millisecond)
}

// Replicas are asked with the credentials and the TLS settings of the store. That appears in no
// statistics.
func TestUnusableReplicas_Sentinel(t *testing.T) {
	group := redistest.SentinelSecure(t)
	db, err := Open(Options{
		Addresses: group.Addrs(), MasterName: redistest.MasterName, TLS: group.Data[0].TLSConfig(),
		Password: redistest.DataPassword, SentinelPassword: redistest.SentinelPassword,
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	require.NoError(t, db.Ping(t.Context()))
	replica := group.Data[1]
	awaitReplica(t, db, "x", replica)
	dialed, commands := db.Dialed(), []string{}
	db.OnCommand(func(_ context.Context, c Command) { commands = append(commands, c.Name) })
	require.Empty(t, db.UnusableReplicas(t.Context()))
	require.NoError(t, replica.Client().ConfigSet(t.Context(), "requirepass", "another").Err())
	require.Equal(t, []Replica{{
		Server: replica.Addr(), Problem: "redis refuses: WRONGPASS invalid username-password pair or user is disabled.", Forbidden: true,
	}}, db.UnusableReplicas(t.Context()))
	require.Equal(t, []string{"info", "info"}, commands)
	require.Equal(t, dialed, db.Dialed())
}

// A replica that the gateway cannot reach is reported.
func TestUnusableReplicas_Cluster(t *testing.T) {
	cluster := redistest.Cluster(t)
	replica := cluster.AddReplica(t, cluster.Nodes[0])
	db, err := Open(Options{Addresses: cluster.Addrs(), Cluster: true})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	awaitReplica(t, db, keysOf(t, cluster, cluster.Nodes[0])[0], replica)
	require.Empty(t, db.UnusableReplicas(t.Context()))
	replica.Kill(t)
	want := []Replica{{Server: replica.Addr(), Problem: "redis does not answer: connection refused"}}
	require.Eventually(t, func() bool { // not every node names a new replica at once
		return slices.Equal(db.UnusableReplicas(context.WithoutCancel(t.Context())), want)
	}, 20*time.Second, 10*time.Millisecond)
}

// A single server fails over to nothing by itself.
func TestUnusableReplicas_Standalone(t *testing.T) {
	db, err := Open(Options{Addresses: []string{redistest.Standalone(t).Addr()}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	require.Empty(t, db.UnusableReplicas(t.Context()))
}
