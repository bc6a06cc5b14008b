// SPDX-License-Identifier: MIT

package tokens

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tokens/django/djangotest"
	"github.com/meet-gateway/meet-gateway/tokens/internal/feed"
	"github.com/meet-gateway/meet-gateway/tokens/internal/secrets"
)

// A saved secret is returned even if a later step fails: it cannot be shown again.
func TestRotateSecret_ReturnedOnceSaved(t *testing.T) {
	ctx := t.Context()
	server := miniredis.RunT(t)
	a, f := testNode(t, server)
	app := testApp(t, a)
	saves := onScript(saveScript)
	var saved atomic.Bool
	failOnceSaved := func(cmd redis.Cmder) error {
		if saved.Load() {
			return errInjected
		}
		if saves(cmd) != nil {
			saved.Store(true)
		}
		return nil
	}
	f.set(failOnceSaved, nil)
	rotated, secret, err := a.RotateSecret(ctx, app.ID, 0, time.Hour)
	require.NoError(t, err)
	require.True(t, saved.Load())
	require.Equal(t, app.Version+1, rotated.Version)
	require.Len(t, rotated.Secrets, 2)
	_, err = a.UpdateApplication(ctx, app.ID, 0, func(*Application) error { return nil })
	require.ErrorIs(t, err, ErrUnavailable)

	f.set(nil, nil)
	_, _, err = a.Authenticate(ctx, app.ID, secret)
	require.NoError(t, err)
	current, err := a.CurrentApplication(ctx, app.ID)
	require.NoError(t, err)
	require.Equal(t, current.Secrets[0].ID, rotated.Secrets[0].ID)

	saved.Store(false)
	f.set(failOnceSaved, nil)
	made, secret, err := a.CreateApplication(ctx, Application{Name: "Chat", Active: true})
	require.NoError(t, err)
	f.set(nil, nil)
	_, _, err = a.Authenticate(ctx, made.ID, secret)
	require.NoError(t, err)
}

func TestUpdateApplication_UnpublishedIsAnError(t *testing.T) {
	server := miniredis.RunT(t)
	a, f := testNode(t, server)
	app := testApp(t, a)
	publishes := onScript(feed.PublishScript)
	f.set(publishes, nil)
	_, err := a.UpdateApplication(t.Context(), app.ID, 0, func(n *Application) error {
		n.Active, n.Name = false, "Renamed"
		return nil
	})
	require.ErrorIs(t, err, ErrUnavailable)
	f.set(nil, nil)
	page, err := a.Applications(t.Context(), ListOptions{})
	require.NoError(t, err)
	require.Len(t, page.Applications, 1)
	require.Equal(t, "Renamed", page.Applications[0].Name)
	require.False(t, page.Applications[0].Active)
}

// An application whose backend credentials cannot be decrypted can still be changed.
func TestRotateSecret_UnreadableBackend(t *testing.T) {
	ctx := t.Context()
	server := miniredis.RunT(t)
	a, _ := testNode(t, server)
	app, _, err := a.CreateApplication(ctx, Application{
		Name: "Calendar", Active: true, Backend: &BackendCredentials{ClientID: "at-meet", ClientSecret: "secret"},
	})
	require.NoError(t, err)
	other, _ := testNode(t, server, func(o *Options) { o.Secrets = [][]byte{[]byte(strings.Repeat("o", MinSecret))} })
	rotated, secret, err := other.RotateSecret(ctx, app.ID, 0, 0)
	require.NoError(t, err)
	require.NotEmpty(t, secret)
	require.True(t, rotated.BackendUnreadable())
	renamed, err := other.UpdateApplication(ctx, app.ID, rotated.Version, func(n *Application) error {
		n.Name = "Renamed"
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, "Renamed", renamed.Name)

	_, _, err = other.Authenticate(ctx, app.ID, secret)
	require.ErrorIs(t, err, ErrUnavailable, "Meet would see other credentials")
	kept, err := a.CurrentApplication(ctx, app.ID)
	require.NoError(t, err)
	require.Equal(t, "at-meet", kept.Backend.ClientID)
}

// A secret without a slow hash is accepted while the hash pool of its application is full.
func TestAuthenticate_NewSecretNeedsNoSlowHash(t *testing.T) {
	ctx := t.Context()
	a, _ := testNode(t, miniredis.RunT(t))
	app, err := a.ImportApplication(ctx, Application{Name: "Calendar", Active: true}, ImportedSecret{Hash: djangotest.Hash("at-meet", "salt", 1)})
	require.NoError(t, err)
	_, secret, err := a.RotateSecret(ctx, app.ID, 0, time.Hour)
	require.NoError(t, err)
	a.logins.secrets = secrets.NewChecker(a.keys, a.now, func(string, string) (bool, error) { return false, deny(ErrBusy, "hash_pool_full") })

	_, _, err = a.Authenticate(ctx, app.ID, secret)
	require.NoError(t, err)
	_, _, err = a.Authenticate(ctx, app.ID, "at-meet")
	require.ErrorIs(t, err, ErrBusy)
	_, _, err = a.Authenticate(ctx, app.ID, "wrong")
	require.ErrorIs(t, err, ErrBusy, "a wrong secret gets the same answer as an imported one")
}

// A login that the full hash pool could not check returns an error, also if the server is
// checked again in between.
func TestAuthenticate_BusyDuringServerCheck(t *testing.T) {
	ctx := t.Context()
	a, _ := testNode(t, miniredis.RunT(t))
	app, err := a.ImportApplication(ctx, Application{Name: "Calendar", Active: true}, ImportedSecret{Hash: djangotest.Hash("at-meet", "salt", 1)})
	require.NoError(t, err)
	a.logins.secrets = secrets.NewChecker(a.keys, a.now, func(string, string) (bool, error) {
		a.feed.Hooks().Replace(true)
		return false, deny(ErrBusy, "hash_pool_full")
	})
	found, info, err := a.Authenticate(ctx, app.ID, "wrong")
	require.Error(t, err)
	require.Nil(t, found)
	require.Nil(t, info)
}
