// SPDX-License-Identifier: MIT

package backendclient

import (
	"context"
	"sync"
	"time"
)

// timeoutPool bounds requests in time. context.WithTimeout would cost a timer, entries
// in two maps and half a dozen allocations for each request: a fifth of what the
// gateway adds to a proxy. Nearly all requests end long before their timeout, so
// contexts are reused. A periodic sweep ends contexts that are overdue or whose caller
// is gone, both at most one tick late.
type timeoutPool struct {
	timeout time.Duration
	tick    time.Duration

	mu    sync.Mutex
	all   map[*pooledContext]struct{} // all that are in use or free
	free  []*pooledContext
	inUse int
	timer *time.Timer // of the next sweep; nil while nothing is in use
}

// longestTick bounds how late a request may end.
const longestTick = 100 * time.Millisecond

func newTimeoutPool(timeout time.Duration) *timeoutPool {
	return &timeoutPool{timeout: timeout, tick: min(longestTick, max(timeout/8, time.Millisecond)), all: map[*pooledContext]struct{}{}}
}

// pooledContext is a cancellable context that serves one request at a time.
type pooledContext struct {
	ended  context.Context //nolint:containedctx // this is what the pool lends
	cancel context.CancelFunc

	// Guarded by timeoutPool.mu.
	caller context.Context //nolint:containedctx // nil while it is free
	due    time.Time
	cause  error // why it was cancelled; if set it is not reused
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

// begin lends a context; the caller must call end once. Nothing is allocated under the
// mutex, because an allocation may have to assist the garbage collector.
func (d *timeoutPool) begin(caller context.Context) *bounded {
	b := &bounded{Context: caller, due: time.Now().Add(d.timeout)}
	if !d.lend(b) {
		l := new(pooledContext)
		l.ended, l.cancel = context.WithCancel(context.Background())
		d.add(b, l)
	}
	return b
}

// lend uses a free context; it returns false if there is none.
func (d *timeoutPool) lend(b *bounded) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := len(d.free)
	if n == 0 {
		return false
	}
	b.lease, d.free = d.free[n-1], d.free[:n-1]
	d.use(b)
	return true
}

// add uses a new context.
func (d *timeoutPool) add(b *bounded, l *pooledContext) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.all[l] = struct{}{}
	b.lease = l
	d.use(b)
}

func (d *timeoutPool) use(b *bounded) {
	b.lease.caller, b.lease.due = b.Context, b.due
	d.inUse++
	if d.timer == nil {
		d.timer = time.AfterFunc(d.tick, d.sweep)
	}
}

// end returns the context to the pool and returns the cause if the context was cancelled.
// A context is reused only after success; otherwise it is cancelled, because something
// may still depend on it.
func (d *timeoutPool) end(b *bounded, well bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := b.lease
	l.caller = nil
	d.inUse--
	switch {
	case l.cause != nil: // cancelled by sweep
	case well:
		d.free = append(d.free, l)
	default:
		delete(d.all, l)
		defer l.cancel()
	}
	return l.cause
}

// sweep cancels contexts that are overdue or whose caller is gone. If none is in use it
// drops the free ones and stops.
func (d *timeoutPool) sweep() {
	now := time.Now()
	var ended []*pooledContext
	d.mu.Lock()
	for l := range d.all {
		if l.caller == nil {
			continue
		}
		switch err := l.caller.Err(); {
		case err != nil:
			l.cause = err
		case !now.Before(l.due):
			l.cause = context.DeadlineExceeded
		default:
			continue
		}
		delete(d.all, l)
		ended = append(ended, l)
	}
	if d.inUse == 0 {
		ended = append(ended, d.free...)
		clear(d.all)
		d.free, d.timer = nil, nil
	} else {
		d.timer.Reset(d.tick)
	}
	d.mu.Unlock()
	for _, l := range ended {
		l.cancel()
	}
}
