// SPDX-License-Identifier: MIT

package redisdb_test

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tests/redistest"
	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
)

// A tool that copies the data as a replica, such as redis-cli --replica, is none: it confirms
// nothing, so WAIT does not count it.
func TestSettings_Replicas(t *testing.T) {
	server := redistest.Standalone(t)
	db, err := redisdb.Open(redisdb.Options{Addresses: []string{server.Addr()}, WaitReplicas: 1})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	replicas := func() int {
		s, err := db.Settings(t.Context())
		require.NoError(t, err)
		require.Len(t, s, 1)
		require.True(t, s[0].Known)
		require.Empty(t, s[0].Server)
		return s[0].Replicas
	}
	require.Zero(t, replicas())

	tool, err := net.Dial("tcp", server.Addr())
	require.NoError(t, err)
	t.Cleanup(func() { _ = tool.Close() })
	_, err = tool.Write([]byte("SYNC\r\n"))
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		info, err := server.Client().Info(t.Context(), "replication").Result()
		return err == nil && strings.Contains(info, "state=online")
	}, 20*time.Second, 10*time.Millisecond)
	require.Zero(t, replicas())
	write := func() error {
		_, err := db.Write(t.Context(), redisdb.NewScript("return redis.call('INCR', KEYS[1])"), "k")
		return err
	}
	require.ErrorContains(t, write(), "0 of 1 acknowledged")

	_, port, err := net.SplitHostPort(server.Addr())
	require.NoError(t, err)
	redistest.Standalone(t, "--replicaof", "127.0.0.1 "+port)
	require.Eventually(t, func() bool { return write() == nil && replicas() == 1 }, 20*time.Second, 10*time.Millisecond)
}
