// SPDX-License-Identifier: MIT

package tokens

import (
	"context"
	"strings"
	"time"

	"github.com/go-redis/redis_rate/v10"
	"github.com/redis/go-redis/v9"

	"github.com/meet-gateway/meet-gateway/tokens/limit"
)

// Debit makes the Authority the shared count of a [limit.Limiter]
// ([limit.Shared]). Redis' clock counts, and whoever is counted is hashed. The
// error is ErrUnavailable.
func (a *Authority) Debit(ctx context.Context, k limit.Key, r limit.Rate, n int) (time.Duration, error) {
	// A burst above the rate is what lets the count go into debt.
	debt := redis_rate.Limit{Rate: r.Count, Period: r.Per, Burst: limit.MaxDebt * r.Count}
	res, err := redis_rate.NewLimiter(ours{a.store.rdb}).AllowAtMost(ctx, keyRate(a.keys.First(), k, r), debt, n)
	if err != nil {
		return 0, unavailable("counting for a limit", err)
	}
	return res.ResetAfter, nil
}

// ours is a client for redis_rate, which puts its own prefix before its keys:
// every key of the gateway begins with "mg1:".
type ours struct{ redis.UniversalClient }

func (c ours) EvalSha(ctx context.Context, sha string, keys []string, args ...any) *redis.Cmd {
	return c.UniversalClient.EvalSha(ctx, sha, withoutRatePrefix(keys), args...)
}

func (c ours) Eval(ctx context.Context, script string, keys []string, args ...any) *redis.Cmd {
	return c.UniversalClient.Eval(ctx, script, withoutRatePrefix(keys), args...)
}

func withoutRatePrefix(keys []string) []string {
	own := make([]string, len(keys))
	for i, k := range keys {
		own[i] = strings.TrimPrefix(k, "rate:")
	}
	return own
}

// Rates returns the application's own limits; nil if it has none. They are the
// installation's where the application does not set them.
func (app *Application) Rates() *limit.Rates { return app.rates }

// parseRates reads stored limits. What a later version may have written and this
// one does not know must not close the application: the installation's apply.
func parseRates(m map[string]string) *limit.Rates {
	if len(m) == 0 {
		return nil
	}
	r, err := limit.ParseOverrides(m)
	if err != nil {
		return nil
	}
	return r
}
