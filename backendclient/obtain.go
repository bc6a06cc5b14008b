// SPDX-License-Identifier: MIT

package backendclient

import (
	"context"
	"errors"
	"time"
)

// How long Meet's refusals are remembered, so that a persistent caller does not cost Meet
// a second of CPU with each request. Failures of Meet (5xx, timeouts) are not remembered.
const (
	// Platforms create a user, or have it log in, and then try again, so this only
	// absorbs a burst.
	keepUserRefused = 2 * time.Second

	// Operators change domain lists and try again at once.
	keepMailRefused = 5 * time.Second

	// Duplicates remain until an operator merges them.
	keepDuplicate = 30 * time.Second

	// Per credentials. Short, so that a repair shows at once.
	keepBroken = 5 * time.Second

	// Meet goes on issuing tokens for a disabled user, and refuses each request.
	keepUserDisabled = 5 * time.Second

	// After a server error, a caller's token is replaced no more often than this.
	keepSuspected = time.Minute
)

const (
	pollFirst   = 50 * time.Millisecond
	pollLongest = 400 * time.Millisecond
)

// Token returns Meet's token for the caller: from memory, else from the store, else a new
// one. All callers that wait for the same token share one exchange, across processes if
// there is a store.
//
// The exchange does not end with its caller, because others may wait for it. It has
// the values of ctx that Options.Detach keeps, and the RequestID of the first caller. It
// takes at most [Client.TokenBound].
func (c *Client) Token(ctx context.Context, caller Caller) (*Token, error) {
	id := caller.identity()
	now := c.options.Now()
	if t, ok := c.tokens.get(id, now); ok {
		c.counters.fromMemory.Add(1)
		c.recordUse(&caller, id, t, now)
		return c.withScopes(ctx, caller, id, t), nil
	}
	t, e := c.obtain(ctx, caller, id)
	if e != nil {
		return nil, e
	}
	return c.withScopes(ctx, caller, id, t), nil
}

// TokenBound is the longest that [Client.Token] takes: three times ExchangeTimeout, to wait
// for another process, to wait for a slot, and to exchange.
func (c *Client) TokenBound() time.Duration { return 3 * c.options.ExchangeTimeout }

// Forget drops the kept token and the remembered refusals of the caller, here and in the
// store.
func (c *Client) Forget(caller Caller) {
	id := caller.identity()
	c.refusedCallers.drop(id)
	c.refusedApplications.drop(id.credentials())
	c.disabledSessions.drop(caller.Session)
	c.tokens.forget(id)
	if c.options.Store == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.options.RequestTimeout)
	defer cancel()
	key := c.storeKey(id)
	// If the store is unavailable the token stays there. Meet refuses it when it is next
	// used, which replaces it.
	if value, err := c.options.Store.LoadMeetToken(ctx, key); err == nil && value != nil {
		_ = c.options.Store.DropMeetToken(ctx, key, value)
	}
}

// obtain returns a token that is not in memory.
func (c *Client) obtain(ctx context.Context, caller Caller, id identity) (*Token, *Error) {
	if e := caller.check(); e != nil {
		return nil, e
	}
	if e := c.refused(id); e != nil {
		return nil, e
	}
	key := c.storeKey(id)
	c.counters.asked.Add(1)
	c.waiters.enter(id)
	defer c.waiters.leave(id)
	flight := c.flights.DoChan(key, func() (any, error) {
		c.counters.flights.Add(1)
		ctx, cancel := context.WithTimeout(c.options.Detach(ctx), c.TokenBound())
		defer cancel()

		t, e := c.obtainOnce(ctx, caller, id, key)
		if e != nil {
			return nil, e
		}
		return t, nil
	})
	select {
	case r := <-flight:
		if r.Err != nil {
			return nil, asError(r.Err)
		}
		t := r.Val.(*Token)
		c.recordUse(&caller, id, t, c.options.Now())
		return t, nil
	case <-ctx.Done():
		return nil, failed(opExchange, false, ctx.Err())
	}
}

func asError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return &Error{Kind: ErrBadAnswer, Op: opExchange, Err: err}
}

// obtainOnce runs at most once at a time for each caller in this process.
func (c *Client) obtainOnce(ctx context.Context, caller Caller, id identity, key string) (*Token, *Error) {
	// Another flight may have ended since the caller looked.
	if t, ok := c.tokens.get(id, c.options.Now()); ok {
		return t, nil
	}
	if e := c.refused(id); e != nil {
		return nil, e
	}
	if c.options.Store == nil {
		return c.exchangeAndKeep(ctx, caller, id)
	}

	t, unlock := c.loadOrLock(ctx, id, key)
	if t != nil {
		c.counters.fromStore.Add(1)
		return t, nil
	}
	if unlock == nil {
		unlock = func() {}
	}
	t, e := c.exchangeAndKeep(ctx, caller, id)
	if e != nil {
		unlock()
		return nil, e
	}
	// Callers of this process have the token; only other processes wait for the store.
	go func() {
		defer unlock()
		c.saveKept(context.WithoutCancel(ctx), id, key, t)
	}()
	return t, nil
}

// loadOrLock returns the stored token, or the lock to fetch one. While another process
// holds the lock it waits for the result, at most ExchangeTimeout. It returns neither if
// the store is unavailable or the other process takes too long: then two processes may
// exchange, which is harmless.
func (c *Client) loadOrLock(ctx context.Context, id identity, key string) (t *Token, unlock func()) {
	deadline := time.NewTimer(c.options.ExchangeTimeout)
	defer deadline.Stop()

	for pause := pollFirst; ; pause = min(2*pause, pollLongest) {
		value, unlock, err := c.options.Store.LoadOrLockMeetToken(ctx, key, 2*c.options.ExchangeTimeout)
		if t := c.usable(id, value); t != nil {
			return t, nil
		}
		if value != nil && err == nil {
			// The stored token is useless: Meet has refused it, or it is about to expire.
			if unlock, _, err = c.options.Store.LockMeetToken(ctx, key, 2*c.options.ExchangeTimeout); unlock != nil {
				// The last holder may have saved a token meanwhile.
				if t := c.load(ctx, id, key); t != nil {
					unlock()
					return t, nil
				}
			}
		}
		if err != nil || unlock != nil {
			return nil, unlock
		}
		wait := time.NewTimer(pause)
		select {
		case <-wait.C:
		case <-deadline.C:
			wait.Stop()
			return nil, nil
		case <-ctx.Done():
			wait.Stop()
			return nil, nil
		}
	}
}

// load returns the token that is stored now.
func (c *Client) load(ctx context.Context, id identity, key string) *Token {
	value, _ := c.options.Store.LoadMeetToken(ctx, key) // nil if the store is unavailable
	return c.usable(id, value)
}

// usable keeps a stored token in memory and returns it, unless it has expired or Meet has
// refused it.
func (c *Client) usable(id identity, value []byte) *Token {
	if value == nil {
		return nil
	}
	t := decodeToken(value)
	if t == nil || !c.keep(id, t) {
		return nil
	}
	return t
}

// saveKept saves a token only while it is kept here, so that a dropped token does not
// come back.
func (c *Client) saveKept(ctx context.Context, id identity, key string, t *Token) {
	kept := func() bool {
		k, ok := c.tokens.get(id, c.options.Now())
		return ok && k.Value() == t.Value()
	}
	if !kept() {
		return
	}
	c.save(ctx, key, t)
	if kept() {
		return
	}
	if value, err := encodeToken(t); err == nil {
		_ = c.options.Store.DropMeetToken(ctx, key, value)
	}
}

func (c *Client) save(ctx context.Context, key string, t *Token) {
	ttl := t.usableUntil().Sub(c.options.Now())
	if ttl <= 0 {
		return
	}
	if value, err := encodeToken(t); err == nil {
		// If the store is unavailable, other processes exchange themselves.
		_ = c.options.Store.SaveMeetToken(ctx, key, value, ttl)
	}
}

// keep keeps a token in memory and reports whether later requests can use it.
func (c *Client) keep(id identity, t *Token) bool {
	until := t.usableUntil()
	if !c.options.Now().Before(until) {
		return false
	}
	key := c.tokens.put(id, t)
	if c.options.MayRenew != nil && until.Sub(t.Received()) >= shortestRenewed {
		c.renewalQueue.add(renewalOf(key, t, t.renewAt(c.options.Now())))
	}
	// Checked after the put: distrust marks the token before it evicts it, so one of the
	// two sees the other.
	if value, ok := c.distrusted.get(id, c.options.Now()); ok && value == t.Value() {
		c.tokens.drop(id, t)
		return false
	}
	return true
}

func (c *Client) exchangeAndKeep(ctx context.Context, caller Caller, id identity) (*Token, *Error) {
	t, e := c.exchange(ctx, caller)
	if e != nil {
		c.remember(id, e)
		return nil, e
	}
	c.accept(id, t)
	return t, nil
}

// accept keeps a new token. It may equal the distrusted one, because Meet issues the same
// token twice within a second.
func (c *Client) accept(id identity, t *Token) {
	c.distrusted.drop(id)
	c.keep(id, t)
}

// remember keeps a refusal of Meet for a while.
func (c *Client) remember(id identity, e *Error) {
	now := c.options.Now()
	switch kind := e.Kind; {
	case errors.Is(kind, ErrUserNotFound), errors.Is(kind, ErrProvisioningConflict):
		c.refusedCallers.put(id, e, now.Add(keepUserRefused))
	case errors.Is(kind, ErrInvalidMail), errors.Is(kind, ErrDomainRefused):
		c.refusedCallers.put(id, e, now.Add(keepMailRefused))
	case errors.Is(kind, ErrDuplicateUser):
		c.refusedCallers.put(id, e, now.Add(keepDuplicate))
	case errors.Is(kind, ErrBackendCredentials), errors.Is(kind, ErrApplicationInactive):
		c.refusedApplications.put(id.credentials(), e, now.Add(keepBroken))
	}
}

// refused returns the remembered refusal of the caller, if any.
func (c *Client) refused(id identity) *Error {
	now := c.options.Now()
	if e, ok := c.refusedApplications.get(id.credentials(), now); ok {
		return e
	}
	if e, ok := c.refusedCallers.get(id, now); ok {
		return e
	}
	return nil
}

// UserDisabled returns Meet's refusal if Meet has called the user of a session (see
// [Caller]) disabled within the last five seconds, else nil. It sends nothing.
func (c *Client) UserDisabled(session string) error {
	if e, ok := c.disabledSessions.get(session, c.options.Now()); ok {
		return e
	}
	return nil
}

// renew replaces a token that Meet refuses. Callers with the same token share one
// exchange; a late caller finds the new token.
func (c *Client) renew(ctx context.Context, caller Caller, old *Token) (*Token, *Error) {
	id := caller.identity()
	if e := c.refused(id); e != nil {
		return nil, e
	}
	c.distrust(id, old)
	if c.options.Store != nil {
		if value, err := encodeToken(old); err == nil {
			_ = c.options.Store.DropMeetToken(ctx, c.storeKey(id), value)
		}
	}
	if t, ok := c.tokens.get(id, c.options.Now()); ok {
		return t, nil
	}
	return c.obtain(ctx, caller, id)
}

// distrust evicts a token and prevents it from being loaded from the store again.
func (c *Client) distrust(id identity, t *Token) {
	c.distrusted.put(id, t.Value(), c.options.Now().Add(maxKept))
	c.tokens.drop(id, t)
}

// renewOnSuspicion replaces a token after a server error. The cause may be the token: Meet
// answers 500 if it cannot ask its identity provider about it. But an outage of Meet must not
// cost all tokens. So the old token stays in the store, it is used again if there is no new
// one, and a caller's token is replaced at most once a minute.
func (c *Client) renewOnSuspicion(ctx context.Context, caller Caller, old *Token) (*Token, *Error) {
	id := caller.identity()
	c.suspect(id, old)
	// There is one if it was replaced meanwhile, or was not evicted.
	if t, ok := c.tokens.get(id, c.options.Now()); ok {
		return t, nil
	}
	t, e := c.obtain(ctx, caller, id)
	if e != nil {
		if _, ok := c.tokens.get(id, c.options.Now()); !ok {
			c.accept(id, old)
		}
		return nil, e
	}
	return t, nil
}

// suspect distrusts a token after a server error. It does nothing if it did so for this
// caller a moment ago, or if a remembered refusal prevents an exchange: then the caller
// would have no token when Meet has recovered.
func (c *Client) suspect(id identity, t *Token) {
	if _, ok := c.suspected.get(id, c.options.Now()); ok || c.refused(id) != nil {
		return
	}
	// The order matters: a caller that sees the suspicion must not see the token.
	c.distrust(id, t)
	c.suspected.put(id, struct{}{}, c.options.Now().Add(keepSuspected))
}
