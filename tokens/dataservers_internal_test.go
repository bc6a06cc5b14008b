// SPDX-License-Identifier: MIT

package tokens

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tests/redistest"
)

// A gateway that reaches the Sentinels but no data server refuses nothing. The other
// gateways keep working.
func TestOutage_DataServersUnreachable(t *testing.T) {
	group := redistest.Sentinel(t)
	proxied := group.Network(t)
	start := func(addrs []string) *Authority {
		store, err := OpenRedis(RedisOptions{Addresses: addrs, MasterName: redistest.MasterName, Timeout: 250 * time.Millisecond})
		require.NoError(t, err)
		a, err := New(Options{Store: store, Secrets: [][]byte{[]byte("tokens-test-secret-0123456789abcdef")}, Staleness: 500 * time.Millisecond})
		require.NoError(t, err)
		a.Start()
		t.Cleanup(func() {
			require.NoError(t, a.Close())
			require.NoError(t, store.Close())
		})
		eventually(t, a.Fresh)
		return a
	}
	a, b := start(proxied.Addrs()), start(group.Addrs())
	ctx := t.Context()
	app, secret, err := b.CreateApplication(ctx, Application{Name: "app", Active: true, Scopes: Scopes{ScopeRoomsList}, Domains: []string{"*"}})
	require.NoError(t, err)
	cached, toRevoke := testToken(t, b, app), testToken(t, b, app)
	for _, tok := range []*Token{cached, toRevoke} {
		eventually(t, func() bool { _, err := a.Verify(ctx, tok.Value); return err == nil })
	}

	for _, p := range proxied.Data {
		p.Cut(t)
	}
	require.NoError(t, b.RevokeToken(ctx, toRevoke.Value))
	revoked := time.Now()
	eventually(t, func() bool {
		_, err := a.Verify(ctx, cached.Value)
		require.True(t, err == nil || errors.Is(err, ErrUnavailable), err)
		began := time.Now()
		if _, late := a.Verify(ctx, toRevoke.Value); began.Sub(revoked) > a.feed.Staleness() {
			require.Error(t, late, "a revoked token is accepted after the bound")
		}
		return err != nil
	})
	_, _, err = a.Authenticate(ctx, app.ID, secret)
	require.ErrorIs(t, err, ErrUnavailable)
	_, _, err = a.Authenticate(ctx, app.ID, "wrong")
	require.ErrorIs(t, err, ErrUnavailable)
	require.NotErrorIs(t, err, ErrInvalidClient)
	require.ErrorIs(t, a.Ready(ctx), ErrUnavailable)
	_, err = b.Verify(ctx, cached.Value)
	require.NoError(t, err)

	// The primary is replaced in the meantime.
	group.Failover(t)
	for _, p := range proxied.Data {
		p.Restore(t)
	}
	eventually(t, func() bool {
		_, err := a.Verify(ctx, cached.Value)
		require.True(t, err == nil || errors.Is(err, ErrUnavailable), err)
		return err == nil && a.Fresh()
	})
	_, err = a.Verify(ctx, toRevoke.Value)
	require.ErrorIs(t, err, ErrTokenInvalid)
}
