// SPDX-License-Identifier: MIT

package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// lab holds the processes of the measurements, all on loopback.
type lab struct {
	top    string // of the repository
	dir    string // for temporary files
	binary string // the gateway's, also plain Caddy
	secret string
	gen    *generator

	upstream *upstream
	redis    *redisServer

	running []*process
}

// newLab starts Redis, the upstream and the load generator. It builds the binary unless one is
// given.
func newLab(ctx context.Context, top, binary string) (*lab, error) {
	dir, err := os.MkdirTemp("", "meet-gateway-bench-")
	if err != nil {
		return nil, err
	}
	l := &lab{top: top, dir: dir, binary: binary, secret: randomHex(32)}
	if l.binary == "" {
		l.binary = filepath.Join(dir, "meet-gateway")
		if err := l.build(ctx); err != nil {
			l.close()
			return nil, err
		}
	}
	if l.gen, err = newGenerator(dir); err == nil {
		if l.redis, err = startRedis(ctx, l); err == nil {
			l.upstream, err = startUpstream(ctx, l)
		}
	}
	if err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

// build makes the gateway's binary as make build does.
func (l *lab) build(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-o", l.binary, "./caddymodule/cmd/meet-gateway")
	cmd.Dir = l.top
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building the gateway: %w\n%s", err, out)
	}
	return nil
}

// start runs a process that ends with the lab.
func (l *lab) start(name string, env []string, command string, args ...string) (*process, error) {
	p, err := start(l.dir, name, env, command, args...)
	if err == nil {
		l.running = append(l.running, p)
	}
	return p, err
}

// close stops all processes, the last started first.
func (l *lab) close() {
	for _, p := range slices.Backward(l.running) {
		p.stop()
	}
	l.running = nil
	_ = os.RemoveAll(l.dir)
}

// server is a measured server: its address, and the processes whose CPU and memory count.
type server struct {
	name      string
	address   string
	admin     string
	processes []*process
}

func (s *server) stop() {
	for _, p := range s.processes {
		p.stop()
	}
}

// serve starts a server on a free address and waits until it listens.
func (l *lab) serve(ctx context.Context, name string, start func(address string) (*process, error)) (*server, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	p, err := start(address)
	if err != nil {
		return nil, err
	}
	return &server{name: name, address: address, processes: []*process{p}}, p.listening(ctx, address)
}

// caddySite is the configuration of one Caddy process, plain or gateway.
type caddySite struct {
	global string // inside the global options
	site   string // inside the site
	log    bool   // a JSON access log to a file
	tls    bool   // a certificate of Caddy's own authority
	env    []string
}

// startCaddy runs the binary with a Caddyfile.
func (l *lab) startCaddy(ctx context.Context, name string, c caddySite) (*server, error) {
	admin, err := freeAddress()
	if err != nil {
		return nil, err
	}
	s, err := l.serve(ctx, name, func(address string) (*process, error) {
		_, port, _ := strings.Cut(address, ":")
		site := "http://:" + port
		if c.tls {
			site = "https://" + address
			c.site += "\ntls internal\n"
		}
		if c.log {
			c.site += fmt.Sprintf("\nlog {\noutput file %s {\nroll_size 1GiB\n}\n}\n", filepath.Join(l.dir, name+".access.json"))
		}
		text := fmt.Appendf(nil, "{\nadmin %s\nauto_https disable_redirects\nskip_install_trust\npersist_config off\n%s\n}\n%s {\nbind 127.0.0.1\n%s\n}\n",
			admin, c.global, site, c.site)
		file := filepath.Join(l.dir, name+".caddyfile")
		if err := os.WriteFile(file, text, 0o600); err != nil {
			return nil, err
		}
		home := filepath.Join(l.dir, name+".home")
		env := []string{"MEET_GATEWAY_SECRET=" + l.secret, "XDG_DATA_HOME=" + home, "XDG_CONFIG_HOME=" + home}
		return l.start(name, append(env, c.env...), l.binary, "run", "--config", file, "--adapter", "caddyfile")
	})
	if err != nil {
		return nil, err
	}
	s.admin = admin
	return s, nil
}

// startPlain starts the baseline: the same binary as a bare reverse proxy.
func (l *lab) startPlain(ctx context.Context, name string, log bool) (*server, error) {
	return l.startCaddy(ctx, name, caddySite{site: "reverse_proxy " + l.upstream.address, log: log})
}

// gateOptions vary a gateway.
type gateOptions struct {
	cacheEntries int
	signingKey   string // a PEM file
	log          bool
	tls          bool
	redis        string // another address than the lab's Redis
	backend      string // options of reverse_proxy in the backend block
	audit        string // a file for an audit trail; metrics by application too
	collector    string // the URL of one, for traces
}

// startGate runs a gateway on the lab's Redis and upstream.
func (l *lab) startGate(ctx context.Context, name string, o gateOptions) (*server, error) {
	global := []string{"store redis redis://" + cmp.Or(o.redis, l.redis.address), "secret {env.MEET_GATEWAY_SECRET}"}
	// Limits are counted as usual, but are never reached.
	for _, name := range []string{"token", "token_user", "read", "read_user", "create", "create_user"} {
		global = append(global, "limit "+name+" 1000000/1s")
	}
	if o.cacheEntries > 0 {
		global = append(global, fmt.Sprintf("cache_entries %d", o.cacheEntries))
	}
	if o.signingKey != "" {
		global = append(global, "signing_key {file."+o.signingKey+"}")
	}
	if o.audit != "" {
		global = append(global, "audit {\noutput file "+o.audit+" {\nroll_size 1GiB\n}\n}", "metrics_per_application 20")
	}
	site := caddySite{
		global: "meet_gateway {\n" + strings.Join(global, "\n") + "\n}",
		site: "meet_gateway {\nbase_path /external-api/v1.0 /\nbackend " + l.upstream.address +
			" {\nhost meet.example.org\ncredentials gateway-at-meet gateway-secret-at-meet\n" + o.backend + "\n}\n}",
		log: o.log, tls: o.tls,
	}
	if o.collector != "" {
		site = site.traced(o.collector)
	}
	return l.startCaddy(ctx, name, site)
}

func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}
