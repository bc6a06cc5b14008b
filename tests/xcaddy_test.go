// SPDX-License-Identifier: MIT

package tests

import (
	"encoding/json"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
	"github.com/stretchr/testify/require"
)

const (
	modulePath   = "github.com/meet-gateway/meet-gateway"
	caddyPath    = "github.com/caddyserver/caddy/v2"
	mainPackage  = "caddymodule/cmd/meet-gateway"
	xcaddyConfig = "xcaddy.toml"
)

// builder has the fields of xcaddy.Builder that affect a build.
type builder struct {
	CaddyVersion string `toml:"caddy_version"`
	Plugins      []struct {
		ModulePath string `toml:"module_path"`
		Version    string `toml:"version"`
	} `toml:"plugins"`
	Replacements []struct {
		Old string `toml:"old"`
		New string `toml:"new"`
	} `toml:"replacements"`
	BuildFlags string `toml:"build_flags"`
	ModFlags   string `toml:"mod_flags"`
}

// command is the xcaddy command line for a build.
func (b builder) command() string {
	words := []string{"xcaddy", "build", b.CaddyVersion}
	for _, p := range b.Plugins {
		with := p.ModulePath
		if p.Version != "" {
			with += "@" + p.Version
		}
		words = append(words, "--with", with)
	}
	for _, r := range b.Replacements {
		words = append(words, "--replace", r.Old+"="+r.New)
	}
	return strings.Join(append(words, "--output", "bin/meet-gateway"), " ")
}

func readBuilder(t *testing.T) (b builder, text string) {
	t.Helper()
	data, err := os.ReadFile(atTop(xcaddyConfig))
	require.NoError(t, err)
	meta, err := toml.Decode(string(data), &b)
	require.NoError(t, err)
	require.Empty(t, meta.Undecoded(), "not a field of xcaddy.Builder")
	return b, string(data)
}

func TestXcaddy_CaddyVersionOfGoMod(t *testing.T) {
	b, _ := readBuilder(t)
	selected := goCommand(t, "list", "-m", "-f", "{{.Version}}", caddyPath)
	require.Equal(t, strings.TrimSpace(string(selected)), b.CaddyVersion)
}

func TestXcaddy_ModulePath(t *testing.T) {
	b, _ := readBuilder(t)
	require.Len(t, b.Replacements, 1)
	require.Equal(t, modulePath, b.Replacements[0].Old)
	require.Equal(t, ".", b.Replacements[0].New)
}

// A replace directive has no effect in an xcaddy build, which has another main module.
func TestXcaddy_GoModReplacesNothing(t *testing.T) {
	var mod struct {
		Module  struct{ Path string }
		Replace []any
	}
	require.NoError(t, json.Unmarshal(goCommand(t, "mod", "edit", "-json"), &mod))
	require.Equal(t, modulePath, mod.Module.Path)
	require.Empty(t, mod.Replace)
}

// xcaddy adds Caddy's standard modules by itself. Every other blank import of the main
// package is a plugin.
func TestXcaddy_PluginsAreThoseOfTheMainPackage(t *testing.T) {
	b, _ := readBuilder(t)
	var plugins []string
	for _, p := range b.Plugins {
		plugins = append(plugins, p.ModulePath)
	}
	slices.Sort(plugins)
	require.Equal(t, blankImports(t, mainPackage), plugins)
	goCommand(t, append([]string{"list"}, plugins...)...) // each package exists
}

func TestXcaddy_CommentHasTheEquivalentCommand(t *testing.T) {
	b, text := readBuilder(t)
	require.Contains(t, text, "#   "+b.command()+"\n")
	require.Empty(t, b.BuildFlags+b.ModFlags, "the command does not show flags, which xcaddy takes from the environment")
}

// blankImports returns the blank imports of one of our packages, without the standard
// library and Caddy, but always with our own packages.
func blankImports(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(atTop(dir, "*.go"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	var blank []string
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		require.NoError(t, err)
		for _, spec := range file.Imports {
			path, err := strconv.Unquote(spec.Path.Value)
			require.NoError(t, err)
			plugin := spec.Name != nil && spec.Name.Name == "_" || strings.HasPrefix(path, modulePath)
			if plugin && !strings.HasPrefix(path, caddyPath) && strings.Contains(path, ".") {
				blank = append(blank, path)
			}
		}
	}
	slices.Sort(blank)
	return blank
}
