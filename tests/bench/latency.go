// SPDX-License-Identifier: MIT

package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// latency is a result of vegeta, in milliseconds.
type latency struct {
	P50, P99, P999 float64
	Answers        int
}

// latencyPair is a run of plain and one of the gateway, right after each other.
type latencyPair struct{ A, B latency }

// fixedRate is the case at half of plain's saturation.
type fixedRate struct {
	Rate  int
	Pairs []latencyPair
	// A and B are the traces of plain and of the gateway.
	A, B traced
	// Longer is how much longer the gateway's longest stop was than plain's, of each pair of
	// traces, in milliseconds.
	Longer []float64
}

// Of returns a percentile of plain or of the gateway.
func (f *fixedRate) Of(plain bool, value func(latency) float64) spread {
	return spreadOf(f.Pairs, func(p latencyPair) float64 {
		if plain {
			return value(p.A)
		}
		return value(p.B)
	})
}

func p50(l latency) float64  { return l.P50 }
func p99(l latency) float64  { return l.P99 }
func p999(l latency) float64 { return l.P999 }

// Ratio99 compares the two at p99.
func (f *fixedRate) Ratio99() spread {
	return spreadOf(f.Pairs, func(p latencyPair) float64 { return p.B.P99 / p.A.P99 })
}

// tool builds a program whose module is pinned in a folder beside this one.
func (l *lab) tool(ctx context.Context, folder, module string) (string, error) {
	binary := filepath.Join(l.dir, folder)
	cmd := exec.CommandContext(ctx, "go", "build", "-o", binary, module)
	cmd.Dir = filepath.Join(l.top, "tests/bench", folder)
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=readonly")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building %s: %w\n%s", module, err, out)
	}
	return binary, nil
}

// manyKnown is the number of tokens in the gateway's cache during the measurement of latency,
// which is the default size of the cache.
const manyKnown = 100_000

// latencies compares plain with a gateway that knows many tokens.
func (b *bench) latencies(ctx context.Context) error {
	if !strings.Contains("p99", b.s.Filter) {
		return nil
	}
	// vegeta keeps its rate while the server stalls. wrk waits for each answer, so it would send
	// fewer requests during a stall and hide it.
	binary, err := b.tool(ctx, "vegeta", "github.com/tsenart/vegeta/v12")
	if err != nil {
		return err
	}
	gate, err := b.startGate(ctx, "gate-p99", gateOptions{})
	if err != nil {
		return err
	}
	defer gate.stop()
	if err := b.fillCache(ctx, gate); err != nil {
		return err
	}
	l, err := b.oneToken(ctx)
	if err != nil {
		return err
	}
	// Plain's maximum with this generator, which uses a large part of the machine itself.
	saturated, err := b.attack(ctx, binary, b.plain, l.requests[0], 0)
	if err != nil {
		return err
	}
	f := &fixedRate{Rate: int(float64(saturated.Answers) / b.s.Fixed.Seconds() / 2)}
	fmt.Fprintf(os.Stderr, "%-28s %d/s", "latency", f.Rate)
	// A run is short, because disturbances of a machine last for seconds and then affect a pair.
	for i := range 2*b.s.Pairs + 1 {
		if err := b.report.Speeds.note("latency"); err != nil {
			return err
		}
		var p latencyPair
		if p.A, err = b.attack(ctx, binary, b.plain, l.requests[0], f.Rate); err != nil {
			return err
		}
		if p.B, err = b.attack(ctx, binary, gate, l.requests[0], f.Rate); err != nil {
			return err
		}
		if i > 0 { // the first warms up
			f.Pairs = append(f.Pairs, p)
		}
	}
	for range b.s.Pairs { // not in the same runs: a trace costs CPU
		x, err := b.traceAttack(ctx, binary, b.plain, l.requests[0], f.Rate)
		if err != nil {
			return err
		}
		y, err := b.traceAttack(ctx, binary, gate, l.requests[0], f.Rate)
		if err != nil {
			return err
		}
		f.A.add(x)
		f.B.add(y)
		f.Longer = append(f.Longer, y.longest()-x.longest())
	}
	fmt.Fprintf(os.Stderr, "  p99 A %s ms  B %s ms  ratio %s  longest stop B-A %s ms\n", f.Of(true, p99), f.Of(false, p99), f.Ratio99(), spreadOf(f.Longer, itself))
	b.report.Fixed = f
	return nil
}

// fillCache makes a gateway know many tokens.
func (b *bench) fillCache(ctx context.Context, gate *server) error {
	known, err := b.platform.issue(ctx, manyKnown, b.clients, manyTokens)
	if err != nil {
		return err
	}
	if err := b.warm(ctx, on(&load{requests: reads(known), connections: connections}, gate)); err != nil {
		return err
	}
	return b.remember(ctx, gate, "100,000 known tokens of 10,000 users", manyKnown)
}

// longestPause returns the longest of the last 256 stops by the collector, in
// milliseconds.
func longestPause(ctx context.Context, s *server) (float64, error) {
	seconds, err := metric(ctx, s, `go_gc_duration_seconds{quantile="1"}`)
	return seconds * 1000, err
}

// traceAttack traces a server during an attack, except the first and the last tenth.
func (b *bench) traceAttack(ctx context.Context, binary string, s *server, r request, rate int) (t *traced, err error) {
	done := make(chan error, 1)
	go func() {
		_, err := b.attack(ctx, binary, s, r, rate)
		done <- err
	}()
	time.Sleep(b.s.Fixed / 10)
	t, err = traceServer(ctx, s, b.s.Fixed*8/10)
	return t, errors.Join(err, <-done)
}

// attack repeats one request at a rate; 0 is as fast as the server answers.
func (b *bench) attack(ctx context.Context, binary string, s *server, r request, rate int) (latency, error) {
	ctx, cancel := context.WithTimeout(ctx, b.s.Fixed+30*time.Second)
	defer cancel()
	workers := 10_000
	if rate == 0 {
		workers = connections
	}
	attack := exec.CommandContext(ctx, binary, "attack", "-rate", strconv.Itoa(rate), "-duration", b.s.Fixed.String(),
		"-max-workers", strconv.Itoa(workers), "-connections", strconv.Itoa(4*connections), "-max-connections", strconv.Itoa(4*connections), "-max-body", "0")
	attack.Stdin = bytes.NewBufferString(fmt.Sprintf("%s http://%s%s\nAuthorization: %s\nAccept: application/json\n", r.method, s.address, r.path, r.authorization))
	results, err := attack.Output()
	if err != nil {
		return latency{}, fmt.Errorf("vegeta attack: %w", err)
	}
	encode := exec.CommandContext(ctx, binary, "encode", "-to", "csv")
	encode.Stdin = bytes.NewReader(results)
	text, err := encode.Output()
	if err != nil {
		return latency{}, fmt.Errorf("vegeta encode: %w", err)
	}
	return parseVegeta(text)
}

// parseVegeta computes percentiles from vegeta's results. Each line begins with timestamp, status
// and latency in nanoseconds. vegeta's own reports estimate percentiles and lack p99.9.
func parseVegeta(results []byte) (latency, error) {
	rows := csv.NewReader(bytes.NewReader(results))
	rows.FieldsPerRecord = -1
	var took []float64
	for {
		row, err := rows.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil || len(row) < 3 {
			return latency{}, fmt.Errorf("reading vegeta's results: %v: %w", row, err)
		}
		if row[1] != strconv.Itoa(http.StatusOK) {
			return latency{}, fmt.Errorf("vegeta got status %s: %v", row[1], row)
		}
		ns, err := strconv.ParseFloat(row[2], 64)
		if err != nil {
			return latency{}, fmt.Errorf("reading vegeta's results: %w", err)
		}
		took = append(took, ns/1e6)
	}
	if len(took) == 0 {
		return latency{}, errors.New("vegeta sent nothing")
	}
	slices.Sort(took)
	return latency{P50: percentile(took, 0.5), P99: percentile(took, 0.99), P999: percentile(took, 0.999), Answers: len(took)}, nil
}

// percentile returns the smallest value that the given share of the sorted values does not exceed.
func percentile(sorted []float64, part float64) float64 {
	return sorted[max(int(math.Ceil(part*float64(len(sorted))))-1, 0)]
}
