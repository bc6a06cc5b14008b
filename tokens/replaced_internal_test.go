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

// replace makes the server one that has the value under key that it had before,
// or none, and that a has found to be another one and checked.
func replace(a *Authority, server *miniredis.Miniredis, key, value string) {
	server.Del(key)
	if value != "" {
		_ = server.Set(key, value)
	}
	a.feed.Hooks().Replace(true)
}

// A server may be replaced between a write and what follows it: the successor
// does not have the write, and was checked before anybody knew of it.
func TestReplaced_InTheMiddleOfARevocation(t *testing.T) {
	server := miniredis.RunT(t)
	a, f := testNode(t, server)
	tok := testToken(t, a, testApp(t, a))
	live, err := server.Get(redisdb.KeyToken(tok.ID))
	require.NoError(t, err)

	var done atomic.Bool
	publishes := runs(feed.PublishScript)
	f.set(func(cmd redis.Cmder) error {
		if publishes(cmd) != nil && done.CompareAndSwap(false, true) {
			replace(a, server, redisdb.KeyToken(tok.ID), live)
		}
		return nil
	}, nil)
	require.NoError(t, a.RevokeToken(t.Context(), tok.Value))
	require.True(t, done.Load())
	_, err = a.Inspect(t.Context(), tok.Value)
	require.ErrorIs(t, err, ErrTokenInvalid)
}

func TestReplaced_InTheMiddleOfIssuing(t *testing.T) {
	server := miniredis.RunT(t)
	a, f := testNode(t, server)
	app := testApp(t, a)
	testToken(t, a, app) // so that the user is there

	var done atomic.Bool
	f.set(nil, func(cmd redis.Cmder) error {
		key, _ := append(cmd.Args(), "", "")[1].(string)
		if cmd.Name() == "set" && len(key) > 6 && key[:6] == redisdb.KeyPrefix+"t:" && done.CompareAndSwap(false, true) {
			replace(a, server, key, "")
		}
		return nil
	})
	tok := testToken(t, a, app)
	require.True(t, done.Load())
	_, err := a.Inspect(t.Context(), tok.Value)
	require.NoError(t, err)
}

// A rotation that may be known to nobody is not handed out: the token stays good.
func TestReplaced_InTheMiddleOfRefreshing(t *testing.T) {
	server := miniredis.RunT(t)
	a, f := testNode(t, server)
	app := testApp(t, a)
	tok := testToken(t, a, app)

	var done atomic.Bool
	rotates := runs(family.RotateScript)
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

// All that a busy minute issues is recorded again, and what is there stays as it is.
func TestRecordAgain(t *testing.T) {
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
	writeAgainAll(t, a)
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

// What was issued before an outage is remembered until Redis is well again, and
// has had time to show that it is another one.
func TestMints_AreNotForgottenInAnOutage(t *testing.T) {
	server := miniredis.RunT(t)
	a, f := testNode(t, server)
	release := a.feed.Hooks().HoldChecks() // none is under way
	f.set(func(cmd redis.Cmder) error {
		if cmd.Name() == "info" {
			return errors.New("no answer")
		}
		return nil
	}, nil)
	a.feed.Journal().Add(journal.Entry{Rank: journal.Records, Key: "key", Script: recordAgainScript})
	a.feed.Hooks().Age(2 * journal.Memory)
	release()
	require.ErrorIs(t, a.feed.Check(t.Context()), ErrUnavailable, "a server that does not say who it is, is not known to be the same")
	require.False(t, a.feed.Journal().Idle())
	f.set(nil, nil)
	require.NoError(t, a.feed.Check(t.Context()))
	require.True(t, a.feed.Journal().Idle())
}

// A Redis that is gone closes its connections: that alone is no reason to forget
// what was proven a moment ago.
func TestOutage_KnownTokenIsGoodUntilTheBound(t *testing.T) {
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
		_, noticed := a.feed.Failures()
		if _, err := a.Verify(ctx, tok.Value); err != nil {
			t.Error(err)
		}
		return noticed != nil
	})
	_, err = a.Inspect(ctx, tok.Value)
	require.ErrorIs(t, err, ErrUnavailable)
}
