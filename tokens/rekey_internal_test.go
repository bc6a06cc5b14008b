// SPDX-License-Identifier: MIT

package tokens

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tests/redistest"
	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
)

// A secret is safe to remove when all data made with it has been moved: by a pass, or by
// the clients whose secrets and refresh tokens only they can present.
func TestRekey(t *testing.T) {
	ctx := t.Context()
	server := miniredis.RunT(t)
	oldKey, newKey := []byte("rekey-old-secret-0123456789abcdef"), []byte("rekey-new-secret-0123456789abcdef")
	a, _ := testNode(t, server, func(o *Options) { o.Secrets = [][]byte{oldKey} })
	app, secret, err := a.CreateApplication(ctx, Application{
		Name: "Calendar", Active: true, Domains: []string{"example.org"}, Scopes: Scopes{ScopeRoomsList}, Refresh: true,
		Backend: &BackendCredentials{ClientID: "id", ClientSecret: "secret"},
	})
	require.NoError(t, err)
	var tok *Token
	for i := range 150 {
		g := Grant{Application: app, Mail: Mail(fmt.Sprintf("user-%d@example.org", i)), Scopes: app.Scopes}
		app.Refresh = i == 0
		issued, err := a.Issue(ctx, g)
		require.NoError(t, err)
		if i == 0 {
			tok = issued
		}
	}
	before, err := a.User(ctx, "user-7@example.org")
	require.NoError(t, err)

	var ahead atomic.Int64
	b, f := testNode(t, server, func(o *Options) {
		o.Secrets = [][]byte{newKey, oldKey}
		o.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	})
	old := func() KeyStatus {
		s := b.Status(ctx)
		require.Len(t, s.Keys, 2)
		return s.Keys[1]
	}
	stored := func() bool { return server.Exists(redisdb.KeyRekeyed) }
	rekey := func() error { return b.Rekey(ctx, func(int) {}) }
	require.False(t, old().SafeToRemove)

	ahead.Store(int64(IdempotencyLifetime + 2*time.Hour))
	require.Equal(t, "stored data may be made with it: run \"meet secret rekey\"", old().Needed)

	// The pass is interrupted.
	var writes atomic.Int32
	touches := onScript(touchScript)
	f.set(func(cmd redis.Cmder) error {
		if touches(cmd) != nil && writes.Add(1) > 100 {
			return errors.New("interrupted")
		}
		return nil
	}, nil)
	require.ErrorIs(t, rekey(), ErrUnavailable)
	require.False(t, stored())
	f.set(nil, nil)

	visited := 0
	require.NoError(t, b.Rekey(ctx, func(n int) { visited = n }))
	require.Equal(t, 150+2, visited, "users, the application and the family")
	require.True(t, stored())
	require.False(t, old().SafeToRemove)
	require.Equal(t, "applications that have not used their secret since: 1 (Calendar "+app.ID+"); "+
		"refresh tokens that have not been used since: 1 (Calendar "+app.ID+": 1)", old().Needed)

	newOnly, _ := testNode(t, server, func(o *Options) { o.Secrets = [][]byte{newKey} })
	u, err := newOnly.User(ctx, "user-7@example.org")
	require.NoError(t, err)
	require.Equal(t, before.ID, u.ID)
	moved, err := newOnly.CurrentApplication(ctx, app.ID)
	require.NoError(t, err)
	require.False(t, moved.BackendUnreadable())

	// The clients move the rest when they present their secrets.
	same, _, err := b.Authenticate(ctx, app.ID, secret)
	require.NoError(t, err)
	_, err = b.Refresh(ctx, same, tok.Refresh)
	require.NoError(t, err)
	eventually(t, func() bool {
		_, _, err := newOnly.Authenticate(ctx, app.ID, secret)
		return err == nil
	})
	require.False(t, old().SafeToRemove, "no pass has checked since")
	require.NoError(t, rekey())
	require.Empty(t, old().Needed)
	require.True(t, old().SafeToRemove)

	require.NoError(t, server.Set(redisdb.KeyRekeyed, "x"))
	require.False(t, old().SafeToRemove, "an unreadable report proves nothing")
	require.NoError(t, rekey())
	require.True(t, old().SafeToRemove)

	other, _ := testNode(t, server, func(o *Options) { o.Secrets = [][]byte{oldKey} })
	require.ErrorIs(t, other.Rekey(ctx, func(int) {}), ErrUnavailable, "it lacks a key that other gateways use")
}

// In a Redis Cluster, a pass visits the keys of every primary.
func TestRekey_Cluster(t *testing.T) {
	ctx := t.Context()
	servers := redistest.Cluster(t)
	oldKey, newKey := []byte("rekey-old-secret-0123456789abcdef"), []byte("rekey-new-secret-0123456789abcdef")
	open := func(ahead time.Duration, secrets ...[]byte) *Authority {
		store, err := OpenRedis(RedisOptions{Addresses: servers.Addrs(), Cluster: true, Timeout: 10 * time.Second})
		require.NoError(t, err)
		a, err := New(Options{Store: store, Secrets: secrets, Now: func() time.Time { return time.Now().Add(ahead) }})
		require.NoError(t, err)
		t.Cleanup(func() {
			require.NoError(t, a.Close())
			require.NoError(t, store.Close())
		})
		return a
	}
	a := open(0, oldKey)
	app := testApp(t, a)
	app.Refresh = false
	ids := map[Mail]string{}
	for i := range 20 {
		m := Mail(fmt.Sprintf("user-%d@example.org", i))
		_, err := a.Issue(ctx, Grant{Application: app, Mail: m, Scopes: app.Scopes})
		require.NoError(t, err)
		u, err := a.User(ctx, string(m))
		require.NoError(t, err)
		ids[m] = u.ID
	}
	require.NoError(t, open(48*time.Hour, newKey, oldKey).Rekey(ctx, func(int) {}))
	newOnly := open(0, newKey)
	for m, id := range ids {
		u, err := newOnly.User(ctx, string(m))
		require.NoError(t, err)
		require.Equal(t, id, u.ID)
	}
}

// Ended families of refresh tokens need no secret, however they ended.
func TestRekey_EndedFamilies(t *testing.T) {
	oldKey, newKey := []byte("rekey-old-secret-0123456789abcdef"), []byte("rekey-new-secret-0123456789abcdef")
	const mail = "ada@example.org"
	for name, end := range map[string]func(context.Context, *Authority, *Application, *Token) error{
		"all": func(ctx context.Context, a *Authority, _ *Application, _ *Token) error { return a.RevokeAll(ctx) },
		"application": func(ctx context.Context, a *Authority, app *Application, _ *Token) error {
			return a.RevokeApplication(ctx, app.ID)
		},
		"user": func(ctx context.Context, a *Authority, _ *Application, _ *Token) error {
			return a.RevokeUser(ctx, mail)
		},
		"grant": func(ctx context.Context, a *Authority, app *Application, _ *Token) error {
			return a.RevokeGrant(ctx, app.ID, mail)
		},
		"family": func(ctx context.Context, a *Authority, _ *Application, tok *Token) error {
			return a.RevokeToken(ctx, tok.Refresh)
		},
		"before": func(ctx context.Context, a *Authority, _ *Application, _ *Token) error {
			return a.RevokeBefore(ctx, a.now())
		},
		"deleted": func(ctx context.Context, a *Authority, app *Application, _ *Token) error {
			return a.DeleteApplication(ctx, app.ID, 0)
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			server := miniredis.RunT(t)
			a, _ := testNode(t, server, func(o *Options) { o.Secrets = [][]byte{oldKey} })
			app, secret, err := a.CreateApplication(ctx, Application{
				Name: "Calendar", Active: true, Domains: []string{"example.org"}, Scopes: Scopes{ScopeRoomsList}, Refresh: true,
			})
			require.NoError(t, err)
			tok, err := a.Issue(ctx, Grant{Application: app, Mail: mail, Scopes: app.Scopes})
			require.NoError(t, err)

			b, _ := testNode(t, server, func(o *Options) {
				o.Secrets = [][]byte{newKey, oldKey}
				o.Now = func() time.Time { return time.Now().Add(IdempotencyLifetime + 2*time.Hour) }
			})
			require.NoError(t, b.Rekey(ctx, func(int) {}))
			require.Contains(t, b.Status(ctx).Keys[1].Needed, "refresh tokens that have not been used since: 1 (Calendar "+app.ID+": 1)")
			_, _, err = b.Authenticate(ctx, app.ID, secret) // moves its secret
			require.NoError(t, err)

			require.NoError(t, end(ctx, b, app, tok))
			eventually(t, func() bool {
				require.NoError(t, b.Rekey(ctx, func(int) {}))
				return b.Status(ctx).Keys[1].Needed == "" // the moved secret is written in the background
			})
			require.True(t, b.Status(ctx).Keys[1].SafeToRemove)
		})
	}
}
