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

// forbidden returns why the last heartbeat failed, if the Redis user may not do
// what it does. Then writes fail as well.
func (r *reporter) forbidden(ctx context.Context) error {
	failed, _ := r.feed.Failures()
	if failed == nil || !redisdb.IsForbidden(failed) {
		return nil
	}
	return unavailable("sending a heartbeat", r.db.Explained(ctx, failed))
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
