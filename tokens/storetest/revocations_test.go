// SPDX-License-Identifier: MIT

package storetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tokens"
)

// revocation is a way to end a token.
type revocation struct {
	do     func(ctx context.Context, a *tokens.Authority, app *tokens.Application, tok *tokens.Token) error
	spares bool // whether a token of the same application for another user survives
}

var allRevocations = map[string]revocation{
	"token": {func(ctx context.Context, a *tokens.Authority, _ *tokens.Application, tok *tokens.Token) error {
		return a.RevokeToken(ctx, tok.Value)
	}, true},
	"tokenID": {func(ctx context.Context, a *tokens.Authority, _ *tokens.Application, tok *tokens.Token) error {
		return a.RevokeToken(ctx, tok.ID)
	}, true},
	"own": {func(ctx context.Context, a *tokens.Authority, app *tokens.Application, tok *tokens.Token) error {
		return a.RevokeOwnToken(ctx, app, tok.Value)
	}, true},
	"user": {func(ctx context.Context, a *tokens.Authority, _ *tokens.Application, _ *tokens.Token) error {
		return a.RevokeUser(ctx, "alice@example.org")
	}, true},
	"grant": {func(ctx context.Context, a *tokens.Authority, app *tokens.Application, _ *tokens.Token) error {
		return a.RevokeGrant(ctx, app.ID, "alice@example.org")
	}, true},
	"application": {func(ctx context.Context, a *tokens.Authority, app *tokens.Application, _ *tokens.Token) error {
		return a.RevokeApplication(ctx, app.ID)
	}, false},
	"all": {func(ctx context.Context, a *tokens.Authority, _ *tokens.Application, _ *tokens.Token) error {
		return a.RevokeAll(ctx)
	}, false},
	"disable": {func(ctx context.Context, a *tokens.Authority, app *tokens.Application, _ *tokens.Token) error {
		_, err := a.UpdateApplication(ctx, app.ID, 0, func(n *tokens.Application) error { n.Active = false; return nil })
		return err
	}, false},
	"domain": {func(ctx context.Context, a *tokens.Authority, app *tokens.Application, _ *tokens.Token) error {
		_, err := a.UpdateApplication(ctx, app.ID, 0, func(n *tokens.Application) error { n.Domains = []string{"example.net"}; return nil })
		return err
	}, false},
	"delete": {func(ctx context.Context, a *tokens.Authority, app *tokens.Application, _ *tokens.Token) error {
		return a.DeleteApplication(ctx, app.ID, 0)
	}, false},
}

func testRevocations(t *testing.T, open Opener) {
	for name, revoke := range allRevocations {
		t.Run(name, func(t *testing.T) { testRevocation(t, open, revoke) })
	}
	testOtherRevocations(t, open)
}

func testRevocation(t *testing.T, open Opener, revoke revocation) {
	ctx := t.Context()
	a, b := Node(t, open), Node(t, open)
	app, _ := App(t, a)
	tok, other := Issue(t, a, app, "alice@example.org"), Issue(t, a, app, "bob@example.org")
	for _, node := range []*tokens.Authority{a, b} {
		_, err := node.Verify(ctx, tok.Value)
		require.NoError(t, err)
		_, err = node.Verify(ctx, other.Value)
		require.NoError(t, err)
	}
	require.NoError(t, revoke.do(ctx, a, app, tok))
	_, err := a.Verify(ctx, tok.Value)
	require.Error(t, err, "the revoking gateway refuses the token at once")
	require.NotErrorIs(t, err, tokens.ErrUnavailable)
	Eventually(t, "the other gateway refuses the token", func() bool {
		_, err := b.Verify(ctx, tok.Value)
		return err != nil && !errors.Is(err, tokens.ErrUnavailable)
	})
	_, err = b.Inspect(ctx, tok.Value)
	require.Error(t, err)
	_, err = b.Verify(ctx, other.Value)
	if revoke.spares {
		require.NoError(t, err)
		fresh := Issue(t, b, app, "alice@example.org")
		_, err = a.Verify(ctx, fresh.Value)
		require.NoError(t, err, "a token issued after the revocation is valid")
	} else {
		Eventually(t, "the other user's token is refused too", func() bool {
			_, err := b.Verify(ctx, other.Value)
			return err != nil
		})
	}
	require.NoError(t, a.RevokeToken(ctx, tok.Value), "repeating a revocation is not an error (RFC 7009)")
}

func testOtherRevocations(t *testing.T, open Opener) {
	ctx := t.Context()
	t.Run("before", func(t *testing.T) {
		c := newClock()
		c.advance(-time.Minute) // so that tokens of the following tests are not revoked
		a := Node(t, open, func(o *tokens.Options) { o.Now = c.Now })
		app, _ := App(t, a)
		early := Issue(t, a, app, "alice@example.org")
		c.advance(10 * time.Second)
		late := Issue(t, a, app, "alice@example.org")
		require.ErrorIs(t, a.RevokeBefore(ctx, c.Now().Add(time.Hour)), tokens.ErrInvalidInstant)
		require.NoError(t, a.RevokeBefore(ctx, c.Now().Add(-5*time.Second)))
		_, err := a.Verify(ctx, early.Value)
		require.ErrorIs(t, err, tokens.ErrTokenInvalid)
		_, err = a.Verify(ctx, late.Value)
		require.NoError(t, err)
	})
	t.Run("token of another application", func(t *testing.T) {
		a := Node(t, open)
		app, _ := App(t, a)
		thief, _ := App(t, a)
		tok := Issue(t, a, app, "alice@example.org")
		require.ErrorIs(t, a.RevokeOwnToken(ctx, thief, tok.Value), tokens.ErrNotOwner)
		_, err := a.Verify(ctx, tok.Value)
		require.NoError(t, err)
	})
	t.Run("unknown objects", func(t *testing.T) {
		a := Node(t, open)
		require.NoError(t, a.RevokeToken(ctx, "not a token"))
		require.ErrorIs(t, a.RevokeUser(ctx, "nobody-ever@example.org"), tokens.ErrNotFound)
		require.ErrorIs(t, a.RevokeApplication(ctx, "00000000000000000000000000000000"), tokens.ErrNotFound)
		require.ErrorIs(t, a.RevokeKey(ctx, "00000000"), tokens.ErrNotFound)
	})
}
