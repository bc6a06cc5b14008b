// SPDX-License-Identifier: MIT

package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"time"
)

// livePoint holds the cost of requests for one number of records in Redis.
type livePoint struct {
	Records, Applications int64
	// Known and New are the ratios to plain of a known token and of a new one.
	Known, New spread
	CPU        spread // of a known token, microseconds
	Memory     int64  // of Redis
	Record     float64
	Sampled    int
}

// live measures whether the cost depends on the number of tokens and applications in Redis. Most
// of them are copies of one record under other names, which makes no difference to Redis.
func (b *bench) live(ctx context.Context) error {
	const token, application = "mg1:t:", "mg1:a:"
	steps := []struct{ records, applications int64 }{{0, 0}, {1_000_000, 0}, {5_000_000, 0}, {6_000_000, 1_000_000}}
	if b.s.Quick {
		steps = steps[:1]
	}
	hot, err := b.oneToken(ctx)
	if err != nil {
		return err
	}
	for _, step := range steps {
		if b.late("a step of live tokens") {
			return nil
		}
		prefix := token
		if step.applications > 0 {
			prefix = application
		}
		if err := b.fill(ctx, prefix, step.records); err != nil {
			return err
		}
		p := livePoint{Applications: step.applications}
		if p.Record, p.Sampled, err = b.redis.memoryUsage(ctx, token, 100_000); err != nil {
			return err
		}
		if err := b.livePoint(ctx, &p, hot); err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "%-12s %7d         known %s  new %s  Redis %d MB  %.0f B a record\n", "live", p.Records, p.Known, p.New, p.Memory>>20, p.Record)
		b.report.Live = append(b.report.Live, p)
	}
	return nil
}

// livePoint measures plain, a known token and new tokens in turn.
func (b *bench) livePoint(ctx context.Context, p *livePoint, hot *load) error {
	const rounds = 4
	news, err := b.everyNew(ctx, b.platform, b.gate, rounds+1)
	if err != nil {
		return err
	}
	targets := []*target{on(hot, b.plain), on(hot, b.gate), {servers: []*server{b.gate}, loads: news}}
	if err := b.warm(ctx, targets...); err != nil {
		return err
	}
	var known, fresh, cpu []float64
	for range rounds {
		if err := b.report.Speeds.note("live"); err != nil {
			return err
		}
		var cost [3]float64
		for i, t := range targets {
			s, err := b.measure(ctx, t, b.s.Run)
			if err != nil {
				return err
			}
			cost[i] = s.cpuPerRequest()
		}
		known, fresh, cpu = append(known, cost[1]/cost[0]), append(fresh, cost[2]/cost[0]), append(cpu, cost[1])
	}
	p.Known, p.New, p.CPU = spreadOf(known, itself), spreadOf(fresh, itself), spreadOf(cpu, itself)
	c, err := b.redis.counters(ctx)
	if err != nil {
		return err
	}
	p.Memory = c.memory
	p.Records, err = b.redis.client.DBSize(ctx).Result()
	return err
}

// fill copies a record whose name begins with prefix until Redis has n keys.
func (b *bench) fill(ctx context.Context, prefix string, n int64) error {
	const batch = 10_000
	have, err := b.redis.client.DBSize(ctx).Result()
	if err != nil || have >= n {
		return err
	}
	keys, _, err := b.redis.client.Scan(ctx, 0, prefix+"*", 1_000_000).Result()
	if err != nil || len(keys) == 0 {
		return fmt.Errorf("looking for a record %s*, of %d: %w", prefix, len(keys), err)
	}
	record, err := b.redis.client.Dump(ctx, keys[0]).Result()
	if err != nil {
		return fmt.Errorf("reading a record: %w", err)
	}
	for ; have < n; have += batch {
		pipe := b.redis.client.Pipeline()
		for range min(batch, n-have) {
			pipe.Restore(ctx, prefix+rand.Text(), time.Hour, record)
		}
		if _, err := pipe.Exec(ctx); err != nil {
			return fmt.Errorf("filling Redis: %w", err)
		}
	}
	return nil
}
