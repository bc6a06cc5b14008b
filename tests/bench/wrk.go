// SPDX-License-Identifier: MIT

package main

import (
	"bufio"
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"
)

// loadScript makes wrk send the requests of a file.
//
//go:embed load.lua
var loadScript []byte

// request is one request of a load.
type request struct {
	method, path  string
	authorization string
	contentType   string
	body          string
}

// load is a list of requests that wrk sends.
type load struct {
	requests    []request
	connections int
	// once ends the run after one pass over the requests.
	once bool
	// tls sends the requests over TLS; http2 sends only the first, over HTTP/2 and TLS.
	tls, http2 bool
}

// sent is wrk's summary of a run.
type sent struct {
	Requests     int64 `json:"requests"`
	Microseconds int64 `json:"microseconds"`
	// Refused counts answers with a status of 400 or more.
	Refused int64 `json:"refused"`
	// Broken counts requests without an answer.
	Broken int64 `json:"broken"`
}

func (s sent) perSecond() float64 {
	if s.Microseconds == 0 {
		return 0
	}
	return float64(s.Requests) / (float64(s.Microseconds) / 1e6)
}

// generator runs wrk.
type generator struct {
	dir    string
	script string
	files  map[*load]string
}

func newGenerator(dir string) (*generator, error) {
	if _, err := exec.LookPath("wrk"); err != nil {
		return nil, fmt.Errorf("wrk is needed: apt-get install wrk: %w", err)
	}
	g := &generator{dir: dir, script: filepath.Join(dir, "load.lua"), files: map[*load]string{}}
	return g, os.WriteFile(g.script, loadScript, 0o600)
}

// run loads the addresses for a time, each with a share of the connections.
func (g *generator) run(ctx context.Context, l *load, d time.Duration, addresses ...string) (sent, error) {
	file, err := g.file(l)
	if err != nil {
		return sent{}, err
	}
	outcomes := make([]sent, len(addresses))
	all, ctx := errgroup.WithContext(ctx)
	for i, address := range addresses {
		all.Go(func() (err error) {
			outcomes[i], err = g.one(ctx, file, l, max(l.connections/len(addresses), 1), d, address)
			return err
		})
	}
	err = all.Wait()
	var sum sent
	for _, o := range outcomes {
		sum.Requests += o.Requests
		sum.Refused += o.Refused
		sum.Broken += o.Broken
		sum.Microseconds = max(sum.Microseconds, o.Microseconds)
	}
	return sum, err
}

func (g *generator) one(ctx context.Context, file string, l *load, connections int, d time.Duration, address string) (sent, error) {
	if l.http2 {
		return h2load(ctx, l, d, address)
	}
	scheme := "http://"
	if l.tls {
		scheme = "https://"
	}
	// One thread saturates every server here and keeps the order of requests.
	args := []string{
		"-t1", "-c" + strconv.Itoa(connections), "-d" + strconv.FormatFloat(d.Seconds(), 'f', 0, 64) + "s",
		"-s", g.script, scheme + address, "--", file,
	}
	if l.once {
		args = append(args, "once")
	}
	ctx, cancel := context.WithTimeout(ctx, d+30*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "wrk", args...).CombinedOutput()
	if err != nil {
		return sent{}, fmt.Errorf("wrk: %w\n%s", err, out)
	}
	return parseWrk(out)
}

// parseWrk reads the line that load.lua prints at the end.
func parseWrk(out []byte) (sent, error) {
	lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
	var s sent
	if err := json.Unmarshal(lines[len(lines)-1], &s); err != nil {
		return sent{}, fmt.Errorf("reading what wrk printed: %w\n%s", err, out)
	}
	if s.Requests == 0 {
		return sent{}, fmt.Errorf("wrk got no answer\n%s", out)
	}
	return s, nil
}

// file writes a load to a file for wrk, unless it exists.
func (g *generator) file(l *load) (string, error) {
	if name, ok := g.files[l]; ok {
		return name, nil
	}
	name := filepath.Join(g.dir, fmt.Sprintf("load-%d.tsv", len(g.files)))
	f, err := os.Create(name)
	if err != nil {
		return "", err
	}
	w := bufio.NewWriter(f)
	for _, r := range l.requests {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", r.method, r.path, r.authorization, r.contentType, r.body)
	}
	if err := w.Flush(); err != nil {
		return "", err
	}
	g.files[l] = name
	return name, f.Close()
}
