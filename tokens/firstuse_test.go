// SPDX-License-Identifier: MIT

package tokens_test

import (
	"context"
	"math"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tests/redistest"
	"github.com/meet-gateway/meet-gateway/tokens"
)

// twoGateways starts two gateways on a Redis server. The first issues n tokens, and the
// second has cached their application and user.
func twoGateways(t testing.TB, n int) (other *tokens.Authority, issued []string) {
	t.Helper()
	url := redistest.Standalone(t).URL()
	open := func() *tokens.Authority {
		store, err := tokens.OpenRedis(tokens.RedisOptions{URL: url})
		require.NoError(t, err)
		a, err := tokens.New(tokens.Options{Store: store, Secrets: [][]byte{[]byte("0123456789-0123456789-0123456789")}})
		require.NoError(t, err)
		t.Cleanup(func() {
			require.NoError(t, a.Close())
			require.NoError(t, store.Close())
		})
		a.Start()
		require.Eventually(t, a.Fresh, 30*time.Second, time.Millisecond)
		return a
	}
	issuer, other := open(), open()
	ctx := context.Background()
	app, _, err := issuer.CreateApplication(ctx, tokens.Application{
		Name: "Test", Active: true, Domains: []string{"example.com"}, Scopes: tokens.Scopes{tokens.ScopeRoomsList, tokens.ScopeRoomsRetrieve},
	})
	require.NoError(t, err)
	for range n + 1 {
		token, err := issuer.Issue(ctx, tokens.Grant{Application: app, Mail: "ada@example.com", Scopes: app.Scopes})
		require.NoError(t, err)
		issued = append(issued, token.Value)
	}
	_, err = other.Verify(ctx, issued[n]) // caches the application and the user
	require.NoError(t, err)
	return other, issued[:n]
}

// A token that is not cached costs one read of its record and at most 58 allocations:
// about thirty in the parser, seven in the Redis client, and some of the heartbeats.
func TestVerify_FirstUseAllocationBudget(t *testing.T) {
	const runs, each = 5, 100
	a, issued := twoGateways(t, runs*(each+1))
	i, least := 0, math.Inf(1) // of several runs, since heartbeats allocate meanwhile
	for range runs {
		least = min(least, testing.AllocsPerRun(each, func() {
			if _, err := a.Verify(context.Background(), issued[i]); err != nil {
				t.Error(err)
			}
			i++
		}))
	}
	require.LessOrEqual(t, least, 60.0)
}

// BenchmarkVerify_FirstUse measures the first request with a token of another gateway,
// from as many goroutines as on a busy gateway.
func BenchmarkVerify_FirstUse(b *testing.B) {
	a, issued := twoGateways(b, b.N)
	var next atomic.Int64
	b.SetParallelism(8)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := a.Verify(context.Background(), issued[next.Add(1)-1]); err != nil {
				b.Error(err)
			}
		}
	})
}
