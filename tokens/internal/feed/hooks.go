// SPDX-License-Identifier: MIT

package feed

import (
	"context"
	"time"
)

// Hooks let tests do what else takes a failover, or time.
type Hooks struct{ *Feed }

// Hooks are for tests.
func (f *Feed) Hooks() Hooks { return Hooks{f} }

// Replace notes that another server was found, and with false that the bound after
// which that matters has passed.
func (h Hooks) Replace(found bool) {
	h.replaced.Store(0)
	if found {
		h.noteReplaced()
	}
}

// HeardTo is the highest number heard on this subscription.
func (h Hooks) HeardTo() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.heardTo
}

// Heartbeat sends one.
func (h Hooks) Heartbeat(ctx context.Context) { h.sendHeartbeat(ctx) }

// HoldHeartbeats lets none come until release is called.
func (h Hooks) HoldHeartbeats() (release func()) {
	h.beating.Lock()
	return h.beating.Unlock
}

// HoldChecks lets none come until release is called.
func (h Hooks) HoldChecks() (release func()) {
	h.checking <- struct{}{}
	return func() { <-h.checking }
}

// Suspend lets the wall clock go on for so long while the other one stands still.
func (h Hooks) Suspend(d time.Duration) { h.provenWall.Add(-int64(d)) }

// Replay writes again what is remembered, as when another server was found.
func (h Hooks) Replay(ctx context.Context) error {
	return h.replay(context.WithValue(ctx, restoring{}, true), false)
}

// Restore writes again what a server has lost that knows no number above number.
func (h Hooks) Restore(ctx context.Context, number, known uint64) bool {
	return h.restore(ctx, number, known)
}

// PublishPending publishes what could not be published yet.
func (h Hooks) PublishPending(ctx context.Context) error { return h.publishPending(ctx) }

// Age makes it so much longer since what is remembered was written.
func (h Hooks) Age(d time.Duration) { h.journal.Age(d) }

// PublishScript tells of a change.
var PublishScript = publishScript
