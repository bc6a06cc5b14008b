// SPDX-License-Identifier: MIT

package tokens

import (
	"crypto/sha256"
	"errors"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tokens/idempotency"
	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
)

// A failover may lose an idempotency key or its answer. A repetition at another gateway
// does not send the request again.
func TestReplay_IdempotencyKeys(t *testing.T) {
	server, a, b := testPair(t)
	ctx, request := t.Context(), sha256.Sum256([]byte("a request"))
	begin := func(n *Authority, key string) (*Replay, error) {
		return n.BeginIdempotent(ctx, "app", "user", key, request)
	}
	sent, err := begin(a, "sent")
	require.NoError(t, err)
	answered, err := begin(a, "answered")
	require.NoError(t, err)
	require.NoError(t, answered.Finish(ctx, Answer{Status: 201, Body: []byte("a room")}))
	free, err := begin(a, "given-back")
	require.NoError(t, err)
	require.NoError(t, free.Abandon(ctx))

	name := func(key string) string { return redisdb.KeyReplay(a.keys.First(), "app", "user", key) }
	for _, name := range []string{name("sent"), name("answered")} {
		server.Del(name)
	}
	b.feed.Hooks().Replace(true) // as the check of the server would
	for _, key := range []string{"sent", "answered", "never-seen"} {
		_, err = begin(b, key)
		require.ErrorIs(t, err, ErrUnavailable, key)
	}
	// A gateway that took the key before it detected the failover does not block the replay.
	server.HSet(name("answered"), "f", "other", "n", "other")
	replayJournal(t, a)
	again, err := begin(b, "answered")
	require.NoError(t, err)
	require.Equal(t, 201, again.Answer.Status)
	_, err = begin(b, "sent")
	require.ErrorIs(t, err, ErrInFlight)
	require.NoError(t, sent.Finish(ctx, Answer{Status: 201}))

	b.feed.Hooks().Replace(false) // the staleness bound has passed
	taken, err := begin(b, "given-back")
	require.NoError(t, err)
	require.Nil(t, taken.Answer)
	replayJournal(t, a)
	replayJournal(t, b)
	require.NoError(t, taken.Finish(ctx, Answer{Status: 204}))
	last, err := begin(a, "given-back")
	require.NoError(t, err)
	require.Equal(t, 204, last.Answer.Status)
}

// If the server is replaced while a key is taken, the request is not sent.
func TestIdempotency_ServerReplacedDuringBegin(t *testing.T) {
	server := miniredis.RunT(t)
	a, f := testNode(t, server, func(o *Options) { o.Staleness = time.Hour })
	taken := onScript(idempotency.BeginScript)
	f.set(nil, func(cmd redis.Cmder) error {
		if taken(cmd) != nil {
			a.feed.Hooks().Replace(true)
		}
		return nil
	})
	_, err := a.BeginIdempotent(t.Context(), "app", "user", "key", sha256.Sum256(nil))
	require.ErrorIs(t, err, ErrUnavailable)
}

// Revoking a token by its id removes only that token from the caches of all gateways, also
// if its record is gone or the outcome is unknown.
func TestRevoke_ByIDForgetsOneToken(t *testing.T) {
	server := miniredis.RunT(t)
	calm := func(o *Options) { o.Staleness = time.Hour }
	a, f := testNode(t, server, calm)
	b, _ := testNode(t, server, calm)
	ctx := t.Context()
	app := testApp(t, a)
	kept, lost, unconfirmed := testToken(t, a, app), testToken(t, a, app), testToken(t, a, app)
	known := func(n *Authority, tok *Token) bool {
		_, ok := n.cache.token(hashToken(tok.Value))
		return ok
	}
	for _, n := range []*Authority{a, b} {
		for _, tok := range []*Token{kept, lost, unconfirmed} {
			_, err := n.Verify(ctx, tok.Value)
			require.NoError(t, err)
			require.True(t, known(n, tok))
		}
	}
	server.Del(redisdb.KeyToken(lost.ID))
	require.NoError(t, a.RevokeToken(ctx, lost.ID))
	f.set(nil, onScript(revokeRecordScript))
	require.ErrorIs(t, a.RevokeToken(ctx, unconfirmed.ID), ErrUnavailable)
	f.set(nil, nil)
	require.False(t, known(a, unconfirmed))
	require.True(t, known(a, kept))
	require.NoError(t, a.feed.Hooks().PublishPending(ctx))
	for _, n := range []*Authority{a, b} {
		eventually(t, func() bool { return !known(n, lost) && !known(n, unconfirmed) })
		require.True(t, known(n, kept))
		_, err := n.Verify(ctx, lost.Value)
		require.ErrorIs(t, err, ErrTokenInvalid)
	}
}

// A stale value is never visible in the cache, not even for a moment.
func TestCache_StaleValueIsNeverSeen(t *testing.T) {
	c := newCache(10)
	id := userIDOf("uuuuuuuu")
	key := redisdb.KeyUser("uuuuuuuu")
	since := c.epochs.Now(key)
	c.forget(key)
	stop := make(chan struct{})
	seen := make(chan bool, 1)
	go func() {
		for {
			select {
			case <-stop:
				seen <- false
				return
			default:
			}
			if _, ok := c.users.Load(id); ok {
				seen <- true
				return
			}
		}
	}()
	for range 20_000 {
		c.epochs.Fill(key, since, func() { c.users.Store(id, packedUser{}) })
	}
	close(stop)
	require.False(t, <-seen)
}

// After Redis is emptied, every gateway answers that the store is unavailable until the
// staleness bound has passed, whichever detects it first.
func TestOutage_EmptiedRedisIsUnavailable(t *testing.T) {
	server, a, b := testPair(t)
	ctx := t.Context()
	app := testApp(t, a)
	tok := testToken(t, a, app)
	waitForChanges(t, b, server)
	_, err := b.Application(ctx, app.ID)
	require.NoError(t, err)
	server.FlushAll()
	_, err = b.Inspect(ctx, tok.Value)
	require.ErrorIs(t, err, ErrUnavailable, "the gateway detects it without the feed")
	_, _, err = b.Authenticate(ctx, app.ID, "wrong")
	require.ErrorIs(t, err, ErrUnavailable)

	a.feed.Hooks().Heartbeat(ctx) // the other gateway replays first
	require.Eventually(t, func() bool {
		_, err := a.Inspect(ctx, tok.Value)
		return errors.Is(err, ErrUnavailable)
	}, 20*time.Second, time.Millisecond)
}

// The first gateway to detect a loss announces it. The others then stop relying on the
// server, although they have not detected it themselves.
func TestReplay_AnnouncedToOtherGateways(t *testing.T) {
	server, a, b := testPair(t)
	testApp(t, a)
	waitForChanges(t, b, server)
	require.False(t, b.feed.Settling())
	require.True(t, a.feed.Hooks().Restore(t.Context(), 0, a.feed.Changes()))
	require.Eventually(t, b.feed.Settling, 20*time.Second, time.Millisecond)
}

// The monotonic clock stops while a machine is suspended. The cache is stale afterwards.
func TestFeed_StaleAfterSuspend(t *testing.T) {
	server := miniredis.RunT(t)
	a, _ := testNode(t, server, func(o *Options) { o.Staleness = time.Hour })
	require.True(t, a.Fresh())
	defer a.feed.Hooks().HoldHeartbeats()() // none refreshes the feed meanwhile
	a.feed.Hooks().Suspend(2 * time.Hour)
	require.False(t, a.Fresh())
	a.feed.Hooks().Suspend(-2 * time.Hour)
	require.True(t, a.Fresh())
}
