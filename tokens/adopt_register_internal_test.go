// SPDX-License-Identifier: MIT

package tokens

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// While Meet is asked, an operator may register the client id or remove it. The answer of
// Meet then no longer counts.
func TestRegister_ChangedWhileMeetIsAsked(t *testing.T) {
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
