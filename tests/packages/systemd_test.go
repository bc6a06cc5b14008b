// SPDX-License-Identifier: MIT

package packages

import (
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tests/child"
)

const ready = "curl -s --retry 50 --retry-all-errors --retry-delay 1 --max-time 10 http://127.0.0.1:8081/readyz"

// A booted systemd runs the units as their comments and docs/install.md say. The other tests
// interpret the unit themselves.
func TestDeb_UnderSystemd(t *testing.T) {
	deb := artefact(t, "_{arch}.deb")
	m := newMachine(t)
	m.copyIn(deb, "/root/one.deb")
	sh := m.boot()

	sh("dpkg -i /root/one.deb")
	said := sh(block(t, "install.md", "systemctl enable"))
	require.Contains(t, said, `{"ready":true}`)
	require.Contains(t, said, "Paste these")
	require.Contains(t, sh("ls /run/credentials/meet-gateway.service"), "meet-gateway_secret")
	require.Regexp(t, `(?m)^ready +yes$`, sh("CADDY_ADMIN=unix//run/meet-gateway/admin.sock meet-gateway meet status"))
	process := sh("systemctl show --property=MainPID meet-gateway")
	sh("systemctl reload meet-gateway")
	require.Equal(t, process, sh("systemctl show --property=MainPID meet-gateway"))

	// Enable the socket of the running service with the commands in its unit.
	unit := m.read("/usr/lib/systemd/system/meet-gateway.socket")
	commands := regexp.MustCompile(`(?m)^#   (.*)$`).FindAllStringSubmatch(unit, -1)
	require.NotEmpty(t, commands)
	for _, c := range commands {
		sh(c[1])
	}
	require.JSONEq(t, `{"ready":true}`, sh(ready))
	require.Equal(t, "200", sh("(sleep 0.1; systemctl restart meet-gateway) & for i in $(seq 100); do curl -s -o /dev/null -w '%{http_code}\n' http://127.0.0.1:8080/external-api/v1.0/openapi.json; sleep 0.01; done | sort -u; wait"),
		"no connection is refused during a restart")

	// Add a second secret as in docs/operations.md, which needs a restart, and an audit trail in
	// the folder of docs/caddyfile.md.
	sh(block(t, "operations.md", "(umask 077"))
	config := m.read("/etc/meet-gateway/Caddyfile")
	line := regexp.MustCompile(`(?m)^\t\tsecret .*$`)
	require.Len(t, line.FindAllString(config, -1), 1)
	second := strings.ReplaceAll(line.FindString(config)+"\n\t\t"+block(t, "operations.md", "secret {file./run/")+
		"\t\taudit {\n\t\t\toutput file /var/log/meet-gateway/audit.log\n\t\t}", "$", "$$")
	require.NoError(t, os.WriteFile(m.path("/etc/meet-gateway/Caddyfile"), []byte(line.ReplaceAllString(config, second)), 0o600))
	sh("systemctl restart meet-gateway")
	require.Len(t, regexp.MustCompile(`(?m)^key `).FindAllString(sh("CADDY_ADMIN=unix//run/meet-gateway/admin.sock meet-gateway meet status"), -1), 2)
	require.Contains(t, sh("cat /var/log/meet-gateway/audit.log"), `"audit.`)

	sh("dpkg -i /root/one.deb") // an upgrade restarts the service
	require.NotEqual(t, process, sh("systemctl show --property=MainPID meet-gateway"))
	require.JSONEq(t, `{"ready":true}`, sh(ready))
	sh("dpkg -P meet-gateway")
	require.NotContains(t, sh("ps -e -o comm"), "meet-gateway")
	require.Empty(t, sh("systemctl list-unit-files --no-legend 'meet-gateway*' || true")) // fails if the list is empty
}

// block returns the code block of a page in docs with the given start.
func block(t *testing.T, page, start string) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/" + page)
	require.NoError(t, err)
	found := regexp.MustCompile("(?ms)^```[a-z]*\n(" + regexp.QuoteMeta(start) + ".*?\n)```$").FindSubmatch(text)
	require.NotNil(t, found, "%s has no block that begins with %s", page, start)
	return string(found[1])
}

// boot starts systemd in its own network namespace and returns a function that runs shell commands
// there.
func (m *machine) boot() func(command string) string {
	t := m.t
	t.Helper()
	path, err := exec.LookPath("systemd-nspawn")
	if err != nil {
		t.Skip("systemd-nspawn is missing; run .ci/install deploy")
	}
	for _, own := range []string{"/dev", "/proc", "/run", "/tmp"} { // systemd-nspawn mounts its own
		require.NoError(t, syscall.Unmount(m.path(own), syscall.MNT_DETACH))
	}
	cmd := exec.Command(path, "--quiet", "--register=no", "--keep-unit", "--private-network", "--directory="+m.root, "--boot", "systemd.unit=basic.target")
	out, err := os.Create(t.TempDir() + "/out")
	require.NoError(t, err)
	cmd.Stdout, cmd.Stderr = out, out
	nspawn, err := child.Start(cmd)
	require.NoError(t, err)
	t.Cleanup(nspawn.Terminate)

	number := strconv.Itoa(cmd.Process.Pid)
	run := func(command string) (string, error) {
		init, err := os.ReadFile("/proc/" + number + "/task/" + number + "/children")
		if err != nil {
			return "", err
		}
		enter := exec.Command("timeout", "120", "nsenter", "--target="+strings.TrimSpace(string(init)), "--mount", "--uts", "--ipc", "--net", "--pid", "--root", "--wd",
			"/usr/bin/env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "sh", "-c", command)
		said, err := enter.CombinedOutput()
		return strings.TrimSpace(string(said)), err
	}
	require.Eventually(t, func() bool {
		_, err := run("systemctl is-active basic.target")
		return err == nil || !nspawn.Running()
	}, time.Minute, 100*time.Millisecond)
	return func(command string) string {
		t.Helper()
		said, err := run(command)
		if err != nil {
			log, _ := run("journalctl --unit=meet-gateway --lines=20 --output=cat")
			boot, _ := os.ReadFile(out.Name())
			require.NoError(t, err, "%s: %s\n%s\n%s", command, said, log, boot)
		}
		return said
	}
}
