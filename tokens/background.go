// SPDX-License-Identifier: MIT

package tokens

import (
	"context"
	"sync"
	"time"
)

const (
	// maxBackground is how many notes are written at a time. More are dropped:
	// with Redis slow they would pile up.
	maxBackground      = 64
	backgroundPatience = 10 * time.Second
)

// background runs what nobody waits for. The zero value is ready.
type background struct {
	mu      sync.Mutex
	closed  bool
	running int
	all     sync.WaitGroup
}

// inBackground runs f bounded in time, and Close waits for it. f must not
// change anything that somebody relies on having happened.
func (a *Authority) inBackground(f func(context.Context)) {
	b := &a.background
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || b.running == maxBackground {
		return
	}
	b.running++
	b.all.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), backgroundPatience)
		defer cancel()
		f(ctx)
		b.mu.Lock()
		b.running--
		b.mu.Unlock()
	})
}

// close lets nothing start any more and waits for what runs.
func (b *background) close() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.all.Wait()
}
