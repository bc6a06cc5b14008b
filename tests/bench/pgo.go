// SPDX-License-Identifier: MIT

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// profileGuided measures what building with a profile of the gate under load is
// worth: the same binary without and with it. The profile is kept if the caller
// named a place for it.
func (b *bench) profileGuided(ctx context.Context) error {
	if b.s.Quick {
		return nil
	}
	l, err := b.oneToken(ctx)
	if err != nil {
		return err
	}
	mixture, _, err := b.mixture(ctx)
	if err != nil {
		return err
	}
	var files []string
	for name, load := range map[string]*load{"pgo-hot": l, "pgo-mixture": mixture} {
		t := on(load, b.gate)
		if err := b.warm(ctx, t); err != nil {
			return err
		}
		file, err := b.profile(ctx, name, t)
		if err != nil {
			return err
		}
		files = append(files, file)
	}
	merged, err := exec.CommandContext(ctx, "go", append([]string{"tool", "pprof", "-proto", "-output", filepath.Join(b.dir, "merged.pgo")}, files...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("merging profiles: %w\n%s", err, merged)
	}
	file := filepath.Join(b.dir, "merged.pgo")
	without, with := filepath.Join(b.dir, "without-pgo"), filepath.Join(b.dir, "with-pgo")
	if err := b.build(ctx, without, "off"); err != nil {
		return err
	}
	if err := b.build(ctx, with, file); err != nil {
		return err
	}
	a, err := b.startOther(ctx, "gate-without-pgo", without)
	if err != nil {
		return err
	}
	defer a.stop()
	t, err := b.startOther(ctx, "gate-with-pgo", with)
	if err != nil {
		return err
	}
	defer t.stop()
	r := &result{ID: "pgo", Name: "one hot token, without and with a profile for the compiler", A: "gate built without", B: "gate built with it"}
	if err := b.compare(ctx, r, b.s.Pairs, on(l, a), on(l, t)); err != nil {
		return err
	}
	if b.s.Profile == "" {
		return nil
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	return os.WriteFile(b.s.Profile, content, 0o644) // for everybody to build with
}

// startOther is startGate with another binary.
func (b *bench) startOther(ctx context.Context, name, binary string) (*server, error) {
	other := &lab{top: b.top, dir: b.dir, binary: binary, secret: b.secret, gen: b.gen, upstream: b.upstream, redis: b.redis}
	s, err := other.startGate(ctx, name, gateOptions{})
	b.mu.Lock()
	defer b.mu.Unlock()
	b.running = append(b.running, other.running...)
	return s, err
}
