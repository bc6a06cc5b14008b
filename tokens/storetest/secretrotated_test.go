// SPDX-License-Identifier: MIT

package storetest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tokens"
)

func testSecretRotated(t *testing.T, open Opener) {
	ctx := t.Context()
	old := Node(t, open)
	app, secret := App(t, old, refreshing, func(n *tokens.Application) {
		n.Backend = &tokens.BackendCredentials{ClientID: "at-meet", ClientSecret: "at-meet-secret"}
	})
	tok := Issue(t, old, app, "rotated@example.org") // a gateway with only the old secret can no longer read this user
	was, err := old.User(ctx, "rotated@example.org")
	require.NoError(t, err)

	newer := []byte("storetest-another-secret-0123456789")
	rotated := Node(t, open, func(o *tokens.Options) { o.Secrets = [][]byte{newer, Secret} })
	_, err = rotated.Verify(ctx, tok.Value)
	require.NoError(t, err, "existing tokens stay valid")
	same, _, err := rotated.Authenticate(ctx, app.ID, secret)
	require.NoError(t, err)
	require.Equal(t, "at-meet-secret", same.Backend.ClientSecret)
	u, err := rotated.User(ctx, "rotated@example.org")
	require.NoError(t, err)
	require.Equal(t, was.ID, u.ID)
	fresh, err := rotated.Refresh(ctx, same, tok.Refresh)
	require.NoError(t, err)
	_, err = old.Verify(ctx, fresh.Value)
	require.ErrorIs(t, err, tokens.ErrUnavailable, "a gateway without the new secret does not refuse")

	// Data used since the rotation is stored under the new secret only.
	Eventually(t, "all used data is stored under the new secret", func() bool {
		store := open(t)
		defer func() { require.NoError(t, store.Close()) }()
		only, err := tokens.New(tokens.Options{Store: store, Secrets: [][]byte{newer}})
		require.NoError(t, err)
		defer func() { require.NoError(t, only.Close()) }()
		x, _, errApp := only.Authenticate(ctx, app.ID, secret)
		v, errUser := only.User(ctx, "rotated@example.org")
		return errApp == nil && errUser == nil && x.Backend != nil && v.ID == was.ID
	})
}
