// SPDX-License-Identifier: MIT

package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"time"
)

// machine describes the machine and the programs of a run.
type machine struct {
	Date     string
	Commit   string
	CPU      string
	Cores    int
	Kernel   string
	Go       string
	Load     string // average at the start
	Versions []string
}

var version = regexp.MustCompile(`v?[0-9]+\.[0-9]+[0-9.]*`)

func describe(ctx context.Context, l *lab) machine {
	m := machine{Date: time.Now().UTC().Format("2006-01-02 15:04 UTC"), Cores: runtime.NumCPU(), Go: runtime.Version()}
	m.Commit = output(ctx, l.top, "git", "rev-parse", "--short", "HEAD")
	if output(ctx, l.top, "git", "status", "--porcelain", "--", "caddymodule", "tokens", "backendclient", "go.mod") != "" {
		m.Commit += " with changes"
	}
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		_, rest, _ := bytes.Cut(b, []byte("model name"))
		line, _, _ := bytes.Cut(rest, []byte("\n"))
		m.CPU = strings.Trim(string(line), " \t:")
	}
	if b, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.Kernel = strings.TrimSpace(string(b))
	}
	if b, err := os.ReadFile("/proc/loadavg"); err == nil {
		m.Load = strings.Join(strings.Fields(string(b))[:3], " ")
	}
	for _, tool := range []struct {
		name string
		args []string
	}{
		{"Caddy", []string{l.binary, "version"}},
		{"Redis", []string{"redis-server", "--version"}},
		{"wrk", []string{"wrk", "--version"}},
		{"nginx", []string{"nginx", "-v"}},
		{"HAProxy", []string{"haproxy", "-v"}},
	} {
		printed := output(ctx, l.top, tool.args[0], tool.args[1:]...)
		if _, after, found := strings.Cut(printed, tool.name+" "); found {
			printed = after
		}
		if v := version.FindString(printed); v != "" {
			m.Versions = append(m.Versions, tool.name+" "+v)
		}
	}
	for folder, module := range map[string]string{"vegeta": "tsenart/vegeta/v12 v", "peers": "oauth2-proxy/oauth2-proxy/v7 v"} {
		if b, err := os.ReadFile(l.top + "/tests/bench/" + folder + "/go.mod"); err == nil {
			if _, rest, ok := bytes.Cut(b, []byte(module)); ok {
				m.Versions = append(m.Versions, strings.Split(module, "/")[1]+" "+strings.Fields(string(rest))[0])
			}
		}
	}
	return m
}

// output returns a command's output, even if it fails: some tools print their version with an
// error about the option.
func output(ctx context.Context, dir, command string, args ...string) string {
	cmd := exec.CommandContext(ctx, command, args...)
	cmd.Dir = dir
	out, _ := cmd.CombinedOutput()
	return strings.TrimSpace(string(out))
}
