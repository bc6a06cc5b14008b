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

// latency is what vegeta saw at a fixed rate, in milliseconds.
type latency struct {
	P50, P99, P999 float64
	Answers        int
}

// latencyPair is plain and gate, right after each other.
type latencyPair struct{ A, B latency }

// fixedRate is the case at half of plain's saturation.
type fixedRate struct {
	Rate  int
	Pairs []latencyPair
	// PauseA and PauseB are the longest stops of all goroutines for a garbage collection,
	// of the latest 256, in milliseconds.
	PauseA, PauseB float64
}

func (f *fixedRate) spread(value func(latencyPair) float64) spread { return spreadOf(f.Pairs, value) }

// A99, B99 and Ratio99 are for the report.
func (f *fixedRate) A50() spread { return f.spread(func(p latencyPair) float64 { return p.A.P50 }) }

func (f *fixedRate) B50() spread { return f.spread(func(p latencyPair) float64 { return p.B.P50 }) }

func (f *fixedRate) A99() spread { return f.spread(func(p latencyPair) float64 { return p.A.P99 }) }

func (f *fixedRate) B99() spread { return f.spread(func(p latencyPair) float64 { return p.B.P99 }) }

func (f *fixedRate) A999() spread { return f.spread(func(p latencyPair) float64 { return p.A.P999 }) }

func (f *fixedRate) B999() spread { return f.spread(func(p latencyPair) float64 { return p.B.P999 }) }

func (f *fixedRate) Ratio99() spread {
	return f.spread(func(p latencyPair) float64 { return p.B.P99 / p.A.P99 })
}

// vegeta builds the load generator that keeps a rate whatever the server does, so
// that a server that stalls does not make its own measurement rarer (wrk waits
// for each answer). Its module is pinned beside this program.
func (b *bench) vegeta(ctx context.Context) (string, error) {
	binary := filepath.Join(b.dir, "vegeta")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", binary, "github.com/tsenart/vegeta/v12")
	cmd.Dir = filepath.Join(b.top, "tests/bench/vegeta")
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=readonly")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building vegeta: %w\n%s", err, out)
	}
	return binary, nil
}

// manyKnown is how many tokens the gate knows whose latency is measured: as many as it
// remembers by default.
const manyKnown = 100_000

// latencies compares plain with a gate of its own that knows many tokens.
func (b *bench) latencies(ctx context.Context) error {
	if !strings.Contains("p99", b.s.Filter) {
		return nil
	}
	binary, err := b.vegeta(ctx)
	if err != nil {
		return err
	}
	gate, err := b.startGate(ctx, "gate-p99", gateOptions{})
	if err != nil {
		return err
	}
	defer gate.stop()
	known, err := b.platform.issue(ctx, manyKnown, b.clients, manyTokens)
	if err != nil {
		return err
	}
	if err := b.warm(ctx, on(&load{requests: reads(known), connections: connections}, gate)); err != nil {
		return err
	}
	if err := b.report.remember(b.plain, gate, "a gate that knows 100,000 tokens of 10,000 users"); err != nil {
		return err
	}
	l, err := b.oneToken(ctx)
	if err != nil {
		return err
	}
	// As much as plain takes from this generator, which needs a good part of the
	// machine itself.
	saturated, err := b.attack(ctx, binary, b.plain, l.requests[0], 0)
	if err != nil {
		return err
	}
	f := &fixedRate{Rate: int(float64(saturated.Answers) / b.s.Fixed.Seconds() / 2)}
	fmt.Fprintf(os.Stderr, "%-28s %d/s", "latency", f.Rate)
	for i := range b.s.fewer() + 1 {
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
	if f.PauseA, err = longestPause(ctx, b.plain); err != nil {
		return err
	}
	if f.PauseB, err = longestPause(ctx, gate); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "  p99 A %s ms  B %s ms  ratio %s  longest pause A %.2f ms  B %.2f ms\n", f.A99(), f.B99(), f.Ratio99(), f.PauseA, f.PauseB)
	b.report.Fixed = f
	return nil
}

// longestPause asks a Caddy for its metrics.
func longestPause(ctx context.Context, s *server) (float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.admin+"/metrics", http.NoBody)
	if err != nil {
		return 0, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, err
	}
	_, rest, found := strings.Cut(string(text), `go_gc_duration_seconds{quantile="1"} `)
	if !found {
		return 0, fmt.Errorf("%s has no metric of garbage collections", s.name)
	}
	value, _, _ := strings.Cut(rest, "\n")
	seconds, err := strconv.ParseFloat(value, 64)
	return seconds * 1000, err
}

// attack sends one request again and again at a rate; 0 is as fast as the server
// answers.
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

// parseVegeta works percentiles out of vegeta's results, one a line: timestamp,
// status and latency in nanoseconds come first. (vegeta's own reports estimate
// percentiles and have no 99.9.)
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

// percentile is the smallest value that the given part of the sorted values does
// not exceed.
func percentile(sorted []float64, part float64) float64 {
	return sorted[max(int(math.Ceil(part*float64(len(sorted))))-1, 0)]
}
