// SPDX-License-Identifier: MIT

package tokens

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/stretchr/testify/require"
)

// A refused request is logged with its application if the credential belongs to one.
func TestApplicationOf(t *testing.T) {
	ctx := t.Context()
	var ahead atomic.Int64
	a, _ := testNode(t, miniredis.RunT(t), func(o *Options) {
		o.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	})
	app, secret, err := a.CreateApplication(ctx, Application{
		Name: "Calendar", Active: true, Domains: []string{"example.org"}, Scopes: Scopes{ScopeRoomsList}, Refresh: true, Aliases: []string{"calendar"},
	})
	require.NoError(t, err)
	tok, err := a.Issue(ctx, Grant{Application: app, Mail: "ada@example.org", Scopes: app.Scopes})
	require.NoError(t, err)
	of := func(_ any, _ any, err error) string { return ApplicationOf(err) }
	verified := func(raw string) string {
		_, err := a.Verify(ctx, raw)
		require.Error(t, err)
		return ApplicationOf(err)
	}

	require.Equal(t, app.ID, of(a.Authenticate(ctx, app.ID, secret+"x")))
	require.Equal(t, app.ID, of(a.Authenticate(ctx, "calendar", "wrong")))
	require.Empty(t, of(a.Authenticate(ctx, "nobody", "wrong")), "an unknown client id is not logged")
	require.Empty(t, verified("a.b.c"))

	require.NoError(t, a.RevokeToken(ctx, tok.Value))
	require.Equal(t, app.ID, verified(tok.Value))
	_, err = a.Inspect(ctx, tok.Value)
	require.Equal(t, app.ID, ApplicationOf(err))
	require.NoError(t, a.RevokeToken(ctx, tok.Refresh))
	_, err = a.Inspect(ctx, tok.Refresh)
	require.ErrorIs(t, err, ErrTokenInvalid)
	require.Equal(t, app.ID, ApplicationOf(err))

	tok, err = a.Issue(ctx, Grant{Application: app, Mail: "ada@example.org", Scopes: app.Scopes})
	require.NoError(t, err)
	ahead.Store(int64(2 * time.Hour))
	require.Equal(t, app.ID, verified(tok.Value))
}
