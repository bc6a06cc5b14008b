// SPDX-License-Identifier: MIT

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// micros runs the micro-benchmarks of the packages. The report shows their output in the format of
// benchstat.
func (b *bench) micros(ctx context.Context) error {
	if b.s.Quick {
		return nil
	}
	fmt.Fprintln(os.Stderr, "micro-benchmarks")
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-short", "-bench", ".", "-benchmem", "-benchtime", "200ms",
		"./tokens", "./tokens/signing", "./tokens/limit", "./backendclient", "./caddymodule", "./caddymodule/admin")
	cmd.Dir = b.top
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("micro-benchmarks: %w\n%s", err, out)
	}
	for line := range bytes.Lines(out) {
		if bytes.HasPrefix(line, []byte("pkg: ")) || bytes.HasPrefix(line, []byte("Benchmark")) {
			b.report.Micros = append(b.report.Micros, strings.TrimSpace(string(line)))
		}
	}
	return nil
}
