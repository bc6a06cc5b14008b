// SPDX-License-Identifier: MIT

package tokens_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tests/heap"
	"github.com/meet-gateway/meet-gateway/tests/redistest"
	"github.com/meet-gateway/meet-gateway/tokens"
)

// All of 64 gateways on one Redis receive each revocation.
func TestFeed_SixtyFourGateways(t *testing.T) {
	const gateways, revocations = 64, 20
	url := redistest.Standalone(t).URL()
	ctx := context.Background()
	var all []*tokens.Authority
	before := heap.InUse()
	for range gateways {
		store, err := tokens.OpenRedis(tokens.RedisOptions{URL: url, Timeout: 30 * time.Second})
		require.NoError(t, err)
		a, err := tokens.New(tokens.Options{Store: store, Secrets: [][]byte{[]byte("0123456789-0123456789-0123456789")}, Staleness: time.Minute})
		require.NoError(t, err)
		t.Cleanup(func() {
			require.NoError(t, a.Close())
			require.NoError(t, store.Close())
		})
		a.Start()
		all = append(all, a)
	}
	for _, a := range all {
		require.Eventually(t, a.Fresh, time.Minute, 10*time.Millisecond)
	}
	app, _, err := all[0].CreateApplication(ctx, tokens.Application{
		Name: "Test", Active: true, Domains: []string{"example.com"}, Scopes: tokens.Scopes{tokens.ScopeRoomsList},
	})
	require.NoError(t, err)
	t.Logf("%d kB of heap per gateway", (heap.InUse()-before)/gateways/1024)

	var lags []time.Duration
	for i := range revocations {
		token, err := all[i%gateways].Issue(ctx, tokens.Grant{Application: app, Mail: "ada@example.com", Scopes: app.Scopes})
		require.NoError(t, err)
		for _, a := range all {
			_, err := a.Verify(ctx, token.Value)
			require.NoError(t, err)
		}
		require.NoError(t, all[(i+1)%gateways].RevokeToken(ctx, token.ID))
		revoked := time.Now()
		var wait sync.WaitGroup
		for _, a := range all {
			wait.Go(func() {
				for {
					if _, err := a.Verify(ctx, token.Value); err != nil {
						if !a.Fresh() {
							t.Error("the gateway refuses the token only because its feed is stale:", err)
						}
						return
					}
					if time.Since(revoked) > 30*time.Second { // half of the bound
						t.Error("a gateway has not received the revocation")
						return
					}
					time.Sleep(time.Millisecond)
				}
			})
		}
		wait.Wait()
		lags = append(lags, time.Since(revoked))
	}
	slices.Sort(lags)
	t.Logf("the last gateway received a revocation after %v (median), %v (maximum)", lags[len(lags)/2], lags[len(lags)-1])
}
