// SPDX-License-Identifier: MIT

package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// micro is one line of go test -bench.
type micro struct {
	Package, Name, Time, Bytes, Allocations string
}

// micros runs the micro-benchmarks beside the code.
func (b *bench) micros(ctx context.Context) error {
	if b.s.Quick {
		return nil
	}
	fmt.Fprintln(os.Stderr, "micro-benchmarks")
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-short", "-bench", ".", "-benchmem", "-benchtime", "300ms",
		"./tokens", "./backendclient", "./caddymodule", "./caddymodule/admin")
	cmd.Dir = b.top
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("micro-benchmarks: %w\n%s", err, out)
	}
	b.report.Micros = parseMicros(out)
	return nil
}

// parseMicros reads lines such as
// "BenchmarkX-2  1000  1234 ns/op  56 B/op  7 allocs/op".
func parseMicros(out []byte) []micro {
	var all []micro
	var pkg string
	lines := bufio.NewScanner(bytes.NewReader(out))
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) == 2 && fields[0] == "pkg:" {
			pkg = fields[1][strings.LastIndexByte(fields[1], '/')+1:]
		}
		if len(fields) < 8 || !strings.HasPrefix(fields[0], "Benchmark") {
			continue
		}
		name := strings.TrimPrefix(fields[0], "Benchmark")
		if i := strings.LastIndexByte(name, '-'); i > 0 {
			name = name[:i]
		}
		m := micro{Package: pkg, Name: name}
		for i := 2; i+1 < len(fields); i += 2 {
			switch fields[i+1] {
			case "ns/op":
				m.Time = fields[i]
			case "B/op":
				m.Bytes = fields[i]
			case "allocs/op":
				m.Allocations = fields[i]
			}
		}
		all = append(all, m)
	}
	return all
}
