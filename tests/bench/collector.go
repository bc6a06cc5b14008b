// SPDX-License-Identifier: MIT

package main

import (
	"context"
	"fmt"
	"os"
)

// collector compares values of GOGC by CPU per request, resident memory and the longest pause,
// with one known token and with 100,000 known tokens of 10,000 users. It takes minutes and runs
// only with -case gogc.
func (b *bench) collector(ctx context.Context) error {
	if b.s.Filter != "gogc" {
		return nil
	}
	one, err := b.oneToken(ctx)
	if err != nil {
		return err
	}
	issued, err := b.platform.issue(ctx, manyKnown, b.clients, manyTokens)
	if err != nil {
		return err
	}
	many := &load{requests: reads(issued), connections: connections}
	start := func(gogc string) (*server, error) {
		// The gateway inherits the variable.
		if err := os.Setenv("GOGC", gogc); err != nil {
			return nil, err
		}
		defer os.Unsetenv("GOGC")
		return b.startGate(ctx, "gate-gogc-"+gogc, gateOptions{})
	}
	usual, err := start("100")
	if err != nil {
		return err
	}
	defer usual.stop()
	var others []*server
	for _, gogc := range []string{"50", "30"} {
		gate, err := start(gogc)
		if err != nil {
			return err
		}
		defer gate.stop()
		others = append(others, gate)
	}
	for _, known := range []struct {
		id   string
		load *load
	}{{"one", one}, {"many", many}} {
		for _, gate := range others {
			r := &result{ID: gate.name + "-" + known.id, Name: known.id + " known, " + gate.name, A: usual.name, B: gate.name}
			if err := b.compare(ctx, r, b.s.Pairs, on(known.load, usual), on(known.load, gate)); err != nil {
				return err
			}
			if err := collected(ctx, usual, gate); err != nil {
				return err
			}
		}
	}
	return nil
}

// collected prints the memory of servers under load and their longest pauses.
func collected(ctx context.Context, servers ...*server) error {
	for _, s := range servers {
		rss, err := s.processes[0].rss()
		if err != nil {
			return err
		}
		pause, err := longestPause(ctx, s)
		if err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "  %-16s %d MB resident under load, longest of 256 pauses %.2f ms\n", s.name, rss>>20, pause)
	}
	return nil
}
