// SPDX-License-Identifier: MIT

package redisdb

import (
	"context"
	"runtime"
	"sync"

	"github.com/redis/go-redis/v9"
)

// maxBatch bounds how many values are read in one trip.
const maxBatch = 64

// batches combines concurrent reads of values into one trip, which costs more than the
// values do.
type batches struct {
	mu   sync.Mutex
	next *batch // not sent yet
}

// batch is one trip. The first caller sends it.
type batch struct {
	keys  []string // without the first caller's
	reads []*redis.StringCmd
	done  chan struct{} // nil while there is only one caller
}

// GetBatched returns the value of a key. It shares the trip with concurrent calls, but
// does not wait for them: a batch is sent once every runnable goroutine has had its turn,
// which is at once on an idle machine.
func (db *DB) GetBatched(ctx context.Context, key string) ([]byte, error) {
	b, i := db.batches.join(key)
	if i > 0 {
		select {
		case <-b.done:
			return b.reads[i].Bytes()
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	runtime.Gosched()
	if db.batches.seal(b); b.done == nil {
		return db.rdb.Get(ctx, key).Bytes()
	}
	defer close(b.done)
	ctx = context.WithoutCancel(ctx) // the other callers still wait
	pipe := db.rdb.Pipeline()
	b.reads = append(make([]*redis.StringCmd, 0, 1+len(b.keys)), pipe.Get(ctx, key))
	for _, key := range b.keys {
		b.reads = append(b.reads, pipe.Get(ctx, key))
	}
	_, _ = pipe.Exec(ctx) // each has its own error
	return b.reads[0].Bytes()
}

// join adds a key to the next batch and returns its index there. The caller with index 0
// sends the batch.
func (g *batches) join(key string) (*batch, int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	b := g.next
	if b == nil || len(b.keys) == maxBatch-1 {
		g.next = new(batch)
		return g.next, 0
	}
	if b.done == nil {
		b.done = make(chan struct{})
	}
	b.keys = append(b.keys, key)
	return b, len(b.keys)
}

// seal keeps later callers out of a batch.
func (g *batches) seal(b *batch) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.next == b {
		g.next = nil
	}
}
