// SPDX-License-Identifier: MIT

package tests

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tests/child"
	"github.com/meet-gateway/meet-gateway/tests/gatewaytest"
)

// No request fails while two gateways behind the HAProxy of deploy/compose restart one after the
// other. MEET_GATEWAY_ROLLING makes ten restarts and 20,000 requests.
func TestRelease_RollingRestartFailsNoRequest(t *testing.T) {
	restarts, requests := 2, 2000
	if os.Getenv("MEET_GATEWAY_ROLLING") != "" {
		restarts, requests = 10, 20_000
	}
	const workers = 10
	path, err := binary()
	require.NoError(t, err)
	shipped := release{binary: path, caddyfile: "../Caddyfile"}

	mails := make([]string, workers)
	for w := range mails {
		mails[w] = fmt.Sprintf("user-%d@example.com", w)
	}
	in := newInstallation(t, mails...)
	gateways := []*member{in.add(2 * time.Second), in.add(2 * time.Second)}
	for _, g := range gateways {
		g.start(shipped)
	}
	id, secret := gateways[0].application("Calendar")
	proxy := in.haproxy(gateways)

	l := &load{base: proxy + "/external-api/v1.0", id: id, secret: secret, enough: make(chan struct{})}
	var all sync.WaitGroup
	for _, mail := range mails {
		all.Go(func() { l.run(mail) })
	}
	for i := range restarts {
		g := gateways[i%len(gateways)]
		g.stop()
		g.start(shipped)
		// The other gateway may stop once this one gets requests again.
		require.Eventually(t, func() bool {
			return in.up(proxy) == len(gateways) && l.answered.Load() >= int64(requests/restarts*(i+1))
		}, time.Minute, 20*time.Millisecond)
	}
	close(l.enough)
	all.Wait()
	require.Empty(t, l.failed, "of %d", l.answered.Load())
	t.Logf("%d restarts, %d requests, none failed", restarts, l.answered.Load())
}

// haproxy starts the HAProxy of deploy/compose with other addresses. It checks readiness five times
// as often, which permits shorter drains.
func (i *installation) haproxy(gateways []*member) (url string) {
	i.t.Helper()
	path, err := exec.LookPath("haproxy")
	require.NoError(i.t, err, "install it with .ci/install")
	config, err := os.ReadFile(atTop("deploy/compose/haproxy.cfg"))
	require.NoError(i.t, err)
	claim := claimPort(i.t)
	text := regexp.MustCompile(`(?s)resolvers docker\n.*?\n\n`).ReplaceAllString(string(config), "")
	replace := func(old, with string) {
		require.Contains(i.t, text, old)
		text = strings.Replace(text, old, with, 1)
	}
	replace("bind :8080\n", "bind "+claim.Addr()+"\n\thttp-request return status 200 content-type text/plain lf-string %[nbsrv(gateways)] if { path /up }\n")
	replace("check port 8081 inter 1s", "check inter 200ms")
	replace(" resolvers docker init-addr libc,none", "")
	for n, g := range gateways {
		name := fmt.Sprintf("gateway-%d", n+1)
		replace(" "+name+":8080", fmt.Sprintf(" %s port %d", g.site.Addr(), g.health.Port))
	}
	file := filepath.Join(i.t.TempDir(), "haproxy.cfg")
	require.NoError(i.t, os.WriteFile(file, []byte(text), 0o600))
	out := new(output)
	cmd := exec.Command(path, "-f", file)
	cmd.Stdout, cmd.Stderr = out, out
	process, err := child.Start(cmd)
	require.NoError(i.t, err)
	i.t.Cleanup(process.Terminate)
	url = "http://" + claim.Addr()
	require.Eventually(i.t, func() bool { return i.up(url) == len(gateways) || !process.Running() }, 30*time.Second, 20*time.Millisecond, out.String())
	require.True(i.t, process.Running(), out.String())
	return url
}

// up returns the number of gateways that HAProxy sends requests to.
func (i *installation) up(proxy string) int {
	_, _, text := call(http.DefaultClient, http.MethodGet, proxy+"/up", "", "")
	n, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil {
		return 0
	}
	return n
}

// load runs clients and records their responses.
type load struct {
	base, id, secret string
	enough           chan struct{}
	answered         atomic.Int64
	mu               sync.Mutex
	failed           []string
}

// run is one client with one connection. It gets tokens, and creates and reads rooms, with a request
// every twelve milliseconds.
func (l *load) run(mail string) {
	client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 2}}
	defer client.CloseIdleConnections()
	pace := time.NewTicker(12 * time.Millisecond)
	defer pace.Stop()
	ask := func(want int, method, path, token, body string) map[string]any {
		<-pace.C
		status, answer, text := call(client, method, l.base+path, token, body)
		l.answered.Add(1)
		if status != want {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.failed = append(l.failed, fmt.Sprintf("%s %s: %d %s", method, path, status, text))
		}
		return answer
	}
	for {
		select {
		case <-l.enough:
			return
		default:
		}
		token, _ := ask(http.StatusOK, http.MethodPost, "/application/token/", "", gatewaytest.TokenBody(l.id, l.secret, mail))["access_token"].(string)
		for range 3 {
			room, _ := ask(http.StatusCreated, http.MethodPost, "/rooms/", token, "{}")["id"].(string)
			ask(http.StatusOK, http.MethodGet, "/rooms/"+room+"/", token, "")
			ask(http.StatusOK, http.MethodGet, "/rooms/", token, "")
		}
	}
}
