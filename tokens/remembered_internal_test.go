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

// authenticate returns the error of a login at the gateway.
func loginAt(t *testing.T, a *Authority, id, secret string) error {
	t.Helper()
	_, _, err := a.Authenticate(t.Context(), id, secret)
	return err
}

// requireCached makes the gateway cache the application.
func remembers(t *testing.T, a *Authority, clientID, secret string) {
	t.Helper()
	require.NoError(t, loginAt(t, a, clientID, secret))
	client, err := a.FindClient(t.Context(), clientID)
	require.NoError(t, err)
	require.True(t, client.Remembered())
}

// A gateway with a cached application applies the changes that another gateway announces.
func TestRemembered_ChangedElsewhere(t *testing.T) {
	ctx := t.Context()
	server, a, b := pairOfNodes(t)
	app, secret, err := a.CreateApplication(ctx, Application{Name: "Calendar", Active: true, Domains: []string{"*"}, Aliases: []string{"calendar"}})
	require.NoError(t, err)
	hasHeard(t, b, server)
	remembers(t, b, app.ID, secret)
	remembers(t, b, "calendar", secret)

	_, rotated, err := a.RotateSecret(ctx, app.ID, 0, 0)
	require.NoError(t, err)
	require.NoError(t, loginAt(t, b, app.ID, rotated), "the rotation may not have arrived yet")
	hasHeard(t, b, server)
	require.ErrorIs(t, loginAt(t, b, app.ID, secret), ErrInvalidClient)
	require.ErrorIs(t, loginAt(t, b, "calendar", secret), ErrInvalidClient)

	change := func(change func(*Application)) {
		t.Helper()
		_, err := a.UpdateApplication(ctx, app.ID, 0, func(n *Application) error { change(n); return nil })
		require.NoError(t, err)
		hasHeard(t, b, server)
	}
	remembers(t, b, "calendar", rotated)
	change(func(n *Application) { n.Active = false })
	require.ErrorIs(t, loginAt(t, b, "calendar", rotated), ErrInactiveApplication)
	change(func(n *Application) { n.Active = true })
	remembers(t, b, "calendar", rotated)
	change(func(n *Application) { n.Aliases = nil })
	require.ErrorIs(t, loginAt(t, b, "calendar", rotated), ErrInvalidClient)
	remembers(t, b, app.ID, rotated)
	require.NoError(t, a.DeleteApplication(ctx, app.ID, 0))
	hasHeard(t, b, server)
	require.ErrorIs(t, loginAt(t, b, app.ID, rotated), ErrInvalidClient)
}

// A gateway that misses announcements refuses no valid secret, and accepts a withdrawn one
// no longer than the staleness bound.
func TestRemembered_NotHeardOf(t *testing.T) {
	ctx := t.Context()
	server := miniredis.RunT(t)
	a, f := testNode(t, server)
	const bound = 2 * time.Second
	b, _ := testNode(t, server, func(o *Options) { o.Staleness = bound })
	require.Eventually(t, b.Fresh, 20*time.Second, time.Millisecond)
	app, first, err := a.CreateApplication(ctx, Application{Name: "Calendar", Active: true, Domains: []string{"*"}})
	require.NoError(t, err)
	hasHeard(t, b, server)
	remembers(t, b, app.ID, first)

	release := b.feed.Hooks().HoldHeartbeats()
	f.set(runs(feed.PublishScript), nil) // nothing is announced
	_, second, err := a.RotateSecret(ctx, app.ID, 0, time.Hour)
	require.NoError(t, err)
	require.NoError(t, loginAt(t, b, app.ID, second), "an unknown secret is looked up")
	_, third, err := a.RotateSecret(ctx, app.ID, 0, 0)
	require.ErrorIs(t, err, ErrUnavailable, "the withdrawal of a secret is confirmed only after its announcement")
	require.Empty(t, third)
	require.Eventually(t, func() bool { return loginAt(t, b, app.ID, second) != nil }, 20*time.Second, time.Millisecond)
	require.False(t, b.Fresh(), "the cached secret was accepted only while the feed was fresh")
	f.set(nil, nil)
	release()
	require.Eventually(t, func() bool { return errors.Is(loginAt(t, b, app.ID, second), ErrInvalidClient) }, 20*time.Second, time.Millisecond)
}

// The gateway reads an application again before it refuses it as inactive: another gateway
// may have enabled it.
func TestRemembered_EnabledAgain(t *testing.T) {
	ctx := t.Context()
	server := miniredis.RunT(t)
	a, f := testNode(t, server)
	b, _ := testNode(t, server, func(o *Options) { o.Staleness = time.Hour })
	require.Eventually(t, b.Fresh, 20*time.Second, time.Millisecond)
	app, secret, err := a.CreateApplication(ctx, Application{Name: "Calendar", Domains: []string{"*"}})
	require.NoError(t, err)
	hasHeard(t, b, server)
	_, err = b.Application(ctx, app.ID)
	require.NoError(t, err)
	require.ErrorIs(t, loginAt(t, b, app.ID, secret), ErrInactiveApplication)
	f.set(runs(feed.PublishScript), nil)
	_, err = a.UpdateApplication(ctx, app.ID, 0, func(n *Application) error { n.Active = true; return nil })
	require.ErrorIs(t, err, feed.ErrUntold)
	client, err := b.FindClient(ctx, app.ID)
	require.NoError(t, err)
	require.True(t, client.Remembered())
	require.False(t, client.app.Active)
	require.NoError(t, loginAt(t, b, app.ID, secret))
}

// The last use of a secret or of a user is written at most once a minute.
func TestRemembered_UseIsNotedOnceAMinute(t *testing.T) {
	ctx := t.Context()
	moved := newClock()
	server := miniredis.RunT(t)
	a, _ := testNode(t, server, func(o *Options) { o.Now, o.Staleness = moved.Now, time.Hour })
	require.Eventually(t, a.Fresh, 20*time.Second, time.Millisecond)
	app, secret, err := a.CreateApplication(ctx, Application{Name: "Calendar", Active: true, Domains: []string{"*"}})
	require.NoError(t, err)
	noted := func() (int64, int64) {
		remembers(t, a, app.ID, secret)
		tok, err := a.Issue(ctx, Grant{Application: app, Mail: "ada@example.org"})
		require.NoError(t, err)
		a.background.Wait()
		current, err := a.CurrentApplication(ctx, app.ID)
		require.NoError(t, err)
		stored := hashOf(t, server, "mg1:u:"+tok.UserID)
		return current.LastUsed.UnixMilli(), int64(redisdb.ParseUint(stored[fieldLastSeen]))
	}
	first := moved.Now().UnixMilli()
	used, seen := noted()
	require.Equal(t, [2]int64{first, first}, [2]int64{used, seen})
	moved.pass(30 * time.Second)
	used, seen = noted()
	require.Equal(t, [2]int64{first, first}, [2]int64{used, seen})
	moved.pass(31 * time.Second)
	used, seen = noted()
	require.Equal(t, [2]int64{moved.Now().UnixMilli(), moved.Now().UnixMilli()}, [2]int64{used, seen})
}
