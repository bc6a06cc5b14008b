// SPDX-License-Identifier: MIT

package storetest

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tokens"
)

func refreshing(n *tokens.Application) { n.Refresh = true }

func testRefresh(t *testing.T, open Opener) {
	ctx := t.Context()
	c := newClock()
	clock, pass := func(o *tokens.Options) { o.Now = c.Now }, c.advance
	a := Node(t, open, clock)
	app, _ := App(t, a, refreshing)
	thief, _ := App(t, a, refreshing)
	first := Issue(t, a, app, "alice@example.org")
	require.True(t, tokens.ChecksumOK(first.Refresh))

	_, err := a.Verify(ctx, first.Refresh)
	require.ErrorIs(t, err, tokens.ErrTokenMalformed, "a refresh token is not an access token")
	id, err := a.Inspect(ctx, first.Refresh)
	require.NoError(t, err)
	require.Equal(t, tokens.RefreshToken, id.Credential)
	require.Equal(t, tokens.Mail("alice@example.org"), id.User.Mail)

	_, err = a.Refresh(ctx, thief, first.Refresh)
	require.ErrorIs(t, err, tokens.ErrInvalidGrant)

	second, err := a.Refresh(ctx, app, first.Refresh)
	require.NoError(t, err)
	_, err = a.Verify(ctx, second.Value)
	require.NoError(t, err)
	_, err = a.Inspect(ctx, first.Refresh)
	require.ErrorIs(t, err, tokens.ErrTokenInvalid, "the token was exchanged")

	again, err := a.Refresh(ctx, app, first.Refresh)
	require.NoError(t, err, "the client retries after a lost answer")
	require.Equal(t, second.Value, again.Value)
	require.Equal(t, second.Refresh, again.Refresh)

	pass(30 * time.Second)
	third, err := a.Refresh(ctx, app, second.Refresh)
	require.NoError(t, err)
	pass(time.Minute)
	require.NoError(t, a.RevokeUser(ctx, "alice@example.org"))
	_, err = a.Refresh(ctx, app, third.Refresh)
	require.ErrorIs(t, err, tokens.ErrInvalidGrant, "revoking the user ends refresh tokens too")

	bob := Issue(t, a, app, "bob@example.org")
	require.NoError(t, a.RevokeOwnToken(ctx, app, bob.Refresh))
	_, err = a.Refresh(ctx, app, bob.Refresh)
	require.ErrorIs(t, err, tokens.ErrInvalidGrant)
	_, err = a.Verify(ctx, bob.Value)
	require.ErrorIs(t, err, tokens.ErrTokenInvalid, "the access tokens of the family are revoked too")

	carol := Issue(t, a, app, "carol@example.org")
	pass(tokens.DefaultRefreshIdle + time.Second)
	_, err = a.Refresh(ctx, app, carol.Refresh)
	require.ErrorIs(t, err, tokens.ErrInvalidGrant, "the token has been idle for too long")

	plain, _ := App(t, a)
	require.Empty(t, Issue(t, a, plain, "alice@example.org").Refresh, "refresh tokens are opt-in per application")
}

func testRefreshRace(t *testing.T, open Opener) {
	ctx := t.Context()
	nodes := []*tokens.Authority{Node(t, open), Node(t, open), Node(t, open)}
	app, _ := App(t, nodes[0], refreshing)
	first := Issue(t, nodes[0], app, "alice@example.org")
	pairs := make([]*tokens.Token, 9)
	var wg sync.WaitGroup
	for i := range pairs {
		wg.Go(func() {
			pair, err := nodes[i%3].Refresh(ctx, app, first.Refresh)
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := nodes[(i+1)%3].Verify(ctx, pair.Value); err != nil {
				t.Error(err)
			}
			pairs[i] = pair
		})
	}
	wg.Wait()
	for _, p := range pairs {
		require.Equal(t, pairs[0].Value, p.Value)
		require.Equal(t, pairs[0].Refresh, p.Refresh)
	}
}

func testRefreshReuse(t *testing.T, open Opener) {
	ctx := t.Context()
	a := Node(t, open)
	app, _ := App(t, a, refreshing)
	first := Issue(t, a, app, "alice@example.org")
	second, err := a.Refresh(ctx, app, first.Refresh)
	require.NoError(t, err)
	third, err := a.Refresh(ctx, app, second.Refresh)
	require.NoError(t, err)
	_, err = a.Refresh(ctx, app, first.Refresh)
	require.ErrorIs(t, err, tokens.ErrInvalidGrant)
	require.Equal(t, "reused", tokens.Reason(err))
	_, err = a.Refresh(ctx, app, third.Refresh)
	require.ErrorIs(t, err, tokens.ErrInvalidGrant, "reuse ends the family")
	for _, tok := range []*tokens.Token{first, second, third} {
		_, err = a.Verify(ctx, tok.Value)
		require.ErrorIs(t, err, tokens.ErrTokenInvalid, "reuse revokes the access tokens of the family")
	}
}
