// SPDX-License-Identifier: MIT

package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// profiled is the CPU profile of the gateway in one case, as pprof prints it.
type profiled struct {
	ID, Name string
	Lines    []string
}

// places are the functions in the profiles: serving HTTP, the gateway,
// the token's check, authentication, issuing, limits, the request to Meet and its
// transport, Redis' client, memory, and system calls.
const places = `http\.\(\*conn\)\.serve$|\(\*Handler\)\.ServeHTTP$|\(\*Authority\)\.(Verify|Issue)$|ParseWithClaims$|\(\*call\)\.(login|count)$|` +
	`\(\*Client\)\.Send$|\(\*HTTPTransport\)\.RoundTrip$|persistConn\)\.writeLoop$|go-redis/v9\.\(\*(Client|Pipeline)\)\.(Process|Exec)$|` +
	`runtime\.(mallocgc|gcBgMarkWorker)$|syscall\.RawSyscall6$`

// profile takes a CPU profile of a gateway under a load.
func (b *bench) profile(ctx context.Context, name string, t *target) (file string, err error) {
	const seconds = 4
	server := t.servers[0]
	file = filepath.Join(b.dir, name+".pprof")
	done := make(chan error, 1)
	go func() {
		content, err := get(ctx, fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", server.admin, seconds))
		done <- cmp.Or(err, os.WriteFile(file, content, 0o600))
	}()
	for {
		if _, err := b.gen.run(ctx, t.next(), time.Second, server.address); err != nil {
			return "", err
		}
		select {
		case err := <-done:
			return file, err
		default:
		}
	}
}

// explain adds a CPU profile to the report if a case missed its budget.
func (b *bench) explain(ctx context.Context, r *result, t *target) error {
	if r.Pairs == nil || !r.missed() || b.s.Quick || b.s.Filter != "" {
		return nil
	}
	file, err := b.profile(ctx, r.ID, t)
	if err != nil {
		return fmt.Errorf("profiling %s: %w", r.ID, err)
	}
	out, err := exec.CommandContext(ctx, "go", "tool", "pprof", "-top", "-cum", "-show", places, "-nodefraction=0.005", b.binary, file).Output()
	if err != nil {
		return fmt.Errorf("reading a profile: %w", err)
	}
	_, table, _ := strings.Cut(string(out), "% of ") // after the name of the file
	b.report.Profiles = append(b.report.Profiles, profiled{ID: r.ID, Name: r.Name, Lines: strings.Split(strings.TrimSpace(table), "\n")[1:]})
	return nil
}
