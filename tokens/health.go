// SPDX-License-Identifier: MIT

package tokens

import (
	"cmp"
	"context"
	"errors"

	"github.com/meet-gateway/meet-gateway/tokens/internal/feed"
	"github.com/meet-gateway/meet-gateway/tokens/internal/installation"
	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
)

// Health is how an Authority is doing, in numbers: what metrics are made of.
type Health struct {
	// Problem says why requests that are new to this gateway cannot be decided, as
	// one of [StoreProblems]; "" if they can.
	Problem string
	// Mode is how Redis is reached: "standalone", "sentinel", "cluster" or "embedded".
	Mode string
	// Fresh tells whether decisions are made from memory.
	Fresh bool
	// FeedRefused tells that Redis does not let its user subscribe to what changes.
	FeedRefused bool
	// Replacements counts how often Redis was found to be another server than before:
	// restarted, or after a failover.
	Replacements uint64
	// Sentinels is how many are configured, SentinelsAnswering how many of them
	// answered when they were last asked. Both are 0 without Sentinels.
	Sentinels, SentinelsAnswering int
	// Keys is how many keys verify here, KeysMissing how many others use that are
	// missing here.
	Keys, KeysMissing int
	// Cache is what is remembered.
	Cache CacheStatus
}

// StoreProblems are the words of [Health.Problem].
var StoreProblems = []string{"unreachable", "refused", "replica", "sentinels_disagree", "sentinels_silent", "unproven", "keys_missing"}

// Health asks Redis whether it can be believed, as [Authority.Ready] does, and
// counts what this gateway knows by itself.
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
		Tokens: r.cache.tokens.Load().Len(), Applications: r.cache.applications.EstimatedSize(),
		Users: r.cache.users.EstimatedSize(), Hits: r.verifier.stats.hits.Load(), Misses: r.verifier.stats.misses.Load(),
	}
}

// StoreProblem says what is wrong with Redis, given an error of this package, in a
// sentence without an address: "" means nothing is. What Redis refuses is quoted,
// so that the operator sees which command or key its user lacks.
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

// FeedProblem says why this node hears nothing from Redis, as [StoreProblem] does;
// "" while it hears, and while nothing failed.
func (r *reporter) FeedProblem(ctx context.Context) string {
	if r.feed.Fresh() {
		return ""
	}
	beat, listen := r.feed.Failures()
	return StoreProblem(r.db.Explained(ctx, cmp.Or(beat, listen)))
}
