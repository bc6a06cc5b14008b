// SPDX-License-Identifier: MIT

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// contended is the share of time, in percent, that goroutines wait for mutexes with a number of
// cores.
type contended struct {
	Cores   int
	Waiting float64
	// Mutexes are the functions that held the mutexes, longest waits first.
	Mutexes []share
}

// share is the share of one function.
type share struct {
	Function string
	Percent  float64
}

// contentionRuns is the number of requests of one measurement. They take seconds: in less than
// half a second, one goroutine that the kernel stops with a mutex makes one percent.
const contentionRuns = 400_000

// contention profiles mutexes in the benchmark of known tokens with increasing values of
// GOMAXPROCS, which may exceed the cores of the machine.
func (b *bench) contention(ctx context.Context) error {
	if b.s.Quick {
		return nil
	}
	binary, profile := filepath.Join(b.dir, "contention.test"), filepath.Join(b.dir, "contention.pprof")
	build := exec.CommandContext(ctx, "go", "test", "-c", "-o", binary, "./caddymodule")
	build.Dir = b.top
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building the benchmark of contention: %w\n%s", err, out)
	}
	for _, cores := range []int{2, 4, 8} {
		if err := b.report.Speeds.note("contention"); err != nil {
			return err
		}
		test := exec.CommandContext(ctx, binary, "-test.run", "^$", "-test.bench", "_Contention$", "-test.benchtime", fmt.Sprint(contentionRuns, "x"),
			"-test.cpu", strconv.Itoa(cores), "-test.mutexprofile", profile)
		test.Dir = filepath.Join(b.top, "caddymodule")
		printed, err := test.CombinedOutput()
		if err != nil {
			return fmt.Errorf("measuring contention: %w\n%s", err, printed)
		}
		callers, err := exec.CommandContext(ctx, "go", "tool", "pprof", "-peek", "Unlock$", "-sample_index=delay", "-unit=us", binary, profile).CombinedOutput()
		if err != nil {
			return fmt.Errorf("reading a profile of mutexes: %w\n%s", err, callers)
		}
		c, err := parseContention(cores, string(printed), string(callers))
		if err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "%-12s %7d cores   waiting %.2f %%  %v\n", "contention", cores, c.Waiting, c.Mutexes)
		b.report.Contention = append(b.report.Contention, c)
	}
	return nil
}

var (
	contentionLine = regexp.MustCompile(`(?m)^Benchmark\w+_Contention\S*\s+(\d+)\s+([\d.]+) ns/op`)
	// waitedFor matches a line of pprof -peek about a caller: its delay and its name.
	waitedFor = regexp.MustCompile(`^\s+([\d.]+)us\s+[\d.]+%\s+\|\s+(\S+)`)
)

// parseContention reads the benchmark's result and the functions that released contended mutexes.
// It skips miniredis, which runs in the same process.
func parseContention(cores int, printed, callers string) (contended, error) {
	line := contentionLine.FindStringSubmatch(printed)
	if line == nil {
		return contended{}, fmt.Errorf("the benchmark of contention printed no result:\n%s", printed)
	}
	runs, _ := strconv.ParseFloat(line[1], 64) // digits, by the expression
	each, _ := strconv.ParseFloat(line[2], 64)
	c := contended{Cores: cores}
	goroutines := 8 * float64(cores)
	for text := range strings.Lines(callers) {
		found := waitedFor.FindStringSubmatch(text)
		if found == nil || strings.Contains(found[2], "miniredis") || strings.HasPrefix(found[2], "sync.") {
			continue
		}
		us, _ := strconv.ParseFloat(found[1], 64)
		percent := 100 * us * 1000 / (runs * each * goroutines)
		c.Waiting += percent
		if percent >= 0.005 {
			c.Mutexes = append(c.Mutexes, share{Function: found[2][strings.LastIndexByte(found[2], '/')+1:], Percent: percent})
		}
	}
	slices.SortFunc(c.Mutexes, func(a, b share) int { return int(1e6 * (b.Percent - a.Percent)) })
	c.Mutexes = c.Mutexes[:min(len(c.Mutexes), 4)]
	return c, nil
}

// worst returns the largest share of one mutex.
func (c contended) worst() float64 {
	if len(c.Mutexes) == 0 {
		return 0
	}
	return c.Mutexes[0].Percent
}
