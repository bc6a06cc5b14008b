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
	// A token of less use than this is not renewed: it would be over between two looks.
	shortestRenewed = 5 * time.Minute

	// A token that lasts so long is there on the next day too. A shorter one is renewed
	// for those who are at work now.
	lastsIntoNextDay = 12 * time.Hour

	renewalTick  = 15 * time.Second       // between two looks where nothing is due
	renewalYield = time.Second            // while callers exchange
	renewalRest  = 100 * time.Millisecond // after an exchange, at least
	renewalRetry = time.Minute            // where another process has the lock

	// Meet is left alone for so long after a failure of its own, twice as long after
	// each further one.
	firstPause   = time.Minute
	longestPause = 32 * time.Minute

	// An application that Meet refuses stays refused until an operator does something.
	pauseBroken = 30 * time.Minute
)

// use is when a token was last asked for, to the minute, and by which application.
type use struct {
	at          int64 // unix seconds
	application string
}

// usedBy notes that a caller needs the token.
func (t *Token) usedBy(caller *Caller, now time.Time) {
	if last := t.lastUse.Load(); last == nil || now.Unix()-last.at >= 60 {
		t.lastUse.Store(&use{at: now.Unix(), application: caller.Application})
	}
}

// wanted says whether the user was here lately, and gives the last use.
func (c *Client) wanted(t *Token, now time.Time) (*use, bool) {
	last := t.lastUse.Load()
	if last == nil {
		return nil, false
	}
	lately, usable := c.renewFor, t.usableUntil().Sub(t.Received)
	if usable < lastsIntoNextDay {
		lately = min(lately, usable/4)
	}
	return last, now.Sub(time.Unix(last.at, 0)) <= lately
}

// Renewals counts what became of tokens that were due to be renewed.
type Renewals struct {
	// Exchanged counts new tokens, Found those that another process had fetched.
	Exchanged, Found uint64
	// Refused counts users and applications that Meet refused, Failed everything else
	// that went wrong.
	Refused, Failed uint64
}

type renewalCounters struct {
	exchanged, found, refused, failed atomic.Uint64
}

// Renew fetches tokens anew before they end, for users who were here lately, until
// ctx ends. A process calls it once, in a goroutine of its own. Without
// Options.MayRenew it returns at once.
//
// It makes way for callers: a renewal begins only where at least half of MaxExchanges
// stay free, so with 1 there is none; and each is followed by a rest as long as itself.
// Of all processes with the same store one renews a token. What goes wrong leaves the
// kept token as it is.
func (c *Client) Renew(ctx context.Context) {
	if c.mayRenew == nil {
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

// renewNext does what is due next and says how long to rest then.
func (c *Client) renewNext(ctx context.Context) time.Duration {
	turn := c.turns.spare()
	if turn == nil { // callers go first
		return renewalYield
	}
	defer c.turns.leave(turn)
	d, ok := c.agenda.next(c.now())
	if !ok {
		return renewalTick
	}
	last, ok := c.renewable(ctx, d)
	if !ok {
		return 0
	}
	began := time.Now()
	c.renewAlone(ctx, d, last)
	return max(renewalRest, time.Since(began))
}

// renewable says whether a token that is due is kept still, and wanted. Where it may
// be later, it is looked at again.
func (c *Client) renewable(ctx context.Context, d due) (*use, bool) {
	now := c.now()
	kept, ok := c.tokens.get(*d.id, now)
	if !ok || kept != d.token || kept.usableUntil().Sub(now) <= c.exchangeTimeout { // the last would be over meanwhile
		return nil, false
	}
	last, ok := c.wanted(kept, now)
	if !ok || !c.mayRenew(ctx, d.id.caller(last.application)) {
		c.again(d, kept.usableUntil().Sub(kept.Received)/10)
		return nil, false
	}
	if until, paused := c.paused.get(d.id.credentials, now); paused {
		c.again(d, until.Sub(now))
		return nil, false
	}
	return last, true
}

// again puts a token on the agenda for a later time, if it lives until then.
func (c *Client) again(d due, later time.Duration) {
	d.at = c.now().Add(later)
	if d.at.Before(d.token.usableUntil()) {
		c.agenda.add(d)
	}
}

// renewAlone renews a token if no other process has done so or is about to.
func (c *Client) renewAlone(ctx context.Context, d due, last *use) {
	key := c.storeKey(*d.id)
	if c.store != nil {
		unlock, acquired, err := c.store.LockMeetToken(ctx, key, 2*c.exchangeTimeout)
		if err != nil || !acquired {
			c.again(d, renewalRetry)
			return
		}
		defer unlock()
		value, err := c.store.LoadMeetToken(ctx, key)
		if err != nil {
			c.again(d, renewalRetry)
			return
		}
		if newer := decodeToken(value); newer != nil && c.succeed(d, newer) {
			c.renewals.found.Add(1)
			return
		}
	}
	t, e := c.observed(func() (*Token, *Error) { return c.postExchange(ctx, d.id.caller(last.application)) })
	if e == nil {
		t.vain = d.token.vain
	}
	switch {
	case e != nil && ctx.Err() != nil: // no fault of Meet's
	case e != nil:
		c.renewalFailed(d, e)
	case !c.succeed(d, t):
		c.renewals.failed.Add(1)
	default:
		c.renewals.exchanged.Add(1)
		c.agenda.recover()
		if c.store != nil {
			c.save(context.WithoutCancel(ctx), key, t)
		}
	}
}

// succeed puts a newer token in the place of one that is kept. It does not if that is
// gone since, or would have lasted longer.
func (c *Client) succeed(d due, newer *Token) bool {
	kept, ok := c.tokens.get(*d.id, c.now())
	if !ok || !newer.usableUntil().After(kept.usableUntil()) {
		return false
	}
	newer.lastUse.Store(kept.lastUse.Load())
	return c.keep(*d.id, newer)
}

// renewalFailed decides how long not to try again.
func (c *Client) renewalFailed(d due, e *Error) {
	switch kind := e.Kind; {
	case errors.Is(kind, ErrUserNotFound), errors.Is(kind, ErrProvisioningConflict), errors.Is(kind, ErrInvalidMail),
		errors.Is(kind, ErrDomainRefused), errors.Is(kind, ErrDuplicateUser):
		c.renewals.refused.Add(1) // the user's next token is for a request to get
	case errors.Is(kind, ErrBackendCredentials), errors.Is(kind, ErrApplicationInactive):
		c.renewals.refused.Add(1)
		until := c.now().Add(pauseBroken)
		c.paused.put(d.id.credentials, until, until)
		c.again(d, pauseBroken)
	default:
		c.renewals.failed.Add(1)
		c.again(d, c.agenda.pause(c.now()))
	}
}
