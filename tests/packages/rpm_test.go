// SPDX-License-Identifier: MIT

package packages

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// The test uses Debian's rpm, without dependencies that only Red Hat has.
func TestRpm_InstallStartReloadStopUpgradeRemove(t *testing.T) {
	m := newMachine(t)
	m.copyIn(artefact(t, ".{machine}.rpm"), "/tmp/one.rpm")
	m.run("rpm", "-i", "--nodeps", "/tmp/one.rpm")
	secret := m.read("/etc/meet-gateway/secrets/secret")
	require.GreaterOrEqual(t, len(secret), 44)
	m.run("rpm", "--verify", "--nodeps", "meet-gateway")

	s := m.start()
	s.reload()
	s.stop()

	// An upgrade to the same version runs the same scripts.
	require.NoError(t, os.WriteFile(m.path("/etc/meet-gateway/environment"), []byte("# mine\n"+m.read("/etc/meet-gateway/environment")), 0o600))
	m.run("rpm", "-U", "--force", "--nodeps", "/tmp/one.rpm")
	require.Equal(t, secret, m.read("/etc/meet-gateway/secrets/secret"))
	require.Contains(t, m.read("/etc/meet-gateway/environment"), "# mine")
	m.start().stop()

	m.run("rpm", "-e", "meet-gateway")
	require.NoFileExists(t, m.path("/usr/bin/meet-gateway"))
	require.NoFileExists(t, m.path("/usr/lib/systemd/system/meet-gateway.service"))
	require.Equal(t, secret, m.read("/etc/meet-gateway/secrets/secret"), "a removal keeps secrets")
	require.Contains(t, m.read("/etc/meet-gateway/environment.rpmsave"), "# mine", "a removal keeps settings")
}
