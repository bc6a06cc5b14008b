// SPDX-License-Identifier: MIT

package redisdb

import (
	"context"
	"strings"
	"time"

	"github.com/go-redis/redis_rate/v10"
	"github.com/redis/go-redis/v9"
)

// Debit takes n from the bucket at a key, which is refilled at rate tokens per period and
// may go into debt within burst. It returns when the bucket is full again.
func (db *DB) Debit(ctx context.Context, key string, rate int, period time.Duration, burst, n int) (time.Duration, error) {
	limit := redis_rate.Limit{Rate: rate, Period: period, Burst: burst}
	res, err := redis_rate.NewLimiter(unprefixed{db.rdb}).AllowAtMost(ctx, key, limit, n)
	if err != nil {
		return 0, err
	}
	return res.ResetAfter, nil
}

// unprefixed removes the prefix that redis_rate adds to keys: every key of the gateway
// begins with "mg1:".
type unprefixed struct{ redis.UniversalClient }

func (c unprefixed) EvalSha(ctx context.Context, sha string, keys []string, args ...any) *redis.Cmd {
	return c.UniversalClient.EvalSha(ctx, sha, withoutRatePrefix(keys), args...)
}

func (c unprefixed) Eval(ctx context.Context, script string, keys []string, args ...any) *redis.Cmd {
	return c.UniversalClient.Eval(ctx, script, withoutRatePrefix(keys), args...)
}

func withoutRatePrefix(keys []string) []string {
	own := make([]string, len(keys))
	for i, k := range keys {
		own[i] = strings.TrimPrefix(k, "rate:")
	}
	return own
}
