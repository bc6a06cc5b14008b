// SPDX-License-Identifier: MIT

package redisdb

import (
	"context"
	"runtime"
	"sync"

	"github.com/redis/go-redis/v9"
)

// together reads values in one trip that are asked for at the same time: most of what a
// read costs is the trip, not the value.
type together struct {
	mu   sync.Mutex
	next *trip // that has not left yet
}

// trip is one on which values are read. Who asks first makes it.
type trip struct {
	keys  []string // of all but the first
	reads []*redis.StringCmd
	done  chan struct{} // nil while only one has asked
}

// mostTogether bounds a trip.
const mostTogether = 64

// GetTogether reads the value at a key, on one trip with others that are asked for
// meanwhile. Nothing waits for company: a trip leaves once every goroutine that is
// ready to run has had its turn, which on an idle machine is at once.
func (s *DB) GetTogether(ctx context.Context, key string) ([]byte, error) {
	t, i := s.together.board(key)
	if i > 0 {
		select {
		case <-t.done:
			return t.reads[i].Bytes()
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	runtime.Gosched()
	if s.together.leave(t); t.done == nil {
		return s.rdb.Get(ctx, key).Bytes()
	}
	defer close(t.done)
	ctx = context.WithoutCancel(ctx) // the others still wait if this one goes away
	pipe := s.rdb.Pipeline()
	t.reads = append(make([]*redis.StringCmd, 0, 1+len(t.keys)), pipe.Get(ctx, key))
	for _, key := range t.keys {
		t.reads = append(t.reads, pipe.Get(ctx, key))
	}
	_, _ = pipe.Exec(ctx) // says no more than the commands do
	return t.reads[0].Bytes()
}

// board returns the next trip, and the place of the key on it: with 0 the caller makes it.
func (g *together) board(key string) (*trip, int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	t := g.next
	if t == nil || len(t.keys) == mostTogether-1 {
		g.next = new(trip)
		return g.next, 0
	}
	if t.done == nil {
		t.done = make(chan struct{})
	}
	t.keys = append(t.keys, key)
	return t, len(t.keys)
}

// leave has nobody come along any more.
func (g *together) leave(t *trip) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.next == t {
		g.next = nil
	}
}
