// SPDX-License-Identifier: MIT

package tokens_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tokens"
	"github.com/meet-gateway/meet-gateway/tokens/django/djangotest"
	"github.com/meet-gateway/meet-gateway/tokens/embedded"
)

func newImporter(t *testing.T) *tokens.Authority {
	t.Helper()
	store, err := embedded.Open()
	require.NoError(t, err)
	a, err := tokens.New(tokens.Options{Store: store, Secrets: [][]byte{[]byte(strings.Repeat("k", tokens.MinSecret))}})
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, a.Close())
		require.NoError(t, store.Close())
	})
	return a
}

func TestImportApplication(t *testing.T) {
	ctx := context.Background()
	a := newImporter(t)
	hash := djangotest.Hash("at-meet", "salt", 1)
	app := tokens.Application{Name: "Calendar", Active: true, Aliases: []string{"meet-client"}}

	imported, err := a.ImportApplication(ctx, app, tokens.ImportedSecret{Hash: hash})
	require.NoError(t, err)
	require.Len(t, imported.Secrets, 1)
	require.Equal(t, tokens.SecretDjango, imported.Secrets[0].Kind)
	require.True(t, imported.HasImported(hash))
	require.False(t, imported.TakesImported(hash))

	_, _, err = a.Authenticate(ctx, "meet-client", "wrong")
	require.ErrorIs(t, err, tokens.ErrInvalidClient)
	_, used, err := a.Authenticate(ctx, "meet-client", "at-meet")
	require.NoError(t, err)
	require.Equal(t, imported.Secrets[0].ID, used.ID)

	// The hash is replaced in the background. The secret keeps its id.
	require.Eventually(t, func() bool {
		now, err := a.CurrentApplication(ctx, "meet-client")
		require.NoError(t, err)
		require.True(t, now.HasImported(hash))
		return now.Secrets[0].Kind == tokens.SecretHMAC
	}, 10*time.Second, time.Millisecond)
	_, _, err = a.Authenticate(ctx, imported.ID, "at-meet")
	require.NoError(t, err)

	_, err = a.ImportApplication(ctx, app, tokens.ImportedSecret{Hash: hash})
	require.ErrorIs(t, err, tokens.ErrConflict)

	other := tokens.Application{Name: "Chat", Aliases: []string{"other-client"}}
	_, err = a.ImportApplication(ctx, other, tokens.ImportedSecret{Hash: "plain text"})
	require.ErrorIs(t, err, tokens.ErrInvalidApplication)
	require.NotContains(t, err.Error(), "plain text")
	_, err = a.CurrentApplication(ctx, "other-client")
	require.ErrorIs(t, err, tokens.ErrNotFound)

	without, err := a.ImportApplication(ctx, other, tokens.ImportedSecret{})
	require.NoError(t, err)
	require.Empty(t, without.Secrets)
	_, _, err = a.Authenticate(ctx, "other-client", "")
	require.ErrorIs(t, err, tokens.ErrInvalidClient)
}

func TestUpdateImported(t *testing.T) {
	ctx := context.Background()
	a := newImporter(t)
	first, second, third := djangotest.Hash("one", "salt", 1), djangotest.Hash("two", "salt", 1), djangotest.Hash("three", "salt", 1)
	app, err := a.ImportApplication(ctx, tokens.Application{Name: "Calendar", Active: true, Aliases: []string{"meet-client"}}, tokens.ImportedSecret{Hash: first})
	require.NoError(t, err)
	rename := func(n *tokens.Application) error {
		n.Name = "Renamed"
		return nil
	}

	// Before its first use, a later dump replaces the secret.
	require.True(t, app.TakesImported(second))
	app, err = a.UpdateImported(ctx, app.ID, app.Version, tokens.ImportedSecret{Hash: second}, rename)
	require.NoError(t, err)
	require.Equal(t, "Renamed", app.Name)
	_, _, err = a.Authenticate(ctx, "meet-client", "one")
	require.ErrorIs(t, err, tokens.ErrInvalidClient)

	// An old dump does not replace a rotated secret.
	app, secret, err := a.RotateSecret(ctx, app.ID, 0, 0)
	require.NoError(t, err)
	require.False(t, app.TakesImported(third))
	_, err = a.UpdateImported(ctx, app.ID, app.Version, tokens.ImportedSecret{Hash: third}, rename)
	require.NoError(t, err)
	_, _, err = a.Authenticate(ctx, "meet-client", "three")
	require.ErrorIs(t, err, tokens.ErrInvalidClient)
	_, _, err = a.Authenticate(ctx, "meet-client", secret)
	require.NoError(t, err)

	_, err = a.UpdateImported(ctx, app.ID, 1, tokens.ImportedSecret{}, rename)
	require.ErrorIs(t, err, tokens.ErrConflict)
	_, err = a.UpdateImported(ctx, app.ID, 0, tokens.ImportedSecret{Hash: "md5$x$y"}, rename)
	require.ErrorIs(t, err, tokens.ErrInvalidApplication)
}

// An imported application learns its credentials at Meet on its first login, unless an
// operator has set others.
func TestImport_LearnsBackendCredentials(t *testing.T) {
	ctx := context.Background()
	hash := djangotest.Hash("at-meet", "salt", 1)
	pair := tokens.BackendCredentials{ClientID: "meet-client", ClientSecret: "at-meet"}
	imported := func(t *testing.T, clientID string) (*tokens.Authority, *tokens.Application) {
		t.Helper()
		a := newImporter(t)
		app := tokens.Application{Name: "Calendar", Active: true, Aliases: []string{"meet-client"}}
		created, err := a.ImportApplication(ctx, app, tokens.ImportedSecret{Hash: hash, ClientID: clientID})
		require.NoError(t, err)
		return a, created
	}
	backend := func(t *testing.T, a *tokens.Authority) *tokens.BackendCredentials {
		t.Helper()
		app, err := a.CurrentApplication(ctx, "meet-client")
		require.NoError(t, err)
		require.Empty(t, app.LearnsBackend())
		return app.Backend
	}
	t.Run("accepted", func(t *testing.T) {
		a, _ := imported(t, "meet-client")
		for range 2 { // before and after the hash is replaced
			app, info, err := a.Authenticate(ctx, "meet-client", "at-meet")
			require.NoError(t, err)
			require.Equal(t, "meet-client", app.LearnsBackend())
			require.Equal(t, "meet-client", info.MeetClientID)
			require.Eventually(t, func() bool {
				app, err := a.CurrentApplication(ctx, app.ID)
				return err == nil && app.Secrets[0].Kind == tokens.SecretHMAC
			}, 20*time.Second, time.Millisecond)
		}
		app, err := a.CurrentApplication(ctx, "meet-client")
		require.NoError(t, err)
		require.NoError(t, a.LearnBackend(ctx, app.ID, pair, true))
		require.Equal(t, &pair, backend(t, a))
		require.NoError(t, a.LearnBackend(ctx, app.ID, tokens.BackendCredentials{ClientID: "meet-client", ClientSecret: "other"}, true))
		require.Equal(t, &pair, backend(t, a), "learned only once")
	})
	t.Run("not accepted", func(t *testing.T) {
		a, app := imported(t, "meet-client")
		require.NoError(t, a.LearnBackend(ctx, app.ID, pair, false))
		require.NoError(t, a.LearnBackend(ctx, app.ID, pair, true))
		require.Nil(t, backend(t, a))
	})
	t.Run("not requested", func(t *testing.T) {
		a, app := imported(t, "")
		require.Empty(t, app.LearnsBackend())
		require.NoError(t, a.LearnBackend(ctx, app.ID, pair, true))
		require.Nil(t, backend(t, a))
	})
	t.Run("unset by an operator", func(t *testing.T) {
		a, app := imported(t, "meet-client")
		_, err := a.UpdateApplication(ctx, app.ID, 0, func(n *tokens.Application) error {
			n.ForgetBackend()
			return nil
		})
		require.NoError(t, err)
		require.NoError(t, a.LearnBackend(ctx, app.ID, pair, true))
		require.Nil(t, backend(t, a))
	})
	t.Run("another secret", func(t *testing.T) {
		a, app := imported(t, "meet-client")
		app, secret, err := a.RotateSecret(ctx, app.ID, 0, time.Hour)
		require.NoError(t, err)
		_, info, err := a.Authenticate(ctx, app.ID, secret)
		require.NoError(t, err)
		require.Empty(t, info.MeetClientID)
	})
	s := tokens.ImportedSecret{Hash: hash}
	require.NotContains(t, fmt.Sprintf("%v %+v %#v", s, s, s), "pbkdf2")
}

func TestApplication_Checked(t *testing.T) {
	app := tokens.Application{Name: " Calendar ", Domains: []string{"Example.org", "example.org"}}
	checked, err := app.Checked()
	require.NoError(t, err)
	require.Equal(t, "Calendar", checked.Name)
	require.Equal(t, "classic", checked.Type)
	require.Equal(t, []string{"example.org"}, checked.Domains)
	require.Equal(t, []string{"Example.org", "example.org"}, app.Domains)

	app.Domains = []string{"no domain"}
	_, err = app.Checked()
	require.ErrorIs(t, err, tokens.ErrInvalidApplication)
}
