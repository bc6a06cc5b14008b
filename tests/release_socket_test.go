// SPDX-License-Identifier: MIT

package tests

import (
	"net"
	"net/http"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tests/child"
)

// If another process holds the socket, like systemd, new connections wait during a restart of the
// gateway.
func TestRelease_RestartWithSocketActivation(t *testing.T) {
	path, err := binary()
	require.NoError(t, err)
	held, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer held.Close()
	socket, err := held.(*net.TCPListener).File()
	require.NoError(t, err)
	defer socket.Close()
	health := claimPort(t)
	start := func() *child.Process {
		t.Helper()
		out, home := new(output), t.TempDir()
		cmd := exec.Command(path, "run", "--config", "../Caddyfile")
		cmd.Env = []string{
			"HOME=" + home, "XDG_DATA_HOME=" + home, "XDG_CONFIG_HOME=" + home, "PATH=" + os.Getenv("PATH"),
			"CADDY_ADMIN=" + claimPort(t).Addr(), "MEET_GATEWAY_BIND=fd/3", "MEET_GATEWAY_ADDR=http://:8080", "MEET_GATEWAY_HEALTH=" + health.Addr(),
		}
		cmd.ExtraFiles = []*os.File{socket}
		cmd.Stdout, cmd.Stderr = out, out
		process, err := child.Start(cmd)
		require.NoError(t, err)
		t.Cleanup(process.Kill)
		require.Eventually(t, func() bool {
			status, _, _ := call(http.DefaultClient, http.MethodGet, "http://"+health.Addr()+"/readyz", "", "")
			return status == http.StatusOK || !process.Running()
		}, time.Minute, 20*time.Millisecond)
		require.True(t, process.Running(), out.String())
		return process
	}
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}
	ask := func() (status int, text string) {
		status, _, text = call(client, http.MethodGet, "http://"+held.Addr().String()+identityPath, "", "")
		return status, text
	}

	first := start()
	status, text := ask()
	require.Equal(t, http.StatusBadRequest, status, text)
	require.NoError(t, first.Signal(syscall.SIGTERM))
	require.Eventually(t, func() bool { return !first.Running() }, time.Minute, 20*time.Millisecond)

	waiting := make(chan int)
	for range 5 {
		go func() {
			status, _ := ask()
			waiting <- status
		}()
	}
	start()
	for range 5 {
		require.Equal(t, http.StatusBadRequest, <-waiting)
	}
}
