// SPDX-License-Identifier: MIT

package backendclient

import (
	"context"
	"sync"
)

// sourceKey is where the context of an exchange has the address of the one caller
// who waits for it.
type sourceKey struct{}

// Source returns the address for whom an exchange is made, for a transport that
// tells Meet (X-Forwarded-For), or "" where several callers wait for it, or none is
// known.
func Source(ctx context.Context) string {
	source, _ := ctx.Value(sourceKey{}).(string)
	return source
}

// waiters counts who waits for an exchange.
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

// withSource tells the transport on whose behalf an exchange is made, if that is
// one caller: one who joins later is not told of.
func (w *waiters) withSource(ctx context.Context, caller Caller) context.Context {
	w.mu.Lock()
	defer w.mu.Unlock()
	if caller.Source == "" || w.counts[caller.identity()] > 1 {
		return ctx
	}
	return context.WithValue(ctx, sourceKey{}, caller.Source)
}
