// SPDX-License-Identifier: MIT

package tokens

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tokens/internal/family"
	"github.com/meet-gateway/meet-gateway/tokens/internal/feed"
	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
)

// faults is a hook that makes selected commands fail.
type faults struct {
	mu     sync.Mutex
	before func(redis.Cmder) error // fails the command before it is sent
	after  func(redis.Cmder) error // replaces its answer by an error
}

func (f *faults) set(before, after func(redis.Cmder) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.before, f.after = before, after
}

func (f *faults) DialHook(next redis.DialHook) redis.DialHook { return next }

func (f *faults) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (f *faults) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		f.mu.Lock()
		before, after := f.before, f.after
		f.mu.Unlock()
		if before != nil {
			if err := before(cmd); err != nil {
				cmd.SetErr(err)
				return err
			}
		}
		err := next(ctx, cmd)
		cmd.SetErr(err) // go-redis does so later
		if after != nil {
			if lost := after(cmd); lost != nil {
				cmd.SetErr(lost)
				return lost
			}
		}
		return err
	}
}

var errInjected = errors.New("injected failure")

// onScript returns a fault for the script alone, sent by its hash or in full.
func onScript(s *redis.Script) func(redis.Cmder) error {
	return func(cmd redis.Cmder) error {
		args := cmd.Args()
		if len(args) < 2 || redis.HasErrorPrefix(cmd.Err(), "NOSCRIPT") {
			return nil
		}
		if text, ok := args[1].(string); ok && (text == s.Hash() || redis.NewScript(text).Hash() == s.Hash()) {
			return errInjected
		}
		return nil
	}
}

// testNode starts a gateway on the server, with a hook for faults.
func testNode(t testing.TB, server *miniredis.Miniredis, change ...func(*Options)) (*Authority, *faults) {
	t.Helper()
	store, err := OpenRedis(RedisOptions{Addresses: []string{server.Addr()}, Timeout: 10 * time.Second})
	require.NoError(t, err)
	f := new(faults)
	store.Client().AddHook(f)
	o := Options{Store: store, Secrets: [][]byte{[]byte("tokens-test-secret-0123456789abcdef")}, Staleness: time.Second}
	for _, c := range change {
		c(&o)
	}
	a, err := New(o)
	require.NoError(t, err)
	a.Start()
	t.Cleanup(func() {
		f.set(nil, nil)
		require.NoError(t, a.Close())
		require.NoError(t, store.Close())
	})
	eventually(t, a.Fresh)
	return a, f
}

func eventually(t testing.TB, what func() bool) {
	t.Helper()
	require.Eventually(t, what, 20*time.Second, 2*time.Millisecond)
}

func testApp(t testing.TB, a *Authority) *Application {
	t.Helper()
	app, _, err := a.CreateApplication(t.Context(), Application{
		Name: "Calendar", Active: true, Domains: []string{"example.org"}, Scopes: Scopes{ScopeRoomsList}, Refresh: true,
	})
	require.NoError(t, err)
	return app
}

func testToken(t testing.TB, a *Authority, app *Application) *Token {
	t.Helper()
	tok, err := a.Issue(t.Context(), Grant{Application: app, Mail: "alice@example.org", Scopes: app.Scopes})
	require.NoError(t, err)
	return tok
}

// A change that Redis saved but the gateway could not publish is published later, whatever
// a retry of the caller returns.
func TestFeed_PublishesLater(t *testing.T) {
	for name, c := range map[string]struct {
		change func(a *Authority, app *Application) error
		again  error // the result of a retry while nothing can be published
	}{
		"delete": {func(a *Authority, app *Application) error {
			return a.DeleteApplication(t.Context(), app.ID, app.Version)
		}, ErrNotFound},
		"revocation": {func(a *Authority, app *Application) error { return a.RevokeApplication(t.Context(), app.ID) }, ErrUnavailable},
		"edit": {func(a *Authority, app *Application) error {
			_, err := a.UpdateApplication(t.Context(), app.ID, app.Version, func(n *Application) error { n.Active = false; return nil })
			return err
		}, ErrConflict},
	} {
		for _, closing := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, closing %v", name, closing), func(t *testing.T) {
				server := miniredis.RunT(t)
				a, f := testNode(t, server)
				b, _ := testNode(t, server)
				app := testApp(t, a)
				tok := testToken(t, a, app)
				_, err := b.Verify(t.Context(), tok.Value)
				require.NoError(t, err)

				f.set(onScript(feed.PublishScript), nil)
				require.ErrorIs(t, c.change(a, app), ErrUnavailable)
				require.ErrorIs(t, c.change(a, app), c.again)
				f.set(nil, nil)
				if closing {
					require.NoError(t, a.Close())
				}
				eventually(t, func() bool { _, err := b.Verify(t.Context(), tok.Value); return err != nil })
				_, err = b.Verify(t.Context(), tok.Value)
				require.NotErrorIs(t, err, ErrUnavailable)
			})
		}
	}
}

// If the answer to a write is lost, the caller gets an error, a retry succeeds, and all
// gateways learn of the change in both cases.
func TestFeed_LostReplies(t *testing.T) {
	for name, c := range map[string]struct {
		script *redis.Script
		change func(a *Authority, app *Application, tok *Token) error
	}{
		"delete": {deleteScript, func(a *Authority, app *Application, _ *Token) error {
			return a.DeleteApplication(t.Context(), app.ID, 0)
		}},
		"application": {countIfScript, func(a *Authority, app *Application, _ *Token) error { return a.RevokeApplication(t.Context(), app.ID) }},
		"grant": {revokeGrantScript, func(a *Authority, app *Application, _ *Token) error {
			return a.RevokeGrant(t.Context(), app.ID, "alice@example.org")
		}},
		"token":    {revokeRecordScript, func(a *Authority, _ *Application, tok *Token) error { return a.RevokeToken(t.Context(), tok.Value) }},
		"token id": {revokeRecordScript, func(a *Authority, _ *Application, tok *Token) error { return a.RevokeToken(t.Context(), tok.ID) }},
		"family": {family.EndScript, func(a *Authority, app *Application, tok *Token) error {
			return a.RevokeOwnToken(t.Context(), app, tok.Refresh)
		}},
		"family's token": {revokeRecordScript, func(a *Authority, app *Application, tok *Token) error {
			return a.RevokeOwnToken(t.Context(), app, tok.Refresh)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			server := miniredis.RunT(t)
			a, f := testNode(t, server)
			b, _ := testNode(t, server)
			app := testApp(t, a)
			tok := testToken(t, a, app)
			_, err := b.Verify(t.Context(), tok.Value)
			require.NoError(t, err)
			f.set(nil, onScript(c.script))
			require.ErrorIs(t, c.change(a, app, tok), ErrUnavailable)
			f.set(nil, nil)
			if !strings.HasPrefix(name, "family") { // the gateway only knows that the family may have ended
				eventually(t, func() bool { _, err := b.Verify(t.Context(), tok.Value); return err != nil })
			}
			if err := c.change(a, app, tok); name == "delete" {
				require.ErrorIs(t, err, ErrNotFound)
			} else {
				require.NoError(t, err)
			}
			eventually(t, func() bool { _, err := b.Verify(t.Context(), tok.Value); return err != nil })
			_, err = b.Inspect(t.Context(), tok.Value)
			require.NotErrorIs(t, err, ErrUnavailable)
		})
	}
}

// A gateway makes a change and stops before it publishes it. A retry at another gateway is
// refused, and publishes the change.
func TestFeed_RetryAtAnotherGateway(t *testing.T) {
	server := miniredis.RunT(t)
	a, f := testNode(t, server)
	b, _ := testNode(t, server)
	c, _ := testNode(t, server)
	app := testApp(t, a)
	tok := testToken(t, a, app)
	_, err := b.Verify(t.Context(), tok.Value)
	require.NoError(t, err)
	f.set(onScript(feed.PublishScript), nil)
	require.ErrorIs(t, a.DeleteApplication(t.Context(), app.ID, app.Version), ErrUnavailable)
	require.NoError(t, a.Close())
	require.ErrorIs(t, c.DeleteApplication(t.Context(), app.ID, app.Version), ErrNotFound)
	eventually(t, func() bool { _, err := b.Verify(t.Context(), tok.Value); return errors.Is(err, ErrTokenInvalid) })
}

// A reused refresh token ends its family, also if revoking its access tokens takes several
// attempts.
func TestRefresh_ReuseEndsFamily(t *testing.T) {
	server := miniredis.RunT(t)
	a, f := testNode(t, server)
	app := testApp(t, a)
	first := testToken(t, a, app)
	second, err := a.Refresh(t.Context(), app, first.Refresh)
	require.NoError(t, err)
	third, err := a.Refresh(t.Context(), app, second.Refresh)
	require.NoError(t, err)
	f.set(onScript(revokeRecordScript), nil)
	_, err = a.Refresh(t.Context(), app, first.Refresh)
	require.ErrorIs(t, err, ErrUnavailable)
	f.set(nil, nil)
	_, err = a.Inspect(t.Context(), third.Refresh)
	require.ErrorIs(t, err, ErrTokenInvalid, "the family has already ended")
	_, err = a.Refresh(t.Context(), app, third.Refresh)
	require.ErrorIs(t, err, ErrInvalidGrant)
	for _, tok := range []*Token{first, second, third} {
		_, err := a.Inspect(t.Context(), tok.Value)
		require.ErrorIs(t, err, ErrTokenInvalid)
	}
}

// A value read from Redis before a change is announced is not cached after it.
func TestCache_NoFillAfterDrop(t *testing.T) {
	c := newCache(100)
	u := userIDOf("uuuuuuuu")
	for name, drop := range map[string]func(){
		"one": func() { c.forget(redisdb.KeyUser(string(u[:]))) },
		"all": func() { c.dropAll() },
	} {
		since := c.epochs.Now(redisdb.KeyUser(string(u[:])))
		drop()
		c.epochs.Fill(redisdb.KeyUser(string(u[:])), since, func() { c.users.Store(u, packedUser{}) })
		_, there := c.users.Load(u)
		require.False(t, there, name)
	}
	c.epochs.Fill(redisdb.KeyUser(string(u[:])), c.epochs.Now(redisdb.KeyUser(string(u[:]))), func() { c.users.Store(u, packedUser{}) })
	_, there := c.users.Load(u)
	require.True(t, there)
}

// A value read before a change is not cached after its announcement, in whatever order the
// goroutines run.
func TestCache_FillRaces(t *testing.T) {
	c := newCache(1000)
	for i := range 2000 {
		id := userIDOf(fmt.Sprintf("user%04d", i%7))
		key := redisdb.KeyUser(string(id[:]))
		since := c.epochs.Now(key) // Redis now answers with the old value
		var wg sync.WaitGroup
		wg.Go(func() { c.epochs.Fill(key, since, func() { c.users.Store(id, packedUser{}) }) })
		wg.Go(func() {
			if i%2 == 0 {
				c.forget(key)
			} else {
				c.dropAll()
			}
		})
		wg.Wait()
		_, there := c.users.Load(id)
		require.False(t, there)
	}
}

func TestFeed_SkippedNumberEmptiesCache(t *testing.T) {
	server := miniredis.RunT(t)
	a, _ := testNode(t, server, func(o *Options) { o.Staleness = time.Hour }) // one heartbeat only
	app := testApp(t, a)
	known := func() bool { _, ok := a.cache.applications.Load(app.ID); return ok }
	fill := func() {
		_, err := a.Application(t.Context(), app.ID)
		require.NoError(t, err)
		eventually(t, known)
	}
	numbers := func() (highest, heard uint64) { return a.feed.Changes(), a.feed.Hooks().HeardTo() }
	settle := func() { // waits until all published changes have arrived
		published, _ := numbers()
		eventually(t, func() bool { _, heard := numbers(); return heard >= published })
	}
	settle()
	for name, message := range map[string]string{
		"skipped":         `1000 {"f":["mg1:u:abcdefgh"]}`,
		"another version": "%d z something 1",
		"unreadable":      "what is this",
		"no number":       `x {"f":["mg1:u:abcdefgh"]}`,
	} {
		fill()
		if strings.Contains(message, "%d") {
			_, heard := numbers()
			message = fmt.Sprintf(message, heard+1)
		}
		server.Publish(redisdb.ChannelFeed, message)
		eventually(t, func() bool { return !known() })
		_ = name
	}
}

// A change is lost between a new subscription and its first heartbeat, as on a replica of a Cluster
// that its primary does not know yet. The heartbeat proves nothing about what was read before it.
func TestFeed_FirstHeartbeatEmptiesCache(t *testing.T) {
	server := miniredis.RunT(t)
	other, _ := testNode(t, server)
	app := testApp(t, other)
	store, err := OpenRedis(RedisOptions{Addresses: []string{server.Addr()}, Timeout: 10 * time.Second})
	require.NoError(t, err)
	a, err := New(Options{Store: store, Secrets: [][]byte{[]byte("tokens-test-secret-0123456789abcdef")}, Staleness: time.Hour})
	require.NoError(t, err)
	release := a.feed.Hooks().HoldHeartbeats()
	a.Start()
	t.Cleanup(func() {
		require.NoError(t, a.Close())
		require.NoError(t, store.Close())
	})
	eventually(t, func() bool {
		server.Publish(redisdb.ChannelFeed, "1 {}")
		return a.feed.Hooks().HeardTo() > 0
	})
	_, err = a.Application(t.Context(), app.ID)
	require.NoError(t, err)
	eventually(t, func() bool { _, known := a.cache.applications.Load(app.ID); return known })
	_, err = server.Incr(redisdb.KeyFeed, 1) // the change that is lost
	require.NoError(t, err)
	release()
	eventually(t, a.Fresh)
	_, known := a.cache.applications.Load(app.ID)
	require.False(t, known)
}

func TestFeed_CloseTwice(t *testing.T) {
	server := miniredis.RunT(t)
	a, _ := testNode(t, server)
	a.Start()
	require.NoError(t, a.Close())
	require.NoError(t, a.Close())
	a.Start() // has no effect after Close
	require.False(t, a.Fresh())
}

// Only a bounded number of revoked grants of a user are kept. A floor replaces the older
// ones, so that their tokens stay revoked.
func TestRevokedGrants_AreBounded(t *testing.T) {
	server := miniredis.RunT(t)
	a, _ := testNode(t, server)
	ctx := t.Context()
	first := testApp(t, a)
	old := testToken(t, a, first)
	u, err := a.User(ctx, "alice@example.org")
	require.NoError(t, err)
	require.NoError(t, a.RevokeGrant(ctx, first.ID, u.ID))
	var live []*Token
	for range maxGrants + 20 {
		app := testApp(t, a)
		tok := testToken(t, a, app)
		require.NoError(t, a.RevokeGrant(ctx, app.ID, u.ID))
		_, err := a.Verify(ctx, tok.Value)
		require.Equal(t, "grant_revoked", Reason(err))
		live = append(live, testToken(t, a, app))
	}
	fields, err := server.HKeys(redisdb.KeyUser(u.ID))
	require.NoError(t, err)
	grants := slices.DeleteFunc(fields, func(k string) bool { return !strings.HasPrefix(k, prefixGrantGen) })
	require.Len(t, grants, maxGrants)
	_, err = a.Inspect(ctx, old.Value)
	require.ErrorIs(t, err, ErrTokenInvalid, "the floor replaces the dropped entry")
	for i, tok := range live[len(live)-maxGrants/2:] {
		_, err = a.Inspect(ctx, tok.Value)
		require.NoError(t, err, i)
	}
	fresh := testToken(t, a, first)
	_, err = a.Inspect(ctx, fresh.Value)
	require.NoError(t, err)
}
