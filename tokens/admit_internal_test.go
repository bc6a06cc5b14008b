// SPDX-License-Identifier: MIT

package tokens

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAdmit_KnownMailCostsOneCommand(t *testing.T) {
	ctx := t.Context()
	a, server := overMiniredis(t)
	app := &Application{ID: "app"}
	before := server.CommandCount()
	_, err := a.Admit(ctx, app, "new@example.org")
	require.NoError(t, err)
	require.Equal(t, before, server.CommandCount(), "no quota")

	a.quotas.Options = QuotaOptions{Users: 10}
	ad, err := a.Admit(ctx, app, "new@example.org")
	require.NoError(t, err)
	require.True(t, ad.New)
	given := *ad
	requireExpiring(t, server)
	require.NotContains(t, server.Dump(), "example.org")

	_, _, err = a.users.create(ctx, "known@example.org", "app")
	require.NoError(t, err)
	before = server.CommandCount()
	for range 5 {
		ad, err = a.Admit(ctx, app, "known@example.org")
		require.NoError(t, err)
		require.False(t, ad.New)
	}
	require.Equal(t, before+1, server.CommandCount())

	server.Close()
	_, err = a.Admit(ctx, app, "known@example.org")
	require.NoError(t, err)
	_, err = a.Admit(ctx, app, "new@example.org")
	require.ErrorIs(t, err, ErrUnavailable)
	require.ErrorIs(t, given.Withdraw(ctx), ErrUnavailable)
}
