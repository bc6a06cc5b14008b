// SPDX-License-Identifier: MIT

package backendclient

import (
	"context"
	"sync"
	"time"
)

// timeoutPool bounds requests in time. context.WithTimeout would cost two maps, a timer
// and half a dozen other allocations for each request, 1 kB in all. Nearly all requests
// end long before their timeout, so contexts and their timers are reused. The timer
// ends a request that is overdue or whose caller is gone, both at most one tick late.
type timeoutPool struct {
	timeout time.Duration
	tick    time.Duration
	free    sync.Pool // of *pooledContext
}

// longestTick bounds how late a request may end.
const longestTick = 100 * time.Millisecond

func newTimeoutPool(timeout time.Duration) *timeoutPool {
	return &timeoutPool{timeout: timeout, tick: min(longestTick, max(timeout/8, time.Millisecond))}
}

// pooledContext is a cancellable context that serves one request at a time.
type pooledContext struct {
	ended  context.Context //nolint:containedctx // this is what the pool lends
	cancel context.CancelFunc

	mu     sync.Mutex
	serves *bounded    // nil while it is free
	timer  *time.Timer // runs check
	cause  error       // why it was cancelled; if set it is not reused
}

// bounded is the context of a request: the values of the caller's context, with the
// cancellation of a pooled one.
type bounded struct {
	context.Context
	lease *pooledContext
	due   time.Time
}

// Deadline implements context.Context.
func (b *bounded) Deadline() (time.Time, bool) { return b.due, true }

// Done implements context.Context.
func (b *bounded) Done() <-chan struct{} { return b.lease.ended.Done() }

// Err implements context.Context.
func (b *bounded) Err() error { return b.lease.ended.Err() } //nolint:wrapcheck // the errors of contexts are bare

// Value implements context.Context. Package context recognises Done by a value of the
// pooled context; without it, every derived context would need a goroutine.
func (b *bounded) Value(key any) any {
	if v := b.lease.ended.Value(key); v != nil {
		return v
	}
	return b.Context.Value(key)
}

// begin lends a context; the caller must call end once.
func (d *timeoutPool) begin(caller context.Context) *bounded {
	l, reused := d.free.Get().(*pooledContext)
	if !reused {
		l = new(pooledContext)
		l.ended, l.cancel = context.WithCancel(context.Background())
	}
	b := &bounded{Context: caller, lease: l, due: time.Now().Add(d.timeout)}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.serves = b
	if reused {
		l.timer.Reset(d.tick)
	} else {
		l.timer = time.AfterFunc(d.tick, func() { l.check(d.tick) })
	}
	return b
}

// end returns the context to the pool and returns the cause if the context was cancelled.
// A context is reused only after success; otherwise it is cancelled, because something
// may still depend on it.
func (d *timeoutPool) end(b *bounded, succeeded bool) error {
	l := b.lease
	l.mu.Lock()
	defer l.mu.Unlock()
	l.serves = nil
	l.timer.Stop()
	switch {
	case l.cause != nil: // cancelled by check
	case succeeded:
		d.free.Put(l)
	default:
		l.cancel()
	}
	return l.cause
}

// check cancels the context if the request that it serves is overdue or its caller is
// gone. Otherwise it runs again after a tick. A timer of an earlier request may run it for the
// next one, which then is checked once more.
func (l *pooledContext) check(tick time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.serves == nil {
		return
	}
	switch err := l.serves.Context.Err(); {
	case err != nil:
		l.cause = err
	case !time.Now().Before(l.serves.due):
		l.cause = context.DeadlineExceeded
	default:
		l.timer.Reset(tick)
		return
	}
	l.cancel()
}
