// SPDX-License-Identifier: MIT

package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"os"
	"time"
)

// livePoint is what requests cost with so many live tokens in Redis.
type livePoint struct {
	Tokens   int
	Hot, New spread
	Memory   int64 // of Redis, all of it
	Record   float64
	Sampled  int
}

// live asks whether anything depends on how many tokens live in Redis. Most of them
// are copies of one token's record under names of their own: Redis cannot tell.
func (b *bench) live(ctx context.Context) error {
	steps := []int{1_000, 100_000, 1_000_000, 5_000_000}
	if b.s.Quick {
		steps = steps[:1]
	}
	hot, err := b.oneToken(ctx)
	if err != nil {
		return err
	}
	const prefix = "mg1:t:"
	keys, _, err := b.redis.client.Scan(ctx, 0, prefix+"*", 1_000_000).Result()
	if err != nil || len(keys) == 0 {
		return fmt.Errorf("looking for a token's record, of %d: %w", len(keys), err)
	}
	record, err := b.redis.client.Get(ctx, keys[0]).Bytes()
	if err != nil {
		return fmt.Errorf("reading a token's record: %w", err)
	}
	const pairs = 5
	for _, n := range steps {
		if err := b.fill(ctx, prefix, record, n); err != nil {
			return err
		}
		p := livePoint{Tokens: n}
		if p.Record, p.Sampled, err = b.redis.memoryUsage(ctx, prefix, 100_000); err != nil {
			return err
		}
		news, err := b.everyNew(ctx, b.platform, b.gate, pairs+1)
		if err != nil {
			return err
		}
		onHot, onNew := on(hot, b.gate), &target{servers: []*server{b.gate}, loads: news}
		if err := b.warm(ctx, onHot, onNew); err != nil {
			return err
		}
		measured, err := b.pairs(ctx, onHot, onNew, pairs, b.s.Run)
		if err != nil {
			return err
		}
		p.Hot = spreadOf(measured, func(p pair) float64 { return p.A.cpuPerRequest() })
		p.New = spreadOf(measured, func(p pair) float64 { return p.B.cpuPerRequest() })
		c, err := b.redis.counters(ctx)
		if err != nil {
			return err
		}
		p.Memory = c.memory
		fmt.Fprintf(os.Stderr, "%-12s %7d         known %s µs  not seen %s µs  Redis %d MB  %.0f B a record\n", "live", n, p.Hot, p.New, p.Memory>>20, p.Record)
		b.report.Live = append(b.report.Live, p)
	}
	return nil
}

// fill adds records until Redis has n keys.
func (b *bench) fill(ctx context.Context, prefix string, record []byte, n int) error {
	const batch = 10_000
	have, err := b.redis.client.DBSize(ctx).Result()
	if err != nil {
		return err
	}
	for int(have) < n {
		pipe := b.redis.client.Pipeline()
		for range min(batch, n-int(have)) {
			var id [16]byte
			_, _ = rand.Read(id[:]) // never fails
			pipe.Set(ctx, prefix+base64.RawURLEncoding.EncodeToString(id[:]), record, time.Hour)
		}
		if _, err := pipe.Exec(ctx); err != nil {
			return fmt.Errorf("filling Redis: %w", err)
		}
		have += batch
	}
	return nil
}
