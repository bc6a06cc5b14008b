// SPDX-License-Identifier: MIT

package main

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"golang.org/x/perf/benchmath"
)

// sample is one run of one server.
type sample struct {
	sent
	CPU time.Duration
	// Requests to Redis and the upstream during the run, by all processes.
	Commands map[string]int64
	RedisIn  int64
	RedisOut int64
	RedisCPU time.Duration
	Upstream int64
}

// commandsPerRequest is the number of commands that Redis executed, including those in scripts.
func (s sample) commandsPerRequest() float64 {
	var n int64
	for _, calls := range s.Commands {
		n += calls
	}
	return float64(n) / float64(s.Requests)
}

func (s sample) upstreamPerRequest() float64 { return float64(s.Upstream) / float64(s.Requests) }

// cpuPerRequest is in microseconds.
func (s sample) cpuPerRequest() float64 {
	return float64(s.CPU) / float64(time.Microsecond) / float64(s.Requests)
}

// target is a server under a load.
type target struct {
	servers []*server
	load    *load
	// loads, if set, are used one after the other in place of load.
	loads []*load
	runs  int
	// refused reports whether a run's number of refusals is right. The default permits none.
	refused func(sent) bool
}

func (t *target) next() *load {
	if len(t.loads) == 0 {
		return t.load
	}
	l := t.loads[t.runs%len(t.loads)]
	t.runs++
	return l
}

// processes returns the processes that serve the target.
func (t *target) processes() []*process {
	var all []*process
	for _, s := range t.servers {
		all = append(all, s.processes...)
	}
	return all
}

// state is all counters at one moment.
type state struct {
	cpu, redisCPU time.Duration
	redis         counters
	upstream      int64
}

func (l *lab) state(ctx context.Context, of []*process) (s state, err error) {
	if s.redis, err = l.redis.counters(ctx); err != nil {
		return s, err
	}
	if s.redisCPU, err = l.redis.cpu(); err != nil {
		return s, err
	}
	if s.upstream, err = l.upstream.seen(ctx); err != nil {
		return s, err
	}
	for _, p := range of {
		used, err := p.cpu()
		if err != nil {
			return s, err
		}
		s.cpu += used
	}
	return s, nil
}

// measure runs a target once.
func (l *lab) measure(ctx context.Context, t *target, d time.Duration) (sample, error) {
	var addresses []string
	for _, s := range t.servers {
		addresses = append(addresses, s.address)
	}
	load := t.next()
	before, err := l.state(ctx, t.processes())
	if err != nil {
		return sample{}, err
	}
	s, err := l.gen.run(ctx, load, d, addresses...)
	if err != nil {
		return sample{}, fmt.Errorf("%s: %w", t.servers[0].name, err)
	}
	after, err := l.state(ctx, t.processes())
	if err != nil {
		return sample{}, err
	}
	right := s.Refused == 0
	if t.refused != nil {
		right = t.refused(s)
	}
	if !right || s.Broken > s.Requests/1000 {
		return sample{}, fmt.Errorf("%s: of %d requests %d were refused and %d failed\n%s", t.servers[0].name, s.Requests, s.Refused, s.Broken, t.servers[0].processes[0].tail())
	}
	asked := after.redis.since(before.redis)
	return sample{
		sent: s, CPU: after.cpu - before.cpu,
		Commands: asked.commands, RedisIn: asked.in, RedisOut: asked.out, RedisCPU: after.redisCPU - before.redisCPU,
		Upstream: after.upstream - before.upstream - 1,
	}, nil
}

// pair is a run of A and one of B, right after each other.
type pair struct{ A, B sample }

// pairs measures A B A B. A disturbance that lasts longer than a run then affects both and hardly
// changes the ratio of a pair.
func (l *lab) pairs(ctx context.Context, a, b *target, n int, d time.Duration) ([]pair, error) {
	done := make([]pair, 0, n)
	for range n {
		var p pair
		var err error
		if p.A, err = l.measure(ctx, a, d); err != nil {
			return nil, err
		}
		if p.B, err = l.measure(ctx, b, d); err != nil {
			return nil, err
		}
		done = append(done, p)
	}
	return done, nil
}

// spread is the median of some values and an interval around it: the 95 % confidence
// interval of the median, or from fewer than six values the range they lie in.
type spread struct{ Median, Low, High float64 }

// itself is the identity function, for spreadOf.
func itself(v float64) float64 { return v }

// spreadOf needs at least one value.
func spreadOf[T any](of []T, value func(T) float64) spread {
	values := make([]float64, len(of))
	for i, x := range of {
		values[i] = value(x)
	}
	s := benchmath.AssumeNothing.Summary(benchmath.NewSample(values, &benchmath.DefaultThresholds), 0.95)
	return spread{Median: s.Center, Low: max(s.Lo, slices.Min(values)), High: min(s.Hi, slices.Max(values))}
}

func (s spread) String() string {
	digits := 2
	if math.Abs(s.Median) >= 10 {
		digits = 1
	}
	return fmt.Sprintf("%.*f (%.*f to %.*f)", digits, s.Median, digits, s.Low, digits, s.High)
}
