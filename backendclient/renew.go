// SPDX-License-Identifier: MIT

package backendclient

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// Tokens with a shorter use are not renewed: they would end between two checks.
	shortestRenewed = 5 * time.Minute

	// A token with at least this use lasts into the next day. A shorter one is renewed
	// only for users who are active now.
	lastsIntoNextDay = 12 * time.Hour

	renewalTick  = 15 * time.Second       // between checks if nothing is due
	renewalYield = time.Second            // while callers exchange
	renewalRest  = 100 * time.Millisecond // at least, after an exchange
	renewalRetry = time.Minute            // if another process has the lock

	// After a failure of Meet, renewals pause this long; each further failure doubles it.
	firstPause   = time.Minute
	longestPause = 32 * time.Minute

	// Meet refuses an application until an operator acts.
	pauseBroken = 30 * time.Minute
)

// use is the last use of a token: when, to the minute, and by which application.
type use struct {
	at          int64 // unix seconds
	application string
}

// touch records that a caller used the token.
func (t *Token) touch(caller *Caller, now time.Time) {
	if last := t.lastUse.Load(); last == nil || now.Unix()-last.at >= 60 {
		t.lastUse.Store(&use{at: now.Unix(), application: caller.Application})
	}
}

// recentlyUsed reports whether the user was active lately, and returns the last use.
func (c *Client) recentlyUsed(t *Token, now time.Time) (*use, bool) {
	last := t.lastUse.Load()
	if last == nil {
		return nil, false
	}
	lately, usable := c.options.RenewFor, t.usableUntil().Sub(t.Received())
	if usable < lastsIntoNextDay {
		lately = min(lately, usable/4)
	}
	return last, now.Sub(time.Unix(last.at, 0)) <= lately
}

// Renewals counts the outcomes of renewals.
type Renewals struct {
	// Exchanged counts new tokens, Found tokens that another process had fetched.
	Exchanged, Found uint64
	// Refused counts refusals of users and applications by Meet, Failed all other
	// failures.
	Refused, Failed uint64
}

type renewalCounters struct {
	exchanged, found, refused, failed atomic.Uint64
}

// Renew replaces tokens before they end, for users who were active lately, until ctx ends.
// A process calls it once, in its own goroutine. It returns at once if Options.MayRenew is
// nil.
//
// Callers have priority: a renewal starts only if at least half of MaxExchanges stay free,
// so there is none with MaxExchanges 1, and each is followed by a pause of its own length.
// Only one of the processes that share a store renews a token. A failed renewal leaves the
// kept token as it is.
func (c *Client) Renew(ctx context.Context) {
	if c.options.MayRenew == nil {
		return
	}
	var workers sync.WaitGroup
	defer workers.Wait()
	for range c.turns.size / 2 {
		workers.Go(func() {
			for ctx.Err() == nil {
				sleep(ctx, c.renewNext(ctx))
			}
		})
	}
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// renewNext makes the next renewal that is due and returns how long to pause then.
func (c *Client) renewNext(ctx context.Context) time.Duration {
	turn := c.turns.spare()
	if turn == nil { // callers need the slots
		return renewalYield
	}
	defer c.turns.leave(turn)
	d, ok := c.renewalQueue.next(c.options.Now())
	if !ok {
		return renewalTick
	}
	last, ok := c.renewable(ctx, d)
	if !ok {
		return 0
	}
	began := time.Now()
	c.renewToken(ctx, d, last)
	return max(renewalRest, time.Since(began))
}

// renewable reports whether a due token is still kept and wanted. If it is not wanted now, it
// is checked again later.
func (c *Client) renewable(ctx context.Context, d renewal) (*use, bool) {
	now := c.options.Now()
	kept, ok := c.tokens.get(*d.id, now)
	if !ok || kept != d.token || kept.usableUntil().Sub(now) <= c.options.ExchangeTimeout { // too late for an exchange
		return nil, false
	}
	last, ok := c.recentlyUsed(kept, now)
	if !ok || !c.options.MayRenew(ctx, d.id.caller(last.application)) {
		c.postpone(d, kept.usableUntil().Sub(kept.Received())/10)
		return nil, false
	}
	if until, paused := c.pausedRenewals.get(d.id.credentials(), now); paused {
		c.postpone(d, until.Sub(now))
		return nil, false
	}
	return last, true
}

// postpone schedules the token for later, if it is still valid then.
func (c *Client) postpone(d renewal, later time.Duration) {
	at := c.options.Now().Add(later)
	if at.Before(d.token.usableUntil()) {
		d.at = at.UnixMilli()
		c.renewalQueue.add(d)
	}
}

// renewToken renews a token unless another process does.
func (c *Client) renewToken(ctx context.Context, d renewal, last *use) {
	key := c.storeKey(*d.id)
	if c.options.Store != nil {
		unlock, acquired, err := c.options.Store.LockMeetToken(ctx, key, 2*c.options.ExchangeTimeout)
		if err != nil || !acquired {
			c.postpone(d, renewalRetry)
			return
		}
		defer unlock()
		value, err := c.options.Store.LoadMeetToken(ctx, key)
		if err != nil {
			c.postpone(d, renewalRetry)
			return
		}
		if newer := decodeToken(value); newer != nil && c.replaceIfLonger(d, newer) {
			c.renewals.found.Add(1)
			return
		}
	}
	t, e := c.observeExchange(func() (*Token, *Error) { return c.postExchange(ctx, d.id.caller(last.application)) })
	if e == nil {
		t.missedScopes = d.token.missedScopes
	}
	switch {
	case e != nil && ctx.Err() != nil: // not a failure of Meet
	case e != nil:
		c.renewalFailed(d, e)
	case !c.replaceIfLonger(d, t):
		c.renewals.failed.Add(1)
	default:
		c.renewals.exchanged.Add(1)
		c.renewalQueue.resetBackOff()
		if c.options.Store != nil {
			c.save(context.WithoutCancel(ctx), key, t)
		}
	}
}

// replaceIfLonger replaces the kept token by a newer one, unless it is gone or lasts longer.
func (c *Client) replaceIfLonger(d renewal, newer *Token) bool {
	kept, ok := c.tokens.get(*d.id, c.options.Now())
	if !ok || !newer.usableUntil().After(kept.usableUntil()) {
		return false
	}
	newer.lastUse.Store(kept.lastUse.Load())
	return c.keep(*d.id, newer)
}

// renewalFailed decides when to try again.
func (c *Client) renewalFailed(d renewal, e *Error) {
	switch kind := e.Kind; {
	case errors.Is(kind, ErrUserNotFound), errors.Is(kind, ErrProvisioningConflict), errors.Is(kind, ErrInvalidMail),
		errors.Is(kind, ErrDomainRefused), errors.Is(kind, ErrDuplicateUser):
		c.renewals.refused.Add(1) // the user's next request exchanges
	case errors.Is(kind, ErrBackendCredentials), errors.Is(kind, ErrApplicationInactive):
		c.renewals.refused.Add(1)
		until := c.options.Now().Add(pauseBroken)
		c.pausedRenewals.put(d.id.credentials(), until, until)
		c.postpone(d, pauseBroken)
	default:
		c.renewals.failed.Add(1)
		c.postpone(d, c.renewalQueue.backOff(c.options.Now()))
	}
}
