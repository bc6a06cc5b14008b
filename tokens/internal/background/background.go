// SPDX-License-Identifier: MIT

// Package background runs what nobody waits for, within bounds.
package background

import (
	"context"
	"sync"
	"time"
)

const (
	// most is how many notes are written at a time. More are dropped:
	// with Redis slow they would pile up.
	most     = 64
	patience = 10 * time.Second
)

// Pool runs what nobody waits for. The zero value is ready.
type Pool struct {
	mu      sync.Mutex
	closed  bool
	running int
	all     sync.WaitGroup
}

// Go runs f bounded in time, and Close waits for it. f must not change anything that
// somebody relies on having happened: it may be left out.
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

// Wait waits for what runs.
func (p *Pool) Wait() { p.all.Wait() }

// Close lets nothing start any more and waits for what runs.
func (p *Pool) Close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.all.Wait()
}
