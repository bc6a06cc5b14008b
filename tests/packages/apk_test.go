// SPDX-License-Identifier: MIT

package packages

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Debian has OpenRC but not apk. The test unpacks the package and runs its scripts like apk, and
// starts, reloads and stops the service with the real OpenRC.
func TestApk_StartReloadStopUnderOpenRC(t *testing.T) {
	name := artefact(t, "_{machine}.apk")
	requireDataHash(t, name)
	m := newMachine(t)
	m.copyIn(name, "/tmp/one.apk")
	m.addOpenRC()
	m.run("tar", "-xzf", "/tmp/one.apk", "-C", "/", "--warning=no-unknown-keyword")
	m.run("sh", "/.post-install")
	secret := m.read("/etc/meet-gateway/secrets/secret")
	require.GreaterOrEqual(t, len(secret), 44)
	m.run("sh", "/.post-install")
	require.Equal(t, secret, m.read("/etc/meet-gateway/secrets/secret"))

	// Unlike Alpine's, Debian's supervisor does not set capabilities.
	script := m.read("/etc/init.d/meet-gateway")
	require.Contains(t, script, "\ncapabilities=")
	m.run("sed", "-i", "/^capabilities=/d", "/etc/init.d/meet-gateway")

	site, health := claim(t), claim(t)
	environment := strings.Replace(m.read("/etc/meet-gateway/environment"), "MEET_GATEWAY_HEALTH=127.0.0.1:8081", "MEET_GATEWAY_HEALTH="+health.Addr(), 1)
	require.NoError(t, os.WriteFile(m.path("/etc/meet-gateway/environment"), []byte(environment+"MEET_GATEWAY_ADDR=http://"+site.Addr()+"\n"), 0o600))
	service := func(command string) string { return m.run("rc-service", "--nodeps", "meet-gateway", command) }
	t.Cleanup(func() { // the supervisor is not a child of the test
		_ = m.command("rc-service", "--nodeps", "meet-gateway", "stop").Run()
	})
	service("start")
	ready := func() bool {
		res, err := (&http.Client{Timeout: 10 * time.Second}).Get("http://" + health.Addr() + "/readyz")
		return err == nil && res.Body.Close() == nil && res.StatusCode == http.StatusOK
	}
	require.Eventually(t, ready, time.Minute, 50*time.Millisecond, "%s", service("status"))
	require.Contains(t, service("status"), "started")
	service("reload")
	require.True(t, ready())
	m.run("sh", "/.pre-deinstall")
	require.Eventually(t, func() bool { return !ready() }, time.Minute, 50*time.Millisecond)
}

// requireDataHash checks the checksum that apk verifies before it unpacks: that of the last part of
// the file, compressed.
func requireDataHash(t *testing.T, name string) {
	t.Helper()
	content, err := os.ReadFile(name)
	require.NoError(t, err)
	rest := bytes.NewReader(content)
	z, err := gzip.NewReader(rest)
	require.NoError(t, err)
	z.Multistream(false)
	control := tar.NewReader(z)
	h, err := control.Next()
	require.NoError(t, err)
	require.Equal(t, ".PKGINFO", h.Name)
	info, err := io.ReadAll(control)
	require.NoError(t, err)
	_, err = io.Copy(io.Discard, z)
	require.NoError(t, err)
	hash := regexp.MustCompile(`(?m)^datahash = ([0-9a-f]{64})$`).FindSubmatch(info)
	require.NotNil(t, hash, string(info))
	sum := sha256.Sum256(content[len(content)-rest.Len():])
	require.Equal(t, string(hash[1]), hex.EncodeToString(sum[:]))
}

// addOpenRC unpacks Debian's OpenRC, which cannot be installed together with systemd.
func (m *machine) addOpenRC() {
	m.t.Helper()
	found, err := filepath.Glob(filepath.Join(os.Getenv("MEET_GATEWAY_OPENRC"), "*.deb"))
	require.NoError(m.t, err)
	require.NotEmpty(m.t, found, "MEET_GATEWAY_OPENRC is the folder of Debian's packages openrc, librc1 and libeinfo1")
	for _, deb := range found {
		out, err := exec.Command("dpkg-deb", "--fsys-tarfile", deb).Output()
		require.NoError(m.t, err)
		require.NoError(m.t, os.WriteFile(m.path("/tmp/part.tar"), out, 0o600))
		// A folder such as /lib is a symbolic link.
		m.run("tar", "-xf", "/tmp/part.tar", "-C", "/", "--keep-directory-symlink")
	}
	for _, state := range []string{"daemons", "exclusive", "failed", "hotplugged", "inactive", "options", "scheduled", "started", "starting", "stopping", "tmp", "wasinactive"} {
		m.run("mkdir", "-p", "/run/openrc/"+state)
	}
	m.run("touch", "/run/openrc/softlevel", "/etc/insserv.conf")
}
