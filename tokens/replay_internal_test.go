// SPDX-License-Identifier: MIT

package tokens

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tests/redistest"
	"github.com/meet-gateway/meet-gateway/tokens/internal/family"
	"github.com/meet-gateway/meet-gateway/tokens/internal/installation"
	"github.com/meet-gateway/meet-gateway/tokens/internal/journal"
	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
)

// testPair starts two gateways that share one server and both listen to the feed.
func testPair(t *testing.T, change ...func(*Options)) (server *miniredis.Miniredis, a, b *Authority) {
	t.Helper()
	server = miniredis.RunT(t)
	// These tests are not about heartbeats: a slow machine must not make one late.
	change = append(change, func(o *Options) { o.Staleness = time.Minute })
	a, _ = testNode(t, server, change...)
	b, _ = testNode(t, server, change...)
	for _, n := range []*Authority{a, b} {
		require.Eventually(t, n.Fresh, 20*time.Second, time.Millisecond)
	}
	return server, a, b
}

// waitForChanges waits until the gateway has received all changes published so far.
func waitForChanges(t *testing.T, a *Authority, server *miniredis.Miniredis) {
	t.Helper()
	text, err := server.Get(redisdb.KeyFeed)
	require.NoError(t, err)
	number := redisdb.ParseUint(text)
	require.Eventually(t, func() bool { return a.feed.Hooks().HeardTo() >= number }, 20*time.Second, time.Millisecond)
}

// replayJournal makes the gateway replay its journal, as it does when it finds another
// server.
func replayJournal(t *testing.T, a *Authority) {
	t.Helper()
	require.NoError(t, a.feed.Hooks().Replay(t.Context()))
}

func restoreHash(server *miniredis.Miniredis, key string, fields map[string]string) {
	server.Del(key)
	for name, value := range fields {
		server.HSet(key, name, value)
	}
}

func hashOf(t *testing.T, server *miniredis.Miniredis, key string) map[string]string {
	t.Helper()
	names, err := server.HKeys(key)
	require.NoError(t, err)
	fields := map[string]string{}
	for _, name := range names {
		fields[name] = server.HGet(key, name)
	}
	return fields
}

// Any gateway restores a lost edit, and tokens stay valid.
func TestReplay_EditOfAnotherGateway(t *testing.T) {
	server, a, b := testPair(t)
	ctx := t.Context()
	app := testApp(t, a)
	tok := testToken(t, a, app)
	before := hashOf(t, server, redisdb.KeyApplication(app.ID))
	_, secret, err := a.RotateSecret(ctx, app.ID, 0, 0)
	require.NoError(t, err)
	waitForChanges(t, b, server)

	restoreHash(server, redisdb.KeyApplication(app.ID), before)
	replayJournal(t, b)
	_, _, err = b.Authenticate(ctx, app.ID, secret)
	require.NoError(t, err)
	_, err = b.Inspect(ctx, tok.Value)
	require.NoError(t, err)
}

// A new application is restored after a failover. A deleted one stays deleted, and nothing
// is restored when an operator empties Redis later.
func TestReplay_NewApplication(t *testing.T) {
	ctx := t.Context()
	clk := newClock()
	server, a, b := testPair(t, func(o *Options) { o.Now = clk.Now })
	app, secret, err := a.CreateApplication(ctx, Application{Name: "New", Active: true, Aliases: []string{"new-alias"}})
	require.NoError(t, err)
	deleted := testApp(t, a)
	require.NoError(t, a.DeleteApplication(ctx, deleted.ID, 0))
	waitForChanges(t, b, server)

	empty := func() {
		server.Del(redisdb.KeyApplication(app.ID))
		server.Del(redisdb.KeyAlias("new-alias"))
		server.Del(redisdb.KeyIndex)
	}
	empty()
	require.True(t, b.feed.Hooks().Restore(ctx, 0, b.feed.Changes()))
	require.False(t, server.Exists(redisdb.KeyApplication(app.ID)), "an emptied Redis is not restored")
	require.Eventually(t, a.feed.Settling, 20*time.Second, time.Millisecond, "the other gateway receives the announcement")
	a.feed.Hooks().Replace(false) // the staleness bound passes

	replayJournal(t, b)
	_, _, err = b.Authenticate(ctx, "new-alias", secret)
	require.NoError(t, err)
	page, err := b.Applications(ctx, ListOptions{})
	require.NoError(t, err)
	require.Len(t, page.Applications, 1)
	require.Empty(t, server.HGet(redisdb.KeyApplication(deleted.ID), fieldDocument))

	// A gateway that missed the deletion does not restore the application either.
	last, known := b.feed.Journal().Get(journal.Edits, redisdb.KeyApplication(app.ID))
	require.True(t, known)
	require.NoError(t, a.DeleteApplication(ctx, app.ID, 0))
	waitForChanges(t, b, server)
	b.feed.Journal().Drop(journal.Edits, last.Name)
	b.feed.Journal().Add(last)
	replayJournal(t, b)
	require.Empty(t, server.HGet(redisdb.KeyApplication(app.ID), fieldDocument))
	require.False(t, server.Exists(redisdb.KeyAlias("new-alias")))

	app, _, err = a.CreateApplication(ctx, Application{Name: "Newer", Active: true})
	require.NoError(t, err)
	waitForChanges(t, b, server)

	clk.advance(2 * journal.Memory)
	empty()
	replayJournal(t, b)
	require.False(t, server.Exists(redisdb.KeyApplication(app.ID)))
}

// A revoked or reused refresh token stays invalid after a replay.
func TestReplay_EndedFamily(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, a *Authority, app *Application, raw string){
		"revoked": func(t *testing.T, a *Authority, _ *Application, raw string) {
			t.Helper()
			require.NoError(t, a.RevokeToken(t.Context(), raw))
		},
		"reused": func(t *testing.T, a *Authority, app *Application, raw string) {
			t.Helper()
			familyID, _ := family.IDOf(raw)
			_, err := a.Refresh(t.Context(), app, family.NewToken(familyID))
			require.ErrorIs(t, err, ErrInvalidGrant)
		},
	} {
		t.Run(name, func(t *testing.T) {
			server, a, b := testPair(t)
			app := testApp(t, a)
			raw := testToken(t, a, app).Refresh
			id, ok := family.IDOf(raw)
			require.True(t, ok)
			before := hashOf(t, server, redisdb.KeyFamily(id))
			end(t, a, app, raw)
			waitForChanges(t, b, server)

			restoreHash(server, redisdb.KeyFamily(id), before)
			_, err := b.Inspect(t.Context(), raw)
			require.NoError(t, err, "the revocation is lost")
			replayJournal(t, b)
			_, err = b.Refresh(t.Context(), app, raw)
			require.ErrorIs(t, err, ErrInvalidGrant)
			_, err = b.Inspect(t.Context(), raw)
			require.ErrorIs(t, err, ErrTokenInvalid)

			// The gateway that issued the token may restore its family, but not as a live one.
			server.Del(redisdb.KeyFamily(id))
			replayJournal(t, b)
			replayJournal(t, a)
			_, err = b.Inspect(t.Context(), raw)
			require.ErrorIs(t, err, ErrTokenInvalid)
			require.NotZero(t, server.TTL(redisdb.KeyFamily(id)))
		})
	}
}

// After Redis is emptied, cached revocations stay in force until they have been written
// again.
func TestRevoke_SurvivesAnEmptiedRedis(t *testing.T) {
	for name, revoke := range map[string]func(a *Authority, tok *Token) error{
		"before": func(a *Authority, _ *Token) error { return a.RevokeBefore(t.Context(), a.now()) },
		"key": func(a *Authority, _ *Token) error {
			return a.installations.Withdraw(t.Context(), a.signing.KeyID())
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := miniredis.RunT(t)
			a, _ := testNode(t, server, func(o *Options) { o.Staleness = time.Hour }) // so that no heartbeat detects it
			require.Eventually(t, a.Fresh, 20*time.Second, time.Millisecond)
			tok := testToken(t, a, testApp(t, a))
			_, err := a.Verify(t.Context(), tok.Value)
			require.NoError(t, err)
			require.NoError(t, revoke(a, tok))
			_, err = a.Verify(t.Context(), tok.Value)
			require.ErrorIs(t, err, ErrTokenInvalid)

			server.Del(redisdb.KeyInstallation)
			_, err = a.installations.Load(t.Context()) // as a token request does
			require.NoError(t, err)
			_, err = a.Verify(t.Context(), tok.Value)
			require.ErrorIs(t, err, ErrTokenInvalid)
		})
	}
}

// A paused server may carry out a rotation late. The retry window starts then, so the
// retry is not a reuse.
func TestRefresh_RetryWindowStartsAtRotation(t *testing.T) {
	t.Parallel()
	server := redistest.Standalone(t)
	store, err := OpenRedis(RedisOptions{URL: server.URL(), Timeout: 10 * time.Second})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	c := newClock()
	a, err := New(Options{Store: store, Secrets: [][]byte{[]byte("tokens-test-secret-0123456789abcdef")}, Now: c.Now})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, a.Close()) })
	require.NoError(t, a.feed.Check(t.Context())) // as when a feed starts
	app := testApp(t, a)
	raw := testToken(t, a, app).Refresh

	c.advance(-time.Minute) // when the rotation was sent
	first, err := a.Refresh(t.Context(), app, raw)
	require.NoError(t, err)
	c.advance(time.Minute)
	again, err := a.Refresh(t.Context(), app, raw)
	require.NoError(t, err)
	require.Equal(t, first.Refresh, again.Refresh)
}

// A failed update may have been made nevertheless. Confirming the application publishes
// it, so that it survives a failover.
func TestReplay_ConfirmedEdit(t *testing.T) {
	server := miniredis.RunT(t)
	calm := func(o *Options) { o.Staleness = time.Minute }
	a, f := testNode(t, server, calm)
	b, _ := testNode(t, server, calm)
	require.Eventually(t, b.Fresh, 20*time.Second, time.Millisecond)
	ctx := t.Context()
	app := testApp(t, a)
	before := hashOf(t, server, redisdb.KeyApplication(app.ID))
	f.set(nil, onScript(saveScript)) // Redis saves it, and the answer is lost
	_, err := a.UpdateApplication(ctx, app.ID, 0, func(n *Application) error { n.Active = false; return nil })
	require.ErrorIs(t, err, ErrUnavailable)
	f.set(nil, nil)
	confirmed, err := a.ConfirmApplication(ctx, app.ID)
	require.NoError(t, err)
	require.False(t, confirmed.Active)
	require.Equal(t, app.Version+1, confirmed.Version)
	waitForChanges(t, b, server)

	restoreHash(server, redisdb.KeyApplication(app.ID), before)
	replayJournal(t, b)
	now, err := b.CurrentApplication(ctx, app.ID)
	require.NoError(t, err)
	require.False(t, now.Active)
	require.Equal(t, confirmed.Version, now.Version)

	_, err = a.ConfirmApplication(ctx, "0123456789012345678901")
	require.ErrorIs(t, err, ErrNotFound)
}

// A failed deletion may have been made nevertheless. The retry publishes it, so that it
// survives a failover.
func TestReplay_RetriedDeletion(t *testing.T) {
	server := miniredis.RunT(t)
	calm := func(o *Options) { o.Staleness = time.Minute }
	a, f := testNode(t, server, calm)
	b, _ := testNode(t, server, calm)
	require.Eventually(t, b.Fresh, 20*time.Second, time.Millisecond)
	ctx := t.Context()
	app := testApp(t, a)
	tok := testToken(t, a, app)
	before := hashOf(t, server, redisdb.KeyApplication(app.ID))
	f.set(nil, onScript(deleteScript))
	require.ErrorIs(t, a.DeleteApplication(ctx, app.ID, 0), ErrUnavailable)
	f.set(nil, nil)
	require.ErrorIs(t, a.DeleteApplication(ctx, app.ID, 0), ErrNotFound)
	waitForChanges(t, b, server)

	restoreHash(server, redisdb.KeyApplication(app.ID), before)
	replayJournal(t, b)
	_, err := b.Inspect(ctx, tok.Value)
	require.ErrorIs(t, err, ErrTokenInvalid)
}

// A lost refresh token is restored, whether it is the first of its family or the result of
// one or more rotations.
func TestReplay_RefreshTokens(t *testing.T) {
	server, a, b := testPair(t)
	ctx := t.Context()
	app := testApp(t, a)
	first := testToken(t, a, app)
	id, _ := family.IDOf(first.Refresh)
	before := hashOf(t, server, redisdb.KeyFamily(id))

	server.Del(redisdb.KeyFamily(id))
	replayJournal(t, a)
	_, err := b.Inspect(ctx, first.Refresh)
	require.NoError(t, err)

	second, err := a.Refresh(ctx, app, first.Refresh)
	require.NoError(t, err)
	again, err := b.Refresh(ctx, app, first.Refresh) // the client lost the answer and retries at b
	require.NoError(t, err)
	require.Equal(t, second.Refresh, again.Refresh)
	third, err := b.Refresh(ctx, app, second.Refresh)
	require.NoError(t, err)
	last := hashOf(t, server, redisdb.KeyFamily(id))

	restoreHash(server, redisdb.KeyFamily(id), before)
	replayJournal(t, b)
	after := hashOf(t, server, redisdb.KeyFamily(id))
	delete(last, family.FieldRotated) // the retry window starts again
	delete(after, family.FieldRotated)
	require.Equal(t, last, after)
	require.NotContains(t, after, family.FieldOpen, "the pair was delivered")
	replayJournal(t, a) // a second replay changes nothing
	replayJournal(t, b)
	fourth, err := a.Refresh(ctx, app, third.Refresh)
	require.NoError(t, err)
	_, err = b.Inspect(ctx, fourth.Value)
	require.NoError(t, err)

	require.NoError(t, b.RevokeToken(ctx, fourth.Refresh))
	replayJournal(t, a)
	_, err = a.Refresh(ctx, app, fourth.Refresh)
	require.ErrorIs(t, err, ErrInvalidGrant)
}

// Two gateways rotated the same token one after the other. Both rotations are restored,
// also if the gateway of the second one replays first.
func TestReplay_RefreshTokensOfTwoGateways(t *testing.T) {
	server, a, b := testPair(t)
	app := testApp(t, a)
	first := testToken(t, a, app)
	id, _ := family.IDOf(first.Refresh)
	before := hashOf(t, server, redisdb.KeyFamily(id))
	second, err := a.Refresh(t.Context(), app, first.Refresh)
	require.NoError(t, err)
	third, err := b.Refresh(t.Context(), app, second.Refresh)
	require.NoError(t, err)

	restoreHash(server, redisdb.KeyFamily(id), before)
	b.feed.Hooks().Replace(true)
	replayJournal(t, b)
	_, err = b.Refresh(t.Context(), app, third.Refresh)
	require.ErrorIs(t, err, ErrUnavailable)
	replayJournal(t, a)
	b.feed.Hooks().Heartbeat(t.Context()) // the next heartbeat
	_, err = b.Inspect(t.Context(), third.Refresh)
	require.NoError(t, err)
}

// A client that lost the answer to a refresh gets it again during a replay. Waiting would
// exceed the retry window.
func TestRefresh_RetryDuringReplay(t *testing.T) {
	_, a, b := testPair(t)
	app := testApp(t, a)
	first := testToken(t, a, app)
	second, err := a.Refresh(t.Context(), app, first.Refresh)
	require.NoError(t, err)
	b.feed.Hooks().Replace(true)
	again, err := b.Refresh(t.Context(), app, first.Refresh)
	require.NoError(t, err)
	require.Equal(t, second.Refresh, again.Refresh)
	b.feed.Hooks().Replace(true)
	familyID, _ := family.IDOf(first.Refresh)
	_, err = b.Refresh(t.Context(), app, family.NewToken(familyID))
	require.ErrorIs(t, err, ErrUnavailable)
}

// Refresh tokens issued just before an outage are remembered until it ends.
func TestReplay_RefreshTokensFromBeforeAnOutage(t *testing.T) {
	clk := newClock()
	server, a, b := testPair(t, func(o *Options) { o.Now = clk.Now })
	app := testApp(t, a)
	first := testToken(t, a, app)
	id, _ := family.IDOf(first.Refresh)
	before := hashOf(t, server, redisdb.KeyFamily(id))
	second, err := a.Refresh(t.Context(), app, first.Refresh)
	require.NoError(t, err)

	clk.advance(2 * journal.Memory)
	restoreHash(server, redisdb.KeyFamily(id), before)
	replayJournal(t, a)
	_, err = b.Inspect(t.Context(), second.Refresh)
	require.NoError(t, err)
}

// After a loss, new changes reuse the numbers of lost ones. The lost changes are restored
// nevertheless.
func TestReplay_ReusedChangeNumbers(t *testing.T) {
	server, a, b := testPair(t)
	for _, n := range []*Authority{a, b} { // neither detects the loss before the test asks for it
		defer n.feed.Hooks().HoldHeartbeats()()
	}
	ctx := t.Context()
	require.NoError(t, a.RevokeAll(ctx))
	before, err := a.installations.Load(ctx)
	require.NoError(t, err)
	app := testApp(t, a)
	require.NoError(t, a.RevokeApplication(ctx, app.ID))
	waitForChanges(t, b, server)
	known := b.feed.Changes()

	server.FlushAll()
	testApp(t, a)
	testApp(t, a)
	number := redisdb.ParseUint(textOf(t, server, redisdb.KeyFeed))
	require.Less(t, number, known)
	require.True(t, b.feed.Hooks().Restore(ctx, number, known))
	in, err := b.installations.Load(ctx)
	require.NoError(t, err)
	require.Equal(t, before.Generation, in.Generation)
}

// A revocation may be lost for good. The next revocation must not reuse its generation, or
// tokens issued after the lost one would stay valid.
func TestRevoke_AfterALostRevocation(t *testing.T) {
	for name, revoke := range map[string]func(a *Authority, app *Application) error{
		"user": func(a *Authority, _ *Application) error { return a.RevokeUser(t.Context(), "alice@example.org") },
		"grant": func(a *Authority, app *Application) error {
			return a.RevokeGrant(t.Context(), app.ID, "alice@example.org")
		},
		"application":  func(a *Authority, app *Application) error { return a.RevokeApplication(t.Context(), app.ID) },
		"installation": func(a *Authority, _ *Application) error { return a.RevokeAll(t.Context()) },
	} {
		t.Run(name, func(t *testing.T) {
			server := miniredis.RunT(t)
			a, _ := testNode(t, server, func(o *Options) { o.Staleness = time.Hour })
			server.SetTime(time.Now().Add(time.Minute))
			app := testApp(t, a)
			testToken(t, a, app)
			u, err := a.User(t.Context(), "alice@example.org")
			require.NoError(t, err)
			before := map[string]map[string]string{}
			for _, key := range []string{redisdb.KeyInstallation, redisdb.KeyApplication(app.ID), redisdb.KeyUser(u.ID)} {
				before[key] = hashOf(t, server, key)
			}
			require.NoError(t, revoke(a, app))
			app, err = a.CurrentApplication(t.Context(), app.ID)
			require.NoError(t, err)
			tok := testToken(t, a, app)
			for key, fields := range before {
				restoreHash(server, key, fields)
			}
			server.SetTime(time.Now().Add(2 * time.Minute))
			require.NoError(t, revoke(a, app))
			_, err = a.Inspect(t.Context(), tok.Value)
			require.ErrorIs(t, err, ErrTokenInvalid)
			_, err = a.Inspect(t.Context(), tok.Refresh)
			require.ErrorIs(t, err, ErrTokenInvalid)
		})
	}
}

// A restored user has the generation of the most recent of several tokens.
func TestReplay_UserOfSeveralTokens(t *testing.T) {
	server := miniredis.RunT(t)
	a, _ := testNode(t, server)
	app := testApp(t, a)
	testToken(t, a, app)
	require.NoError(t, a.RevokeUser(t.Context(), "alice@example.org"))
	last := testToken(t, a, app)
	u, err := a.User(t.Context(), "alice@example.org")
	require.NoError(t, err)
	server.Del(redisdb.KeyUser(u.ID))
	replayJournal(t, a)
	_, err = a.Inspect(t.Context(), last.Value)
	require.NoError(t, err)
}

// revocationOfAll is the journal entry of a revocation of all tokens.
func revocationOfAll(generation string) journal.Entry {
	return journal.Entry{Rank: journal.Revocations, Key: redisdb.KeyInstallation, Script: installation.Raise, Args: []any{fieldGeneration, generation}}
}

func textOf(t *testing.T, server *miniredis.Miniredis, key string) string {
	t.Helper()
	text, err := server.Get(key)
	require.NoError(t, err)
	return text
}

// A starting gateway receives changes before it knows the identity of its server. This is
// not a loss, so requests do not have to wait.
func TestReplay_NotNeededAtStart(t *testing.T) {
	t.Parallel()
	server := redistest.Standalone(t)
	store, err := OpenRedis(RedisOptions{URL: server.URL(), Timeout: 5 * time.Second})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	a, err := New(Options{Store: store, Secrets: [][]byte{[]byte("tokens-test-secret-0123456789abcdef")}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, a.Close()) })
	a.feed.Journal().Add(revocationOfAll("7"))
	require.NoError(t, a.feed.Check(t.Context()))
	require.False(t, a.feed.Settling())
	in, err := a.installations.Load(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 7, in.Generation, "the change is written nevertheless")
}

// After a failover there may be no replica for a long time. The replay does not wait for
// one, or no request would be served.
func TestReplay_WithoutReplicas(t *testing.T) {
	t.Parallel()
	server := redistest.Standalone(t)
	store, err := OpenRedis(RedisOptions{URL: server.URL(), WaitReplicas: 1, Timeout: 5 * time.Second})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	a, err := New(Options{Store: store, Secrets: [][]byte{[]byte("tokens-test-secret-0123456789abcdef")}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, a.Close()) })

	alone, err := OpenRedis(RedisOptions{URL: server.URL(), Timeout: 5 * time.Second})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, alone.Close()) })
	other, err := New(Options{Store: alone, Secrets: [][]byte{[]byte("tokens-test-secret-0123456789abcdef")}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, other.Close()) })
	app := testApp(t, other)
	raw := testToken(t, other, app)
	a.feed.Journal().Add(revocationOfAll("7"), editAgain(app, 1, "{}")[0])
	replayJournal(t, a)
	_, err = a.Inspect(t.Context(), raw.Value)
	require.ErrorIs(t, err, ErrTokenInvalid)
	require.ErrorIs(t, a.RevokeApplication(t.Context(), app.ID), ErrUnavailable, "no replica has acknowledged it")
}

// A client does not receive the new pair of a rotation that no replica acknowledged. Its
// retries are not a reuse, however late they come.
func TestRefresh_RetriedUntilReplicasAcknowledge(t *testing.T) {
	t.Parallel()
	server := redistest.Standalone(t)
	c := newClock()
	open := func(wait int) *Authority {
		store, err := OpenRedis(RedisOptions{URL: server.URL(), WaitReplicas: wait, Timeout: 4 * time.Second})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, store.Close()) })
		a, err := New(Options{Store: store, Secrets: [][]byte{[]byte("tokens-test-secret-0123456789abcdef")}, Now: c.Now})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, a.Close()) })
		return a
	}
	alone, waiting := open(0), open(1) // waiting needs a replica, and there is none
	app := testApp(t, alone)
	raw := testToken(t, alone, app).Refresh
	for range 2 {
		_, err := waiting.Refresh(t.Context(), app, raw)
		require.ErrorIs(t, err, ErrUnavailable)
		c.advance(time.Minute)
	}
	next, err := alone.Refresh(t.Context(), app, raw)
	require.NoError(t, err)
	_, err = alone.Inspect(t.Context(), next.Value)
	require.NoError(t, err)

	c.advance(time.Minute)
	_, err = alone.Refresh(t.Context(), app, raw)
	require.Equal(t, "reused", Reason(err), "the client has received the pair")
}

// A replay never makes a revoked token live, not even for a moment: its record is written
// as a revoked one.
func TestReplay_RevokedTokenIsNeverLive(t *testing.T) {
	server := miniredis.RunT(t)
	a, f := testNode(t, server, func(o *Options) { o.Staleness = time.Minute })
	app := testApp(t, a)
	revoked, kept := testToken(t, a, app), testToken(t, a, app)
	require.NoError(t, a.RevokeToken(t.Context(), revoked.Value))
	for _, tok := range []*Token{revoked, kept} {
		server.Del(redisdb.KeyToken(tok.ID))
	}
	state := func(tok *Token) byte {
		record, err := server.Get(redisdb.KeyToken(tok.ID))
		if err != nil || record == "" {
			return recordRevoked
		}
		return record[0]
	}
	var live atomic.Int32
	f.set(func(redis.Cmder) error {
		if state(revoked) == recordLive {
			live.Add(1)
		}
		return nil
	}, nil)
	replayJournal(t, a)
	f.set(nil, nil)
	require.Zero(t, live.Load())
	require.EqualValues(t, recordRevoked, state(revoked))
	require.True(t, server.Exists(redisdb.KeyToken(revoked.ID)))
	require.EqualValues(t, recordLive, state(kept))
}
