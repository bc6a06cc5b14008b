// SPDX-License-Identifier: MIT

package backendclient

import (
	"context"
	"sync"
)

// sourceKey is the context key of the address of the only caller who waits for an exchange.
type sourceKey struct{}

// Source returns the address of the caller that an exchange is made for, so that a transport
// can send it as X-Forwarded-For. It is "" if several callers wait or none is known.
func Source(ctx context.Context) string {
	source, _ := ctx.Value(sourceKey{}).(string)
	return source
}

// waiters counts the callers that wait for each exchange.
type waiters struct {
	mu     sync.Mutex
	counts map[identity]int
}

func (w *waiters) enter(id identity) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.counts == nil {
		w.counts = map[identity]int{}
	}
	w.counts[id]++
}

func (w *waiters) leave(id identity) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.counts[id]--; w.counts[id] <= 0 {
		delete(w.counts, id)
	}
}

// withSource adds the caller's address to ctx if no other caller waits yet.
func (w *waiters) withSource(ctx context.Context, caller Caller) context.Context {
	w.mu.Lock()
	defer w.mu.Unlock()
	if caller.Source == "" || w.counts[caller.identity()] > 1 {
		return ctx
	}
	return context.WithValue(ctx, sourceKey{}, caller.Source)
}
