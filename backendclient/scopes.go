// SPDX-License-Identifier: MIT

package backendclient

import (
	"context"
	"slices"
	"time"
)

// A token that lacks a scope is fetched again after refetchInterval, because an operator may
// have granted the scope in Meet since. After eagerAttempts fruitless attempts the application is
// probably meant to lack it, so each further pause is twice as long.
const (
	refetchInterval = time.Minute
	eagerAttempts   = 5
)

// refetchAfter returns the age at which a token is fetched again for a scope.
func (t *Token) refetchAfter() time.Duration {
	return refetchInterval << min(max(t.missedScopes-eagerAttempts+1, 0), 16)
}

// grants reports whether the token has all of the scopes.
func (t *Token) grants(scopes []string) bool {
	for _, s := range scopes {
		if !slices.Contains(t.Scopes(), s) {
			return false
		}
	}
	return true
}

// shouldRefetch reports whether to ask Meet again for the scopes that the token lacks.
func (c *Client) shouldRefetch(caller Caller, t *Token) bool {
	return !t.grants(caller.Scopes) && c.options.Now().Sub(t.Received()) >= t.refetchAfter()
}

// withScopes returns a token with the scopes that the caller needs if Meet grants them
// now, else t.
func (c *Client) withScopes(ctx context.Context, caller Caller, id identity, t *Token) *Token {
	if !c.shouldRefetch(caller, t) {
		return t
	}
	if _, lately := c.refetched.get(id, c.options.Now()); lately {
		return t
	}
	return c.refetch(ctx, caller, id, t)
}

// refetch fetches a token again because t lacks a scope. It is a function of its own so
// that the fast path of withScopes does not allocate.
func (c *Client) refetch(ctx context.Context, caller Caller, id identity, t *Token) *Token {
	key := c.storeKey(id)
	flight := c.flights.DoChan("scopes "+key, func() (any, error) {
		ctx, cancel := context.WithTimeout(c.options.Detach(ctx), c.TokenBound())
		defer cancel()
		defer func() { c.refetched.put(id, struct{}{}, c.options.Now().Add(refetchInterval)) }()
		if c.options.Store != nil { // another process may have fetched it
			if newer := c.load(ctx, id, key); newer != nil && !c.shouldRefetch(caller, newer) {
				return newer, nil
			}
		}
		shared := caller
		shared.Source = "" // other callers may wait
		newer, e := c.exchange(ctx, shared)
		if e != nil {
			return nil, e
		}
		if !newer.grants(caller.Scopes) {
			newer.missedScopes = t.missedScopes + 1
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
