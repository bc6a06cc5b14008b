// SPDX-License-Identifier: MIT

package redisdb

import (
	"context"
	"strings"
	"time"

	"github.com/go-redis/redis_rate/v10"
	"github.com/redis/go-redis/v9"
)

// Debit takes n from the count at a key, which is filled up at so many in a period and
// can go into debt as far as burst lets it. It returns when all of it is free again.
func (s *DB) Debit(ctx context.Context, key string, rate int, period time.Duration, burst, n int) (time.Duration, error) {
	limit := redis_rate.Limit{Rate: rate, Period: period, Burst: burst}
	res, err := redis_rate.NewLimiter(ours{s.rdb}).AllowAtMost(ctx, key, limit, n)
	if err != nil {
		return 0, err
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
