// SPDX-License-Identifier: MIT

package backendclient

import (
	"context"
	"slices"
	"time"
)

// keepLacking is how often a token that lacks a scope is fetched anew, at most.
const keepLacking = time.Minute

// grants reports whether Meet has granted all of the scopes.
func (t *Token) grants(scopes []string) bool {
	for _, s := range scopes {
		if !slices.Contains(t.Scopes, s) {
			return false
		}
	}
	return true
}

// withScopes returns a token that has the scopes the caller needs, if there is one:
// the operator may have granted them in Meet since t was fetched. Otherwise, and if
// Meet does not answer, it returns t.
func (c *Client) withScopes(ctx context.Context, caller Caller, id identity, t *Token) *Token {
	if t.grants(caller.Scopes) || c.now().Sub(t.Received) < keepLacking {
		return t
	}
	if _, lately := c.lacking.get(id, c.now()); lately {
		return t
	}
	key := c.storeKey(id)
	flight := c.flights.DoChan("scopes "+key, func() (any, error) {
		ctx, cancel := context.WithTimeout(c.detach(ctx), c.TokenBound())
		defer cancel()
		defer func() { c.lacking.put(id, struct{}{}, c.now().Add(keepLacking)) }()
		if c.store != nil { // another process may have done it
			if newer, _ := c.load(ctx, id, key); newer != nil && newer.grants(caller.Scopes) {
				return newer, nil
			}
		}
		shared := caller
		shared.Source = "" // others may wait
		return c.Exchange(ctx, shared)
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
