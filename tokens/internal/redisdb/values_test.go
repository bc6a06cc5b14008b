// SPDX-License-Identifier: MIT

package redisdb_test

import (
	"context"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
)

// A changed password leaves open connections authenticated, so only pipelines on new ones
// fail. None of them may read as "the key is missing".
func TestPipelines_PasswordRefused(t *testing.T) {
	server := miniredis.RunT(t)
	server.RequireAuth("old")
	db, err := redisdb.Open(redisdb.Options{URL: "redis://:old@" + server.Addr()})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	server.HSet("hash", "field", "value")
	require.NoError(t, server.Set("key", "value"))

	held := db.Client().(*redis.Client).Conn()
	t.Cleanup(func() { require.NoError(t, held.Close()) })
	require.NoError(t, held.Ping(t.Context()).Err())
	server.RequireAuth("new")
	require.NoError(t, held.Ping(t.Context()).Err(), "it stays authenticated")

	for name, call := range map[string]func(context.Context) error{
		"Hashes, one": func(ctx context.Context) error { _, err := db.Hashes(ctx, "hash"); return err },
		"Hashes":      func(ctx context.Context) error { _, err := db.Hashes(ctx, "hash", "other"); return err },
		"ValueAndHashes": func(ctx context.Context) error {
			_, _, err := redisdb.ValueAndHashes(ctx, db.Client(), "key", "hash")
			return err
		},
		"GetAll, one": func(ctx context.Context) error { _, err := db.GetAll(ctx, "key"); return err },
		"GetAll":      func(ctx context.Context) error { _, err := db.GetAll(ctx, "key", "other"); return err },
		"GetBatched":  func(ctx context.Context) error { _, err := db.GetBatched(ctx, "key"); return err },
		"SetNewBatched": func(ctx context.Context) error {
			return db.SetNewBatched(ctx, "new", nil, time.Minute)
		},
		"HashNow": func(ctx context.Context) error { _, _, err := db.HashNow(ctx, "hash"); return err },
		"SetAll":  func(ctx context.Context) error { return db.SetAll(ctx, map[string]string{"a": "1"}, time.Minute) },
		"SetHash": func(ctx context.Context) error { return db.SetHash(ctx, "h", time.Now().Add(time.Minute), "f", "v") },
		"any other": func(ctx context.Context) error {
			pipe := db.Client().Pipeline()
			read := pipe.Get(ctx, "key")
			_, _ = pipe.Exec(ctx)
			return read.Err()
		},
	} {
		t.Run(name, func(t *testing.T) {
			require.ErrorContains(t, call(t.Context()), "WRONGPASS")
		})
	}
}
