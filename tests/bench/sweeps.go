// SPDX-License-Identifier: MIT

package main

import (
	"context"
	"fmt"
	"os"
)

// point is one step of a sweep: the CPU per request of the gateway and of plain, in microseconds,
// at one value of the quantity.
type point struct {
	X     int
	Plain spread
	Gate  spread
	Ratio spread
	// RSS is the gateway's resident memory afterwards, in bytes.
	RSS int64
}

// sweep is the cost for increasing values of one quantity.
type sweep struct {
	ID, Name string
	Points   []point
}

// sweeps measures how the cost depends on tokens, applications and connections.
func (b *bench) sweeps(ctx context.Context) error {
	if !b.s.Sweep {
		return nil
	}
	// With a smaller cache, tokens of the sweep would be evicted and looked up repeatedly.
	gate, err := b.startGate(ctx, "gate-sweeps", gateOptions{cacheEntries: 250_000})
	if err != nil {
		return err
	}
	defer gate.stop()
	for _, s := range []struct {
		id, name string
		steps    []int
		// shape returns the numbers of tokens, applications and connections.
		shape func(n int) (tokens, applications, connections int)
	}{
		{"tokens", "tokens in use", []int{1, 100, 1_000, 10_000, 100_000}, func(n int) (int, int, int) { return n, 10, connections }},
		{"applications", "applications in use", []int{1, 10, 100, 1_000}, func(n int) (int, int, int) { return 1_000, n, connections }},
		{"connections", "connections", []int{1, 4, 16, 64, 256}, func(n int) (int, int, int) { return 100, 10, n }},
	} {
		if b.late("cost by " + s.name) {
			continue
		}
		measured := &sweep{ID: s.id, Name: s.name}
		for _, n := range s.steps {
			tokens, applications, connections := s.shape(n)
			clients, err := b.platform.applications(ctx, applications)
			if err != nil {
				return err
			}
			issued, err := b.platform.issue(ctx, tokens, clients, min(tokens, manyTokens))
			if err != nil {
				return err
			}
			if err := b.step(ctx, measured, n, &load{requests: reads(issued), connections: connections}, gate); err != nil {
				return err
			}
		}
		b.report.Sweeps = append(b.report.Sweeps, measured)
	}
	return nil
}

// step measures three pairs and adds a point.
func (b *bench) step(ctx context.Context, s *sweep, x int, l *load, gate *server) error {
	if err := b.warm(ctx, on(&load{requests: l.requests[:1], connections: l.connections}, b.plain), on(l, gate)); err != nil {
		return err
	}
	if err := b.report.Speeds.note(s.ID); err != nil {
		return err
	}
	pairs, err := b.pairs(ctx, on(l, b.plain), on(l, gate), 3, b.s.Run)
	if err != nil {
		return err
	}
	rss, err := gate.processes[0].rss()
	if err != nil {
		return err
	}
	r := &result{Pairs: pairs}
	p := point{X: x, Plain: r.cpuA(), Gate: r.cpuB(), Ratio: r.ratios(), RSS: rss}
	fmt.Fprintf(os.Stderr, "%-12s %7d         A %s µs  B %s µs  RSS %d MB\n", s.ID, x, p.Plain, p.Gate, rss>>20)
	s.Points = append(s.Points, p)
	return nil
}
