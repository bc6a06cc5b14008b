// SPDX-License-Identifier: MIT

package feed

import (
	"context"
	"time"
)

// Hooks let tests provoke states that otherwise take a failover, or time.
type Hooks struct{ *Feed }

// Hooks are for tests.
func (f *Feed) Hooks() Hooks { return Hooks{f} }

// Replace makes Redis appear to have been replaced just now, or with false, never.
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

// HoldHeartbeats stops heartbeats until release is called.
func (h Hooks) HoldHeartbeats() (release func()) {
	h.beating.Lock()
	return h.beating.Unlock
}

// HoldChecks stops checks until release is called.
func (h Hooks) HoldChecks() (release func()) {
	h.checking <- struct{}{}
	return func() { <-h.checking }
}

// Suspend moves the wall clock ahead of the monotonic clock.
func (h Hooks) Suspend(d time.Duration) { h.provenWall.Add(-int64(d)) }

// Replay replays the journal, as after a failover.
func (h Hooks) Replay(ctx context.Context) error {
	return h.replay(context.WithValue(ctx, restoring{}, true), false)
}

// Restore replays the journal to a server whose counter fell back to number.
func (h Hooks) Restore(ctx context.Context, number, known uint64) bool {
	return h.restore(ctx, number, known)
}

// PublishPending publishes queued changes.
func (h Hooks) PublishPending(ctx context.Context) error { return h.publishPending(ctx) }

// Age makes all entries of the journal older.
func (h Hooks) Age(d time.Duration) { h.journal.Age(d) }

// PublishScript numbers a change and publishes it.
var PublishScript = publishScript
