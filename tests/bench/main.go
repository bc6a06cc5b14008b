// SPDX-License-Identifier: MIT

// Command bench measures what the gateway costs, against plain Caddy from the
// same binary and against what one could use instead. `make bench` runs it. It
// starts everything it needs on loopback, ends it, prints a table and writes
// docs/benchmarks.md, docs/scaling.md and plots.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	quick := flag.Bool("quick", false, "few and short runs, in three minutes")
	binary := flag.String("binary", "", "measure this binary instead of building the gateway")
	profile := flag.String("pgo", "", "write the profile for the compiler to this file")
	filter := flag.String("case", "", "run only cases whose id contains this, and write no report")
	tokenService := flag.String("token-service", "", "serve as the token service of the peers on this address (used by itself)")
	redisAddress := flag.String("redis", "", "the token service's Redis")
	flag.Parse()

	if *tokenService != "" {
		exit(serveTokens(*tokenService, *redisAddress))
	}
	// A reader that goes away is a reason to end what was started, not to die.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	ctx, cancel := context.WithTimeout(ctx, 45*time.Minute)
	s := newSettings(*quick)
	s.Filter, s.Profile = *filter, *profile
	err := run(ctx, s, *binary)
	cancel()
	stop()
	exit(err)
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func run(ctx context.Context, s settings, binary string) error {
	const top = "."
	l, err := newLab(ctx, top, binary)
	if err != nil {
		return err
	}
	defer l.close()
	b := &bench{lab: l, s: s, report: &report{Machine: describe(ctx, l), Settings: s}}
	if err := b.prepare(ctx); err != nil {
		return err
	}
	defer b.platform.close()
	time.Sleep(time.Second)
	if err := b.report.remember(b.plain, b.gate, "idle, just started"); err != nil {
		return err
	}
	parts := []func(context.Context) error{b.cases, b.peers, b.latencies, b.sweeps, b.capacity, b.profileGuided, b.live, b.micros}
	if s.Filter != "" {
		parts = parts[:3]
	}
	for _, part := range parts {
		if err := part(ctx); err != nil {
			return err
		}
	}
	b.report.print()
	if s.Filter != "" {
		return nil
	}
	return b.report.write(top)
}
