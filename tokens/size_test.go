// SPDX-License-Identifier: MIT

package tokens_test

import (
	"context"
	"fmt"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tests/heap"
	"github.com/meet-gateway/meet-gateway/tests/redistest"
	"github.com/meet-gateway/meet-gateway/tokens"
	"github.com/meet-gateway/meet-gateway/tokens/storetest"
)

// A live access token takes at most 300 bytes in Redis and 1 KB in the cache of a process,
// on average.
func TestSize_OfAToken(t *testing.T) {
	if testing.Short() {
		t.Skip("issues many tokens")
	}
	const many = 5_000 // 100,000 give the same mean, but take a minute
	server := redistest.Standalone(t)
	a := storetest.Node(t, opener(tokens.RedisOptions{URL: server.URL()}))
	app, _ := storetest.App(t, a)
	ctx := context.Background()
	raw := make([]string, many)
	for i := range raw {
		// A hundred tokens per user, because users are stored separately.
		mail, err := tokens.ParseMail(fmt.Sprintf("user-%d@example.org", i%(many/100)))
		require.NoError(t, err)
		raw[i] = storetest.Issue(t, a, app, mail).Value
	}
	client := server.Client()
	var inRedis, records int64
	keys := client.Scan(ctx, 0, "mg1:t:*", 1000).Iterator()
	for keys.Next(ctx) {
		size, err := client.MemoryUsage(ctx, keys.Val()).Result()
		require.NoError(t, err)
		inRedis, records = inRedis+size, records+1
	}
	require.NoError(t, keys.Err())
	require.EqualValues(t, many, records)
	t.Logf("Redis: %d bytes per token", inRedis/records)
	require.LessOrEqual(t, inRedis/records, int64(300))

	before := heap.InUse()
	for _, r := range raw {
		_, err := a.Verify(ctx, r)
		require.NoError(t, err)
	}
	after := heap.InUse()
	runtime.KeepAlive(raw)
	require.Greater(t, after, before)
	t.Logf("process: %d bytes per token", (after-before)/many)
	require.LessOrEqual(t, (after-before)/many, int64(1024))
}
