// SPDX-License-Identifier: MIT

package tokens

import (
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/stretchr/testify/require"
)

// An entry of the index counts only if the record that it names lists the client id.
func TestAliases_TheRecordDecides(t *testing.T) {
	ctx := t.Context()
	server := miniredis.RunT(t)
	a, _ := testNode(t, server)
	app, secret, err := a.CreateApplication(ctx, Application{Name: "Calendar", Active: true})
	require.NoError(t, err)
	require.NoError(t, server.Set(keyAlias("left-over"), app.ID))
	_, _, err = a.Authenticate(ctx, "left-over", secret)
	require.ErrorIs(t, err, ErrInvalidClient)
	_, err = a.Application(ctx, "left-over")
	require.ErrorIs(t, err, ErrNotFound)

	other, secret, err := a.CreateApplication(ctx, Application{Name: "Chat", Active: true, Aliases: []string{"left-over"}})
	require.NoError(t, err, "an entry that is left over can be taken")
	found, _, err := a.Authenticate(ctx, "left-over", secret)
	require.NoError(t, err)
	require.Equal(t, other.ID, found.ID)

	// Deleting the one does not take from the other what it has.
	require.NoError(t, a.DeleteApplication(ctx, app.ID, 0))
	_, _, err = a.Authenticate(ctx, "left-over", secret)
	require.NoError(t, err)
}
