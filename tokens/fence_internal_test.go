// SPDX-License-Identifier: MIT

package tokens

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFence_KnownMailCostsNothing(t *testing.T) {
	ctx := t.Context()
	a, server := overMiniredis(t)
	app := &Application{ID: "app"}
	before := server.CommandCount()
	_, err := a.Admit(ctx, app, "new@example.org")
	require.NoError(t, err)
	require.Equal(t, before, server.CommandCount(), "no quota")

	a.fence = FenceOptions{Users: 10}
	ad, err := a.Admit(ctx, app, "new@example.org")
	require.NoError(t, err)
	require.True(t, ad.New)
	requireExpiring(t, server)
	require.NotContains(t, server.Dump(), "example.org")

	_, err = a.newUser(ctx, "known@example.org", "app")
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
	require.ErrorIs(t, (&Admission{New: true, a: a, key: "k"}).Withdraw(ctx), ErrUnavailable)
}

func TestQuota_WarnAt(t *testing.T) {
	for of, want := range map[int]int{1: 1, 2: 2, 3: 3, 4: 4, 5: 4, 10: 8, 11: 9, 100: 80, 1000: 800} {
		require.Equal(t, want, (&Quota{Limit: of}).warnAt(), of)
	}
}
