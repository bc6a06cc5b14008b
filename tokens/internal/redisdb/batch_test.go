// SPDX-License-Identifier: MIT

package redisdb_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
)

// Every caller gets the value of its key, alone or in a batch.
func TestGetBatched(t *testing.T) {
	server := miniredis.RunT(t)
	db, err := redisdb.Open(redisdb.Options{URL: "redis://" + server.Addr()})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	var trips, commands atomic.Int64
	db.OnCommand(func(context.Context, redisdb.Command) { trips.Add(1) })
	for i := range 100 {
		require.NoError(t, server.Set(fmt.Sprint("k", i), strconv.Itoa(i)))
	}
	var wait sync.WaitGroup
	for g := range 50 {
		wait.Go(func() {
			for i := range 100 {
				i := (i + 7*g) % 110
				commands.Add(1)
				value, err := db.GetBatched(t.Context(), fmt.Sprint("k", i))
				if i >= 100 && !errors.Is(err, redis.Nil) || i < 100 && (err != nil || string(value) != strconv.Itoa(i)) {
					t.Error(i, string(value), err)
				}
			}
		})
	}
	wait.Wait()
	t.Logf("%d values in %d round trips", commands.Load(), trips.Load())
	require.Less(t, trips.Load(), commands.Load())
}

// A canceled call returns at once and does not affect the others.
func TestGetBatched_CallerCanceled(t *testing.T) {
	server := miniredis.RunT(t)
	db, err := redisdb.Open(redisdb.Options{URL: "redis://" + server.Addr()})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	require.NoError(t, server.Set("k", "v"))
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	var wait sync.WaitGroup
	for i := range 200 {
		wait.Go(func() {
			if i%2 == 0 {
				_, _ = db.GetBatched(gone, "k")
				return
			}
			value, err := db.GetBatched(t.Context(), "k")
			if err != nil || string(value) != "v" {
				t.Error(string(value), err)
			}
		})
	}
	wait.Wait()
}

// All callers of a batch get its error before their deadline.
func TestGetBatched_RedisUnavailable(t *testing.T) {
	server := miniredis.RunT(t)
	db, err := redisdb.Open(redisdb.Options{URL: "redis://" + server.Addr(), Timeout: 100 * time.Millisecond})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	server.Close()
	var wait sync.WaitGroup
	for range 20 {
		wait.Go(func() {
			if _, err := db.GetBatched(t.Context(), "k"); err == nil || errors.Is(err, redis.Nil) {
				t.Error(err)
			}
		})
	}
	wait.Wait()
}
