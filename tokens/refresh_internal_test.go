// SPDX-License-Identifier: MIT

package tokens

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tokens/internal/family"
	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
	"github.com/meet-gateway/meet-gateway/tokens/internal/vault"
)

// Revoking a token repeatedly publishes one change, because the feed keeps only 4096.
func TestRevoke_PublishedOncePerToken(t *testing.T) {
	ctx := t.Context()
	server := miniredis.RunT(t)
	a, _ := testNode(t, server)
	app := testApp(t, a)
	tok, err := a.Issue(ctx, Grant{Application: app, Mail: "alice@example.org", Scopes: app.Scopes})
	require.NoError(t, err)
	changes := func() string {
		n, err := server.Get(redisdb.KeyFeed)
		require.NoError(t, err)
		return n
	}
	for name, raw := range map[string]string{"access": tok.Value, "refresh": tok.Refresh} {
		require.NoError(t, a.RevokeOwnToken(ctx, app, raw), name)
		first := changes()
		for range 50 {
			require.NoError(t, a.RevokeOwnToken(ctx, app, raw), name)
		}
		require.Equal(t, first, changes(), name)
	}
}

// A refresh token with a wrong checksum costs no Redis command. A guess with a right one
// costs one read and one check of the primary.
func TestInspect_CostOfGuesses(t *testing.T) {
	server := miniredis.RunT(t)
	a, f := testNode(t, server)
	id := vault.RandomID(family.IDLength)
	var asked atomic.Int32
	f.set(func(cmd redis.Cmder) error {
		if cmd.Name() == "hmget" && cmd.Args()[1] == redisdb.KeyFamily(id) {
			asked.Add(1)
		}
		return nil
	}, nil)
	guess := family.NewToken(id)
	wrong := guess[:len(guess)-1] + string('a'+(guess[len(guess)-1]+1)%26)
	if ChecksumOK(wrong) {
		wrong = guess[:len(guess)-1] + "_"
	}
	_, err := a.Inspect(t.Context(), wrong)
	require.Error(t, err)
	require.Zero(t, asked.Load())
	for opened := true; opened; { // a new connection makes the gateway read again
		dialed := a.db.Dialed()
		asked.Store(0)
		_, err = a.Inspect(t.Context(), guess)
		require.ErrorIs(t, err, ErrTokenInvalid)
		opened = a.db.Dialed() != dialed
		require.True(t, opened || asked.Load() == 1, asked.Load())
	}
}

// If the pair of a rotation was never delivered and its access token has expired, a retry
// gets a new pair.
func TestRefresh_ExpiredUndeliveredPair(t *testing.T) {
	ctx := t.Context()
	server := miniredis.RunT(t)
	clk := newClock()
	a, f := testNode(t, server, func(o *Options) { o.Now = clk.Now })
	app := testApp(t, a)
	tok, err := a.Issue(ctx, Grant{Application: app, Mail: "alice@example.org", Scopes: app.Scopes})
	require.NoError(t, err)
	var rotated atomic.Bool // background commands pass through the hook as well
	f.set(nil, func(cmd redis.Cmder) error {
		if onScript(family.RotateScript)(cmd) != nil {
			rotated.Store(true)
		}
		if rotated.Load() {
			return errInjected
		}
		return nil
	})
	_, err = a.Refresh(ctx, app, tok.Refresh)
	require.ErrorIs(t, err, ErrUnavailable)
	require.True(t, rotated.Load())
	f.set(nil, nil)
	clk.advance(2 * time.Hour)
	server.SetTime(clk.Now())
	eventually(t, a.Fresh)

	next, err := a.Refresh(ctx, app, tok.Refresh)
	require.NoError(t, err)
	_, err = a.Verify(ctx, next.Value)
	require.NoError(t, err)
	_, err = a.Refresh(ctx, app, next.Refresh)
	require.NoError(t, err)
	_, err = a.Refresh(ctx, app, tok.Refresh)
	require.ErrorIs(t, err, ErrInvalidGrant, "after two more rotations it is a reuse")
}
