// SPDX-License-Identifier: MIT

package backendclient

import (
	"context"
	"errors"
	"time"
)

// How long Meet's refusals are remembered, so that a caller who insists does not
// cost Meet a second of CPU each time. Failures of Meet itself (5xx, timeouts) are
// never remembered.
const (
	// A user can be created, or log in for the first time, at any moment, and
	// platforms do so and then try again: just long enough for a burst.
	keepUserRefused = 2 * time.Second

	// Mail grammar and domain lists are changed by people, who then try at once.
	keepMailRefused = 5 * time.Second

	// Duplicates last until an operator merges them.
	keepDuplicate = 30 * time.Second

	// A broken application or backend, per credentials: short enough that a repair
	// shows at once, long enough to make the cost small.
	keepBroken = 5 * time.Second

	// A user whom Meet has disabled: Meet goes on giving tokens for them, and refuses
	// each request.
	keepUserDisabled = 5 * time.Second

	// After a server error a token is renewed on suspicion; no more often than this.
	keepSuspected = time.Minute
)

const (
	pollFirst   = 50 * time.Millisecond
	pollLongest = 400 * time.Millisecond
)

// Token gives Meet's token for the caller: the one kept in this process, else the
// one in the store, else a new one. Any number of callers who wait for the same
// token cause one exchange, across processes if there is a store.
//
// The exchange runs on a context of its own, so that a caller who goes away does
// not spoil it for the others: it sees those values of ctx that Options.Detach keeps,
// and its RequestID is that of the caller who came first. It ends within three times ExchangeTimeout
// (wait for another process, wait for its turn, exchange), mostly far sooner.
func (c *Client) Token(ctx context.Context, caller Caller) (*Token, error) {
	id := caller.identity()
	now := c.now()
	if t, ok := c.tokens.get(id, now); ok {
		c.counters.fromMemory.Add(1)
		t.usedBy(&caller, now)
		return c.withScopes(ctx, caller, id, t), nil
	}
	t, e := c.obtain(ctx, caller, id)
	if e != nil {
		return nil, e
	}
	return c.withScopes(ctx, caller, id, t), nil
}

// TokenBound is the longest that [Client.Token] takes: three times ExchangeTimeout.
func (c *Client) TokenBound() time.Duration { return 3 * c.exchangeTimeout }

// Forget drops what is kept for the caller, here and in the store: the token and
// a remembered refusal. The next Token exchanges.
func (c *Client) Forget(caller Caller) {
	id := caller.identity()
	c.refusals.drop(id)
	c.broken.drop(id.credentials)
	c.disabled.drop(caller.Session)
	c.tokens.drop(id)
	if c.store == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.requestTimeout)
	defer cancel()
	key := c.storeKey(id)
	// A store that is unavailable is left alone: Meet refuses a token that it does not
	// know any more, which renews it.
	if value, err := c.store.LoadMeetToken(ctx, key); err == nil && value != nil {
		_ = c.store.DropMeetToken(ctx, key, value)
	}
}

// obtain gets a token that is not in this process.
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
		// For another process, for its turn, and for the exchange: each is bounded
		// by ExchangeTimeout on its own.
		c.counters.flights.Add(1)
		ctx, cancel := context.WithTimeout(c.detach(ctx), c.TokenBound())
		defer cancel()

		t, e := c.obtainAlone(ctx, caller, id, key)
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
		t.usedBy(&caller, c.now())
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

// obtainAlone runs once per caller and process at a time.
func (c *Client) obtainAlone(ctx context.Context, caller Caller, id identity, key string) (*Token, *Error) {
	// Another flight may have landed between the first look and this one.
	if t, ok := c.tokens.get(id, c.now()); ok {
		return t, nil
	}
	if e := c.refused(id); e != nil {
		return nil, e
	}
	if c.store == nil {
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
	// Who waits here has the token; the other processes have to wait for the store.
	go func() {
		defer unlock()
		c.saveKept(context.WithoutCancel(ctx), id, key, t)
	}()
	return t, nil
}

// loadOrLock returns the stored token, or the lock to make one. While another
// process holds the lock it waits for the result, at most ExchangeTimeout. If
// the store is unavailable, or the other process takes too long, it returns neither:
// two exchanges are a cost, not an error.
func (c *Client) loadOrLock(ctx context.Context, id identity, key string) (t *Token, unlock func()) {
	deadline := time.NewTimer(c.exchangeTimeout)
	defer deadline.Stop()

	for pause := pollFirst; ; pause = min(2*pause, pollLongest) {
		value, unlock, err := c.store.LoadOrLockMeetToken(ctx, key, 2*c.exchangeTimeout)
		if t := c.usable(id, value); t != nil {
			return t, nil
		}
		if value != nil && err == nil {
			// What is there is of no use: Meet has refused it, or it is about to expire.
			if unlock, _, err = c.store.LockMeetToken(ctx, key, 2*c.exchangeTimeout); unlock != nil {
				// The last holder may have saved and unlocked since the look above.
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

// load is usable for what is stored now.
func (c *Client) load(ctx context.Context, id identity, key string) *Token {
	value, _ := c.store.LoadMeetToken(ctx, key) // a store that is unavailable has none
	return c.usable(id, value)
}

// usable takes a token that was stored into this process, if it is one that Meet has
// not refused before and that does not expire yet.
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

// saveKept saves a token while it is kept here: one that was dropped before it was
// saved does not come back.
func (c *Client) saveKept(ctx context.Context, id identity, key string, t *Token) {
	kept := func() bool {
		k, ok := c.tokens.get(id, c.now())
		return ok && k == t
	}
	if !kept() {
		return
	}
	c.save(ctx, key, t)
	if kept() {
		return
	}
	if value, err := encodeToken(t); err == nil {
		_ = c.store.DropMeetToken(ctx, key, value)
	}
}

func (c *Client) save(ctx context.Context, key string, t *Token) {
	ttl := t.usableUntil().Sub(c.now())
	if ttl <= 0 {
		return
	}
	if value, err := encodeToken(t); err == nil {
		// A store that is unavailable costs the other processes an exchange, no more.
		_ = c.store.SaveMeetToken(ctx, key, value, ttl)
	}
}

// keep puts a token into this process and says whether it can be used for
// requests to come.
func (c *Client) keep(id identity, t *Token) bool {
	until := t.usableUntil()
	if !c.now().Before(until) {
		return false
	}
	kept := c.tokens.put(id, t, until)
	if c.mayRenew != nil && until.Sub(t.Received) >= shortestRenewed {
		c.agenda.add(due{at: t.renewAt(c.now()), id: kept, token: t})
	}
	// Checked after the put: distrust marks first and evicts then, so one of the
	// two sees the other.
	if value, ok := c.distrusted.get(id, c.now()); ok && value == t.Value {
		c.evict(id, t)
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

// accept keeps a token fresh from Meet. It may be the one that was distrusted:
// Meet makes the same token twice within a second.
func (c *Client) accept(id identity, t *Token) {
	c.distrusted.drop(id)
	c.keep(id, t)
}

// remember keeps a refusal of Meet for a while.
func (c *Client) remember(id identity, e *Error) {
	now := c.now()
	switch kind := e.Kind; {
	case errors.Is(kind, ErrUserNotFound), errors.Is(kind, ErrProvisioningConflict):
		c.refusals.put(id, e, now.Add(keepUserRefused))
	case errors.Is(kind, ErrInvalidMail), errors.Is(kind, ErrDomainRefused):
		c.refusals.put(id, e, now.Add(keepMailRefused))
	case errors.Is(kind, ErrDuplicateUser):
		c.refusals.put(id, e, now.Add(keepDuplicate))
	case errors.Is(kind, ErrBackendCredentials), errors.Is(kind, ErrApplicationInactive):
		c.broken.put(id.credentials, e, now.Add(keepBroken))
	}
}

// refused is the remembered refusal that makes an exchange pointless.
func (c *Client) refused(id identity) *Error {
	now := c.now()
	if e, ok := c.broken.get(id.credentials, now); ok {
		return e
	}
	if e, ok := c.refusals.get(id, now); ok {
		return e
	}
	return nil
}

// UserDisabled returns Meet's refusal if Meet has called the user of a session (see
// [Caller]) disabled within the last five seconds, and nil otherwise. It sends nothing.
func (c *Client) UserDisabled(session string) error {
	if e, ok := c.disabled.get(session, c.now()); ok {
		return e
	}
	return nil
}

// renew replaces a token that Meet refuses. Callers who were refused with the
// same token share one exchange; one who comes late finds the new token.
func (c *Client) renew(ctx context.Context, caller Caller, old *Token) (*Token, *Error) {
	id := caller.identity()
	if e := c.refused(id); e != nil {
		return nil, e
	}
	c.distrust(id, old)
	if c.store != nil {
		if value, err := encodeToken(old); err == nil {
			_ = c.store.DropMeetToken(ctx, c.storeKey(id), value)
		}
	}
	if t, ok := c.tokens.get(id, c.now()); ok {
		return t, nil
	}
	return c.obtain(ctx, caller, id)
}

// distrust evicts a token and keeps it from coming back out of the store.
func (c *Client) distrust(id identity, t *Token) {
	c.distrusted.put(id, t.Value, c.now().Add(maxKept))
	c.evict(id, t)
}

func (c *Client) evict(id identity, t *Token) {
	c.tokens.dropIf(id, func(kept *Token) bool { return kept.Value == t.Value })
}

// renewOnSuspicion replaces a token after a server error, which is how Meet
// answers a token it cannot verify when its identity provider is out of reach,
// and how it answers everything when it is broken. So the old token stays in the
// store and comes back if there is no new one, and one caller does this no more
// than once in a while: an outage of Meet must not cost every token.
func (c *Client) renewOnSuspicion(ctx context.Context, caller Caller, old *Token) (*Token, *Error) {
	id := caller.identity()
	c.suspect(id, old)
	// There is one if it was renewed since, or not evicted this time.
	if t, ok := c.tokens.get(id, c.now()); ok {
		return t, nil
	}
	t, e := c.obtain(ctx, caller, id)
	if e != nil {
		if _, ok := c.tokens.get(id, c.now()); !ok {
			c.accept(id, old)
		}
		return nil, e
	}
	return t, nil
}

// suspect distrusts a token after a server error, unless that happened to this
// caller a moment ago, or no exchange is made for them now: then there would be no token
// at all, and requests would fail here although Meet is well again.
func (c *Client) suspect(id identity, t *Token) {
	if _, ok := c.suspected.get(id, c.now()); ok || c.refused(id) != nil {
		return
	}
	// In this order, a reader that sees the suspicion does not see the token any more.
	c.distrust(id, t)
	c.suspected.put(id, struct{}{}, c.now().Add(keepSuspected))
}
