// SPDX-License-Identifier: MIT

package storetest

import (
	"crypto/sha256"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tokens"
)

func testIdempotency(t *testing.T, open Opener) {
	ctx := t.Context()
	a, b := Node(t, open), Node(t, open)
	body, other := sha256.Sum256([]byte(`{}`)), sha256.Sum256([]byte(`{"access_level":"restricted"}`))
	key := tokens.NewPassword()
	answer := tokens.Answer{Status: 201, Header: map[string]string{"Location": "/rooms/1"}, Body: []byte(`{"id":"1"}`)}

	first, err := a.BeginIdempotent(ctx, "app", "user", key, body)
	require.NoError(t, err)
	require.Nil(t, first.Answer)
	_, err = b.BeginIdempotent(ctx, "app", "user", key, body)
	require.ErrorIs(t, err, tokens.ErrInFlight)
	_, err = b.BeginIdempotent(ctx, "app", "user", key, other)
	require.ErrorIs(t, err, tokens.ErrKeyReused)

	// The same key of another user or application is another key.
	for _, who := range [][2]string{{"app", "user2"}, {"app2", "user"}, {"appu", "ser"}} {
		theirs, err := b.BeginIdempotent(ctx, who[0], who[1], key, other)
		require.NoError(t, err)
		require.Nil(t, theirs.Answer)
	}

	require.NoError(t, first.Finish(ctx, answer))
	for _, node := range []*tokens.Authority{a, b} {
		again, err := node.BeginIdempotent(ctx, "app", "user", key, body)
		require.NoError(t, err)
		require.Equal(t, &answer, again.Answer)
		_, err = node.BeginIdempotent(ctx, "app", "user", key, other)
		require.ErrorIs(t, err, tokens.ErrKeyReused)
	}
	require.NoError(t, first.Abandon(ctx))
	require.NoError(t, first.Doubt(ctx))
	again, err := b.BeginIdempotent(ctx, "app", "user", key, body)
	require.NoError(t, err)
	require.Equal(t, &answer, again.Answer, "the stored answer does not change")

	testIdempotencyAbandoned(t, a, b)
	_, err = a.BeginIdempotent(ctx, "app", "user", "a b", body)
	require.ErrorIs(t, err, tokens.ErrInvalidIdempotencyKey)
}

func testIdempotencyAbandoned(t *testing.T, a, b *tokens.Authority) {
	t.Helper()
	ctx := t.Context()
	body, other := sha256.Sum256([]byte(`{}`)), sha256.Sum256([]byte(`{"access_level":"restricted"}`))
	answer := tokens.Answer{Status: 201, Body: []byte(`{"id":"1"}`)}
	key := tokens.NewPassword()
	first, err := a.BeginIdempotent(ctx, "app", "user", key, body)
	require.NoError(t, err)
	require.NoError(t, first.Abandon(ctx))
	second, err := b.BeginIdempotent(ctx, "app", "user", key, other)
	require.NoError(t, err)
	require.Nil(t, second.Answer)
	require.NoError(t, first.Abandon(ctx))
	require.NoError(t, first.Finish(ctx, answer))
	_, err = a.BeginIdempotent(ctx, "app", "user", key, other)
	require.ErrorIs(t, err, tokens.ErrInFlight, "Finish has no effect after Abandon")

	// The outcome is unknown, so the request is never sent again.
	require.NoError(t, second.Doubt(ctx))
	_, err = a.BeginIdempotent(ctx, "app", "user", key, other)
	require.ErrorIs(t, err, tokens.ErrOutcomeUnknown)
	require.NoError(t, second.Finish(ctx, answer), "the answer arrived late")
	again, err := a.BeginIdempotent(ctx, "app", "user", key, other)
	require.NoError(t, err)
	require.Equal(t, &answer, again.Answer)
}

func testIdempotencyRace(t *testing.T, open Opener) {
	ctx := t.Context()
	nodes := []*tokens.Authority{Node(t, open), Node(t, open)}
	body, key := sha256.Sum256(nil), tokens.NewPassword()
	var firsts, waiting atomic.Int32
	begin := func(i int) (*tokens.Replay, error) {
		return nodes[i%2].BeginIdempotent(ctx, "app", "user", key, body)
	}
	var first *tokens.Replay
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			switch r, err := begin(i); {
			case errors.Is(err, tokens.ErrInFlight):
				waiting.Add(1)
			case err != nil:
				t.Error(err)
			case firsts.Add(1) == 1:
				first = r
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, 1, firsts.Load())
	require.EqualValues(t, 15, waiting.Load())
	require.NoError(t, first.Finish(ctx, tokens.Answer{Status: 201}))
	for i := range 4 {
		r, err := begin(i)
		require.NoError(t, err)
		require.Equal(t, 201, r.Answer.Status)
	}
}

func testIdempotencySecretRotated(t *testing.T, open Opener) {
	ctx := t.Context()
	newer := []byte("storetest-another-secret-0123456789")
	old := Node(t, open)
	body, other := sha256.Sum256([]byte(`{}`)), sha256.Sum256(nil)
	answered, flying := tokens.NewPassword(), tokens.NewPassword()
	r, err := old.BeginIdempotent(ctx, "app", "user", answered, body)
	require.NoError(t, err)
	require.NoError(t, r.Finish(ctx, tokens.Answer{Status: 201, Body: []byte("x")}))
	_, err = old.BeginIdempotent(ctx, "app", "user", flying, body)
	require.NoError(t, err)

	rotated := Node(t, open, func(o *tokens.Options) { o.Secrets = [][]byte{newer, Secret} })
	again, err := rotated.BeginIdempotent(ctx, "app", "user", answered, body)
	require.NoError(t, err)
	require.Equal(t, "x", string(again.Answer.Body))
	_, err = rotated.BeginIdempotent(ctx, "app", "user", answered, other)
	require.ErrorIs(t, err, tokens.ErrKeyReused)
	_, err = rotated.BeginIdempotent(ctx, "app", "user", flying, body)
	require.ErrorIs(t, err, tokens.ErrInFlight)
}

func testIdempotencyOutage(t *testing.T, _ Opener) {
	ctx := t.Context()
	store := newStore(t)
	a, err := tokens.New(tokens.Options{Store: store, Secrets: [][]byte{Secret}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, a.Close()) })
	r, err := a.BeginIdempotent(ctx, "app", "user", "key", sha256.Sum256(nil))
	require.NoError(t, err)
	require.NoError(t, store.Close())
	_, err = a.BeginIdempotent(ctx, "app", "user", "key", sha256.Sum256(nil))
	require.ErrorIs(t, err, tokens.ErrUnavailable)
	require.ErrorIs(t, r.Finish(ctx, tokens.Answer{Status: 201}), tokens.ErrUnavailable)
	require.ErrorIs(t, r.Abandon(ctx), tokens.ErrUnavailable)
	require.ErrorIs(t, r.Doubt(ctx), tokens.ErrUnavailable)
}
