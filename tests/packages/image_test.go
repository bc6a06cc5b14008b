// SPDX-License-Identifier: MIT

package packages

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tests/child"
)

// descriptor refers to a blob of an OCI layout.
type descriptor struct {
	MediaType string `json:"mediaType"`
	Digest    string `json:"digest"`
	Platform  struct {
		Architecture string `json:"architecture"`
	} `json:"platform"`
}

// layout is the files of an OCI archive by name.
type layout map[string][]byte

func readLayout(t *testing.T, name string) layout {
	t.Helper()
	f, err := os.Open(name)
	require.NoError(t, err)
	defer f.Close()
	l, archive := layout{}, tar.NewReader(f)
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return l
		}
		require.NoError(t, err)
		l[h.Name], err = io.ReadAll(archive)
		require.NoError(t, err)
	}
}

func (l layout) blob(t *testing.T, d descriptor, to any) {
	t.Helper()
	content := l["blobs/"+strings.Replace(d.Digest, ":", "/", 1)]
	require.NotEmpty(t, content, d.Digest)
	require.NoError(t, json.Unmarshal(content, to))
}

// images returns the image manifests of an archive, whose only top-level entry is an image or an
// index.
func (l layout) images(t *testing.T) []descriptor {
	t.Helper()
	var index struct{ Manifests []descriptor }
	require.NoError(t, json.Unmarshal(l["index.json"], &index))
	require.Len(t, index.Manifests, 1)
	if strings.Contains(index.Manifests[0].MediaType, "image.index") {
		l.blob(t, index.Manifests[0], &index)
	}
	return index.Manifests
}

// image is the configuration of an image.
type image struct {
	Architecture string
	Config       struct {
		User            string
		Entrypoint, Cmd []string
		Env             []string
		WorkingDir      string
		Volumes         map[string]struct{}
	}
}

func TestImage_BothArchitectures(t *testing.T) {
	both := readLayout(t, artefact(t, "_linux.oci.tar"))
	found := map[string]string{}
	for _, d := range both.images(t) {
		found[d.Platform.Architecture] = d.Digest
	}
	require.Len(t, found, len(architectures))
	for arch := range architectures {
		one := readLayout(t, artefact(t, "_linux_"+arch+".oci.tar")).images(t)
		require.Len(t, one, 1)
		require.Equal(t, one[0].Digest, found[arch])
	}
}

// The image runs with its configured user and command on a read-only root file system, without a
// shell or libraries.
func TestImage_RunsUnprivilegedOnAReadOnlyRoot(t *testing.T) {
	l := readLayout(t, artefact(t, "_linux_{arch}.oci.tar"))
	var manifest struct {
		Config descriptor
		Layers []descriptor
	}
	l.blob(t, l.images(t)[0], &manifest)
	var i image
	l.blob(t, manifest.Config, &i)
	require.Equal(t, runtime.GOARCH, i.Architecture)

	root := t.TempDir()
	for _, layer := range manifest.Layers {
		l.extract(t, layer, root)
	}
	authorities, rest := 0, must(os.ReadFile(filepath.Join(root, "etc/ssl/certs/ca-certificates.crt")))(t)
	for block, more := pem.Decode(rest); block != nil; block, more = pem.Decode(more) {
		_, err := x509.ParseCertificate(block.Bytes)
		require.NoError(t, err)
		authorities++
	}
	require.Greater(t, authorities, 50)
	owner, group, found := strings.Cut(i.Config.User, ":")
	require.True(t, found)
	require.NotEqual(t, "0", owner)
	uid, gid := number(t, owner), number(t, group)

	mount := func(source, target, kind, data string, flags uintptr) {
		require.NoError(t, syscall.Mount(source, target, kind, flags, data), target)
		t.Cleanup(func() { _ = syscall.Unmount(target, syscall.MNT_DETACH) })
	}
	mount(root, root, "", "", syscall.MS_BIND)
	mount("", root, "", "", syscall.MS_BIND|syscall.MS_REMOUNT|syscall.MS_RDONLY)
	require.NotEmpty(t, i.Config.Volumes)
	for volume := range i.Config.Volumes {
		mount("tmpfs", filepath.Join(root, volume), "tmpfs", "mode=700,uid="+owner+",gid="+group, 0)
	}

	address, health, admin := claim(t), claim(t), claim(t)
	cmd := &exec.Cmd{
		Path: i.Config.Entrypoint[0], Args: append(i.Config.Entrypoint, i.Config.Cmd...), Dir: i.Config.WorkingDir,
		Env:         append(i.Config.Env, "MEET_GATEWAY_ADDR=:"+strconv.Itoa(address.Port), "MEET_GATEWAY_HEALTH="+health.Addr(), "MEET_GATEWAY_DRAIN=0s", "CADDY_ADMIN="+admin.Addr()),
		SysProcAttr: &syscall.SysProcAttr{Chroot: root, Credential: &syscall.Credential{Uid: uid, Gid: gid}, Pdeathsig: syscall.SIGKILL},
	}
	out := must(os.Create(filepath.Join(t.TempDir(), "out")))(t)
	cmd.Stdout, cmd.Stderr = out, out
	printed := func() string { return string(must(os.ReadFile(out.Name()))(t)) }
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = out.Close()
	})
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		res, err := (&http.Client{Timeout: 10 * time.Second}).Get("http://" + health.Addr() + "/readyz")
		if err == nil && res.Body.Close() == nil && res.StatusCode == http.StatusOK {
			break
		}
		require.True(t, time.Now().Before(deadline), printed())
	}
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, cmd.Wait(), printed())
	require.NotContains(t, printed(), "read-only", "it tried to write to the read-only file system")
}

func claim(t *testing.T) *child.PortClaim {
	t.Helper()
	c, err := child.ClaimPort()
	require.NoError(t, err)
	t.Cleanup(c.Release)
	return c
}

func must[T any](value T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		require.NoError(t, err)
		return value
	}
}

func (l layout) extract(t *testing.T, layer descriptor, root string) {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(l["blobs/"+strings.Replace(layer.Digest, ":", "/", 1)]))
	require.NoError(t, err)
	archive := tar.NewReader(z)
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		require.NoError(t, err)
		name := filepath.Join(root, h.Name)
		if h.Typeflag == tar.TypeDir {
			require.NoError(t, os.MkdirAll(name, h.FileInfo().Mode()))
		} else {
			content, err := io.ReadAll(archive)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(name, content, h.FileInfo().Mode()))
		}
		require.NoError(t, os.Chmod(name, h.FileInfo().Mode()))
		require.NoError(t, os.Chown(name, h.Uid, h.Gid))
	}
}
