// SPDX-License-Identifier: MIT

// Package packages installs each artefact of a release in its own root file system, starts it like
// its system, upgrades it, and removes it. It needs root and a release:
//
//	make release && MEET_GATEWAY_DIST=$PWD/dist go test ./tests/packages
package packages

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// architectures maps the names of architectures in deb to those in rpm and apk.
var architectures = map[string]string{"amd64": "x86_64", "arm64": "aarch64"}

// artefact returns the file of the release whose name has the given end. {arch} and {machine} are
// replaced by this machine's architecture.
func artefact(t *testing.T, end string) string {
	t.Helper()
	dist := os.Getenv("MEET_GATEWAY_DIST")
	if dist == "" || os.Getuid() != 0 {
		t.Skip("needs root and the folder of a release in MEET_GATEWAY_DIST; run make deploy-check")
	}
	end = strings.NewReplacer("{arch}", runtime.GOARCH, "{machine}", architectures[runtime.GOARCH]).Replace(end)
	found, err := filepath.Glob(filepath.Join(dist, "meet-gateway*"+end))
	require.NoError(t, err)
	require.Len(t, found, 1, end)
	return found[0]
}

// entry is a file or folder of a package.
type entry struct {
	mode  os.FileMode // with ModeDir
	owner string
	sum   string // of a file's content, if read
}

// All packages have the same files, owners and modes. Only root may read the files with secrets.
func TestPackages_SameContents(t *testing.T) {
	var systemd map[string]entry
	for arch, machine := range architectures {
		archive := untar(t, open(t, artefact(t, "_linux_"+arch+".tar.gz")))
		var program, unit string
		for name, e := range archive {
			switch filepath.Base(name) {
			case "meet-gateway":
				if !e.mode.IsDir() {
					program = e.sum
				}
			case "meet-gateway.service":
				unit = e.sum
			}
		}
		require.NotEmpty(t, program)

		deb := untar(t, pipe(t, "dpkg-deb", "--fsys-tarfile", artefact(t, "_"+arch+".deb")))
		rpm := rpmEntries(t, artefact(t, "."+machine+".rpm"))
		apk := untar(t, open(t, artefact(t, "_"+machine+".apk")))
		require.Equal(t, unit, deb["/usr/lib/systemd/system/meet-gateway.service"].sum)
		for name, entries := range map[string]map[string]entry{"deb": deb, "rpm": rpm, "apk": apk} {
			require.Equal(t, program, entries["/usr/bin/meet-gateway"].sum, "%s: the program in the %s is that of the archive", arch, name)
			for path, e := range entries {
				require.Equal(t, "root/root", e.owner, path)
				require.Zero(t, e.mode.Perm()&0o022, "%s: users other than root may write %s", name, path)
				secret := path == "/etc/meet-gateway/secrets" || path == "/etc/meet-gateway/environment"
				require.Equal(t, !secret, e.mode.Perm()&0o004 != 0, "%s: permission of all users to read %s", name, path)
			}
		}
		for _, name := range []string{"board.json", "rules.yaml"} {
			require.Contains(t, deb, "/usr/share/meet-gateway/"+name, "docs/production.md names it")
		}
		require.Equal(t, files(deb), files(rpm))
		alpine := files(apk)
		require.Contains(t, alpine, "/etc/init.d/meet-gateway 0755")
		require.Equal(t, without(files(deb), "/usr/lib/systemd"), without(alpine, "/etc/init.d"))
		if systemd != nil {
			require.Equal(t, files(systemd), files(deb), "both architectures")
		}
		systemd = deb
	}
}

// files returns the paths of files and of the package's own folders, with their permissions.
func files(entries map[string]entry) map[string]bool {
	found := map[string]bool{}
	for name, e := range entries {
		if !e.mode.IsDir() || strings.Contains(name, "/meet-gateway/") || strings.HasSuffix(name, "/etc/meet-gateway") {
			found[name+" 0"+strconv.FormatUint(uint64(e.mode.Perm()), 8)] = true
		}
	}
	return found
}

func without(files map[string]bool, start string) map[string]bool {
	for name := range files {
		if strings.HasPrefix(name, start) {
			delete(files, name)
		}
	}
	return files
}

func open(t *testing.T, name string) io.Reader {
	t.Helper()
	f, err := os.Open(name)
	require.NoError(t, err)
	t.Cleanup(func() { _ = f.Close() })
	// The parts of an apk form one stream.
	z, err := gzip.NewReader(f)
	require.NoError(t, err)
	return z
}

func pipe(t *testing.T, name string, args ...string) io.Reader {
	t.Helper()
	cmd := exec.Command(name, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, "%s: %s", name, stderr.String())
	return bytes.NewReader(out)
}

// untar reads a tar archive, without the control files of an apk.
func untar(t *testing.T, r io.Reader) map[string]entry {
	t.Helper()
	entries := map[string]entry{}
	archive := tar.NewReader(r)
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return entries
		}
		require.NoError(t, err)
		name := "/" + strings.Trim(strings.TrimPrefix(h.Name, "."), "/")
		if strings.HasPrefix(h.Name, ".") && !strings.HasPrefix(h.Name, "./") || name == "/" {
			continue
		}
		require.Zero(t, h.Uid+h.Gid, name)
		sum := sha256.New()
		_, err = io.Copy(sum, archive)
		require.NoError(t, err)
		entries[name] = entry{mode: h.FileInfo().Mode(), owner: "root/root", sum: hex.EncodeToString(sum.Sum(nil))}
	}
}

func rpmEntries(t *testing.T, name string) map[string]entry {
	t.Helper()
	list, err := io.ReadAll(pipe(t, "rpm", "-qp", "--qf", `[%{FILENAMES}\t%{FILEMODES:octal}\t%{FILEUSERNAME}/%{FILEGROUPNAME}\t%{FILEDIGESTS}\n]`, name))
	require.NoError(t, err)
	entries := map[string]entry{}
	for line := range strings.Lines(string(list)) {
		part := strings.Split(strings.TrimRight(line, "\n"), "\t")
		require.Len(t, part, 4, line)
		mode, err := strconv.ParseUint(part[1], 8, 32)
		require.NoError(t, err)
		e := entry{mode: os.FileMode(mode & 0o777), owner: part[2], sum: part[3]}
		if mode&0o170000 == 0o040000 {
			e.mode |= os.ModeDir
		}
		entries[part[0]] = e
	}
	return entries
}
