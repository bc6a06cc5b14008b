// SPDX-License-Identifier: MIT

// Command image writes the container images of a release, without a daemon and without a
// base image: an OCI archive for each architecture and one with an index of both.
package main

import (
	"archive/tar"
	"bytes"
	"encoding/pem"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// user is who the gateway runs as: nobody that a host knows.
const user = 65532

func main() {
	version := flag.String("version", "", "version of the release, such as 0.1.0")
	seconds := flag.Int64("time", 0, "time of everything in the image, in Unix seconds")
	caddyfile := flag.String("caddyfile", "", "the Caddyfile of the image")
	binaries := flag.String("binaries", "", "folder with meet-gateway-amd64 and meet-gateway-arm64")
	output := flag.String("output", "", "folder for the archives")
	flag.Parse()
	if err := run(*version, time.Unix(*seconds, 0).UTC(), *caddyfile, *binaries, *output); err != nil {
		log.Fatal("image: ", err)
	}
}

func run(version string, created time.Time, caddyfile, binaries, output string) error {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, arch := range []string{"amd64", "arm64"} {
		image, err := build(version, created, caddyfile, filepath.Join(binaries, "meet-gateway-"+arch), arch)
		if err != nil {
			return err
		}
		add := mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}}}
		index = mutate.AppendManifests(index, add)
		one := mutate.AppendManifests(mutate.IndexMediaType(empty.Index, types.OCIImageIndex), add)
		if err := write(one, created, filepath.Join(output, fmt.Sprintf("meet-gateway_%s_linux_%s.oci.tar", version, arch))); err != nil {
			return err
		}
	}
	// Programs that read an archive expect one entry at its top: here, the index of both.
	top := mutate.AppendManifests(mutate.IndexMediaType(empty.Index, types.OCIImageIndex), mutate.IndexAddendum{Add: index})
	return write(top, created, filepath.Join(output, fmt.Sprintf("meet-gateway_%s_linux.oci.tar", version)))
}

// build makes the image of one architecture: two layers, so that what seldom changes is
// not sent with every release.
func build(version string, created time.Time, caddyfile, binary, arch string) (v1.Image, error) {
	base, err := layer(created, []file{
		{name: "data/", mode: 0o700, owner: user},
		{name: "config/", mode: 0o700, owner: user},
		{name: "etc/", mode: 0o755},
		{name: "etc/passwd", mode: 0o644, content: fmt.Appendf(nil, "meet-gateway:x:%d:%d::/data:/sbin/nologin\n", user, user)},
		{name: "etc/group", mode: 0o644, content: fmt.Appendf(nil, "meet-gateway:x:%d:\n", user)},
		{name: "etc/ssl/", mode: 0o755},
		{name: "etc/ssl/certs/", mode: 0o755},
		{name: "etc/ssl/certs/ca-certificates.crt", mode: 0o644, content: authorities()},
		{name: "tmp/", mode: 0o1777},
	})
	if err != nil {
		return nil, err
	}
	program, err := os.ReadFile(binary)
	if err != nil {
		return nil, err
	}
	config, err := os.ReadFile(caddyfile)
	if err != nil {
		return nil, err
	}
	gateway, err := layer(created, []file{
		{name: "etc/", mode: 0o755},
		{name: "etc/meet-gateway/", mode: 0o755},
		{name: "etc/meet-gateway/Caddyfile", mode: 0o644, content: config},
		{name: "usr/", mode: 0o755},
		{name: "usr/bin/", mode: 0o755},
		{name: "usr/bin/meet-gateway", mode: 0o755, content: program},
	})
	if err != nil {
		return nil, err
	}
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	image, err = mutate.AppendLayers(image, base, gateway)
	if err != nil {
		return nil, err
	}
	return configure(image, version, created, arch)
}

func configure(image v1.Image, version string, created time.Time, arch string) (v1.Image, error) {
	found, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	c := found.DeepCopy()
	c.OS, c.Architecture, c.Created = "linux", arch, v1.Time{Time: created}
	for i := range c.History {
		c.History[i] = v1.History{Created: v1.Time{Time: created}, CreatedBy: "meet-gateway release"}
	}
	c.Config = v1.Config{
		User:       fmt.Sprintf("%d:%d", user, user),
		Entrypoint: []string{"/usr/bin/meet-gateway"},
		Cmd:        []string{"run", "--config", "/etc/meet-gateway/Caddyfile", "--adapter", "caddyfile"},
		Env: []string{
			"PATH=/usr/bin", "HOME=/data", "XDG_DATA_HOME=/data", "XDG_CONFIG_HOME=/config",
			"MEET_GATEWAY_HEALTH=:8081", "MEET_GATEWAY_DRAIN=10s",
		},
		ExposedPorts: map[string]struct{}{"8080/tcp": {}, "8081/tcp": {}},
		Volumes:      map[string]struct{}{"/data": {}, "/config": {}},
		WorkingDir:   "/data",
		StopSignal:   "SIGTERM",
		Labels: map[string]string{
			"org.opencontainers.image.title":    "meet-gateway",
			"org.opencontainers.image.version":  version,
			"org.opencontainers.image.source":   "https://github.com/meet-gateway/meet-gateway",
			"org.opencontainers.image.licenses": "MIT",
			"org.opencontainers.image.created":  created.Format(time.RFC3339),
		},
	}
	return mutate.ConfigFile(image, c)
}

// file is one entry of a layer. A name that ends in a slash is a folder.
type file struct {
	name    string
	mode    int64
	owner   int
	content []byte
}

func layer(modified time.Time, files []file) (v1.Layer, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		kind := byte(tar.TypeReg)
		if f.name[len(f.name)-1] == '/' {
			kind = tar.TypeDir
		}
		h := &tar.Header{Typeflag: kind, Name: f.name, Mode: f.mode, Uid: f.owner, Gid: f.owner, Size: int64(len(f.content)), ModTime: modified}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.content); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil },
		tarball.WithMediaType(types.OCILayer))
}

// authorities are those that Mozilla trusts without restriction, as the Go project
// publishes them. Their version is in go.mod, so every build has the same.
func authorities() []byte {
	var b bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint != nil {
			continue
		}
		_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}) // a buffer takes everything
	}
	return b.Bytes()
}

// write stores an index as an OCI layout in one tar archive.
func write(index v1.ImageIndex, modified time.Time, name string) error {
	dir, err := os.MkdirTemp("", "oci")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if _, err := layout.Write(dir, index); err != nil {
		return err
	}
	out, err := os.Create(name)
	if err != nil {
		return err
	}
	defer out.Close()
	w := tar.NewWriter(out)
	if err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err != nil || !info.Mode().IsRegular() {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: rel, Mode: 0o644, Size: int64(len(content)), ModTime: modified}); err != nil {
			return err
		}
		_, err = w.Write(content)
		return err
	}); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return out.Close()
}
