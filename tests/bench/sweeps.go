// SPDX-License-Identifier: MIT

package main

import (
	"context"
	"fmt"
	"os"
)

// point is one step of a sweep: the gate's cost and plain's, in microseconds of
// CPU per request, at x of something.
type point struct {
	X     int
	Plain spread
	Gate  spread
	// RSS is the gate's resident memory afterwards, in bytes.
	RSS int64
}

// sweep is cost against one quantity.
type sweep struct {
	ID, Name string
	Points   []point
}

func (b *bench) sweeps(ctx context.Context) error {
	if !b.s.Sweep {
		return nil
	}
	for _, run := range []func(context.Context) error{b.sweepTokens, b.sweepApplications, b.sweepConnections} {
		if err := run(ctx); err != nil {
			return err
		}
	}
	return nil
}

// step measures two pairs and adds their point.
func (b *bench) step(ctx context.Context, s *sweep, x int, l *load, plain, gate *server) error {
	if err := b.warm(ctx, on(l, plain), on(l, gate)); err != nil {
		return err
	}
	pairs, err := b.pairs(ctx, on(l, plain), on(l, gate), 2, b.s.Run)
	if err != nil {
		return err
	}
	rss, err := gate.processes[0].rss()
	if err != nil {
		return err
	}
	p := point{
		X:     x,
		Plain: spreadOf(pairs, func(p pair) float64 { return p.A.cpuPerRequest() }),
		Gate:  spreadOf(pairs, func(p pair) float64 { return p.B.cpuPerRequest() }),
		RSS:   rss,
	}
	fmt.Fprintf(os.Stderr, "%-12s %7d         A %s µs  B %s µs  RSS %d MB\n", s.ID, x, p.Plain, p.Gate, rss>>20)
	s.Points = append(s.Points, p)
	return nil
}

// sweepTokens asks whether a full cache costs more than an empty one.
func (b *bench) sweepTokens(ctx context.Context) error {
	// Room for all of them: with less, some are looked up again and again.
	gate, err := b.startGate(ctx, "gate-tokens", gateOptions{cacheEntries: 250_000})
	if err != nil {
		return err
	}
	defer gate.stop()
	s := &sweep{ID: "tokens", Name: "tokens in use"}
	b.report.Sweeps = append(b.report.Sweeps, s)
	for _, n := range []int{1, 100, 1_000, 10_000, 100_000} {
		issued, err := b.platform.issue(ctx, n, b.clients, min(n, manyTokens))
		if err != nil {
			return err
		}
		if err := b.step(ctx, s, n, &load{requests: reads(issued), connections: connections}, b.plain, gate); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) sweepApplications(ctx context.Context) error {
	s := &sweep{ID: "applications", Name: "applications in use"}
	b.report.Sweeps = append(b.report.Sweeps, s)
	for _, n := range []int{1, 10, 100, 1_000} {
		clients, err := b.platform.applications(ctx, n)
		if err != nil {
			return err
		}
		issued, err := b.platform.issue(ctx, 1_000, clients, 1_000)
		if err != nil {
			return err
		}
		if err := b.step(ctx, s, n, &load{requests: reads(issued), connections: connections}, b.plain, b.gate); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) sweepConnections(ctx context.Context) error {
	s := &sweep{ID: "connections", Name: "connections"}
	b.report.Sweeps = append(b.report.Sweeps, s)
	issued, err := b.platform.issue(ctx, 100, b.clients, 100)
	if err != nil {
		return err
	}
	for _, n := range []int{1, 4, 16, 64, 256} {
		if err := b.step(ctx, s, n, &load{requests: reads(issued), connections: n}, b.plain, b.gate); err != nil {
			return err
		}
	}
	return nil
}
