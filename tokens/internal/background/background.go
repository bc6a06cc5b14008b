// SPDX-License-Identifier: MIT

// Package background runs best-effort work, bounded in number and in time, that no request
// waits for.
package background

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// most is how many functions run at a time. More are dropped, or they would pile up
	// while Redis is slow.
	most     = 64
	patience = 10 * time.Second
)

// Pool runs best-effort work.
type Pool struct {
	mu     sync.Mutex
	closed bool
	group  errgroup.Group
}

// New makes a pool.
func New() *Pool {
	p := new(Pool)
	p.group.SetLimit(most)
	return p
}

// Go runs f with a timeout. It drops f if the pool is full or closed, so nothing may depend
// on f.
func (p *Pool) Go(f func(context.Context)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.group.TryGo(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		f(ctx)
		return nil
	})
}

// Wait waits for running functions.
func (p *Pool) Wait() { _ = p.group.Wait() }

// Close waits for running functions and starts no more.
func (p *Pool) Close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.Wait()
}
