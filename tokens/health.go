// SPDX-License-Identifier: MIT

package tokens

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/meet-gateway/meet-gateway/tokens/internal/feed"
	"github.com/meet-gateway/meet-gateway/tokens/internal/installation"
	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
)

// Health is the state of an Authority as metrics show it.
type Health struct {
	// Problem is the reason why new requests cannot be decided, one of [StoreProblems]; ""
	// if they can.
	Problem string
	// Mode is how Redis is reached: "standalone", "sentinel", "cluster" or "embedded".
	Mode string
	// Fresh is true while decisions are made from memory.
	Fresh bool
	// FeedRefused is true if the Redis user must not subscribe to the feed.
	FeedRefused bool
	// Replacements counts restarts and failovers of Redis.
	Replacements uint64
	// Sentinels is the number of configured Sentinels, SentinelsAnswering how many of them
	// answered the last time. Both are 0 without Sentinels.
	Sentinels, SentinelsAnswering int
	// Keys is the number of keys of this gateway, KeysMissing the number of those that only
	// others have.
	Keys, KeysMissing int
	// Cache counts what is in memory.
	Cache CacheStatus
}

// StoreProblems are the values of [Health.Problem].
var StoreProblems = []string{"unreachable", "refused", "replica", "sentinels_disagree", "sentinels_silent", "unproven", "keys_missing"}

// Health checks Redis as [Authority.Ready] does, and reports the state of this gateway.
func (r *reporter) Health(ctx context.Context) Health {
	h := Health{
		Problem: problemWord(r.Ready(ctx)), Mode: r.db.Mode(), Fresh: r.feed.Fresh(),
		Replacements: r.feed.Replacements(), Keys: len(r.signing.IDs()), KeysMissing: r.keyUse.Lacking(), Cache: r.cacheStatus(),
	}
	h.Sentinels, h.SentinelsAnswering = r.db.Sentinels()
	_, listen := r.feed.Failures()
	h.FeedRefused = !h.Fresh && redisdb.IsForbidden(listen)
	return h
}

func problemWord(err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, redisdb.ErrNotPrimary):
		return "replica"
	case errors.Is(err, redisdb.ErrUndecided):
		return "sentinels_disagree"
	case errors.Is(err, redisdb.ErrUnfollowed):
		return "sentinels_silent"
	case errors.Is(err, feed.ErrUnproven):
		return "unproven"
	case errors.Is(err, installation.ErrMissingKey):
		return "keys_missing"
	case redisdb.IsForbidden(err):
		return "refused"
	}
	return "unreachable"
}

func (r *reporter) cacheStatus() CacheStatus {
	return CacheStatus{
		Tokens: r.cache.tokens.Load().Len(), Applications: r.cache.applications.Len(),
		Users: r.cache.users.Len(), Hits: r.verifier.stats.hits.Load(), Misses: r.verifier.stats.misses.Load(),
	}
}

// ProblemElsewhere is the [StoreProblem] of a node of a Cluster that does not have the key.
const ProblemElsewhere = redisdb.ProblemElsewhere

// StoreProblem describes an error of this package to an operator. It is "" for nil. It names
// the server if Redis has several, by host and port alone. It quotes what Redis refuses, so that the operator sees which command or key the
// Redis user lacks.
func StoreProblem(err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, feed.ErrUnproven):
		return "redis answers, and has taken no writes for too long"
	case errors.Is(err, installation.ErrMissingKey):
		return "other gateways use keys that this one was not given"
	}
	return redisdb.Problem(err)
}

// FeedProblem says, as [StoreProblem] does, why this gateway receives nothing from its feed;
// "" if it does, or if nothing failed.
func (r *reporter) FeedProblem(ctx context.Context) string {
	if r.feed.Fresh() {
		return ""
	}
	beat, listen := r.feed.Failures()
	return StoreProblem(r.db.Explained(ctx, cmp.Or(beat, listen)))
}

// Ready returns an error unless this gateway can serve any request: Redis is the primary,
// accepted heartbeats within the staleness bound and allows its user what requests need, and
// this gateway has the keys of the installation. The error is ErrUnavailable.
func (r *reporter) Ready(ctx context.Context) error {
	if err := r.storeReady(ctx); err != nil {
		return err
	}
	return r.checkKeys(ctx)
}

// storeReady is Ready as far as Redis is concerned.
func (r *reporter) storeReady(ctx context.Context) error {
	if err := r.db.Ping(ctx); err != nil {
		return unavailable("asking whether Redis is there", r.db.Explained(ctx, err))
	}
	if err := r.feed.Check(ctx); err != nil {
		return err
	}
	// Missing permissions first: they cause the other errors.
	if beat, _ := r.feed.Failures(); redisdb.IsForbidden(beat) {
		return unavailable("sending a heartbeat", r.db.Explained(ctx, beat))
	}
	if err := r.db.Refusing(ctx); err != nil {
		return err
	}
	return r.feed.Believable(ctx)
}

// keySample is how many applications checkKeys looks at.
const keySample = 50

// checkKeys returns an error if this gateway has other keys than the installation: more
// secrets of applications need a missing key than a key of this gateway. In a tie it is the
// gateway that was started later. So of two gateways with different keys, exactly one is not
// ready.
func (r *reporter) checkKeys(ctx context.Context) error {
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
			return nil // gateways are sorted: no earlier one uses a missing key
		}
		if !g.Silent && slices.ContainsFunc(g.Uses, func(id string) bool { return slices.Contains(missing, id) }) {
			return unavailable("checking the keys of this gateway", installation.ErrMissingKey)
		}
	}
	return nil
}

// Fresh reports whether decisions are made from memory: the feed was complete within the
// staleness bound.
func (r *reporter) Fresh() bool { return r.feed.Fresh() }

// followReadiness reports changes of what the Redis user may not do, and whether this gateway
// is ready, until ctx ends.
func (r *reporter) followReadiness(ctx context.Context) {
	tick := time.NewTicker(r.feed.Interval())
	defer tick.Stop()
	reported := ""
	for {
		p, err := r.db.Permitted(ctx)
		if text := p.String(); err == nil && text != reported {
			r.observer.PermissionsMissing(text, p.Refusing())
			reported = text
		}
		if problem := r.readyLately(ctx); ctx.Err() == nil {
			r.observer.Readiness(problem)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// readyLately is Ready without a question to Redis, unless something that is done anyway has
// failed.
func (r *reporter) readyLately(ctx context.Context) error {
	beat, _ := r.feed.Failures()
	if beat == nil && r.keyUse.Lacking() == 0 && r.db.Refusing(ctx) == nil && r.feed.Believable(ctx) == nil {
		return nil
	}
	return r.Ready(ctx)
}
