// SPDX-License-Identifier: MIT

package redisdb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tests/redistest"
)

type redisError string

func (e redisError) Error() string { return string(e) }
func (redisError) RedisError()     {}

// Each kind of failure that an operator handles differently has its own word.
func TestCommandProblem(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err  error
		want string
	}{
		{nil, ""},
		{redis.Nil, ""},
		{redisError("NOSCRIPT No matching script."), ""},
		{redisError("OOM command not allowed when used memory > 'maxmemory'."), "oom"},
		{redisError("MISCONF Redis is configured to save RDB snapshots"), "misconf"},
		{redisError("READONLY You can't write against a read only replica."), "readonly"},
		{redisError("LOADING Redis is loading the dataset in memory"), "loading"},
		{redisError("CLUSTERDOWN The cluster is down"), "clusterdown"},
		{redisError("MOVED 3999 127.0.0.1:6381"), "moved"},
		{redisError("NOPERM this user has no permissions"), "noperm"},
		{redisError("NOAUTH Authentication required."), "noauth"},
		{redisError("ERR unknown command"), "other"},
		{context.Canceled, "canceled"},
		{fmt.Errorf("reading: %w", context.DeadlineExceeded), "timeout"},
		{os.ErrDeadlineExceeded, "timeout"},
		{io.EOF, "connection"},
		{errors.New("anything"), "other"},
	} {
		got := commandProblem(c.err)
		require.Equal(t, c.want, got, "%v", c.err)
		require.True(t, got == "" || slices.Contains(CommandProblems, got), got)
	}
}

// A node of a Cluster that is configured as a single server is named as such.
func TestProblem_NodeOfACluster(t *testing.T) {
	var moved int
	for _, node := range redistest.Cluster(t).Nodes {
		db, err := Open(Options{URL: node.URL()})
		require.NoError(t, err)
		if _, err := db.Get(t.Context(), KeyFeed); err != nil {
			require.Contains(t, Problem(err), "the block of store redis needs cluster")
			moved++
		}
		require.NoError(t, db.Close())
	}
	require.Equal(t, 2, moved) // the third has the key
}
