// SPDX-License-Identifier: MIT

package redisdb

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// maxBatch bounds how many commands are sent in one round trip.
const maxBatch = 64

// batches combines concurrent commands into one round trip, which costs more than the commands do.
// Reads and writes have one each: go-redis judges a connection by the first answer of a round trip,
// and a server that became a replica answers reads. So has each server of a Cluster: one that
// hangs must not delay commands for the others.
type batches struct {
	rdb  redis.UniversalClient
	mu   sync.Mutex
	next map[*redis.Client]*batch // not sent yet, by serverOf
}

// batch is one round trip.
type batch struct {
	cmds []redis.Cmder
	done chan struct{} // closed when all have their answer
	err  error         // set instead of answers if sending panicked
}

// GetBatched returns the value of a key. It shares the round trip with concurrent calls.
func (db *DB) GetBatched(ctx context.Context, key string) ([]byte, error) {
	cmd := redis.NewStringCmd(ctx, "get", key)
	if err := db.reads.send(ctx, key, cmd); err != nil {
		return nil, err
	}
	return cmd.Bytes()
}

// SetNewBatched sets a value unless the key exists. It shares the round trip with concurrent calls.
// After an error the value may or may not have been set.
func (db *DB) SetNewBatched(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	return IgnoreNil(db.writes.send(ctx, key, redis.NewStatusCmd(ctx, "set", key, value, "px", ttl.Milliseconds(), "nx")))
}

// send sends a command together with concurrent ones, but does not wait for any: a batch is
// sent once every runnable goroutine has had its turn, which is at once on an idle machine.
// It returns the error of the command, or of the context if that ends first. The batch goes on
// then, for the other callers.
func (g *batches) send(ctx context.Context, key string, cmd redis.Cmder) error {
	server := g.serverOf(ctx, key)
	b, first := g.join(server, cmd)
	if first {
		runtime.Gosched()
		if g.seal(server, b); len(b.cmds) == 1 {
			return g.rdb.Process(ctx, cmd)
		}
		go g.exec(context.WithoutCancel(ctx), b)
	}
	select {
	case <-b.done:
		return cmp.Or(b.err, cmd.Err())
	case <-ctx.Done():
		return ctx.Err()
	}
}

// exec sends a batch. A panic would leave commands without answers, which read as success.
func (g *batches) exec(ctx context.Context, b *batch) {
	defer close(b.done)
	defer func() {
		if p := recover(); p != nil {
			b.err = fmt.Errorf("sending a batch panicked: %v\n%s", p, debug.Stack())
		}
	}()
	pipe := g.rdb.Pipeline()
	for _, cmd := range b.cmds {
		_ = pipe.Process(ctx, cmd)
	}
	_, _ = pipe.Exec(ctx) // each has its own error
}

// serverOf returns the server of a Cluster that has a key. It is nil if there is no Cluster, or
// if the Cluster does not tell.
func (g *batches) serverOf(ctx context.Context, key string) *redis.Client {
	cluster, ok := g.rdb.(*redis.ClusterClient)
	if !ok {
		return nil
	}
	server, _ := cluster.MasterForKey(ctx, key)
	return server
}

// join adds a command to the next batch, and reports whether it is the first. The caller of the
// first sends the batch. It allocates without the lock, because an allocation may have to assist
// the garbage collector.
func (g *batches) join(server *redis.Client, cmd redis.Cmder) (b *batch, first bool) {
	if b := g.joinOr(server, nil, cmd); b != nil {
		return b, false
	}
	own := &batch{cmds: make([]redis.Cmder, 1, 8), done: make(chan struct{})}
	own.cmds[0] = cmd
	b = g.joinOr(server, own, cmd)
	return b, b == own
}

// joinOr adds a command to the next batch. If it is full, or there is none, own becomes the next.
func (g *batches) joinOr(server *redis.Client, own *batch, cmd redis.Cmder) *batch {
	g.mu.Lock()
	defer g.mu.Unlock()
	if b := g.next[server]; b != nil && len(b.cmds) < maxBatch {
		b.cmds = append(b.cmds, cmd)
		return b
	}
	if own != nil {
		g.next[server] = own
	}
	return own
}

// seal keeps later callers out of a batch.
func (g *batches) seal(server *redis.Client, b *batch) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.next[server] == b {
		delete(g.next, server)
	}
}
