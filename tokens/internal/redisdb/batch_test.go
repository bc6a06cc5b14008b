// SPDX-License-Identifier: MIT

package redisdb_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tests/redistest"
	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
)

// openMini opens a miniredis. A timeout of 0 is the default.
func openMini(t *testing.T, timeout time.Duration) (*miniredis.Miniredis, *redisdb.DB) {
	t.Helper()
	server := miniredis.RunT(t)
	db, err := redisdb.Open(redisdb.Options{URL: "redis://" + server.Addr(), Timeout: timeout})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return server, db
}

// Every caller gets the value of its key, alone or in a batch.
func TestGetBatched(t *testing.T) {
	server, db := openMini(t, 0)
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

// Every value is set once, alone or in a batch, and expires.
func TestSetNewBatched(t *testing.T) {
	server, db := openMini(t, 0)
	require.NoError(t, server.Set("k0", "old"))
	var wait sync.WaitGroup
	for i := range 200 {
		wait.Go(func() {
			if err := db.SetNewBatched(t.Context(), fmt.Sprint("k", i%100), []byte(strconv.Itoa(i%100)), time.Hour); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	server.CheckGet(t, "k0", "old")
	for i := range 99 {
		server.CheckGet(t, fmt.Sprint("k", i+1), strconv.Itoa(i+1))
		require.Equal(t, time.Hour, server.TTL(fmt.Sprint("k", i+1)))
	}
}

// A server that became a replica answers reads and refuses writes. Every call gets its own
// answer.
func TestSetNewBatched_Replica(t *testing.T) {
	replica, db := openMini(t, 0)
	require.NoError(t, replica.Set("k", "v"))
	replica.Server().SetPreHook(func(c *server.Peer, cmd string, _ ...string) bool {
		if cmd == "SET" {
			c.WriteError("READONLY You can't write against a read only replica.")
		}
		return cmd == "SET"
	})
	var wait sync.WaitGroup
	for i := range 50 {
		wait.Go(func() {
			if value, err := db.GetBatched(t.Context(), "k"); err != nil || string(value) != "v" {
				t.Error(string(value), err)
			}
		})
		wait.Go(func() {
			if err := db.SetNewBatched(t.Context(), fmt.Sprint("new", i), nil, time.Hour); err == nil || !strings.Contains(err.Error(), "READONLY") {
				t.Error(err)
			}
		})
	}
	wait.Wait()
}

// A server of a Cluster that hangs does not delay calls for the others.
func TestBatched_ServerHangs(t *testing.T) {
	cluster := redistest.Cluster(t)
	db, err := redisdb.Open(redisdb.Options{Addresses: cluster.Addrs(), Cluster: true, Timeout: 2 * time.Second})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	hanging := cluster.Owner(t, cluster.Slot(t, "there"))
	var here string
	for i := 0; here == "" || cluster.Owner(t, cluster.Slot(t, here)) == hanging; i++ {
		here = fmt.Sprint("here", i)
	}
	both := func(key string) {
		if err := db.SetNewBatched(t.Context(), key, []byte(key), time.Hour); err != nil {
			t.Error(err)
		}
		if value, err := db.GetBatched(t.Context(), key); err != nil || string(value) != key {
			t.Error(string(value), err)
		}
	}
	both(here)
	both("there")
	hanging.Pause(t)
	var delayed, others sync.WaitGroup
	var answered atomic.Int64
	for range 10 {
		for range 8 {
			others.Go(func() { both(here) })
		}
		delayed.Go(func() {
			both("there")
			answered.Add(1)
		})
		others.Wait()
		require.Zero(t, answered.Load())
	}
	hanging.Resume(t)
	delayed.Wait()
}

// A slot moves with its keys while batches for it, and for other slots of the same server, are
// under way. Redis redirects single commands of a batch, and every call gets its right answer.
func TestBatched_SlotMoves(t *testing.T) {
	cluster := redistest.Cluster(t)
	db, err := redisdb.Open(redisdb.Options{Addresses: cluster.Addrs(), Cluster: true, Timeout: 10 * time.Second})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	var batches atomic.Int64
	db.OnCommand(func(_ context.Context, c redisdb.Command) {
		if c.Name == "pipeline" {
			batches.Add(1)
		}
	})
	const keys = 40
	for i := range keys {
		for _, slot := range []string{"moving", "staying"} {
			require.NoError(t, cluster.Client().Set(t.Context(), fmt.Sprintf("{%s}%d", slot, i), i, 0).Err())
		}
	}
	done := make(chan struct{})
	var callers sync.WaitGroup
	defer callers.Wait()
	var written atomic.Int64
	for g := range 16 {
		callers.Go(func() {
			for i := g; ; i++ {
				select {
				case <-done:
					return
				default:
				}
				slot := []string{"moving", "staying"}[i%2]
				key := fmt.Sprintf("{%s}%d", slot, i%(keys+5))
				value, err := db.GetBatched(t.Context(), key)
				if i%(keys+5) >= keys && !errors.Is(err, redis.Nil) || i%(keys+5) < keys && (err != nil || string(value) != strconv.Itoa(i%(keys+5))) {
					t.Error(key, string(value), err)
				}
				key = fmt.Sprintf("{%s}new-%d-%d", slot, g, i)
				if err := db.SetNewBatched(t.Context(), key, []byte(key), time.Hour); err != nil {
					t.Error(key, err)
				}
				if value, err := db.GetBatched(t.Context(), key); err != nil || string(value) != key {
					t.Error(key, string(value), err)
				}
				written.Add(1)
			}
		})
	}
	more := func() {
		want := written.Load() + 100
		require.Eventually(t, func() bool { return written.Load() > want }, 30*time.Second, time.Millisecond)
	}
	slot := cluster.Slot(t, "{moving}")
	for range 4 {
		move := cluster.BeginSlotMove(t, slot)
		more()
		require.Equal(t, keys/2, move.MoveKeys(t, keys/2))
		more()
		move.Finish(t)
		more()
	}
	close(done)
	callers.Wait()
	require.Positive(t, batches.Load())
	var refusals string
	for _, n := range cluster.Nodes {
		refusals += n.Client().Info(t.Context(), "errorstats").Val()
	}
	t.Log(batches.Load(), "batches of", 3*written.Load(), "commands", refusals)
	require.Contains(t, refusals, "errorstat_ASK")
	require.Contains(t, refusals, "errorstat_MOVED")
}

// A canceled call returns at once and does not affect the others.
func TestGetBatched_CallerCanceled(t *testing.T) {
	server, db := openMini(t, 0)
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

// A caller gets its answer at its deadline, also the one that sent the batch. The others get
// theirs when Redis answers.
func TestGetBatched_CallerDeadline(t *testing.T) {
	mini, db := openMini(t, 5*time.Second)
	require.NoError(t, mini.Set("k", "v"))
	for range 5 {
		release := make(chan struct{})
		mini.Server().SetPreHook(func(_ *server.Peer, cmd string, _ ...string) bool {
			if cmd == "GET" {
				<-release
			}
			return false
		})
		var patient, hurried sync.WaitGroup
		for i := range 20 {
			if i%10 == 9 {
				patient.Go(func() {
					if value, err := db.GetBatched(t.Context(), "k"); err != nil || string(value) != "v" {
						t.Error(string(value), err)
					}
				})
				continue
			}
			hurried.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
				defer cancel()
				if _, err := db.GetBatched(ctx, "k"); !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Error(err)
				}
			})
		}
		hurried.Wait()
		close(release)
		patient.Wait()
	}
}

// A panic while a batch is sent is an error for all its callers.
func TestBatched_Panic(t *testing.T) {
	_, db := openMini(t, 0)
	var panics atomic.Int64
	db.Client().AddHook(panicHook{&panics})
	for panics.Load() < 2 {
		var wait sync.WaitGroup
		for i := range 20 {
			wait.Go(func() {
				if value, err := db.GetBatched(t.Context(), "k"); err == nil {
					t.Errorf("%q", value)
				}
			})
			wait.Go(func() {
				err := db.SetNewBatched(t.Context(), fmt.Sprint("new", i), nil, time.Hour)
				if set := db.Client().Exists(t.Context(), fmt.Sprint("new", i)).Val(); err == nil && set == 0 {
					t.Error("success, but nothing was set")
				}
			})
		}
		wait.Wait()
	}
}

// panicHook panics for every pipeline.
type panicHook struct{ panics *atomic.Int64 }

func (panicHook) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (panicHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (h panicHook) ProcessPipelineHook(redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(context.Context, []redis.Cmder) error {
		h.panics.Add(1)
		panic("in a pipeline")
	}
}

// All callers of a batch get its error before their deadline.
func TestGetBatched_RedisUnavailable(t *testing.T) {
	server, db := openMini(t, 100*time.Millisecond)
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
