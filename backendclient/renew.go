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
	at          int64 // unix seconds; 0 if the token is not to be renewed
	application string
}

// recordUse records that a caller used the token.
func (c *Client) recordUse(caller *Caller, id identity, t *Token, now time.Time) {
	if now.Unix()-t.lastUse.at >= 60 {
		c.tokens.setUse(id, t, use{at: now.Unix(), application: caller.Application})
	}
}

// recentlyUsed reports whether the user was active lately.
func (c *Client) recentlyUsed(t *Token, now time.Time) bool {
	lately, usable := c.options.RenewFor, t.usableUntil().Sub(t.Received())
	if usable < lastsIntoNextDay {
		lately = min(lately, usable/4)
	}
	return now.Sub(time.Unix(t.lastUse.at, 0)) <= lately
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
	id, t, ok := c.renewable(ctx, d)
	if !ok {
		return 0
	}
	began := time.Now()
	c.renewToken(ctx, id, t)
	return max(renewalRest, time.Since(began))
}

// renewable returns a token that is due, if it is still kept and wanted. If it is not wanted now,
// it is checked again later.
func (c *Client) renewable(ctx context.Context, d renewal) (identity, *Token, bool) {
	now := c.options.Now()
	id, t, ok := c.tokens.at(d.key, now)
	if !ok || uint32(t.received) != d.received || t.usableUntil().Sub(now) <= c.options.ExchangeTimeout { // too late for an exchange
		return id, nil, false
	}
	if !c.recentlyUsed(t, now) || !c.options.MayRenew(ctx, id.caller(t.lastUse.application)) {
		c.postpone(id, t, t.usableUntil().Sub(t.Received())/10)
		return id, nil, false
	}
	if until, paused := c.pausedRenewals.get(id.credentials(), now); paused {
		c.postpone(id, t, until.Sub(now))
		return id, nil, false
	}
	return id, t, true
}

// postpone schedules the token for later, if it is still valid then.
func (c *Client) postpone(id identity, t *Token, later time.Duration) {
	at := c.options.Now().Add(later)
	if at.Before(t.usableUntil()) {
		c.renewalQueue.add(renewalOf(c.tokens.key(id), t, at))
	}
}

// renewToken renews a token unless another process does.
func (c *Client) renewToken(ctx context.Context, id identity, old *Token) {
	key := c.storeKey(id)
	if c.options.Store != nil {
		unlock, acquired, err := c.options.Store.LockMeetToken(ctx, key, 2*c.options.ExchangeTimeout)
		if err != nil || !acquired {
			c.postpone(id, old, renewalRetry)
			return
		}
		defer unlock()
		value, err := c.options.Store.LoadMeetToken(ctx, key)
		if err != nil {
			c.postpone(id, old, renewalRetry)
			return
		}
		if newer := decodeToken(value); newer != nil && c.replaceIfLonger(id, newer) {
			c.renewals.found.Add(1)
			return
		}
	}
	t, e := c.observeExchange(func() (*Token, *Error) { return c.postExchange(ctx, id.caller(old.lastUse.application)) })
	if e == nil {
		t.missedScopes = old.missedScopes
	}
	switch {
	case e != nil && ctx.Err() != nil: // not a failure of Meet
	case e != nil:
		c.renewalFailed(id, old, e)
	case !c.replaceIfLonger(id, t):
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
func (c *Client) replaceIfLonger(id identity, newer *Token) bool {
	kept, ok := c.tokens.get(id, c.options.Now())
	if !ok || !newer.usableUntil().After(kept.usableUntil()) {
		return false
	}
	newer.lastUse = kept.lastUse
	return c.keep(id, newer)
}

// renewalFailed decides when to try again.
func (c *Client) renewalFailed(id identity, t *Token, e *Error) {
	switch kind := e.Kind; {
	case errors.Is(kind, ErrUserNotFound), errors.Is(kind, ErrProvisioningConflict), errors.Is(kind, ErrInvalidMail),
		errors.Is(kind, ErrDomainRefused), errors.Is(kind, ErrDuplicateUser):
		c.renewals.refused.Add(1) // the user's next request exchanges
	case errors.Is(kind, ErrBackendCredentials), errors.Is(kind, ErrApplicationInactive):
		c.renewals.refused.Add(1)
		until := c.options.Now().Add(pauseBroken)
		c.pausedRenewals.put(id.credentials(), until, until)
		c.postpone(id, t, pauseBroken)
	default:
		c.renewals.failed.Add(1)
		c.postpone(id, t, c.renewalQueue.backOff(c.options.Now()))
	}
}
