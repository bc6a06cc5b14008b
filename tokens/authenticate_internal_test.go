// SPDX-License-Identifier: MIT

package tokens

import (
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/stretchr/testify/require"
)

// FindClient returns the id of the application for any of its client ids, before the
// secret is checked: attempts are counted by it.
func TestFindClient_ReturnsApplicationID(t *testing.T) {
	ctx := t.Context()
	a, _ := testNode(t, miniredis.RunT(t))
	app, secret, err := a.CreateApplication(ctx, Application{
		Name: "Calendar", Active: true, Domains: []string{"example.org"}, Scopes: Scopes{ScopeRoomsList}, Aliases: []string{"calendar"},
		Limits: map[string]string{"failed": "3/1h"},
	})
	require.NoError(t, err)
	for _, id := range []string{app.ID, "calendar"} {
		client, err := a.FindClient(ctx, id)
		require.NoError(t, err)
		require.Equal(t, app.ID, client.ID())
		require.Equal(t, app.ID, client.Known())
		require.NotNil(t, client.Rates())
		_, _, err = a.CheckSecret(ctx, client, "wrong")
		require.ErrorIs(t, err, ErrInvalidClient)
		found, info, err := a.CheckSecret(ctx, client, secret)
		require.NoError(t, err)
		require.Equal(t, app.ID, found.ID)
		require.NotEmpty(t, info.ID)
	}
	for _, id := range []string{"nobody", "", "not a client id\x00"} {
		client, err := a.FindClient(ctx, id)
		require.NoError(t, err)
		require.Equal(t, id, client.ID())
		require.Empty(t, client.Known())
		require.Nil(t, client.Rates())
		_, _, err = a.CheckSecret(ctx, client, secret)
		require.ErrorIs(t, err, ErrInvalidClient)
	}
}
