// SPDX-License-Identifier: MIT

package cluster

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tests/child"
	"github.com/meet-gateway/meet-gateway/tests/gatewaytest"
)

// patience bounds every wait.
const patience = 90 * time.Second

// eventually waits until done reports true, and fails the test if it never does.
func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %s for %s", patience, what)
		}
	}
}

// config is the configuration of one gateway, as parts of a Caddyfile.
type config struct {
	global string // in the global option meet_gateway: store, secret and so on
	gate   string // in the directive: the backend
	extra  string // further global options
	level  string // of the log; default: WARN
}

// gateway is one gateway process. It keeps its address across restarts.
type gateway struct {
	name   string
	url    string
	admin  string
	dir    string
	config config
	proc   *child.Process
	client *http.Client
}

// startGateway runs a gateway that ends with the test.
func startGateway(t testing.TB, name string, c config) *gateway {
	t.Helper()
	g := &gateway{name: name, dir: t.TempDir(), config: c}
	for _, address := range []*string{&g.url, &g.admin} {
		claim, err := child.ClaimPort()
		require.NoError(t, err)
		t.Cleanup(claim.Release)
		*address = "http://" + claim.Addr()
	}
	g.client = &http.Client{
		Timeout:       patience,
		Transport:     &http.Transport{MaxIdleConnsPerHost: 32, IdleConnTimeout: time.Minute},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	g.start(t)
	t.Cleanup(func() {
		g.client.CloseIdleConnections()
		g.proc.Kill()
		g.checkOutput(t)
	})
	return g
}

// start runs the process and waits until it answers.
func (g *gateway) start(t testing.TB) {
	t.Helper()
	file := filepath.Join(g.dir, "Caddyfile")
	require.NoError(t, os.WriteFile(file, []byte(g.caddyfile(g.config)), 0o600))
	output, err := os.OpenFile(g.outputFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(t, err)
	defer output.Close()

	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(self, "run", "--config", file, "--adapter", "caddyfile")
	cmd.Dir = g.dir
	cmd.Env = append(os.Environ(), beGateway+"=1", "HOME="+g.dir, "XDG_DATA_HOME="+g.dir, "XDG_CONFIG_HOME="+g.dir)
	cmd.Stdout, cmd.Stderr = output, output
	g.proc, err = child.Start(cmd)
	require.NoError(t, err)
	eventually(t, g.name+" to answer", func() bool {
		if !g.proc.Running() {
			t.Fatalf("%s ended:\n%s", g.name, g.output(t))
		}
		res, err := g.client.Get(g.url + identityPath)
		if err != nil || res.Body.Close() != nil {
			return false
		}
		// Caddy opens its sites shortly before the configuration is loaded completely.
		res, err = g.client.Get(g.admin + "/meet-gateway/health/live")
		return err == nil && res.Body.Close() == nil && res.StatusCode == http.StatusOK
	})
}

// kill ends the process without a shutdown.
func (g *gateway) kill() { g.proc.Kill() }

// pause suspends the process, like a machine that sleeps or swaps.
func (g *gateway) pause(t testing.TB) {
	t.Helper()
	require.NoError(t, g.proc.Signal(syscall.SIGSTOP))
	eventually(t, g.name+" to be suspended", g.proc.Suspended)
}

// resume ends pause.
func (g *gateway) resume(t testing.TB) {
	t.Helper()
	require.NoError(t, g.proc.Signal(syscall.SIGCONT))
}

func (g *gateway) caddyfile(c config) string {
	return fmt.Sprintf(`{
	admin %s
	persist_config off
	auto_https off
	grace_period 5s
	log {
		level %s
	}
	%s
	meet_gateway {
		%s
	}
}
%s {
	meet_gateway {
		%s
	}
}
`, strings.TrimPrefix(g.admin, "http://"), cmp.Or(c.level, "WARN"), c.extra, c.global, g.url, c.gate)
}

// reload loads a configuration through the admin endpoint, like `caddy reload --force`, and returns
// the answer. It retries, because each reload replaces the admin endpoint and closes its
// connections.
func (g *gateway) reload(t testing.TB, c config) *gatewaytest.Answer {
	t.Helper()
	var a *gatewaytest.Answer
	var err error
	for range 3 {
		a, err = g.try(http.MethodPost, g.admin+"/load", g.caddyfile(c), "Content-Type", "text/caddyfile", "Cache-Control", "must-revalidate")
		if err == nil {
			break
		}
	}
	require.NoError(t, err, g.name)
	return a
}

// call makes a request and fails the test if there is no answer. target is a URL or a path of the
// site; headers come in pairs.
func (g *gateway) call(t testing.TB, method, target, body string, headers ...string) *gatewaytest.Answer {
	t.Helper()
	a, err := g.try(method, target, body, headers...)
	require.NoError(t, err, "%s: %s %s", g.name, method, target)
	return a
}

// try makes a request that may fail to connect.
func (g *gateway) try(method, target, body string, headers ...string) (*gatewaytest.Answer, error) {
	if strings.HasPrefix(target, "/") {
		target = g.url + target
	}
	r, err := http.NewRequest(method, target, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	res, err := g.client.Do(r)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, err
	}
	return &gatewaytest.Answer{Status: res.StatusCode, Header: res.Header, Body: string(text)}, nil
}

// ready returns the status of the readiness endpoint.
func (g *gateway) ready(t testing.TB) int {
	t.Helper()
	return g.call(t, http.MethodGet, g.admin+"/meet-gateway/health/ready", "").Status
}

// goroutines returns the number of goroutines of the process.
func (g *gateway) goroutines(t testing.TB) int {
	t.Helper()
	a := g.call(t, http.MethodGet, g.admin+"/debug/pprof/goroutine?debug=1", "")
	var n int
	_, err := fmt.Sscanf(a.Body, "goroutine profile: total %d", &n)
	require.NoError(t, err, a.Body)
	return n
}

func (g *gateway) outputFile() string { return filepath.Join(g.dir, "output") }

func (g *gateway) output(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile(g.outputFile())
	require.NoError(t, err)
	return string(text)
}

// checkOutput fails the test if the gateway panicked or raced.
func (g *gateway) checkOutput(t testing.TB) {
	t.Helper()
	output := []byte(g.output(t))
	for _, sign := range []string{"DATA RACE", "panic"} {
		if i := bytes.Index(output, []byte(sign)); i >= 0 {
			t.Errorf("%s: %s", g.name, output[max(0, i-500):min(len(output), i+4000)])
		}
	}
}
