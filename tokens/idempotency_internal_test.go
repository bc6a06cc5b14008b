// SPDX-License-Identifier: MIT

package tokens

import (
	"context"
	"crypto/sha256"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
)

// overMiniredis returns an Authority on a Redis whose time the test sets.
func overMiniredis(t *testing.T) (*Authority, *miniredis.Miniredis) {
	t.Helper()
	server := miniredis.RunT(t)
	store, err := OpenRedis(RedisOptions{Addresses: []string{server.Addr()}, Timeout: 10 * time.Second})
	require.NoError(t, err)
	a, err := New(Options{Store: store, Secrets: [][]byte{[]byte("0123456789-0123456789-0123456789")}})
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, a.Close())
		require.NoError(t, store.Close())
	})
	return a, server
}

// requireExpiring requires that every key expires.
func requireExpiring(t *testing.T, server *miniredis.Miniredis) {
	t.Helper()
	require.NotEmpty(t, server.Keys())
	for _, key := range server.Keys() {
		require.Positive(t, server.TTL(key), key)
		require.True(t, strings.HasPrefix(key, redisdb.KeyPrefix), key)
	}
}

// A repetition is told that the request is in flight for as long as a request may last,
// not that its outcome is unknown.
func TestIdempotency_InFlightUntilRequestDeadline(t *testing.T) {
	a, server := overMiniredis(t)
	request := sha256.Sum256([]byte("a request"))
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	_, err := a.BeginIdempotent(ctx, "app", "user", "key", request)
	require.NoError(t, err)
	server.FastForward(2 * time.Minute)
	_, err = a.BeginIdempotent(ctx, "app", "user", "key", request)
	require.ErrorIs(t, err, ErrInFlight)
	server.FastForward(2 * time.Minute)
	_, err = a.BeginIdempotent(ctx, "app", "user", "key", request)
	require.ErrorIs(t, err, ErrOutcomeUnknown)
}

func TestIdempotency_Lifetimes(t *testing.T) {
	ctx := t.Context()
	a, server := overMiniredis(t)
	request := sha256.Sum256([]byte("a request"))
	first, err := a.BeginIdempotent(ctx, "app", "user", "key", request)
	require.NoError(t, err)
	server.FastForward(time.Minute - time.Second)
	_, err = a.BeginIdempotent(ctx, "app", "user", "key", request)
	require.ErrorIs(t, err, ErrInFlight)
	server.FastForward(2 * time.Second)
	_, err = a.BeginIdempotent(ctx, "app", "user", "key", request)
	require.ErrorIs(t, err, ErrOutcomeUnknown, "the gateway has stopped")
	server.FastForward(time.Hour)
	require.NoError(t, first.Finish(ctx, Answer{Status: 201, Body: []byte("a room")}), "the request was only slow")
	server.FastForward(IdempotencyLifetime - time.Second)
	again, err := a.BeginIdempotent(ctx, "app", "user", "key", request)
	require.NoError(t, err)
	require.Equal(t, 201, again.Answer.Status)
	server.FastForward(2 * time.Second)
	again, err = a.BeginIdempotent(ctx, "app", "user", "key", request)
	require.NoError(t, err)
	require.Nil(t, again.Answer, "expired")
}

func TestIdempotency_KeyLost(t *testing.T) {
	ctx := t.Context()
	a, server := overMiniredis(t)
	request := sha256.Sum256(nil)
	first, err := a.BeginIdempotent(ctx, "app", "user", "key", request)
	require.NoError(t, err)
	server.FlushAll()
	require.NoError(t, first.Finish(ctx, Answer{Status: 201}))
	again, err := a.BeginIdempotent(ctx, "app", "user", "key", request)
	require.NoError(t, err)
	require.Equal(t, 201, again.Answer.Status)
}

func TestIdempotency_AnswerTooLarge(t *testing.T) {
	ctx := t.Context()
	a, _ := overMiniredis(t)
	request := sha256.Sum256(nil)
	first, err := a.BeginIdempotent(ctx, "app", "user", "key", request)
	require.NoError(t, err)
	require.Error(t, first.Finish(ctx, Answer{Status: 201, Body: make([]byte, 1<<20)}))
	_, err = a.BeginIdempotent(ctx, "app", "user", "key", request)
	require.ErrorIs(t, err, ErrOutcomeUnknown)
}

func TestIdempotency_NothingStoredInClear(t *testing.T) {
	ctx := t.Context()
	a, server := overMiniredis(t)
	r, err := a.BeginIdempotent(ctx, "application-1", "user-1", "key-of-the-client", sha256.Sum256([]byte("body")))
	require.NoError(t, err)
	require.NoError(t, r.Finish(ctx, Answer{Status: 201, Header: map[string]string{"Location": "the-location"}, Body: []byte("the-body")}))
	dump := server.Dump()
	for _, clear := range []string{"application-1", "user-1", "key-of-the-client", "the-location", "the-body"} {
		require.NotContains(t, dump, clear)
	}
	requireExpiring(t, server)
	require.NotContains(t, (&Answer{Body: []byte("the-body")}).String(), "the-body")
}
