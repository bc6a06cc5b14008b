// SPDX-License-Identifier: MIT

package tokens

import (
	"context"
	"slices"
	"time"

	"github.com/meet-gateway/meet-gateway/tokens/internal/installation"
	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
)

// Ready tells whether this node could serve a request it has never seen: Redis
// answers, is the primary, has taken heartbeats within the staleness bound, lets its
// user do what requests need, and this node has the keys of the installation.
// The error is ErrUnavailable.
func (r *reporter) Ready(ctx context.Context) error {
	if err := r.storeReady(ctx); err != nil {
		return err
	}
	return r.ousted(ctx)
}

// storeReady is Ready as far as Redis is concerned.
func (r *reporter) storeReady(ctx context.Context) error {
	if err := r.db.Ping(ctx); err != nil {
		return unavailable("asking whether Redis is there", r.db.Explained(ctx, err))
	}
	if err := r.feed.Check(ctx); err != nil {
		return err
	}
	// What is forbidden comes first: it is the cause of what follows.
	if err := r.forbidden(ctx); err != nil {
		return err
	}
	if err := r.db.Refusing(ctx); err != nil {
		return err
	}
	return r.feed.Believable(ctx)
}

// keySample is how many applications tell which of two secrets is the installation's.
const keySample = 50

// ousted returns an error if this gateway is the one that was given other keys than
// the installation: most applications have a secret that only a missing key can
// check. Where the applications do not tell, it is the gateway that was started
// after one that uses a missing key. Of two gateways with different keys, exactly
// one is not ready.
func (r *reporter) ousted(ctx context.Context) error {
	in, err := r.installations.Load(ctx)
	if err != nil {
		return err
	}
	missing := r.keyUse.Missing(in)
	if len(missing) == 0 {
		return nil
	}
	page, err := r.applications.Applications(ctx, ListOptions{Limit: keySample})
	if err != nil {
		return err
	}
	ours, theirs := 0, 0
	for _, app := range page.Applications {
		for _, v := range app.storedSecrets {
			switch {
			case v.Kind != SecretHMAC || v.Expired(r.now()):
			case r.keys.ByID(v.Key) != nil:
				ours++
			case slices.Contains(missing, v.Key):
				theirs++
			}
		}
	}
	if ours != theirs {
		if theirs > ours {
			return unavailable("checking the keys of this gateway", installation.ErrMissingKey)
		}
		return nil
	}
	gateways, err := r.gateways.All(ctx)
	if err != nil {
		return err
	}
	for _, g := range gateways {
		if g.Self {
			return nil // those that were started before it use no key that is missing
		}
		if !g.Silent && slices.ContainsFunc(g.Uses, func(id string) bool { return slices.Contains(missing, id) }) {
			return unavailable("checking the keys of this gateway", installation.ErrMissingKey)
		}
	}
	return nil
}

// forbidden returns why the last heartbeat failed, if the Redis user may not do
// what it does. Then writes fail as well.
func (r *reporter) forbidden(ctx context.Context) error {
	failed, _ := r.feed.Failures()
	if failed == nil || !redisdb.IsForbidden(failed) {
		return nil
	}
	return unavailable("sending a heartbeat", r.db.Explained(ctx, failed))
}

// Fresh reports whether decisions are made from memory, because the feed is
// known to be complete within the staleness bound.
func (r *reporter) Fresh() bool { return r.feed.Fresh() }

// followPermissions tells what the Redis user may not do, whenever it changes, until
// ctx ends.
func (r *reporter) followPermissions(ctx context.Context) {
	tick := time.NewTicker(r.feed.Interval())
	defer tick.Stop()
	told := ""
	for {
		p, err := r.db.Permitted(ctx)
		if text := p.String(); err == nil && text != told {
			r.observer.PermissionsMissing(text, p.Refusing)
			told = text
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
