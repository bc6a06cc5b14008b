// SPDX-License-Identifier: MIT

package tests

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/backendclient/sandbox"
	"github.com/meet-gateway/meet-gateway/tests/child"
	"github.com/meet-gateway/meet-gateway/tests/gatewaytest"
	"github.com/meet-gateway/meet-gateway/tests/redistest"
)

// release is a binary and its shipped Caddyfile.
type release struct{ binary, caddyfile string }

// installation is one Redis and one Meet for gateways that are set up as in docs/production.md.
type installation struct {
	t     *testing.T
	redis *redistest.Server
	store string // words of the Caddyfile
	meet  *gatewaytest.Meet
}

func newInstallation(t *testing.T, users ...string) *installation {
	t.Helper()
	i := &installation{t: t, redis: redistest.Standalone(t), store: "redis", meet: gatewaytest.StartMeet(t, sandbox.Production(), nil)}
	for _, mail := range users {
		i.meet.AddUser(sandbox.User{Sub: mail, Email: mail, Active: true})
	}
	return i
}

// member is one gateway of an installation. It keeps its ports while it is stopped.
type member struct {
	*installation
	site, health, admin *child.PortClaim
	drain               time.Duration
	process             *child.Process
	out                 *output
}

func (i *installation) add(drain time.Duration) *member {
	return &member{installation: i, site: claimPort(i.t), health: claimPort(i.t), admin: claimPort(i.t), drain: drain, out: new(output)}
}

// start runs a release and waits until it is ready.
func (m *member) start(r release) {
	m.t.Helper()
	cmd := exec.Command(r.binary, "run", "--config", r.caddyfile, "--adapter", "caddyfile")
	home := m.t.TempDir()
	cmd.Env = []string{
		"HOME=" + home, "XDG_DATA_HOME=" + home, "XDG_CONFIG_HOME=" + home, "PATH=" + os.Getenv("PATH"),
		"CADDY_ADMIN=" + m.admin.Addr(), "MEET_GATEWAY_ADDR=http://:" + strconv.Itoa(m.site.Port), "MEET_TRUSTED_PROXIES=127.0.0.1/32",
		"MEET_GATEWAY_HEALTH=" + m.health.Addr(), "MEET_GATEWAY_DRAIN=" + m.drain.String(),
		"MEET_STORE=" + m.store, "REDIS_URL=" + m.redis.URL(), "MEET_GATEWAY_SECRET=0123456789-0123456789-0123456789-abc",
		"MEET_BACKEND=http://" + m.meet.Address, "MEET_BACKEND_HOST=meet.example.org",
		"MEET_CLIENT_ID=" + gatewaytest.MeetClientID, "MEET_CLIENT_SECRET=" + gatewaytest.MeetClientSecret,
	}
	cmd.Stdout, cmd.Stderr = m.out, m.out
	var err error
	m.process, err = child.Start(cmd)
	require.NoError(m.t, err)
	m.t.Cleanup(m.process.Kill)
	require.Eventually(m.t, func() bool { return m.ready() == http.StatusOK || !m.process.Running() }, time.Minute, 20*time.Millisecond)
	require.True(m.t, m.process.Running(), m.out.String())
}

// ready returns the status of /readyz, or 0 without a response.
func (m *member) ready() int {
	res, err := (&http.Client{Timeout: 10 * time.Second}).Get("http://" + m.health.Addr() + "/readyz")
	if err != nil {
		return 0
	}
	_ = res.Body.Close()
	return res.StatusCode
}

// stop sends SIGTERM, like systemd, and waits for the end.
func (m *member) stop() {
	m.t.Helper()
	require.NoError(m.t, m.process.Signal(syscall.SIGTERM))
	require.Eventually(m.t, func() bool { return !m.process.Running() }, time.Minute, 20*time.Millisecond, m.out.String())
}

func (m *member) url() string { return "http://" + m.site.Addr() }

// application registers an application at this gateway's admin endpoint.
func (m *member) application(name string) (id, secret string) {
	m.t.Helper()
	res, err := http.Post("http://"+m.admin.Addr()+"/meet-gateway/applications", jsonType,
		strings.NewReader(fmt.Sprintf(`{"name":%q,"scopes":["rooms:list","rooms:retrieve","rooms:create"],"domains":["*"]}`, name)))
	require.NoError(m.t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	require.NoError(m.t, err)
	require.Equal(m.t, http.StatusCreated, res.StatusCode, string(body))
	var made struct {
		ID     string `json:"client_id"`
		Secret string `json:"client_secret"`
	}
	require.NoError(m.t, json.Unmarshal(body, &made))
	require.NotEmpty(m.t, made.ID, string(body))
	return made.ID, made.Secret
}

// call makes a request and reads its response. Without a response, the status is 0.
func call(client *http.Client, method, url, token, body string) (status int, answer map[string]any, text string) {
	r, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return 0, nil, err.Error()
	}
	if body != "" {
		r.Header.Set("Content-Type", jsonType)
	}
	if token != "" {
		r.Header.Set("Authorization", gatewaytest.Bearer(token))
	}
	res, err := client.Do(r)
	if err != nil {
		return 0, nil, err.Error()
	}
	defer res.Body.Close()
	read, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, nil, err.Error()
	}
	_ = json.Unmarshal(read, &answer) // errors show the text
	return res.StatusCode, answer, string(read)
}
