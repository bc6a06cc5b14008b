// SPDX-License-Identifier: MIT

package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// profiled is where the gate's CPU goes in one case.
type profiled struct {
	ID, Name string
	Shares   []share
}

// share is the part of all CPU time spent in a function and what it calls. Parts
// overlap: one calls the other.
type share struct {
	What, Function string
	Percent        float64
}

// places are the functions that say most about where time goes, as pprof writes
// them.
var places = []struct{ what, function string }{
	{"serving HTTP, all of it", "net/http.(*conn).serve"},
	{"the gate, with all that follows", "caddymodule.(*Handler).ServeHTTP"},
	{"finding out whether the token is valid", "tokens.(*Authority).Verify"},
	{"of which parsing and signature", "jwt/v5.(*Parser).ParseWithClaims"},
	{"authenticating the application", "caddymodule.(*call).login"},
	{"issuing the token", "tokens.(*Authority).Issue"},
	{"limits", "caddymodule.(*call).count"},
	{"asking Meet", "backendclient.(*Client).Send"},
	{"reverse_proxy's transport", "reverseproxy.(*HTTPTransport).RoundTrip"},
	{"its goroutines to the upstream", "net/http.(*persistConn).writeLoop"},
	{"Redis' client, single commands", "go-redis/v9.(*Client).Process"},
	{"Redis' client, pipelines", "go-redis/v9.(*Pipeline).Exec"},
	{"allocating", "runtime.mallocgc"},
	{"collecting garbage", "runtime.gcBgMarkWorker"},
	{"system calls", "syscall.RawSyscall6"},
}

// profile measures where the CPU time of a gate goes under a load.
func (b *bench) profile(ctx context.Context, name string, t *target) (file string, err error) {
	const seconds = 4
	server := t.servers[0]
	file = filepath.Join(b.dir, name+".pprof")
	done := make(chan error, 1)
	go func() {
		done <- fetch(ctx, fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", server.admin, seconds), file)
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

// fetch writes what is at an address to a file.
func fetch(ctx context.Context, address, file string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, res.Body)
	if closeErr := out.Close(); err == nil {
		err = closeErr
	}
	return err
}

// explain says where the CPU time of a case goes whose budget was missed.
func (b *bench) explain(ctx context.Context, r *result, t *target) error {
	if r.Pairs == nil || r.ratios().Median <= r.Budget || b.s.Quick || b.s.Filter != "" {
		return nil
	}
	file, err := b.profile(ctx, r.ID, t)
	if err != nil {
		return fmt.Errorf("profiling %s: %w", r.ID, err)
	}
	out, err := exec.CommandContext(ctx, "go", "tool", "pprof", "-top", "-cum", "-nodecount=10000", "-nodefraction=0", b.binary, file).CombinedOutput()
	if err != nil {
		return fmt.Errorf("reading a profile: %w\n%s", err, out)
	}
	b.report.Profiles = append(b.report.Profiles, profiled{ID: r.ID, Name: r.Name, Shares: sharesOf(out)})
	return nil
}

// sharesOf reads the table that pprof -top -cum prints, lines such as
// "0.03s 0.31% 0.31% 4.32s 44.81%  net/http.(*conn).serve (inline)".
func sharesOf(top []byte) []share {
	found := map[string]float64{}
	lines := bufio.NewScanner(bytes.NewReader(top))
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 6 || !strings.HasSuffix(fields[4], "%") {
			continue
		}
		percent, err := strconv.ParseFloat(strings.TrimSuffix(fields[4], "%"), 64)
		if err != nil {
			continue
		}
		for _, p := range places {
			if strings.HasSuffix(fields[5], p.function) {
				found[p.function] = percent
			}
		}
	}
	var shares []share
	for _, p := range places {
		if percent := found[p.function]; percent >= 0.5 {
			shares = append(shares, share{What: p.what, Function: p.function, Percent: percent})
		}
	}
	return shares
}
