// SPDX-License-Identifier: MIT

package tokens

import (
	"errors"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tests/redistest"
)

// A gateway that reaches the Sentinels and no data server knows where the primary
// is, and refuses nobody. Others go on.
func TestOutage_DataServersCutOff(t *testing.T) {
	group := redistest.Sentinel(t)
	var cut atomic.Bool
	start := func(parted bool) *Authority {
		o := RedisOptions{Addresses: group.Addrs(), MasterName: redistest.MasterName, Timeout: 250 * time.Millisecond}
		if parted {
			o.Control = func(string, string, syscall.RawConn) error {
				if cut.Load() {
					return syscall.EHOSTUNREACH
				}
				return nil
			}
		}
		store, err := OpenRedis(o)
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
	a, b := start(true), start(false)
	ctx := t.Context()
	app, secret, err := b.CreateApplication(ctx, Application{Name: "app", Active: true, Scopes: Scopes{ScopeRoomsList}, Domains: []string{"*"}})
	require.NoError(t, err)
	known, doomed := testToken(t, b, app), testToken(t, b, app)
	for _, tok := range []*Token{known, doomed} {
		eventually(t, func() bool { _, err := a.Verify(ctx, tok.Value); return err == nil })
	}

	cut.Store(true)
	a.db.DropConnections()
	require.NoError(t, b.RevokeToken(ctx, doomed.Value))
	revoked := time.Now()
	eventually(t, func() bool {
		_, err := a.Verify(ctx, known.Value)
		require.True(t, err == nil || errors.Is(err, ErrUnavailable), err)
		began := time.Now()
		if _, late := a.Verify(ctx, doomed.Value); began.Sub(revoked) > a.feed.Staleness() {
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
	_, err = b.Verify(ctx, known.Value)
	require.NoError(t, err)

	// The primary is replaced meanwhile.
	group.Failover(t)
	cut.Store(false)
	eventually(t, func() bool {
		_, err := a.Verify(ctx, known.Value)
		require.True(t, err == nil || errors.Is(err, ErrUnavailable), err)
		return err == nil && a.Fresh()
	})
	_, err = a.Verify(ctx, doomed.Value)
	require.ErrorIs(t, err, ErrTokenInvalid)
}
