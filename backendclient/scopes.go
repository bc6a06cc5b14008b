// SPDX-License-Identifier: MIT

package backendclient

import (
	"context"
	"slices"
	"time"
)

// A token that lacks a scope is fetched anew after keepLacking, which an operator who has just
// ticked the scope in Meet may wait for. What was fetched in vain as often as eagerly
// is probably meant to lack it: from then on each pause is twice the one before.
const (
	keepLacking = time.Minute
	eagerly     = 5
)

// lackingPause is how old a token must be to be fetched anew for a scope.
func (t *Token) lackingPause() time.Duration {
	return keepLacking << min(max(t.vain-eagerly+1, 0), 16)
}

// grants reports whether Meet has granted all of the scopes.
func (t *Token) grants(scopes []string) bool {
	for _, s := range scopes {
		if !slices.Contains(t.Scopes, s) {
			return false
		}
	}
	return true
}

// looksAgain reports whether it is time to ask Meet for what the token lacks.
func (c *Client) looksAgain(caller Caller, t *Token) bool {
	return !t.grants(caller.Scopes) && c.now().Sub(t.Received) >= t.lackingPause()
}

// withScopes returns a token that has the scopes the caller needs, if there is one:
// the operator may have granted them in Meet since t was fetched. Otherwise, and if
// Meet does not answer, it returns t.
func (c *Client) withScopes(ctx context.Context, caller Caller, id identity, t *Token) *Token {
	if !c.looksAgain(caller, t) {
		return t
	}
	if _, lately := c.lacking.get(id, c.now()); lately {
		return t
	}
	return c.fetchAnew(ctx, caller, id, t)
}

// fetchAnew is withScopes for a token that lacks one. It stands apart because what it
// shares with a goroutine is allocated on entry.
func (c *Client) fetchAnew(ctx context.Context, caller Caller, id identity, t *Token) *Token {
	key := c.storeKey(id)
	flight := c.flights.DoChan("scopes "+key, func() (any, error) {
		ctx, cancel := context.WithTimeout(c.detach(ctx), c.TokenBound())
		defer cancel()
		defer func() { c.lacking.put(id, struct{}{}, c.now().Add(keepLacking)) }()
		if c.store != nil { // another process may have done it
			if newer := c.load(ctx, id, key); newer != nil && !c.looksAgain(caller, newer) {
				return newer, nil
			}
		}
		shared := caller
		shared.Source = "" // others may wait
		newer, e := c.exchange(ctx, shared)
		if e != nil {
			return nil, e
		}
		if !newer.grants(caller.Scopes) {
			newer.vain = t.vain + 1
		}
		c.replace(ctx, id, newer)
		return newer, nil
	})
	select {
	case r := <-flight:
		if newer, ok := r.Val.(*Token); ok && r.Err == nil {
			return newer
		}
	case <-ctx.Done():
	}
	return t
}
