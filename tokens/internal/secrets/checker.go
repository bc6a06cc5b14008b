// SPDX-License-Identifier: MIT

package secrets

import (
	"context"
	"fmt"
	"time"

	"github.com/meet-gateway/meet-gateway/tokens/internal/vault"
)

// Checker checks secrets.
type Checker struct {
	keys   *vault.Ring
	now    func() time.Time
	hashes pool
}

// NewChecker makes a checker that checks Django hashes with check.
func NewChecker(keys *vault.Ring, now func() time.Time, check func(encoded, secret string) (bool, error)) *Checker {
	return &Checker{keys: keys, now: now, hashes: newPool(check)}
}

// Find returns the stored secret that was presented and has not expired, nil if there is
// none. It takes the same time for two stored secrets, one, or none. Errors: ErrBusy, and
// for a hash that cannot be checked.
func (c *Checker) Find(ctx context.Context, stored []Stored, applicationID, secret string) (*Stored, error) {
	if len(secret) > MaxLength {
		secret = "" // matches nothing, and costs the same
	}
	now := c.now()
	var match *Stored
	var imported []*Stored
	for i := range max(len(stored), MaxLive) {
		if i >= len(stored) {
			// Always two HMACs, however many secrets there are.
			Stored{Key: c.keys.First().ID}.Matches(c.keys, applicationID, secret)
			continue
		}
		v := &stored[i]
		if v.Kind != HMAC {
			imported = append(imported, v)
			continue
		}
		if v.Matches(c.keys, applicationID, secret) && !v.Expired(now) {
			match = v
		}
	}
	if match != nil {
		// The holder of this secret need not wait for the slow hash of the other, which
		// attackers can keep busy. Only the holder sees the difference in time.
		return match, nil
	}
	for _, v := range imported {
		ok, err := c.imported(ctx, v, secret)
		if err != nil {
			return nil, err
		}
		if ok && !v.Expired(now) {
			match = v
		}
	}
	return match, nil
}

func (c *Checker) imported(ctx context.Context, v *Stored, secret string) (bool, error) {
	ok, err := c.hashes.verify(ctx, v.Hash, secret)
	if err != nil {
		return false, fmt.Errorf("checking an imported secret: %w", err)
	}
	return ok, nil
}
