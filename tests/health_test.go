// SPDX-License-Identifier: MIT

package tests

import (
	"net"
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
	"github.com/meet-gateway/meet-gateway/tests/redistest"
)

func claimPort(t *testing.T) *child.PortClaim {
	t.Helper()
	claim, err := child.ClaimPort()
	require.NoError(t, err)
	t.Cleanup(claim.Release)
	return claim
}

func TestHealth_OnlyLivezAndReadyz(t *testing.T) {
	address := claimPort(t).Addr()
	g := gatewaytest.Start(t, gatewaytest.Config{Global: "store embedded\nhealth " + address})
	health := "http://" + address

	live := g.Do("GET", health+"/livez", "")
	require.Equal(t, 200, live.Status)
	require.JSONEq(t, `{"live":true}`, live.Body)
	ready := g.Do("GET", health+"/readyz", "")
	require.Equal(t, 200, ready.Status, ready.Body)
	require.Equal(t, true, ready.JSON(t)["ready"]) // it may come with a reason on a busy machine
	require.Equal(t, "application/json", ready.Header.Get("Content-Type"))
	require.Equal(t, "no-store", ready.Header.Get("Cache-Control"))
	require.Equal(t, 200, g.Do("HEAD", health+"/readyz", "").Status)

	for _, path := range []string{"/", "/config/", "/stop", "/load", "/metrics", "/debug/pprof/", "/meet-gateway/status", "/external-api/v1.0/rooms/"} {
		require.Equal(t, http.StatusNotFound, g.Do("GET", health+path, "").Status, path)
	}
	require.Equal(t, http.StatusMethodNotAllowed, g.Do("POST", health+"/readyz", "").Status)
}

func TestHealth_NotReadyWithoutRedis(t *testing.T) {
	redis := redistest.Standalone(t)
	address := claimPort(t).Addr()
	g := gatewaytest.Start(t, gatewaytest.Config{
		Global: "store redis " + redis.URL() + "\nsecret 0123456789-0123456789-0123456789-abc\nhealth " + address,
	})
	status := func(path string) func() int {
		return func() int { return g.Do("GET", "http://"+address+path, "").Status }
	}
	eventually := func(want int) {
		require.Eventually(t, func() bool { return status("/readyz")() == want }, 20*time.Second, 20*time.Millisecond)
	}
	eventually(200)
	redis.Stop(t)
	eventually(503)
	require.Equal(t, 200, status("/livez")(), "a restart would not bring Redis back")
	answer := g.Do("GET", "http://"+address+"/readyz", "")
	require.Contains(t, answer.Body, `"ready":false`)
	require.Contains(t, answer.Body, "redis does not answer")
	require.NotContains(t, answer.Body, "127.0.0.1")
	redis.Start(t)
	eventually(200)
}

// The log says when readiness changes, also if nobody asks.
func TestHealth_ChangesAreLogged(t *testing.T) {
	redis := redistest.Standalone(t)
	g := gatewaytest.Start(t, gatewaytest.Config{Global: "store redis " + redis.URL() + "\nsecret 0123456789-0123456789-0123456789-abc"})
	const notReady, again = "this gateway is not ready", "this gateway is ready again"
	logged := func(text string) {
		require.Eventually(t, func() bool { return strings.Contains(g.Logs(), text) }, 20*time.Second, 20*time.Millisecond)
	}
	require.NotContains(t, g.Logs(), notReady)
	redis.Stop(t)
	logged(notReady)
	time.Sleep(2 * time.Second) // some more rounds
	require.Contains(t, g.Logs(), `"cause":"redis does not answer`)
	require.NotContains(t, g.Logs(), again)
	redis.Start(t)
	logged(again)
	require.Equal(t, 1, strings.Count(g.Logs(), notReady))
	require.Equal(t, 1, strings.Count(g.Logs(), again))
}

func TestHealth_SurvivesReloads(t *testing.T) {
	address := claimPort(t).Addr()
	config := gatewaytest.Config{Global: "store embedded\nhealth " + address}
	g := gatewaytest.Start(t, config)
	stop, failed := make(chan struct{}), make(chan string, 1)
	go func() {
		defer close(failed)
		client := &http.Client{Timeout: 10 * time.Second}
		for {
			select {
			case <-stop:
				return
			default:
			}
			res, err := client.Get("http://" + address + "/readyz")
			if err != nil {
				failed <- err.Error()
				return
			}
			_ = res.Body.Close()
			if res.StatusCode != 200 {
				failed <- res.Status
				return
			}
		}
	}()
	for _, lifetime := range []string{"30m", "31m", "32m"} {
		g.Reload(gatewaytest.Config{Global: config.Global + "\ntoken_lifetime " + lifetime})
		require.Error(t, g.TryReload(gatewaytest.Config{Global: config.Global, Site: "bind 192.0.2.1"}), "an address of another machine")
	}
	close(stop)
	require.Empty(t, <-failed)

	g.Reload(gatewaytest.Config{}) // without the option the listener is gone
	require.Eventually(t, func() bool {
		_, err := (&http.Client{Timeout: time.Second}).Get("http://" + address + "/livez")
		return err != nil
	}, 10*time.Second, 20*time.Millisecond)
}

// Another process on the port must not answer probes.
func TestHealth_PortInUseIsAnError(t *testing.T) {
	address := claimPort(t).Addr()
	g := gatewaytest.Start(t, gatewaytest.Config{})
	taken, err := net.Listen("tcp", address)
	require.NoError(t, err)
	defer taken.Close()
	require.Error(t, g.TryReload(gatewaytest.Config{Global: "store embedded\nhealth " + address}))
}

// A gateway reports that it is not ready before it stops serving.
func TestHealth_NotReadyWhileDraining(t *testing.T) {
	path, err := binary()
	require.NoError(t, err)
	site, health := claimPort(t), claimPort(t)
	file := filepath.Join(t.TempDir(), "Caddyfile")
	require.NoError(t, os.WriteFile(file, []byte(`{
	admin off
	persist_config off
	shutdown_delay 3s
	grace_period 5s
	meet_gateway {
		store embedded
		health `+health.Addr()+`
	}
}
http://`+site.Addr()+` {
	meet_gateway {
		backend sandbox
	}
}
`), 0o600))
	cmd := exec.Command(path, "run", "--config", file, "--adapter", "caddyfile")
	home := t.TempDir()
	cmd.Env = []string{"HOME=" + home, "XDG_DATA_HOME=" + home, "XDG_CONFIG_HOME=" + home, "PATH=" + os.Getenv("PATH")}
	out := new(output)
	cmd.Stdout, cmd.Stderr = out, out
	process, err := child.Start(cmd)
	require.NoError(t, err)
	t.Cleanup(process.Terminate)

	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	get := func(address, path string) (int, string) {
		res, err := client.Get("http://" + address + path)
		if err != nil {
			return 0, err.Error()
		}
		defer res.Body.Close()
		var body strings.Builder
		_ = res.Write(&body)
		return res.StatusCode, body.String()
	}
	require.Eventually(t, func() bool { status, _ := get(health.Addr(), "/readyz"); return status == 200 }, 30*time.Second, 20*time.Millisecond, out.String())

	require.NoError(t, process.Signal(syscall.SIGTERM))
	var body string
	require.Eventually(t, func() bool {
		var status int
		status, body = get(health.Addr(), "/readyz")
		return status == 503
	}, 10*time.Second, 5*time.Millisecond)
	require.Contains(t, body, `{"ready":false,"reason":"draining"}`)
	status, _ := get(health.Addr(), "/livez")
	require.Equal(t, 200, status)
	status, body = get(site.Addr(), "/external-api/v1.0/openapi.json")
	require.Equal(t, 200, status, "requests are served until the load balancer reacts: %s", body)
	require.Eventually(t, func() bool { return !process.Running() }, 20*time.Second, 20*time.Millisecond)
}
