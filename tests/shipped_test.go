// SPDX-License-Identifier: MIT

package tests

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/backendclient/sandbox"
	adminwire "github.com/meet-gateway/meet-gateway/caddymodule/admin/wire"
	"github.com/meet-gateway/meet-gateway/tests/child"
	"github.com/meet-gateway/meet-gateway/tests/gatewaytest"
	"github.com/meet-gateway/meet-gateway/tests/redistest"
)

// binary builds the gateway once for all tests that run it as a process.
var binary = sync.OnceValues(func() (string, error) {
	var err error
	if binaryDir, err = os.MkdirTemp("", "meet-gateway"); err != nil {
		return "", err
	}
	path := filepath.Join(binaryDir, "meet-gateway")
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "go", "build", "-o", path, "../caddymodule/cmd/meet-gateway").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("building the gateway: %w: %s", err, out)
	}
	return path, nil
})

// binaryDir is empty until a test needs the binary.
var binaryDir string

func TestMain(m *testing.M) {
	code := m.Run()
	if binaryDir != "" {
		_ = os.RemoveAll(binaryDir)
	}
	os.Exit(code)
}

// shipped is a gateway process with the Caddyfile of the repository.
type shipped struct {
	t       *testing.T
	process *child.Process
	address string
	admin   string
	out     *output
}

// output collects what a process prints.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

func startShipped(t *testing.T, env ...string) *shipped {
	t.Helper()
	path, err := binary()
	require.NoError(t, err)
	gate, err := child.ClaimPort()
	require.NoError(t, err)
	t.Cleanup(gate.Release)
	admin, err := child.ClaimPort()
	require.NoError(t, err)
	t.Cleanup(admin.Release)

	s := &shipped{t: t, address: gate.Addr(), admin: admin.Addr(), out: new(output)}
	cmd := exec.Command(path, "run", "--config", "../Caddyfile")
	home := t.TempDir()
	_, port, _ := strings.Cut(gate.Addr(), ":")
	for i := range env {
		env[i] = strings.ReplaceAll(env[i], "{port}", port)
	}
	cmd.Env = append([]string{
		"HOME=" + home, "XDG_DATA_HOME=" + home, "XDG_CONFIG_HOME=" + home, "PATH=" + os.Getenv("PATH"),
		"CADDY_ADMIN=" + admin.Addr(), "MEET_GATEWAY_ADDR=:" + port,
	}, env...)
	cmd.Stdout, cmd.Stderr = s.out, s.out
	s.process, err = child.Start(cmd)
	require.NoError(t, err)
	t.Cleanup(s.process.Terminate)
	return s
}

func (s *shipped) waitFor(text string) {
	s.t.Helper()
	require.Eventually(s.t, func() bool { return strings.Contains(s.out.String(), text) || !s.process.Running() }, 30*time.Second, 20*time.Millisecond)
	require.Contains(s.t, s.out.String(), text)
}

func TestShipped_QuickstartCommandsWorkWhenPasted(t *testing.T) {
	s := startShipped(t)
	s.waitFor("curl -s http://localhost:" + strings.Split(s.address, ":")[1] + "/external-api/v1.0/identity")
	printed := s.out.String()
	commands := regexp.MustCompile(`(?m)^  (TOKEN=.*|curl .*)$`).FindAllStringSubmatch(printed, -1)
	require.Len(t, commands, 4)
	var script strings.Builder
	for _, c := range commands {
		script.WriteString(c[1] + "\n")
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	shell := exec.CommandContext(ctx, "sh", "-e")
	shell.Stdin = strings.NewReader(script.String())
	out, err := shell.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Regexp(t, `(?s)^ey[^\n]+\n\{"id":"[0-9a-f-]{36}",.*\}\n\{"count":1,.*\}\n\{"status":"success","payload":\{"type":"user",.*\}\n$`, string(out))

	require.Contains(t, printed, "the embedded store is for trying out")
	require.Contains(t, printed, "the sandbox backend is for trying out")
}

func TestShipped_ProductionByEnvironment(t *testing.T) {
	redis := redistest.Standalone(t)
	meet := gatewaytest.StartMeet(t, sandbox.Production(), nil)
	meet.AddUser(sandbox.User{Sub: "alice", Email: "alice@example.com", Active: true})
	s := startShipped(t,
		"MEET_STORE=redis", "REDIS_URL="+redis.URL(), "MEET_GATEWAY_SECRET=0123456789-0123456789-0123456789-abc",
		"MEET_BACKEND=http://"+meet.Address, "MEET_BACKEND_HOST=meet.example.org",
		"MEET_CLIENT_ID="+gatewaytest.MeetClientID, "MEET_CLIENT_SECRET="+gatewaytest.MeetClientSecret,
	)
	s.waitFor("serving initial configuration")
	res, err := http.Get("http://" + s.address + "/identity")
	require.NoError(t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.Equal(t, 400, res.StatusCode)
	require.Contains(t, string(body), "invalid_authorization_header_type")
	require.NotContains(t, s.out.String(), "trying out")
	require.NotContains(t, s.out.String(), "client secret")
}

// A credential in the query does not appear in the access log.
func TestShipped_AccessLogWithoutCredentials(t *testing.T) {
	s := startShipped(t)
	s.waitFor("serving initial configuration")
	ask := func(target string, headers ...string) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.address+target, http.NoBody)
		require.NoError(t, err)
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		res, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
	}
	for _, name := range []string{"access_token", "refresh_token", "token", "client_secret"} {
		ask("/rooms?page=1&" + name + "=canary-in-the-query")
	}
	ask("/identity", "Authorization", "Basic Y2FuYXJ5OmNhbmFyeQ==", "Cookie", "a=canary-in-a-cookie")
	ask("/rooms?page=last")
	s.waitFor("page=last")
	require.Contains(t, s.out.String(), "client_secret=REDACTED")
	require.NotContains(t, s.out.String(), "canary")
	require.NotContains(t, s.out.String(), "Y2FuYXJ5")
}

// An empty variable counts as not set, because Compose files set unknown variables to the empty
// string.
func TestShipped_EmptyVariables(t *testing.T) {
	path, err := binary()
	require.NoError(t, err)
	adapt := func(env ...string) string {
		cmd := exec.CommandContext(t.Context(), path, "adapt", "--config", "../Caddyfile")
		home := t.TempDir()
		cmd.Env = append([]string{"HOME=" + home, "PATH=" + os.Getenv("PATH")}, env...)
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		require.NoError(t, err, stderr.String())
		return string(out)
	}
	require.JSONEq(t, adapt(), adapt("MEET_GATEWAY_ADDR=", "MEET_GATEWAY_HEALTH=", "MEET_GATEWAY_DRAIN=", "MEET_STORE=", "MEET_BACKEND=", "MEET_BACKEND_HOST=", "MEET_CLIENT_ID=", "MEET_CLIENT_SECRET=",
		"MEET_GATEWAY_SECRET=", "REDIS_URL="))

	s := startShipped(t, "MEET_STORE=", "MEET_BACKEND=", "MEET_BACKEND_HOST=", "MEET_CLIENT_ID=", "MEET_CLIENT_SECRET=", "MEET_GATEWAY_SECRET=", "REDIS_URL=")
	s.waitFor("serving initial configuration")

	// An empty address would make Caddy listen on some port of all interfaces.
	cmd := exec.CommandContext(t.Context(), path, "meet", "--help")
	cmd.Env = []string{"HOME=" + t.TempDir(), "CADDY_ADMIN="}
	help, err := cmd.Output()
	require.NoError(t, err)
	require.Contains(t, string(help), "localhost:2019)")
}

func TestShipped_RedisWithoutASecretRefusesToStart(t *testing.T) {
	for _, secret := range []string{"", "short"} {
		s := startShipped(t, "MEET_STORE=redis", "REDIS_URL=redis://127.0.0.1:1", "MEET_GATEWAY_SECRET="+secret)
		s.waitFor("openssl rand -base64 32")
		require.Eventually(t, func() bool { return !s.process.Running() }, 30*time.Second, 20*time.Millisecond)
	}
}

// The doctor warns of plain HTTP unless a proxy is named.
func TestShipped_DoctorSeesPlainHTTP(t *testing.T) {
	for proxies, plain := range map[string]bool{"": true, "192.0.2.1/32": false} {
		s := startShipped(t, "MEET_BACKEND=http://127.0.0.1:1", "MEET_TRUSTED_PROXIES="+proxies)
		s.waitFor("serving initial configuration")
		body := s.ask("/meet-gateway/doctor")
		require.Equal(t, plain, strings.Contains(body, `"http_plain"`), "proxies %q: %s", proxies, body)
	}
}

// The doctor says why Meet does not answer.
func TestShipped_DoctorSaysWhyMeetIsUnreachable(t *testing.T) {
	plain := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	t.Cleanup(plain.Close)
	for address, cause := range map[string]string{
		"http://127.0.0.1:1": "dial tcp 127.0.0.1:1: connect: connection refused",
		plain.URL:            "EOF",
		strings.Replace(plain.URL, "http", "https", 1): "tls: first record does not look like a TLS handshake",
	} {
		s := startShipped(t, "MEET_BACKEND="+address)
		s.waitFor("serving initial configuration")
		var d adminwire.Diagnosis
		require.NoError(t, json.Unmarshal([]byte(s.ask("/meet-gateway/doctor")), &d))
		i := slices.IndexFunc(d.Findings, func(f adminwire.Finding) bool { return f.Check == "meet_unreachable" })
		require.GreaterOrEqual(t, i, 0, address)
		require.Equal(t, "Meet does not answer: "+cause, d.Findings[i].Cause)
	}
}

// A trial gateway counts no errors of its embedded store.
func TestShipped_EmbeddedStoreRefusesNothing(t *testing.T) {
	s := startShipped(t)
	s.waitFor("serving initial configuration")
	s.ask("/meet-gateway/doctor")
	s.ask("/meet-gateway/status")
	heartbeats := regexp.MustCompile(`redis_command_duration_seconds_count\{command="info"\} ([4-9]|\d\d+)\n`)
	require.Eventually(t, func() bool { return heartbeats.MatchString(s.ask("/metrics")) }, 30*time.Second, 100*time.Millisecond)
	require.NotRegexp(t, `redis_errors_total\{kind="\w+"\} [1-9]`, s.ask("/metrics"))
}

// ask requests a path of the admin endpoint.
func (s *shipped) ask(path string) string {
	s.t.Helper()
	res, err := http.Get("http://" + s.admin + path)
	require.NoError(s.t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	require.NoError(s.t, err)
	require.Equal(s.t, http.StatusOK, res.StatusCode, string(body))
	return string(body)
}

// An unknown host name gets 421, so that a health check by address fails.
func TestShipped_UnknownHostIs421(t *testing.T) {
	port := func(s *shipped) string { return strings.Split(s.address, ":")[1] }
	s := startShipped(t, "MEET_TRUSTED_PROXIES=127.0.0.1/32")
	s.waitFor("serving initial configuration")
	status, _ := getAs(t, s, "whatever.example", "/identity")
	require.Equal(t, 400, status, "a site by port serves every name")
	status, body := getAs(t, s, "api.example.org", "/.well-known/oauth-authorization-server", "X-Forwarded-Proto", "https")
	require.Equal(t, 200, status)
	require.Contains(t, body, `"issuer":"https://api.example.org"`, "behind a proxy that terminates TLS")

	named := startShipped(t, "MEET_GATEWAY_ADDR=http://gateway.example:{port}")
	named.waitFor("serving initial configuration")
	status, _ = getAs(t, named, "gateway.example:"+port(named), "/identity")
	require.Equal(t, 400, status)
	for _, host := range []string{named.address, "other.example", "localhost:" + port(named)} {
		status, body = getAs(t, named, host, "/identity")
		require.Equal(t, http.StatusMisdirectedRequest, status, host)
		require.JSONEq(t, `{"detail":"This name is not served here.","error":"misdirected_request"}`, body)
	}
	waits, _ := firstAnswer(t, named.address, "POST", "/identity", "Content-Length: 10") // its Host is x
	require.Equal(t, http.StatusMisdirectedRequest, waits.StatusCode, "before the body is sent")
	status, body = getAs(t, named, "gateway.example", "/.well-known/oauth-authorization-server", "X-Forwarded-Proto", "https")
	require.Equal(t, 200, status)
	require.Contains(t, body, `"issuer":"http://gateway.example"`, "no trusted proxy")
}

// getAs requests a path under a host name.
func getAs(t *testing.T, s *shipped, host, path string, headers ...string) (status int, body string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.address+path, nil)
	require.NoError(t, err)
	r.Host = host
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	res, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return res.StatusCode, string(b)
}
