// SPDX-License-Identifier: MIT

// Package background runs best-effort work, bounded in number and in time, that no request
// waits for.
package background

import (
	"context"
	"sync"
	"time"
)

const (
	// most is how many functions run at a time. More are dropped, or they would pile up
	// while Redis is slow.
	most     = 64
	patience = 10 * time.Second
)

// Pool runs best-effort work. The zero value is ready.
type Pool struct {
	mu      sync.Mutex
	closed  bool
	running int
	all     sync.WaitGroup
}

// Go runs f with a timeout. It drops f if the pool is full or closed, so nothing may depend
// on f.
func (p *Pool) Go(f func(context.Context)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.running == most {
		return
	}
	p.running++
	p.all.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		f(ctx)
		p.mu.Lock()
		p.running--
		p.mu.Unlock()
	})
}

// Wait waits for running functions.
func (p *Pool) Wait() { p.all.Wait() }

// Close waits for running functions and starts no more.
func (p *Pool) Close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.all.Wait()
}
