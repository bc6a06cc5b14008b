// SPDX-License-Identifier: MIT

package backendclient

import (
	"context"
	"sync"
	"time"
)

// timeoutPool bounds requests in time, as context.WithTimeout does. That costs a
// timer, entries in two maps and half a dozen allocations for each request, a
// fifth of what the gateway adds to a proxy, and nearly all requests end long
// before. So contexts are used again, and a look at those in use, every tick, ends
// the ones that are overdue or whose caller has gone away: both a tick late at
// most.
type timeoutPool struct {
	timeout time.Duration
	tick    time.Duration

	mu    sync.Mutex
	all   map[*pooledContext]struct{} // that may still be used
	free  []*pooledContext
	inUse int
	timer *time.Timer // of the next look; nil while nothing is in use
}

// longestTick is how late a request may end.
const longestTick = 100 * time.Millisecond

func newTimeoutPool(timeout time.Duration) *timeoutPool {
	return &timeoutPool{timeout: timeout, tick: min(longestTick, max(timeout/8, time.Millisecond)), all: map[*pooledContext]struct{}{}}
}

// pooledContext is a context that can be cancelled, for one request at a time.
type pooledContext struct {
	ended  context.Context //nolint:containedctx // what is lent
	cancel context.CancelFunc

	// These are guarded by timeoutPool.mu.
	caller context.Context //nolint:containedctx // nil while the lease is free
	due    time.Time
	cause  error // why it was cancelled; it is then never used again
}

// bounded is the context of a request: it holds what the caller's does, and ends
// with the lease.
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

// Value implements context.Context. The lease's own value is how package context
// finds out that Done is one of its channels; otherwise each context made of this
// one would need a goroutine.
func (b *bounded) Value(key any) any {
	if v := b.lease.ended.Value(key); v != nil {
		return v
	}
	return b.Context.Value(key)
}

// begin lends a context. end must be called, once. Nothing is allocated under the mutex:
// who allocates may have to help the garbage collector, while all others wait.
func (d *timeoutPool) begin(caller context.Context) *bounded {
	b := &bounded{Context: caller, due: time.Now().Add(d.timeout)}
	if !d.lend(b) {
		l := new(pooledContext)
		l.ended, l.cancel = context.WithCancel(context.Background())
		d.add(b, l)
	}
	return b
}

// lend gives a free context, and reports false if there is none.
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

// add gives a new context.
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

// end takes the context back and returns why it ended before, nil if it did not. It
// is used again only after a request that went well: whatever else may still hang
// on it is ended.
func (d *timeoutPool) end(b *bounded, well bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := b.lease
	l.caller = nil
	d.inUse--
	switch {
	case l.cause != nil: // sweep has cancelled it
	case well:
		d.free = append(d.free, l)
	default:
		delete(d.all, l)
		defer l.cancel()
	}
	return l.cause
}

// sweep ends what is overdue or no longer wanted. Without anything in use it was
// the last one, and what is kept for later goes.
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
