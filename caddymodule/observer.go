// SPDX-License-Identifier: MIT

package caddymodule

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/meet-gateway/meet-gateway/tokens"
)

// authorityObserver turns what an Authority notices into metrics and log lines.
// For a while after a reload two Authorities can be alive: only the one that was
// started last has a say.
type authorityObserver struct {
	stale     atomic.Bool
	authority *tokens.Authority // set before it is started
}

// activeObserver is the observer of the Authority that was started last.
var activeObserver atomic.Pointer[authorityObserver]

func (o *authorityObserver) speaks() bool { return activeObserver.Load() == o }

// FeedLag implements tokens.Observer.
func (o *authorityObserver) FeedLag(lag time.Duration) {
	if o.speaks() {
		feedLagSeconds.WithLabelValues().Observe(lag.Seconds())
	}
}

// FeedState implements tokens.Observer.
func (o *authorityObserver) FeedState(fresh bool) {
	if !o.speaks() {
		return
	}
	if !fresh {
		if !o.stale.Swap(true) {
			go o.logSilence()
		}
		return
	}
	if o.stale.Swap(false) {
		logger().Info("the feed from redis is back")
	}
}

// logSilence says why nothing is heard from Redis. Finding out may ask Redis, so it
// is done beside what was going on.
func (o *authorityObserver) logSilence() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	logger().Warn("the feed from redis is silent: asking redis for each request until it is back",
		zap.String("cause", o.authority.FeedProblem(ctx)))
}

// KeysMissing implements tokens.Observer.
func (o *authorityObserver) KeysMissing(ids []string) {
	if !o.speaks() {
		return
	}
	if len(ids) == 0 {
		logger().Info("every key that other gateways use is configured here")
		return
	}
	logger().Error("other gateways sign, hash and encrypt with keys that this one was not given: what they make is answered with 503 here. "+
		"All gateways need the same secrets and signing keys; if a key is not to be used any more, withdraw it (meet revoke key)", zap.Strings("keys", ids))
}

// PermissionsMissing implements tokens.Observer.
func (o *authorityObserver) PermissionsMissing(what string, refusing bool) {
	cause := zap.String("cause", "NOPERM: the user may not use "+what)
	switch {
	case !o.speaks():
	case what == "":
		logger().Info("redis lets its user do all that the gateway needs")
	case refusing:
		logger().Error("redis refuses its user what requests need, so this gateway is not ready; docs/redis.md has the line for ACL SETUSER", cause)
	default:
		logger().Warn("redis refuses its user something that the gateway needs, but not to serve requests; docs/redis.md has the line for ACL SETUSER", cause)
	}
}

// StoreRolledBack implements tokens.Observer.
func (o *authorityObserver) StoreRolledBack(lost int64, reapplied bool) {
	if !o.speaks() {
		return
	}
	storeRollbacksTotal.Inc()
	storeWentBackTotal.Inc()
	logger().Error("redis has lost changes that this gateway had seen: restarted without its data, restored from a snapshot, or failed over to a replica that lagged",
		zap.Int64("changes", lost), zap.Bool("reapplied", reapplied))
}

// logger is for what no configuration's own logger is there for.
func logger() *zap.Logger { return caddy.Log().Named(appName) }

// Interface guards
var _ tokens.Observer = (*authorityObserver)(nil)
