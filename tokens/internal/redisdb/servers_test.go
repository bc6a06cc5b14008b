// SPDX-License-Identifier: MIT

package redisdb

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tests/redistest"
)

const user = "meet-gateway"

// addUser adds the documented user to servers.
func addUser(t *testing.T, servers ...*redistest.Server) {
	t.Helper()
	for _, s := range servers {
		require.NoError(t, s.Client().Do(t.Context(), redistest.DocumentedUser(t, user)...).Err())
	}
}

// openCluster opens a Cluster as the documented user.
func openCluster(t *testing.T, cluster *redistest.ClusterServers) *DB {
	t.Helper()
	db, err := Open(Options{Addresses: cluster.Addrs(), Cluster: true, Username: user, Password: redistest.ACLPassword})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

// keysOf returns two keys of the gateway that a node has.
func keysOf(t *testing.T, cluster *redistest.ClusterServers, node *redistest.Server) (keys []string) {
	t.Helper()
	for n := 'a'; len(keys) < 2; n++ {
		if key := KeyPrefix + "t:" + string(n); cluster.Owner(t, cluster.Slot(t, key)) == node {
			keys = append(keys, key)
		}
	}
	return keys
}

// If one server of a Cluster refuses or fails, the problem names it, whichever way the command
// was sent. It does not name the user or the password.
func TestProblem_NamesTheServerOfACluster(t *testing.T) {
	cluster := redistest.Cluster(t)
	addUser(t, cluster.Nodes...)
	db := openCluster(t, cluster)
	ctx := t.Context()
	require.NoError(t, db.Ping(ctx))
	bad := cluster.Nodes[1]
	keys := keysOf(t, cluster, bad)
	sent := func() map[string]error {
		_, get := db.Get(ctx, keys[0])
		_, pipeline := db.GetAll(ctx, keys...)
		_, batch := db.GetBatched(ctx, keys[0])
		_, write := db.Write(ctx, deleteEqualScript, keys[0], "x")
		_, settings := db.Settings(ctx)
		_, permissions := db.Permissions(ctx)
		return map[string]error{
			"a command": get, "a pipeline": pipeline, "a batch": IgnoreNil(batch), "a script": write, "a transaction": db.SetHash(ctx, keys[0], time.Now(), "f", "x"),
			"settings": settings, "permissions": permissions,
		}
	}
	named := func(want string) {
		t.Helper()
		for what, err := range sent() {
			require.ErrorContains(t, err, bad.Addr(), what)
			require.Contains(t, Problem(err), "redis at "+bad.Addr()+" "+want, what)
			require.NotContains(t, Problem(err)+err.Error(), redistest.ACLPassword, what)
		}
	}
	require.NoError(t, bad.Client().Do(ctx, "ACL", "DELUSER", user).Err()) // also ends its connections
	named("refuses: WRONGPASS")
	addUser(t, bad)
	for what, err := range sent() {
		require.NoError(t, err, what)
	}
	bad.Pause(t)
	for what, err := range sent() {
		require.Equal(t, "redis at "+bad.Addr()+" does not answer: no answer in time", Problem(err), what)
	}
	bad.Resume(t)
}

// Each server of a Cluster has its own users.
func TestPermissions_NameTheServersOfACluster(t *testing.T) {
	cluster := redistest.Cluster(t)
	addUser(t, cluster.Nodes...)
	db := openCluster(t, cluster)
	lacks := func(node *redistest.Server, rules ...any) {
		t.Helper()
		require.NoError(t, node.Client().Do(t.Context(), append([]any{"ACL", "SETUSER", user}, rules...)...).Err())
	}
	p, err := db.Permissions(t.Context())
	require.NoError(t, err)
	require.True(t, p.OK(), p)
	lacks(cluster.Nodes[0], "-get")
	lacks(cluster.Nodes[1], "-scan")
	lacks(cluster.Nodes[2], "-get")
	p, err = db.Permissions(t.Context())
	require.NoError(t, err)
	require.Len(t, p, 3)
	require.True(t, p.Refusing())
	require.Contains(t, p.String(), "the command SCAN at "+cluster.Nodes[1].Addr())
	require.Regexp(t, "the command GET at [0-9.:]+, [0-9.:]+(;|$)", p.String())

	require.Equal(t, "redis refuses: NOPERM: the user may not use "+p.String()+" (docs/redis.md has the line for ACL SETUSER)", Problem(db.Refusing(t.Context())))
	_, refused := db.Get(t.Context(), keysOf(t, cluster, cluster.Nodes[0])[0])
	require.Contains(t, Problem(refused), "redis at "+cluster.Nodes[0].Addr()+" refuses: NOPERM")
	require.Contains(t, Problem(db.Explained(t.Context(), refused)), "the command GET at ")
}

func TestWarnings_NameTheServersOfACluster(t *testing.T) {
	cluster := redistest.Cluster(t)
	addUser(t, cluster.Nodes...)
	db := openCluster(t, cluster)
	set := func(node *redistest.Server, name, value string) {
		t.Helper()
		require.NoError(t, node.Client().ConfigSet(t.Context(), name, value).Err())
	}
	warnings := func() string {
		t.Helper()
		all, err := db.Settings(t.Context())
		require.NoError(t, err)
		require.Len(t, all, 3)
		return strings.Join(Warnings(all), "\n")
	}
	require.Regexp(t, "^redis at [0-9.:]+, [0-9.:]+, [0-9.:]+ keeps no append-only file[^\n]+$", warnings())
	for _, node := range cluster.Nodes {
		set(node, "appendonly", "yes")
		require.Eventually(t, func() bool { // a child process that writes the file would outlive the test
			info, err := node.Client().Info(t.Context(), "persistence").Result()
			return err == nil && strings.Contains(info, "aof_rewrite_in_progress:0") && strings.Contains(info, "aof_rewrite_scheduled:0")
		}, 20*time.Second, 10*time.Millisecond)
	}
	require.Empty(t, warnings())
	set(cluster.Nodes[1], "maxmemory-policy", "allkeys-lru")
	set(cluster.Nodes[2], "maxmemory-policy", "volatile-ttl")
	require.Contains(t, warnings(), "redis at "+cluster.Nodes[1].Addr()+" may evict keys (maxmemory-policy allkeys-lru)")
	require.Contains(t, warnings(), "redis at "+cluster.Nodes[2].Addr()+" may evict keys (maxmemory-policy volatile-ttl)")
}

// After a failover, the operator sees which server became the primary without the user.
func TestProblem_NamesThePrimaryThatSentinelsFound(t *testing.T) {
	group := redistest.Sentinel(t)
	master := group.Master(t)
	addUser(t, master)
	db, err := Open(Options{Addresses: group.Addrs(), MasterName: redistest.MasterName, Username: user, Password: redistest.ACLPassword})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	require.NoError(t, db.Ping(t.Context()))
	require.NotContains(t, Problem(errors.New("x")), " at ")
	promoted := group.Failover(t)
	require.Eventually(t, func() bool {
		return strings.HasPrefix(Problem(db.Ping(context.WithoutCancel(t.Context()))), "redis at "+promoted.Addr()+" refuses: WRONGPASS")
	}, 20*time.Second, 10*time.Millisecond)
}

// Of an address, only host and port are named.
func TestPrintable(t *testing.T) {
	for address, want := range map[string]string{
		"10.0.0.1:6379": "10.0.0.1:6379", "[fd00::1]:6379": "[fd00::1]:6379", "redis-1.internal:6379": "redis-1.internal:6379",
		"redis://user:secret@redis-1:6379": "", "user:secret@redis-1:6379": "", "/run/redis.sock": "", "redis-1": "", "": "",
	} {
		require.Equal(t, want, printable(address), address)
	}
}
