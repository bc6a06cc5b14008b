// SPDX-License-Identifier: MIT

package tokens

import (
	"errors"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tests/redistest"
	"github.com/meet-gateway/meet-gateway/tokens/internal/family"
	"github.com/meet-gateway/meet-gateway/tokens/internal/feed"
	"github.com/meet-gateway/meet-gateway/tokens/internal/journal"
	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
)

// replaceServer simulates a failover that a has already detected: key has its earlier
// value again, or none.
func replaceServer(a *Authority, server *miniredis.Miniredis, key, value string) {
	server.Del(key)
	if value != "" {
		_ = server.Set(key, value)
	}
	a.feed.Hooks().Replace(true)
}

// The server may be replaced between a write and its announcement, by one that lacks the
// write. The write is repeated.
func TestRevoke_ServerReplacedBeforePublish(t *testing.T) {
	server := miniredis.RunT(t)
	a, f := testNode(t, server)
	tok := testToken(t, a, testApp(t, a))
	live, err := server.Get(redisdb.KeyToken(tok.ID))
	require.NoError(t, err)

	var done atomic.Bool
	publishes := onScript(feed.PublishScript)
	f.set(func(cmd redis.Cmder) error {
		if publishes(cmd) != nil && done.CompareAndSwap(false, true) {
			replaceServer(a, server, redisdb.KeyToken(tok.ID), live)
		}
		return nil
	}, nil)
	require.NoError(t, a.RevokeToken(t.Context(), tok.Value))
	require.True(t, done.Load())
	_, err = a.Inspect(t.Context(), tok.Value)
	require.ErrorIs(t, err, ErrTokenInvalid)
}

func TestIssue_ServerReplacedAfterWrite(t *testing.T) {
	server := miniredis.RunT(t)
	a, f := testNode(t, server)
	app := testApp(t, a)
	testToken(t, a, app) // creates the user

	var done atomic.Bool
	f.set(nil, func(cmd redis.Cmder) error {
		key, _ := append(cmd.Args(), "", "")[1].(string)
		if cmd.Name() == "set" && len(key) > 6 && key[:6] == redisdb.KeyPrefix+"t:" && done.CompareAndSwap(false, true) {
			replaceServer(a, server, key, "")
		}
		return nil
	})
	tok := testToken(t, a, app)
	require.True(t, done.Load())
	_, err := a.Inspect(t.Context(), tok.Value)
	require.NoError(t, err)
}

// If the server is replaced during a refresh, the new pair is not handed out and the old
// token stays valid.
func TestRefresh_ServerReplacedAfterRotation(t *testing.T) {
	server := miniredis.RunT(t)
	a, f := testNode(t, server)
	app := testApp(t, a)
	tok := testToken(t, a, app)

	var done atomic.Bool
	rotates := onScript(family.RotateScript)
	f.set(nil, func(cmd redis.Cmder) error {
		if rotates(cmd) != nil && done.CompareAndSwap(false, true) {
			a.feed.Hooks().Replace(true)
		}
		return nil
	})
	_, err := a.Refresh(t.Context(), app, tok.Refresh)
	require.ErrorIs(t, err, ErrUnavailable)
	require.True(t, done.Load())
	var next *Token
	eventually(t, func() bool {
		next, err = a.Refresh(t.Context(), app, tok.Refresh)
		require.True(t, err == nil || errors.Is(err, ErrUnavailable), err)
		return err == nil
	})
	_, err = a.Refresh(t.Context(), app, next.Refresh)
	require.NoError(t, err)
}

// A replay restores many records, and leaves existing ones unchanged.
func TestReplay_Records(t *testing.T) {
	server := miniredis.RunT(t)
	a, _ := testNode(t, server)
	tok := testToken(t, a, testApp(t, a))
	require.NoError(t, a.RevokeToken(t.Context(), tok.Value))
	revoked, err := server.Get(redisdb.KeyToken(tok.ID))
	require.NoError(t, err)
	u, err := a.User(t.Context(), "alice@example.org")
	require.NoError(t, err)
	const count = 3*512 + 7
	remember := func(id string, life time.Duration) {
		a.feed.Journal().Add(journal.Entry{
			Rank: journal.Records, Key: redisdb.KeyToken(id), Script: recordAgainScript, Args: []any{"record"}, Expires: a.now().Add(life),
		})
	}
	for i := range count {
		remember(strconv.Itoa(i), time.Hour)
	}
	remember("expired", 0)
	server.Del(redisdb.KeyUser(u.ID))
	replayJournal(t, a)
	for i := range count {
		require.True(t, server.Exists(redisdb.KeyToken(strconv.Itoa(i))), i)
	}
	require.InDelta(t, time.Hour, server.TTL(redisdb.KeyToken("0")), float64(time.Minute))
	require.False(t, server.Exists(redisdb.KeyToken("expired")))
	now, err := server.Get(redisdb.KeyToken(tok.ID))
	require.NoError(t, err)
	require.Equal(t, revoked, now)
	again, err := a.User(t.Context(), u.ID)
	require.NoError(t, err)
	require.Equal(t, u.generation, again.generation)
}

// Issued tokens stay in the journal during an outage, until Redis answers and has proven
// to be the same server.
func TestJournal_KeptDuringOutage(t *testing.T) {
	server := miniredis.RunT(t)
	a, f := testNode(t, server)
	release := a.feed.Hooks().HoldChecks() // waits for a running check
	f.set(func(cmd redis.Cmder) error {
		if cmd.Name() == "info" {
			return errors.New("no answer")
		}
		return nil
	}, nil)
	a.feed.Journal().Add(journal.Entry{
		Rank: journal.Records, Key: "key", Script: recordAgainScript, Args: []any{"record"}, Expires: a.now().Add(time.Hour),
	})
	a.feed.Hooks().Age(2 * journal.Memory)
	release()
	require.ErrorIs(t, a.feed.Check(t.Context()), ErrUnavailable, "a server without an identity may be another one")
	require.False(t, a.feed.Journal().Idle())
	f.set(nil, nil)
	require.NoError(t, a.feed.Check(t.Context()))
	require.True(t, a.feed.Journal().Idle())
}

// Closed connections to Redis do not empty the cache: a cached token is valid until the
// staleness bound.
func TestOutage_CachedTokenIsValidUntilStale(t *testing.T) {
	ctx := t.Context()
	server := redistest.Standalone(t)
	store, err := OpenRedis(RedisOptions{URL: server.URL(), Timeout: 10 * time.Second})
	require.NoError(t, err)
	a, err := New(Options{Store: store, Secrets: [][]byte{rotationA}, Staleness: 30 * time.Second})
	require.NoError(t, err)
	a.Start()
	t.Cleanup(func() {
		require.NoError(t, a.Close())
		require.NoError(t, store.Close())
	})
	tok := testToken(t, a, testApp(t, a))
	// Hearing of its own changes, the gateway reads again what they changed.
	number, err := a.db.Get(ctx, redisdb.KeyFeed)
	require.NoError(t, err)
	eventually(t, func() bool { return a.feed.Hooks().HeardTo() >= redisdb.ParseUint(number) })
	eventually(t, func() bool {
		_, err := a.Verify(ctx, tok.Value)
		return err == nil && a.Fresh()
	})
	server.Kill(t)
	eventually(t, func() bool {
		_, failure := a.feed.Failures()
		if _, err := a.Verify(ctx, tok.Value); err != nil {
			t.Error(err)
		}
		return failure != nil
	})
	_, err = a.Inspect(ctx, tok.Value)
	require.ErrorIs(t, err, ErrUnavailable)
}

// After a failover a wrong secret is refused only once Redis has settled, since it may have
// been the right one before.
func TestAuthenticate_WrongSecretWhileSettling(t *testing.T) {
	server := miniredis.RunT(t)
	a, _ := testNode(t, server)
	app := testApp(t, a)
	_, _, err := a.Authenticate(t.Context(), app.ID, "wrong")
	require.ErrorIs(t, err, ErrInvalidClient)
	a.feed.Hooks().Replace(true)
	_, _, err = a.Authenticate(t.Context(), app.ID, "wrong")
	require.ErrorIs(t, err, ErrUnavailable)
	require.ErrorIs(t, err, ErrSettling)
}
