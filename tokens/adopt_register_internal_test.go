// SPDX-License-Identifier: MIT

package tokens

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// An operator may register or remove the client id during a trial at Meet. The answer of
// Meet then no longer counts.
func TestRegister_ChangedDuringTrial(t *testing.T) {
	ctx := t.Context()
	a, _ := overMiniredis(t)
	app, err := a.register(ctx, Application{}, "client", "secret")
	require.NoError(t, err)

	_, err = a.register(ctx, Application{}, "client", "another secret")
	require.ErrorIs(t, err, ErrInvalidClient)
	again, err := a.register(ctx, Application{}, "client", "secret")
	require.NoError(t, err)
	require.Equal(t, app.ID, again.ID)

	require.NoError(t, a.DeleteApplication(ctx, app.ID, 0))
	_, err = a.register(ctx, Application{}, "client", "secret")
	require.ErrorIs(t, err, ErrInvalidClient, "a removed client id")
}
