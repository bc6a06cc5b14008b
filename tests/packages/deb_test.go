// SPDX-License-Identifier: MIT

package packages

import (
	"bufio"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tests/child"
)

// capNetBindService is the only capability in the unit.
const capNetBindService = 10

func TestDeb_InstallStartReloadStopUpgradePurge(t *testing.T) {
	deb := artefact(t, "_{arch}.deb")
	m := newMachine(t)
	m.copyIn(deb, "/tmp/one.deb")
	m.copyIn(nextVersion(t, deb), "/tmp/two.deb")

	m.run("dpkg", "-i", "/tmp/one.deb")
	require.Contains(t, m.run("/usr/bin/meet-gateway", "version"), "meet-gateway ")
	secret := m.read("/etc/meet-gateway/secrets/secret")
	require.GreaterOrEqual(t, len(secret), 44)
	info, err := os.Stat(m.path("/etc/meet-gateway/secrets/secret"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	want, err := os.ReadFile("../../Caddyfile")
	require.NoError(t, err)
	require.Equal(t, string(want), m.read("/etc/meet-gateway/Caddyfile"))

	s := m.start()
	s.reload()
	s.stop()

	require.NoError(t, os.WriteFile(m.path("/etc/meet-gateway/environment"), []byte("# mine\n"+m.read("/etc/meet-gateway/environment")), 0o600))
	m.run("dpkg", "-i", "/tmp/two.deb")
	require.Equal(t, secret, m.read("/etc/meet-gateway/secrets/secret"), "an upgrade keeps the secret")
	require.Contains(t, m.read("/etc/meet-gateway/environment"), "# mine", "an upgrade keeps the operator's changes")
	m.start().stop()

	m.run("dpkg", "-r", "meet-gateway")
	require.NoFileExists(t, m.path("/usr/bin/meet-gateway"))
	require.FileExists(t, m.path("/etc/meet-gateway/secrets/secret"), "a removal keeps the secret")
	m.run("dpkg", "-P", "meet-gateway")
	for _, path := range []string{"/etc/meet-gateway", "/var/lib/meet-gateway", "/usr/lib/systemd/system/meet-gateway.service"} {
		require.NoFileExists(t, m.path(path))
		require.NoDirExists(t, m.path(path))
	}
	require.NotContains(t, m.read("/etc/passwd"), "meet-gateway")
}

// machine is an overlay of this machine's file system.
type machine struct {
	t    *testing.T
	root string
}

func newMachine(t *testing.T) *machine {
	dir := t.TempDir()
	m := &machine{t: t, root: filepath.Join(dir, "root")}
	layers := filepath.Join(dir, "layers")
	mount := func(source, target, kind, data string, flags uintptr) {
		require.NoError(t, os.MkdirAll(target, 0o755))
		require.NoError(t, syscall.Mount(source, target, kind, flags, data), target)
		t.Cleanup(func() { _ = syscall.Unmount(target, syscall.MNT_DETACH) })
	}
	mount("tmpfs", layers, "tmpfs", "", 0) // an overlay on an overlay is not possible
	upper, work := filepath.Join(layers, "upper"), filepath.Join(layers, "work")
	require.NoError(t, os.MkdirAll(upper, 0o755))
	require.NoError(t, os.MkdirAll(work, 0o755))
	mount("overlay", m.root, "overlay", "lowerdir=/,upperdir="+upper+",workdir="+work, 0)
	mount("tmpfs", m.path("/run"), "tmpfs", "mode=755", 0) // systemd does not run here
	mount("tmpfs", m.path("/tmp"), "tmpfs", "mode=1777", 0)
	mount("/dev", m.path("/dev"), "", "", syscall.MS_BIND)
	mount("proc", m.path("/proc"), "proc", "", 0)
	return m
}

func (m *machine) path(name string) string { return filepath.Join(m.root, name) }

func (m *machine) read(name string) string {
	m.t.Helper()
	b, err := os.ReadFile(m.path(name))
	require.NoError(m.t, err)
	return string(b)
}

func (m *machine) copyIn(from, to string) {
	m.t.Helper()
	b, err := os.ReadFile(from)
	require.NoError(m.t, err)
	require.NoError(m.t, os.WriteFile(m.path(to), b, 0o644))
}

func (m *machine) run(name string, args ...string) string {
	m.t.Helper()
	// Use a file, because a started service would keep a pipe open.
	file, err := os.Create(filepath.Join(m.t.TempDir(), "out"))
	require.NoError(m.t, err)
	defer file.Close()
	cmd := m.command(name, args...)
	cmd.Stdout, cmd.Stderr = file, file
	failed := cmd.Run()
	out, err := os.ReadFile(file.Name())
	require.NoError(m.t, err)
	require.NoError(m.t, failed, "%s %v: %s", name, args, out)
	return string(out)
}

// command returns a command on the machine, with a timeout of two minutes.
func (m *machine) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command("/usr/bin/timeout", append([]string{"120", name}, args...)...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "DEBIAN_FRONTEND=noninteractive"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: m.root}
	return cmd
}

// nextVersion builds a package with a higher version.
func nextVersion(t *testing.T, deb string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "next")
	require.NoError(t, exec.Command("dpkg-deb", "-R", deb, dir).Run())
	control := filepath.Join(dir, "DEBIAN/control")
	b, err := os.ReadFile(control)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(control, []byte(strings.Replace(string(b), "\nVersion: ", "\nVersion: 99+", 1)), 0o644))
	next := filepath.Join(t.TempDir(), "next.deb")
	out, err := exec.Command("dpkg-deb", "-Zgzip", "-z1", "-b", dir, next).CombinedOutput()
	require.NoError(t, err, string(out))
	return next
}

// service runs the unit's program with the unit's user, environment, credentials, folders and
// notification socket.
type service struct {
	m       *machine
	unit    map[string][]string
	env     []string
	uid     uint32
	gid     uint32
	notify  *net.UnixConn
	process *exec.Cmd
	out     *os.File
	health  string
}

func (m *machine) start() *service {
	m.t.Helper()
	s := &service{m: m, unit: readUnit(m.t, m.path("/usr/lib/systemd/system/meet-gateway.service"))}
	require.Equal(m.t, []string{"notify"}, s.unit["Type"])
	fields := strings.Split(strings.TrimSpace(m.run("getent", "passwd", s.unit["User"][0])), ":")
	s.uid, s.gid = number(m.t, fields[2]), number(m.t, fields[3])

	credentials := s.folder("/run/credentials/meet-gateway.service", 0o500)
	for _, load := range s.unit["LoadCredential"] {
		name, from, _ := strings.Cut(load, ":")
		files, err := os.ReadDir(m.path(from))
		require.NoError(m.t, err)
		for _, f := range files {
			to := m.path(filepath.Join(credentials, name+"_"+f.Name()))
			require.NoError(m.t, os.WriteFile(to, []byte(m.read(filepath.Join(from, f.Name()))), 0o400))
			require.NoError(m.t, os.Chown(to, int(s.uid), int(s.gid)))
		}
	}
	s.folder("/run/"+s.unit["RuntimeDirectory"][0], 0o750)
	s.folder("/var/lib/"+s.unit["StateDirectory"][0], 0o700)
	s.environment(credentials)
	s.listen()

	var err error
	s.out, err = os.Create(filepath.Join(m.t.TempDir(), "out"))
	require.NoError(m.t, err)
	s.process = s.command(s.unit["ExecStart"][0])
	require.NoError(m.t, s.process.Start())
	m.t.Cleanup(func() { _ = s.process.Process.Kill() })
	s.expect("READY=1")
	require.Equal(m.t, 200, s.get("/readyz"))
	return s
}

func (s *service) folder(name string, mode os.FileMode) string {
	path := s.m.path(name)
	require.NoError(s.m.t, os.MkdirAll(path, 0o755))
	require.NoError(s.m.t, os.Chmod(path, mode))
	require.NoError(s.m.t, os.Chown(path, int(s.uid), int(s.gid)))
	return name
}

// environment sets the variables of the unit and of its file, and free ports.
func (s *service) environment(credentials string) {
	s.env = []string{"PATH=/usr/bin:/bin", "CREDENTIALS_DIRECTORY=" + credentials, "NOTIFY_SOCKET=/run/notify.sock"}
	for _, line := range s.unit["Environment"] {
		for assignment := range strings.FieldsSeq(line) {
			s.env = append(s.env, strings.ReplaceAll(assignment, "%d", credentials))
		}
	}
	for line := range strings.Lines(s.m.read(strings.TrimPrefix(s.unit["EnvironmentFile"][0], "-"))) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			s.env = append(s.env, line)
		}
	}
	for _, name := range []string{"MEET_GATEWAY_ADDR", "MEET_GATEWAY_HEALTH"} {
		claim, err := child.ClaimPort()
		require.NoError(s.m.t, err)
		s.m.t.Cleanup(claim.Release)
		s.health = claim.Addr()
		s.env = append(s.env, name+"="+strings.TrimPrefix(claim.Addr(), "127.0.0.1"))
	}
}

func (s *service) listen() {
	name := s.m.path("/run/notify.sock")
	_ = os.Remove(name)
	// The path of a test's folder is too long for a socket.
	dir, err := os.MkdirTemp("/tmp", "n")
	require.NoError(s.m.t, err)
	s.m.t.Cleanup(func() { _ = os.RemoveAll(dir) })
	link := filepath.Join(dir, "run")
	require.NoError(s.m.t, os.Symlink(s.m.path("/run"), link))
	s.notify, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(link, "notify.sock"), Net: "unixgram"})
	require.NoError(s.m.t, err)
	s.m.t.Cleanup(func() { _ = s.notify.Close() })
	require.NoError(s.m.t, os.Chmod(name, 0o777))
}

func (s *service) command(line string) *exec.Cmd {
	words := strings.Fields(line)
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Err = nil // exec looks for the program outside the chroot
	cmd.Path, cmd.Dir, cmd.Env = words[0], "/", s.env
	cmd.Stdout, cmd.Stderr = s.out, s.out
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Chroot: s.m.root, Credential: &syscall.Credential{Uid: s.uid, Gid: s.gid},
		AmbientCaps: []uintptr{capNetBindService}, Pdeathsig: syscall.SIGKILL,
	}
	return cmd
}

// expect waits for a state notification of the service.
func (s *service) expect(state string) {
	s.m.t.Helper()
	buffer := make([]byte, 4096)
	require.NoError(s.m.t, s.notify.SetReadDeadline(time.Now().Add(time.Minute)))
	for {
		n, err := s.notify.Read(buffer)
		if err != nil {
			out, _ := os.ReadFile(s.out.Name())
			require.NoError(s.m.t, err, "waiting for %s: %s", state, out)
		}
		if strings.Contains(string(buffer[:n]), state) {
			return
		}
	}
}

func (s *service) get(path string) int {
	s.m.t.Helper()
	res, err := (&http.Client{Timeout: 10 * time.Second}).Get("http://" + s.health + path)
	require.NoError(s.m.t, err)
	defer res.Body.Close()
	return res.StatusCode
}

func (s *service) reload() {
	s.m.t.Helper()
	cmd := s.command(s.unit["ExecReload"][0])
	if err := cmd.Run(); err != nil {
		out, _ := os.ReadFile(s.out.Name())
		require.NoError(s.m.t, err, string(out))
	}
	s.expect("RELOADING=1")
	s.expect("READY=1")
	require.Equal(s.m.t, 200, s.get("/readyz"))
}

func (s *service) stop() {
	s.m.t.Helper()
	began := time.Now()
	require.NoError(s.m.t, s.process.Process.Signal(syscall.SIGTERM))
	s.expect("STOPPING=1")
	require.NoError(s.m.t, s.process.Wait(), "it exits with success")
	require.Less(s.m.t, time.Since(began), 30*time.Second)
}

// readUnit returns the settings of [Service].
func readUnit(t *testing.T, name string) map[string][]string {
	t.Helper()
	f, err := os.Open(name)
	require.NoError(t, err)
	defer f.Close()
	unit, section := map[string][]string{}, ""
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if strings.HasPrefix(line, "[") {
			section = line
		}
		if key, value, found := strings.Cut(line, "="); found && section == "[Service]" && !strings.HasPrefix(line, "#") {
			unit[key] = append(unit[key], value)
		}
	}
	return unit
}

func number(t *testing.T, text string) uint32 {
	t.Helper()
	n, err := strconv.ParseUint(text, 10, 32)
	require.NoError(t, err)
	return uint32(n)
}
