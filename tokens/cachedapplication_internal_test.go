// SPDX-License-Identifier: MIT

package tokens

import (
	"errors"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tokens/internal/feed"
	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
)

// loginError returns the error of a login at the gateway.
func loginError(t *testing.T, a *Authority, id, secret string) error {
	t.Helper()
	_, _, err := a.Authenticate(t.Context(), id, secret)
	return err
}

// requireCached makes the gateway cache the application.
func requireCached(t *testing.T, a *Authority, clientID, secret string) {
	t.Helper()
	require.NoError(t, loginError(t, a, clientID, secret))
	client, err := a.FindClient(t.Context(), clientID)
	require.NoError(t, err)
	require.True(t, client.Remembered())
}

// A gateway with a cached application applies the changes that another gateway announces.
func TestCachedApplication_ChangedElsewhere(t *testing.T) {
	ctx := t.Context()
	server, a, b := testPair(t)
	app, secret, err := a.CreateApplication(ctx, Application{Name: "Calendar", Active: true, Domains: []string{"*"}, Aliases: []string{"calendar"}})
	require.NoError(t, err)
	waitForChanges(t, b, server)
	requireCached(t, b, app.ID, secret)
	requireCached(t, b, "calendar", secret)

	_, rotated, err := a.RotateSecret(ctx, app.ID, 0, 0)
	require.NoError(t, err)
	require.NoError(t, loginError(t, b, app.ID, rotated), "the rotation may not have arrived yet")
	waitForChanges(t, b, server)
	require.ErrorIs(t, loginError(t, b, app.ID, secret), ErrInvalidClient)
	require.ErrorIs(t, loginError(t, b, "calendar", secret), ErrInvalidClient)

	change := func(change func(*Application)) {
		t.Helper()
		_, err := a.UpdateApplication(ctx, app.ID, 0, func(n *Application) error { change(n); return nil })
		require.NoError(t, err)
		waitForChanges(t, b, server)
	}
	requireCached(t, b, "calendar", rotated)
	change(func(n *Application) { n.Active = false })
	require.ErrorIs(t, loginError(t, b, "calendar", rotated), ErrInactiveApplication)
	change(func(n *Application) { n.Active = true })
	requireCached(t, b, "calendar", rotated)
	change(func(n *Application) { n.Aliases = nil })
	require.ErrorIs(t, loginError(t, b, "calendar", rotated), ErrInvalidClient)
	requireCached(t, b, app.ID, rotated)
	require.NoError(t, a.DeleteApplication(ctx, app.ID, 0))
	waitForChanges(t, b, server)
	require.ErrorIs(t, loginError(t, b, app.ID, rotated), ErrInvalidClient)
}

// A gateway that misses announcements refuses no valid secret, and accepts a withdrawn one
// no longer than the staleness bound.
func TestCachedApplication_MissedAnnouncement(t *testing.T) {
	ctx := t.Context()
	server := miniredis.RunT(t)
	a, f := testNode(t, server)
	const bound = 2 * time.Second
	b, _ := testNode(t, server, func(o *Options) { o.Staleness = bound })
	require.Eventually(t, b.Fresh, 20*time.Second, time.Millisecond)
	app, first, err := a.CreateApplication(ctx, Application{Name: "Calendar", Active: true, Domains: []string{"*"}})
	require.NoError(t, err)
	waitForChanges(t, b, server)
	requireCached(t, b, app.ID, first)

	release := b.feed.Hooks().HoldHeartbeats()
	f.set(onScript(feed.PublishScript), nil) // nothing is announced
	_, second, err := a.RotateSecret(ctx, app.ID, 0, time.Hour)
	require.NoError(t, err)
	require.NoError(t, loginError(t, b, app.ID, second), "an unknown secret is looked up")
	_, third, err := a.RotateSecret(ctx, app.ID, 0, 0)
	require.ErrorIs(t, err, ErrUnavailable, "the withdrawal of a secret is confirmed only after its announcement")
	require.Empty(t, third)
	require.Eventually(t, func() bool { return loginError(t, b, app.ID, second) != nil }, 20*time.Second, time.Millisecond)
	require.False(t, b.Fresh(), "the cached secret was accepted only while the feed was fresh")
	f.set(nil, nil)
	release()
	require.Eventually(t, func() bool { return errors.Is(loginError(t, b, app.ID, second), ErrInvalidClient) }, 20*time.Second, time.Millisecond)
}

// The gateway reads an application again before it refuses it as inactive: another gateway
// may have enabled it.
func TestCachedApplication_EnabledAgain(t *testing.T) {
	ctx := t.Context()
	server := miniredis.RunT(t)
	a, f := testNode(t, server)
	b, _ := testNode(t, server, func(o *Options) { o.Staleness = time.Hour })
	require.Eventually(t, b.Fresh, 20*time.Second, time.Millisecond)
	app, secret, err := a.CreateApplication(ctx, Application{Name: "Calendar", Domains: []string{"*"}})
	require.NoError(t, err)
	waitForChanges(t, b, server)
	_, err = b.Application(ctx, app.ID)
	require.NoError(t, err)
	require.ErrorIs(t, loginError(t, b, app.ID, secret), ErrInactiveApplication)
	f.set(onScript(feed.PublishScript), nil)
	_, err = a.UpdateApplication(ctx, app.ID, 0, func(n *Application) error { n.Active = true; return nil })
	require.ErrorIs(t, err, feed.ErrUnpublished)
	client, err := b.FindClient(ctx, app.ID)
	require.NoError(t, err)
	require.True(t, client.Remembered())
	require.False(t, client.app.Active)
	require.NoError(t, loginError(t, b, app.ID, secret))
}

// The last use of a secret or of a user is written at most once a minute, also if not every token
// tells Meet's id of the user. A new id is written at once.
func TestLastUse_WrittenOnceAMinute(t *testing.T) {
	ctx := t.Context()
	clk := newClock()
	server := miniredis.RunT(t)
	a, _ := testNode(t, server, func(o *Options) { o.Now, o.Staleness = clk.Now, time.Hour })
	require.Eventually(t, a.Fresh, 20*time.Second, time.Millisecond)
	app, secret, err := a.CreateApplication(ctx, Application{Name: "Calendar", Active: true, Domains: []string{"*"}})
	require.NoError(t, err)
	waitForChanges(t, a, server)
	meetID := ""
	noted := func(backendUserID string) (int64, int64) {
		requireCached(t, a, app.ID, secret)
		tok, err := a.Issue(ctx, Grant{Application: app, Mail: "ada@example.org", BackendUserID: backendUserID})
		require.NoError(t, err)
		a.background.Wait()
		current, err := a.CurrentApplication(ctx, app.ID)
		require.NoError(t, err)
		stored := hashOf(t, server, "mg1:u:"+tok.UserID)
		meetID = stored[fieldBackendUser]
		return current.LastUsed.UnixMilli(), int64(redisdb.ParseUint(stored[fieldLastSeen]))
	}
	first := clk.Now().UnixMilli()
	used, seen := noted("first")
	require.Equal(t, [2]int64{first, first}, [2]int64{used, seen})
	clk.advance(30 * time.Second)
	used, seen = noted("")
	require.Equal(t, [2]int64{first, first}, [2]int64{used, seen})
	clk.advance(31 * time.Second)
	used, seen = noted("")
	require.Equal(t, [2]int64{clk.Now().UnixMilli(), clk.Now().UnixMilli()}, [2]int64{used, seen})
	require.Equal(t, "first", meetID)

	lastUsed := used
	clk.advance(30 * time.Second)
	for _, id := range []string{"first", ""} {
		used, seen = noted(id)
		require.Equal(t, [2]int64{lastUsed, lastUsed}, [2]int64{used, seen})
	}
	used, seen = noted("second")
	require.Equal(t, [2]int64{lastUsed, clk.Now().UnixMilli()}, [2]int64{used, seen})
	require.Equal(t, "second", meetID)
}
