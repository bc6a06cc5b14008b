// SPDX-License-Identifier: MIT

package storetest

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tokens"
)

func testUsers(t *testing.T, open Opener) {
	ctx := t.Context()
	nodes := []*tokens.Authority{Node(t, open), Node(t, open)}
	app, _ := App(t, nodes[0])
	mail, err := tokens.ParseMail(tokens.NewPassword()[:12] + "@example.org")
	require.NoError(t, err)

	_, err = nodes[0].User(ctx, string(mail))
	require.ErrorIs(t, err, tokens.ErrNotFound)
	ids := make([]string, 16)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			tok, err := nodes[i%2].Issue(ctx, tokens.Grant{Application: app, Mail: mail, Scopes: app.Scopes})
			if err != nil {
				t.Error(err)
				return
			}
			id, err := nodes[i%2].Inspect(ctx, tok.Value)
			if err != nil {
				t.Error(err)
				return
			}
			ids[i] = id.User.ID
		})
	}
	wg.Wait()
	for _, id := range ids {
		require.Regexp(t, `^[0-9A-Za-z]{8}$`, id)
		require.Equal(t, ids[0], id, "concurrent requests give an address one id")
	}
	u, err := nodes[1].User(ctx, string(mail))
	require.NoError(t, err)
	require.Equal(t, ids[0], u.ID)
	require.Equal(t, mail, u.Mail)
	require.Equal(t, app.ID, u.FirstSeenBy)
}

func testTokens(t *testing.T, open Opener) {
	ctx := t.Context()
	a, b := Node(t, open), Node(t, open)
	app, _ := App(t, a)
	tok := Issue(t, a, app, "alice@example.org")
	require.Equal(t, time.Hour, tok.Lifetime)

	for _, node := range []*tokens.Authority{a, b, a, b} {
		id, err := node.Verify(ctx, tok.Value)
		require.NoError(t, err)
		require.Equal(t, tokens.AccessToken, id.Credential)
		require.Equal(t, app.ID, id.Application.ID)
		require.Equal(t, tokens.Mail("alice@example.org"), id.User.Mail)
		require.Equal(t, app.Scopes, id.Scopes)
		require.Equal(t, tok.ID, id.TokenID)
		require.WithinDuration(t, time.Now().Add(time.Hour), id.Expires, 3*time.Second)
	}
	before := b.Status(ctx).Cache.Hits
	_, err := b.Verify(ctx, tok.Value)
	require.NoError(t, err)
	require.Equal(t, before+1, b.Status(ctx).Cache.Hits, "a known token is answered from memory")

	// The token has a valid signature and no record.
	stranger, err := tokens.New(tokens.Options{Store: newStore(t), Secrets: [][]byte{Secret}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, stranger.Close()) })
	strangersApp, _ := App(t, stranger)
	forged := Issue(t, stranger, strangersApp, "alice@example.org")
	_, err = a.Verify(ctx, forged.Value)
	require.ErrorIs(t, err, tokens.ErrTokenInvalid)
	require.Equal(t, "unknown_token", tokens.Reason(err))

	short, err := a.UpdateApplication(ctx, app.ID, 0, func(n *tokens.Application) error {
		n.TokenLifetime = tokens.Duration(time.Minute)
		n.Scopes = n.Scopes[:1]
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, time.Minute, Issue(t, a, short, "alice@example.org").Lifetime)
	Eventually(t, "the other gateway applies the reduced scopes", func() bool {
		id, err := b.Verify(ctx, tok.Value)
		return err == nil && len(id.Scopes) == 1
	})
}

func testTwoNodes(t *testing.T, open Opener) {
	ctx := t.Context()
	a, b := Node(t, open), Node(t, open)
	app, _ := App(t, a)
	// Issued on one gateway, used on the other at once: there is no negative cache.
	for range 20 {
		tok := Issue(t, a, app, "alice@example.org")
		_, err := b.Verify(ctx, tok.Value)
		require.NoError(t, err)
	}
}
