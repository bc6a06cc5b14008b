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

// authorityObserver turns events of an Authority into metrics and log lines. After a
// reload two Authorities may be running; only the one that was started last reports.
type authorityObserver struct {
	stale     atomic.Bool
	readiness readinessLog      // used by one goroutine
	authority *tokens.Authority // set before it starts
}

// activeObserver is the observer of the Authority that was started last.
var activeObserver atomic.Pointer[authorityObserver]

func (o *authorityObserver) isActive() bool { return activeObserver.Load() == o }

// FeedLag implements tokens.Observer.
func (o *authorityObserver) FeedLag(lag time.Duration) {
	if o.isActive() {
		feedLagSeconds.WithLabelValues().Observe(lag.Seconds())
	}
}

// FeedState implements tokens.Observer.
func (o *authorityObserver) FeedState(fresh bool) {
	if !o.isActive() {
		return
	}
	if !fresh {
		if !o.stale.Swap(true) {
			go o.logFeedStale()
		}
		return
	}
	if o.stale.Swap(false) {
		logger().Info("the feed from redis is restored")
	}
}

// logFeedStale logs why the feed is silent. It runs in the background because it may
// query Redis.
func (o *authorityObserver) logFeedStale() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	logger().Warn("no heartbeat in the feed from redis: checking redis on every request until it is back",
		zap.String("cause", o.authority.FeedProblem(ctx)))
}

// KeysMissing implements tokens.Observer.
func (o *authorityObserver) KeysMissing(ids []string) {
	if !o.isActive() {
		return
	}
	if len(ids) == 0 {
		logger().Info("every key that other gateways use is configured here")
		return
	}
	logger().Error("other gateways use keys that are not configured here, so this gateway answers their tokens with 503. "+
		"Configure the same secrets and signing keys on all gateways, or withdraw a key that is no longer used (meet revoke key)", zap.Strings("keys", ids))
}

// PermissionsMissing implements tokens.Observer.
func (o *authorityObserver) PermissionsMissing(what string, refusing bool) {
	cause := zap.String("cause", "NOPERM: the user may not use "+what)
	switch {
	case !o.isActive():
	case what == "":
		logger().Info("the redis user has all permissions that the gateway needs")
	case refusing:
		logger().Error("the redis user lacks permissions that requests need, so this gateway is not ready; docs/redis.md has the line for ACL SETUSER", cause)
	default:
		logger().Warn("the redis user lacks permissions that the gateway needs, though not for requests; docs/redis.md has the line for ACL SETUSER", cause)
	}
}

// Readiness implements tokens.Observer.
func (o *authorityObserver) Readiness(problem error) {
	switch {
	case !o.isActive() || !o.readiness.note(problem == nil, time.Now()):
	case problem == nil:
		logger().Info("this gateway is ready again")
	default:
		logger().Error("this gateway is not ready: requests that it cannot answer from memory get 503",
			zap.String("cause", tokens.StoreProblem(problem)), zap.Error(problem))
	}
}

// readinessLog decides which changes of readiness are logged: all, unless the gateway becomes
// not ready again within outagePeriod.
type readinessLog struct {
	notReady bool // as logged last
	since    time.Time
}

// note reports whether to log the state. A gateway is ready before the first call.
func (l *readinessLog) note(ready bool, now time.Time) bool {
	if ready != l.notReady || !ready && now.Sub(l.since) < outagePeriod {
		return false
	}
	if l.notReady = !ready; l.notReady {
		l.since = now
	}
	return true
}

// StoreRolledBack implements tokens.Observer.
func (o *authorityObserver) StoreRolledBack(lost int64, reapplied bool) {
	if !o.isActive() {
		return
	}
	storeRollbacksTotal.Inc()
	storeWentBackTotal.Inc()
	logger().Error("redis has lost changes that this gateway had seen: restarted without its data, restored from a snapshot, or failed over to a replica that lagged",
		zap.Int64("changes", lost), zap.Bool("reapplied", reapplied))
}

// logger is the logger for events without a configuration.
func logger() *zap.Logger { return caddy.Log().Named(appName) }

// Interface guards
var _ tokens.Observer = (*authorityObserver)(nil)
