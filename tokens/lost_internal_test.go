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

// pairOfNodes are two gateways of which the second listens.
func pairOfNodes(t *testing.T, change ...func(*Options)) (server *miniredis.Miniredis, a, b *Authority) {
	t.Helper()
	server = miniredis.RunT(t)
	// No test here is about heartbeats, and a busy machine does not make them late.
	change = append(change, func(o *Options) { o.Staleness = time.Minute })
	a, _ = testNode(t, server, change...)
	b, _ = testNode(t, server, change...)
	for _, n := range []*Authority{a, b} {
		require.Eventually(t, n.Fresh, 20*time.Second, time.Millisecond)
	}
	return server, a, b
}

// hasHeard waits until a gateway has heard of all changes so far.
func hasHeard(t *testing.T, a *Authority, server *miniredis.Miniredis) {
	t.Helper()
	text, err := server.Get(redisdb.KeyFeed)
	require.NoError(t, err)
	number := redisdb.ParseUint(text)
	require.Eventually(t, func() bool { return a.feed.Hooks().HeardTo() >= number }, 20*time.Second, time.Millisecond)
}

// writeAgainAll makes a gateway do what it does when it finds another server.
func writeAgainAll(t *testing.T, a *Authority) {
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

// Whoever comes first writes a lost edit again, and no token ends for it.
func TestLost_EditOfAnotherGateway(t *testing.T) {
	server, a, b := pairOfNodes(t)
	ctx := t.Context()
	app := testApp(t, a)
	tok := testToken(t, a, app)
	before := hashOf(t, server, redisdb.KeyApplication(app.ID))
	_, secret, err := a.RotateSecret(ctx, app.ID, 0, 0)
	require.NoError(t, err)
	hasHeard(t, b, server)

	restoreHash(server, redisdb.KeyApplication(app.ID), before)
	writeAgainAll(t, b)
	_, _, err = b.Authenticate(ctx, app.ID, secret)
	require.NoError(t, err)
	_, err = b.Inspect(ctx, tok.Value)
	require.NoError(t, err)
}

// An application is not lost when it was made a moment ago; one that was deleted
// does not come back, and none does when Redis is emptied later.
func TestLost_NewApplication(t *testing.T) {
	ctx := t.Context()
	moved := newClock()
	server, a, b := pairOfNodes(t, func(o *Options) { o.Now = moved.Now })
	app, secret, err := a.CreateApplication(ctx, Application{Name: "New", Active: true, Aliases: []string{"new-alias"}})
	require.NoError(t, err)
	deleted := testApp(t, a)
	require.NoError(t, a.DeleteApplication(ctx, deleted.ID, 0))
	hasHeard(t, b, server)

	gone := func() {
		server.Del(redisdb.KeyApplication(app.ID))
		server.Del(redisdb.KeyAlias("new-alias"))
		server.Del(redisdb.KeyIndex)
	}
	gone()
	require.True(t, b.feed.Hooks().Restore(ctx, 0, b.feed.Changes()))
	require.False(t, server.Exists(redisdb.KeyApplication(app.ID)), "somebody has emptied it")
	require.Eventually(t, a.feed.Settling, 20*time.Second, time.Millisecond, "it hears of that")
	a.feed.Hooks().Replace(false) // and the bound passes

	writeAgainAll(t, b)
	_, _, err = b.Authenticate(ctx, "new-alias", secret)
	require.NoError(t, err)
	page, err := b.Applications(ctx, ListOptions{})
	require.NoError(t, err)
	require.Len(t, page.Applications, 1)
	require.Empty(t, server.HGet(redisdb.KeyApplication(deleted.ID), fieldDocument))

	// Nor does one of whose deletion this gateway has not heard.
	last, known := b.feed.Journal().Get(journal.Edits, redisdb.KeyApplication(app.ID))
	require.True(t, known)
	require.NoError(t, a.DeleteApplication(ctx, app.ID, 0))
	hasHeard(t, b, server)
	b.feed.Journal().Drop(journal.Edits, last.Name)
	b.feed.Journal().Add(last)
	writeAgainAll(t, b)
	require.Empty(t, server.HGet(redisdb.KeyApplication(app.ID), fieldDocument))
	require.False(t, server.Exists(redisdb.KeyAlias("new-alias")))

	app, _, err = a.CreateApplication(ctx, Application{Name: "Newer", Active: true})
	require.NoError(t, err)
	hasHeard(t, b, server)

	moved.pass(2 * journal.Memory)
	gone()
	writeAgainAll(t, b)
	require.False(t, server.Exists(redisdb.KeyApplication(app.ID)))
}

// A refresh token that was revoked, or reused, stays so.
func TestLost_EndOfAFamily(t *testing.T) {
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
			server, a, b := pairOfNodes(t)
			app := testApp(t, a)
			raw := testToken(t, a, app).Refresh
			id, ok := family.IDOf(raw)
			require.True(t, ok)
			before := hashOf(t, server, redisdb.KeyFamily(id))
			end(t, a, app, raw)
			hasHeard(t, b, server)

			restoreHash(server, redisdb.KeyFamily(id), before)
			_, err := b.Inspect(t.Context(), raw)
			require.NoError(t, err, "what was lost")
			writeAgainAll(t, b)
			_, err = b.Refresh(t.Context(), app, raw)
			require.ErrorIs(t, err, ErrInvalidGrant)
			_, err = b.Inspect(t.Context(), raw)
			require.ErrorIs(t, err, ErrTokenInvalid)

			// It may come back where it is not: from the gateway that gave it.
			server.Del(redisdb.KeyFamily(id))
			writeAgainAll(t, b)
			writeAgainAll(t, a)
			_, err = b.Inspect(t.Context(), raw)
			require.ErrorIs(t, err, ErrTokenInvalid)
			require.NotZero(t, server.TTL(redisdb.KeyFamily(id)))
		})
	}
}

// A Redis that was emptied says nothing of what overrules tokens until that is
// written again. What is remembered is not judged by it meanwhile.
func TestLost_Overruling(t *testing.T) {
	for name, revoke := range map[string]func(a *Authority, tok *Token) error{
		"before": func(a *Authority, _ *Token) error { return a.RevokeBefore(t.Context(), a.now()) },
		"key": func(a *Authority, _ *Token) error {
			return a.installations.Withdraw(t.Context(), a.signing.KeyID())
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := miniredis.RunT(t)
			a, _ := testNode(t, server, func(o *Options) { o.Staleness = time.Hour }) // no heartbeat finds it out
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

// A server that is at a halt carries out a rotation when it goes on. The retry
// that follows is no reuse, however long ago the first try was sent.
func TestRefresh_WindowBeginsWhenRedisRotates(t *testing.T) {
	t.Parallel()
	server := redistest.Standalone(t)
	store, err := OpenRedis(RedisOptions{URL: server.URL(), Timeout: 10 * time.Second})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	c := newClock()
	a, err := New(Options{Store: store, Secrets: [][]byte{[]byte("tokens-test-secret-0123456789abcdef")}, Now: c.Now})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, a.Close()) })
	require.NoError(t, a.feed.Check(t.Context())) // as at the start of a feed
	app := testApp(t, a)
	raw := testToken(t, a, app).Refresh

	c.pass(-time.Minute) // the rotation was sent then
	first, err := a.Refresh(t.Context(), app, raw)
	require.NoError(t, err)
	c.pass(time.Minute)
	again, err := a.Refresh(t.Context(), app, raw)
	require.NoError(t, err)
	require.Equal(t, first.Refresh, again.Refresh)
}

// A change that was made by a try that failed is not there for good when the next
// try finds nothing to change: it is told then, and so remembered.
func TestLost_EditThatFailedAtFirst(t *testing.T) {
	server := miniredis.RunT(t)
	calm := func(o *Options) { o.Staleness = time.Minute }
	a, f := testNode(t, server, calm)
	b, _ := testNode(t, server, calm)
	require.Eventually(t, b.Fresh, 20*time.Second, time.Millisecond)
	ctx := t.Context()
	app := testApp(t, a)
	before := hashOf(t, server, redisdb.KeyApplication(app.ID))
	f.set(nil, runs(saveScript)) // it is made, and the answer gets lost
	_, err := a.UpdateApplication(ctx, app.ID, 0, func(n *Application) error { n.Active = false; return nil })
	require.ErrorIs(t, err, ErrUnavailable)
	f.set(nil, nil)
	confirmed, err := a.ConfirmApplication(ctx, app.ID)
	require.NoError(t, err)
	require.False(t, confirmed.Active)
	require.Equal(t, app.Version+1, confirmed.Version)
	hasHeard(t, b, server)

	restoreHash(server, redisdb.KeyApplication(app.ID), before)
	writeAgainAll(t, b)
	now, err := b.CurrentApplication(ctx, app.ID)
	require.NoError(t, err)
	require.False(t, now.Active)
	require.Equal(t, confirmed.Version, now.Version)

	_, err = a.ConfirmApplication(ctx, "0123456789012345678901")
	require.ErrorIs(t, err, ErrNotFound)
}

// The same for a deletion: the next try finds nothing to delete.
func TestLost_DeletionThatFailedAtFirst(t *testing.T) {
	server := miniredis.RunT(t)
	calm := func(o *Options) { o.Staleness = time.Minute }
	a, f := testNode(t, server, calm)
	b, _ := testNode(t, server, calm)
	require.Eventually(t, b.Fresh, 20*time.Second, time.Millisecond)
	ctx := t.Context()
	app := testApp(t, a)
	tok := testToken(t, a, app)
	before := hashOf(t, server, redisdb.KeyApplication(app.ID))
	f.set(nil, runs(deleteScript))
	require.ErrorIs(t, a.DeleteApplication(ctx, app.ID, 0), ErrUnavailable)
	f.set(nil, nil)
	require.ErrorIs(t, a.DeleteApplication(ctx, app.ID, 0), ErrNotFound)
	hasHeard(t, b, server)

	restoreHash(server, redisdb.KeyApplication(app.ID), before)
	writeAgainAll(t, b)
	_, err := b.Inspect(ctx, tok.Value)
	require.ErrorIs(t, err, ErrTokenInvalid)
}

// A refresh token that was given a moment ago is there again, whether it is a
// family's first or was exchanged for others, and as often as that happened.
func TestLost_RefreshTokens(t *testing.T) {
	server, a, b := pairOfNodes(t)
	ctx := t.Context()
	app := testApp(t, a)
	first := testToken(t, a, app)
	id, _ := family.IDOf(first.Refresh)
	before := hashOf(t, server, redisdb.KeyFamily(id))

	server.Del(redisdb.KeyFamily(id))
	writeAgainAll(t, a)
	_, err := b.Inspect(ctx, first.Refresh)
	require.NoError(t, err)

	second, err := a.Refresh(ctx, app, first.Refresh)
	require.NoError(t, err)
	again, err := b.Refresh(ctx, app, first.Refresh) // and b was there when its answer got lost
	require.NoError(t, err)
	require.Equal(t, second.Refresh, again.Refresh)
	third, err := b.Refresh(ctx, app, second.Refresh)
	require.NoError(t, err)
	last := hashOf(t, server, redisdb.KeyFamily(id))

	restoreHash(server, redisdb.KeyFamily(id), before)
	writeAgainAll(t, b)
	after := hashOf(t, server, redisdb.KeyFamily(id))
	delete(last, family.FieldRotated) // the window begins anew
	delete(after, family.FieldRotated)
	require.Equal(t, last, after)
	require.NotContains(t, after, family.FieldOpen, "it was given")
	writeAgainAll(t, a) // and nothing is undone
	writeAgainAll(t, b)
	fourth, err := a.Refresh(ctx, app, third.Refresh)
	require.NoError(t, err)
	_, err = b.Inspect(ctx, fourth.Value)
	require.NoError(t, err)

	require.NoError(t, b.RevokeToken(ctx, fourth.Refresh))
	writeAgainAll(t, a)
	_, err = a.Refresh(ctx, app, fourth.Refresh)
	require.ErrorIs(t, err, ErrInvalidGrant)
}

// A token that was exchanged twice may be lost with both, and who made the second
// exchange may be the first to write again.
func TestLost_RefreshTokensOfTwoGateways(t *testing.T) {
	server, a, b := pairOfNodes(t)
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
	writeAgainAll(t, b)
	_, err = b.Refresh(t.Context(), app, third.Refresh)
	require.ErrorIs(t, err, ErrUnavailable)
	writeAgainAll(t, a)
	b.feed.Hooks().Heartbeat(t.Context()) // the next heartbeat
	_, err = b.Inspect(t.Context(), third.Refresh)
	require.NoError(t, err)
}

// Whoever lost the answer to an exchange gets it again, also while what Redis may have
// lost is written again: the window would pass meanwhile.
func TestLost_AnswerIsGivenAgain(t *testing.T) {
	_, a, b := pairOfNodes(t)
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

// Refresh tokens that were given just before an outage are remembered for as long as
// it lasts.
func TestLost_RefreshTokensOfBeforeAnOutage(t *testing.T) {
	moved := newClock()
	server, a, b := pairOfNodes(t, func(o *Options) { o.Now = moved.Now })
	app := testApp(t, a)
	first := testToken(t, a, app)
	id, _ := family.IDOf(first.Refresh)
	before := hashOf(t, server, redisdb.KeyFamily(id))
	second, err := a.Refresh(t.Context(), app, first.Refresh)
	require.NoError(t, err)

	moved.pass(2 * journal.Memory)
	restoreHash(server, redisdb.KeyFamily(id), before)
	writeAgainAll(t, a)
	_, err = b.Inspect(t.Context(), second.Refresh)
	require.NoError(t, err)
}

// New changes take the numbers of lost ones. What had those is written again too.
func TestLost_NumbersThatAreGivenAgain(t *testing.T) {
	server, a, b := pairOfNodes(t)
	for _, n := range []*Authority{a, b} { // none finds the loss before the test says so
		defer n.feed.Hooks().HoldHeartbeats()()
	}
	ctx := t.Context()
	require.NoError(t, a.RevokeAll(ctx))
	before, err := a.installations.Load(ctx)
	require.NoError(t, err)
	app := testApp(t, a)
	require.NoError(t, a.RevokeApplication(ctx, app.ID))
	hasHeard(t, b, server)
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

// What counted a generation up may be lost, and nobody remembers it. The next
// revocation then does not arrive at what the lost one had made of it.
func TestLost_RevocationThatNobodyRemembers(t *testing.T) {
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

// A user is restored as the last of several tokens was born.
func TestLost_UserOfSeveralTokens(t *testing.T) {
	server := miniredis.RunT(t)
	a, _ := testNode(t, server)
	app := testApp(t, a)
	testToken(t, a, app)
	require.NoError(t, a.RevokeUser(t.Context(), "alice@example.org"))
	last := testToken(t, a, app)
	u, err := a.User(t.Context(), "alice@example.org")
	require.NoError(t, err)
	server.Del(redisdb.KeyUser(u.ID))
	writeAgainAll(t, a)
	_, err = a.Inspect(t.Context(), last.Value)
	require.NoError(t, err)
}

// revocationOfAll is what is remembered of one.
func revocationOfAll(generation string) journal.Entry {
	return journal.Entry{Rank: journal.Revocations, Key: redisdb.KeyInstallation, Script: installation.Raise, Args: []any{fieldGeneration, generation}}
}

func textOf(t *testing.T, server *miniredis.Miniredis, key string) string {
	t.Helper()
	text, err := server.Get(key)
	require.NoError(t, err)
	return text
}

// A gateway that has just begun hears of changes before it knows which server it
// asks. Nothing is lost for that, and nobody has to wait.
func TestLost_NothingAtTheStart(t *testing.T) {
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
	require.EqualValues(t, 7, in.Generation, "it is made sure of all the same")
}

// After a failover there may be no replica for long. What was lost is written
// again all the same, or nothing would be served until there is.
func TestLost_WrittenAgainWithoutReplicas(t *testing.T) {
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
	writeAgainAll(t, a)
	_, err = a.Inspect(t.Context(), raw.Value)
	require.ErrorIs(t, err, ErrTokenInvalid)
	require.ErrorIs(t, a.RevokeApplication(t.Context(), app.ID), ErrUnavailable, "nobody is told that a replica has it")
}

// While replicas do not acknowledge a rotation, nobody was given its pair. Trying
// again is no reuse, however long that takes.
func TestRefresh_TriedUntilReplicasAcknowledge(t *testing.T) {
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
	in, out := open(0), open(1) // of step with the replica, which is not there
	app := testApp(t, in)
	raw := testToken(t, in, app).Refresh
	for range 2 {
		_, err := out.Refresh(t.Context(), app, raw)
		require.ErrorIs(t, err, ErrUnavailable)
		c.pass(time.Minute)
	}
	given, err := in.Refresh(t.Context(), app, raw)
	require.NoError(t, err)
	_, err = in.Inspect(t.Context(), given.Value)
	require.NoError(t, err)

	c.pass(time.Minute)
	_, err = in.Refresh(t.Context(), app, raw)
	require.Equal(t, "reused", Reason(err), "now it is")
}

// A token that was revoked is not live for a moment while what was lost is written
// again: its record is made as a revoked one, or not at all.
func TestLost_RevokedTokenIsNeverLive(t *testing.T) {
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
	writeAgainAll(t, a)
	f.set(nil, nil)
	require.Zero(t, live.Load())
	require.EqualValues(t, recordRevoked, state(revoked))
	require.True(t, server.Exists(redisdb.KeyToken(revoked.ID)))
	require.EqualValues(t, recordLive, state(kept))
}
