// SPDX-License-Identifier: MIT

package redisdb

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tests/heap"
	"github.com/meet-gateway/meet-gateway/tests/redistest"
)

// A connection takes little memory, also one that sends many commands at once.
func TestConnections_Memory(t *testing.T) {
	db, err := Open(Options{URL: redistest.Standalone(t).URL()})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	before := heap.InUse()
	var wait sync.WaitGroup
	for range 10 {
		wait.Go(func() {
			for range 100 {
				pipe := db.rdb.Pipeline()
				pipe.Ping(t.Context())
				_, _ = pipe.Exec(t.Context())
			}
		})
	}
	wait.Wait()
	used := heap.InUse() - before
	n := len(db.conns.open)
	t.Logf("%d connections, %d bytes each", n, used/int64(n))
	require.Less(t, used/int64(n), int64(16<<10))
}
