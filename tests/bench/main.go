// SPDX-License-Identifier: MIT

// Command bench measures the cost of the gateway, compared with plain Caddy from the same binary
// and with alternatives. `make bench` runs it. It starts everything it needs on loopback and stops
// it at the end, prints a table, and writes docs/benchmarks.md, docs/scaling.md and plots.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	quick := flag.Bool("quick", false, "few and short runs, in about four minutes")
	binary := flag.String("binary", "", "measure this binary instead of building the gateway")
	filter := flag.String("case", "", "run only cases whose id contains this, or the part with this name, and write no report")
	tokenService := flag.String("token-service", "", "serve as the token service of the peers on this address (internal)")
	redisAddress := flag.String("redis", "", "the token service's Redis")
	flag.Parse()

	if *tokenService != "" {
		exit(serveTokens(*tokenService, *redisAddress))
	}
	// SIGPIPE, when the reader of the output ends, must stop the started processes as well.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	ctx, cancel := context.WithTimeout(ctx, 45*time.Minute)
	s := newSettings(*quick)
	s.Filter = *filter
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
	began := time.Now()
	l, err := newLab(ctx, top, binary)
	if err != nil {
		return err
	}
	defer l.close()
	b := &bench{lab: l, s: s, began: began, report: &report{Machine: describe(ctx, l), Settings: s, Speeds: speeds{}}}
	if err := b.prepare(ctx); err != nil {
		return err
	}
	defer b.platform.close()
	time.Sleep(5 * time.Second) // until the pages of the start are given back
	if err := b.remember(ctx, b.gate, "idle, five seconds after the start", 0); err != nil {
		return err
	}
	for i, part := range []struct {
		name string
		run  func(context.Context) error
	}{
		{"cases", b.cases},
		{"peers", b.peers},
		{"latency", b.latencies},
		{"feed", b.feeds},
		{"capacity", b.capacity},
		{"contention", b.contention},
		{"live tokens", b.live},
		{"sweeps", b.sweeps},
		{"micro-benchmarks", b.micros},
	} {
		if s.Filter != "" && i > 2 && part.name != s.Filter || b.late(part.name) {
			continue
		}
		if err := b.attempt(ctx, part.name, part.run); err != nil {
			return err
		}
	}
	b.report.Took = time.Since(began).Round(time.Minute)
	b.report.print()
	if s.Filter == "" {
		b.failed = errors.Join(b.failed, b.report.write(top))
	}
	return b.failed
}

// attempt runs a part. The report names a part that failed, and the run continues. attempt
// returns an error only if the context has ended.
func (b *bench) attempt(ctx context.Context, name string, run func(context.Context) error) error {
	err := run(ctx)
	if err == nil || ctx.Err() != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, name, "failed:", err)
	b.report.Failed = append(b.report.Failed, name)
	b.failed = errors.Join(b.failed, fmt.Errorf("%s: %w", name, err))
	return nil
}

// late reports whether the time is over, and notes the part as left out.
func (b *bench) late(part string) bool {
	late := time.Since(b.began) > b.s.Limit
	if late {
		fmt.Fprintln(os.Stderr, "left out, time is over:", part)
		b.report.LeftOut = append(b.report.LeftOut, part)
	}
	return late
}
