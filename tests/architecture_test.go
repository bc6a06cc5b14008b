// SPDX-License-Identifier: MIT

package tests

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// layer is a folder with import rules for its packages, without their tests. A name in
// a rule covers the package and all packages below it. A package belongs to the deepest
// layer that contains it.
type layer struct {
	folder string
	// mayImport lists the modules that its code may import directly, besides the
	// standard library and its own packages. Empty: all that are not forbidden.
	mayImport []string
	// mustNotImport lists packages that its code must not import directly.
	mustNotImport []string
	// mustNotReach lists packages that it must not import, directly or indirectly.
	mustNotReach []string
}

const (
	caddy      = "github.com/caddyserver"
	zap        = "go.uber.org/zap"
	prometheus = "github.com/prometheus"
	goRedis    = "github.com/redis/go-redis"
	golangJWT  = "github.com/golang-jwt/jwt"
)

// The domain (tokens) is independent of transport, the client (backendclient) is independent of
// storage, and neither imports the other. caddymodule joins them and uses Redis only through the
// domain.
var layers = []layer{
	{
		folder: "tokens",
		mayImport: []string{
			"golang.org/x/crypto", // password hashes of imported applications
			"golang.org/x/sync",
		},
		mustNotReach: []string{caddy, zap, prometheus, "net/http", ours("backendclient"), ours("caddymodule"), ours("tests")},
	},
	{ // only errors
		folder:       "tokens/internal/failure",
		mayImport:    []string{"none"},
		mustNotReach: []string{caddy, zap, prometheus, "net/http", ours("backendclient"), ours("caddymodule"), ours("tests"), goRedis, golangJWT},
	},
	{
		folder:       "tokens/internal/vault",
		mayImport:    []string{"none"},
		mustNotReach: []string{caddy, zap, prometheus, "net/http", ours("backendclient"), ours("caddymodule"), ours("tests"), goRedis, golangJWT},
	},
	{
		folder:       "tokens/internal/redisdb",
		mayImport:    []string{goRedis, "github.com/go-redis/redis_rate", ours("tokens/internal/failure"), ours("tokens/internal/vault")},
		mustNotReach: []string{caddy, zap, prometheus, "net/http", ours("backendclient"), ours("caddymodule"), ours("tests"), golangJWT},
	},
	{
		folder:       "tokens/internal/feed",
		mayImport:    []string{goRedis, ours("tokens/internal/failure"), ours("tokens/internal/journal"), ours("tokens/internal/redisdb"), ours("tokens/internal/vault")},
		mustNotReach: []string{caddy, zap, prometheus, "net/http", golangJWT, ours("backendclient"), ours("caddymodule"), ours("tests")},
	},
	{
		folder:       "tokens/internal/journal",
		mayImport:    []string{goRedis, ours("tokens/internal/redisdb")},
		mustNotReach: []string{caddy, zap, prometheus, "net/http", golangJWT, ours("backendclient"), ours("caddymodule"), ours("tests")},
	},
	{ // only goroutines
		folder:       "tokens/internal/background",
		mayImport:    []string{"golang.org/x/sync"},
		mustNotReach: []string{caddy, zap, prometheus, "net/http", ours("backendclient"), ours("caddymodule"), ours("tests"), goRedis, golangJWT},
	},
	{ // a table, independent of Redis
		folder:       "tokens/internal/knowntokens",
		mayImport:    []string{ours("tokens/grammar"), ours("tokens/internal/vault")},
		mustNotReach: []string{caddy, zap, prometheus, "net/http", ours("backendclient"), ours("caddymodule"), ours("tests"), goRedis, golangJWT},
	},
	{
		folder:       "tokens/internal/memory",
		mayImport:    []string{"none"},
		mustNotReach: []string{caddy, zap, prometheus, "net/http", ours("backendclient"), ours("caddymodule"), ours("tests"), goRedis, golangJWT},
	},
	{
		folder:       "tokens/internal/installation",
		mayImport:    []string{ours("tokens/internal"), ours("tokens/signing"), "golang.org/x/time/rate"},
		mustNotReach: []string{caddy, zap, prometheus, "net/http", ours("backendclient"), ours("caddymodule"), ours("tests")},
	},
	{ // independent of applications and users
		folder:       "tokens/internal/family",
		mayImport:    []string{ours("tokens/internal"), ours("tokens/grammar")},
		mustNotReach: []string{caddy, zap, prometheus, "net/http", golangJWT, ours("backendclient"), ours("caddymodule"), ours("tests")},
	},
	{ // of an application, uses only its id and its document
		folder:       "tokens/internal/clientids",
		mayImport:    []string{ours("tokens/internal")},
		mustNotReach: []string{caddy, zap, prometheus, "net/http", golangJWT, ours("backendclient"), ours("caddymodule"), ours("tests")},
	},
	{
		folder:       "tokens/internal/mailindex",
		mayImport:    []string{ours("tokens/internal"), ours("tokens/grammar")},
		mustNotReach: []string{caddy, zap, prometheus, "net/http", golangJWT, ours("backendclient"), ours("caddymodule"), ours("tests")},
	},
	{
		folder:       "tokens/internal/rekey",
		mayImport:    []string{ours("tokens/internal")},
		mustNotReach: []string{caddy, zap, prometheus, "net/http", golangJWT, ours("backendclient"), ours("caddymodule"), ours("tests")},
	},
	{
		folder:       "tokens/internal/trial",
		mayImport:    []string{ours("tokens/internal"), ours("tokens/meettokens")},
		mustNotReach: []string{caddy, zap, prometheus, "net/http", golangJWT, ours("backendclient"), ours("caddymodule"), ours("tests")},
	},
	{
		folder:       "tokens/internal/secrets",
		mayImport:    []string{ours("tokens/internal")},
		mustNotReach: []string{caddy, zap, prometheus, "net/http", ours("backendclient"), ours("caddymodule"), ours("tests"), goRedis, golangJWT},
	},
	{ // formats of texts
		folder:       "tokens/grammar",
		mayImport:    []string{"golang.org/x/net/idna", ours("tokens/internal/failure")},
		mustNotReach: []string{caddy, zap, prometheus, "net/http", ours("backendclient"), ours("caddymodule"), ours("tests"), goRedis, golangJWT},
	},
	{
		folder:       "tokens/gateways",
		mayImport:    []string{ours("tokens/internal")},
		mustNotReach: []string{caddy, zap, prometheus, "net/http", golangJWT, ours("backendclient"), ours("caddymodule"), ours("tests")},
	},
	{
		folder:       "tokens/idempotency",
		mayImport:    []string{ours("tokens/internal"), "github.com/dunglas/httpsfv"},
		mustNotReach: []string{caddy, zap, prometheus, "net/http", golangJWT, ours("backendclient"), ours("caddymodule"), ours("tests")},
	},
	{
		folder:       "tokens/meettokens",
		mayImport:    []string{ours("tokens/internal")},
		mustNotReach: []string{caddy, zap, prometheus, "net/http", golangJWT, ours("backendclient"), ours("caddymodule"), ours("tests")},
	},
	{
		folder:       "tokens/quota",
		mayImport:    []string{ours("tokens/internal"), ours("tokens/limit")},
		mustNotReach: []string{caddy, zap, prometheus, "net/http", golangJWT, ours("backendclient"), ours("caddymodule"), ours("tests")},
	},
	{
		folder:       "tokens/roomindex",
		mayImport:    []string{ours("tokens/internal")},
		mustNotReach: []string{caddy, zap, prometheus, "net/http", golangJWT, ours("backendclient"), ours("caddymodule"), ours("tests")},
	},
	{
		folder:       "tokens/signing",
		mayImport:    []string{golangJWT, "github.com/go-jose/go-jose", "github.com/go-json-experiment/json", ours("tokens/internal/failure"), ours("tokens/internal/vault")},
		mustNotReach: []string{caddy, zap, prometheus, "net/http", goRedis, ours("backendclient"), ours("caddymodule"), ours("tests")},
	},
	{
		folder:       "tokens/embedded",
		mayImport:    []string{ours("tokens"), "github.com/alicebob/miniredis"},
		mustNotReach: []string{caddy, zap, prometheus, "net/http", ours("backendclient"), ours("caddymodule"), ours("tests")},
	},
	{ // counters; the shared counter is an interface
		folder:       "tokens/limit",
		mayImport:    []string{ours("tokens/internal/memory")},
		mustNotReach: []string{caddy, zap, prometheus, "net/http", ours("backendclient"), ours("caddymodule"), ours("tests"), goRedis, golangJWT},
	},
	{ // hostile input and slow hashes
		folder:       "tokens/django",
		mayImport:    []string{"golang.org/x/crypto"},
		mustNotReach: []string{caddy, zap, prometheus, "net/http", ours("backendclient"), ours("caddymodule"), ours("tests"), goRedis, golangJWT},
	},
	{ // for tests of other packages
		folder:       "tokens/django/djangotest",
		mayImport:    []string{"none"},
		mustNotReach: []string{caddy, zap, prometheus, "net/http", ours("backendclient"), ours("caddymodule"), ours("tests"), goRedis, golangJWT},
	},
	{ // for tests of other packages
		folder:       "tokens/storetest",
		mayImport:    []string{ours("tokens"), goRedis, "github.com/stretchr/testify"},
		mustNotReach: []string{caddy, zap, prometheus, ours("backendclient"), ours("caddymodule")},
	},
	{
		folder:       "backendclient",
		mayImport:    []string{"golang.org/x/sync", "github.com/google/uuid"},
		mustNotReach: []string{caddy, zap, prometheus, goRedis, golangJWT, ours("tokens"), ours("caddymodule"), ours("tests")},
	},
	{ // a Meet for trials, part of the binary
		folder:       "backendclient/sandbox",
		mayImport:    []string{"github.com/go-json-experiment/json"},
		mustNotReach: []string{caddy, zap, prometheus, goRedis, golangJWT, ours("tokens"), ours("caddymodule"), ours("tests")},
	},
	{
		folder:        "caddymodule",
		mustNotImport: []string{golangJWT, goRedis},
		mustNotReach:  []string{ours("tests"), "testing"},
	},
	{ // administers the running app through an interface
		folder:        "caddymodule/admin",
		mustNotImport: []string{golangJWT, goRedis},
		mustNotReach:  []string{ours("backendclient"), ours("caddymodule/command"), ours("tests"), "testing"},
	},
	{ // JSON resources for servers and clients
		folder:       "caddymodule/admin/wire",
		mayImport:    []string{ours("tokens")},
		mustNotReach: []string{caddy, zap, prometheus, "net/http", ours("backendclient"), ours("tests"), "testing"},
	},
	{ // uses the gateway only over HTTP
		folder: "caddymodule/command",
		mayImport: []string{
			ours("caddymodule/admin/wire"), ours("caddymodule/audit"), ours("caddymodule/conformance"), ours("tokens"), caddy,
			"github.com/dustin/go-humanize",
			"github.com/spf13",
			"go.yaml.in/yaml",
			"golang.org/x/term",
		},
		mustNotReach: []string{ours("tests"), "testing"},
	},
	{ // uses the client of Meet to interpret answers
		folder:       "caddymodule/conformance",
		mayImport:    []string{ours("backendclient"), "github.com/dustin/go-humanize", "go.yaml.in/yaml"},
		mustNotReach: []string{caddy, zap, prometheus, goRedis, golangJWT, ours("tokens"), ours("backendclient/sandbox"), ours("tests"), "testing"},
	},
	{ // process-wide settings belong to the binary
		folder:        "caddymodule/cmd/meet-gateway",
		mustNotImport: []string{golangJWT},
		mustNotReach:  []string{ours("tests"), "testing"},
	},
	{
		folder:        "caddymodule/store",
		mustNotImport: []string{golangJWT, goRedis},
		mustNotReach:  []string{ours("backendclient"), ours("caddymodule/admin"), ours("caddymodule/command"), ours("tests"), "testing"},
	},
	{ // parses untrusted input
		folder:       "caddymodule/parse",
		mayImport:    []string{"golang.org/x/net/http/httpguts", ours("caddymodule/strictjson")},
		mustNotReach: []string{caddy, zap, prometheus, goRedis, golangJWT, ours("tokens"), ours("backendclient"), ours("tests"), "testing"},
	},
	{ // requests to Meet, without authorization
		folder:       "caddymodule/upstream",
		mayImport:    []string{caddy, zap, ours("backendclient")},
		mustNotReach: []string{goRedis, golangJWT, ours("tokens"), ours("tests"), "testing"},
	},
	{
		folder:       "caddymodule/option",
		mustNotReach: []string{ours("backendclient"), ours("tokens"), ours("tests"), "testing"},
	},
	{ // the caller chooses the checks
		folder:       "caddymodule/health",
		mustNotReach: []string{goRedis, golangJWT, ours("backendclient"), ours("tokens"), ours("tests"), "testing"},
	},
	{
		folder:       "caddymodule/doctor",
		mustNotReach: []string{caddy, zap, prometheus, ours("backendclient"), ours("tests"), "testing"},
	},
	{ // a trail of lines, independent of its writer
		folder:       "caddymodule/audit",
		mustNotReach: []string{caddy, zap, prometheus, goRedis, golangJWT, "net/http", ours("tokens"), ours("backendclient"), ours("tests")},
	},
	{ // only texts and templates
		folder:       "caddymodule/docs",
		mayImport:    []string{"github.com/yuin/goldmark", "golang.org/x/text"},
		mustNotReach: []string{caddy, zap, prometheus, goRedis, golangJWT, ours("tokens"), ours("backendclient"), ours("tests")},
	},
	{
		folder:       "caddymodule/pool",
		mustNotReach: []string{ours("backendclient"), ours("tokens"), ours("tests"), "testing"},
	},
	{
		folder:       "caddymodule/strictjson",
		mustNotReach: []string{caddy, zap, prometheus, goRedis, golangJWT, "net/http", ours("tokens"), ours("backendclient"), ours("tests")},
	},
}

func ours(folder string) string { return modulePath + "/" + folder }

// listed is a package in the output of go list.
type listed struct {
	ImportPath string
	Doc        string
	GoFiles    []string
	Imports    []string
	Deps       []string
}

func TestArchitecture_ImportRules(t *testing.T) {
	packages := listPackages(t)
	standard := standardLibrary(t)
	for _, r := range layers {
		t.Run(r.folder, func(t *testing.T) {
			var seen int
			for _, p := range packages {
				if layerOf(p.ImportPath).folder != r.folder {
					continue
				}
				seen++
				for _, violation := range r.violations(p, standard) {
					t.Error(violation)
				}
			}
			require.NotZero(t, seen, "the layer is empty")
		})
	}
}

// The domain reads through feed.Read, refuses through feed.Refuse and changes through
// feed.Commit. It has no access to the go-redis client.
func TestArchitecture_RedisClientIsPrivate(t *testing.T) {
	own := []string{"redisdb", "feed", "journal"}
	err := filepath.WalkDir(atTop("tokens"), func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go") ||
			slices.Contains(own, filepath.Base(filepath.Dir(name))) || filepath.Base(filepath.Dir(name)) == "storetest" {
			return err
		}
		source, err := os.ReadFile(name)
		if err == nil && bytes.Contains(source, []byte(".Client()")) {
			t.Errorf("%s uses the client of Redis", name)
		}
		return err
	})
	require.NoError(t, err)
}

func TestArchitecture_ImportRulesCanFail(t *testing.T) {
	standard := map[string]bool{"fmt": true, "net/http": true}
	r := layer{
		folder:        "tokens",
		mayImport:     []string{"example.org/allowed"},
		mustNotImport: []string{"example.org/allowed/not-this"},
		mustNotReach:  []string{"net/http"},
	}
	for name, test := range map[string]struct {
		imports, deps []string
		want          int
	}{
		"allowed":                      {[]string{"fmt", "example.org/allowed/v2", ours("tokens/django")}, nil, 0},
		"an unlisted module":           {[]string{"example.org/other"}, nil, 1},
		"only a common prefix":         {[]string{"example.org/allowed-too"}, nil, 1},
		"a forbidden package":          {[]string{"example.org/allowed/not-this"}, nil, 1},
		"a forbidden dependency":       {nil, []string{"net/http/httptest"}, 1},
		"another layer, not forbidden": {[]string{ours("caddymodule")}, nil, 1},
	} {
		t.Run(name, func(t *testing.T) {
			p := listed{ImportPath: ours("tokens"), Imports: test.imports, Deps: test.deps}
			require.Len(t, r.violations(p, standard), test.want)
		})
	}
}

// Every shipped package has its own rule, so a new package needs one too.
func TestArchitecture_EveryPackageHasARule(t *testing.T) {
	for _, p := range listPackages(t) {
		folder := strings.TrimPrefix(p.ImportPath, modulePath+"/")
		top, _, _ := strings.Cut(folder, "/")
		if top != "tests" && top != "deploy" && layerOf(p.ImportPath).folder != folder {
			t.Errorf("%s has no row in the table of this test", folder)
		}
	}
}

func TestArchitecture_EveryPackageHasAComment(t *testing.T) {
	for _, p := range listPackages(t) {
		if len(p.GoFiles) > 0 && p.Doc == "" {
			t.Errorf("%s has no package comment", p.ImportPath)
		}
	}
}

// Names of the build machine do not belong in the repository.
func TestArchitecture_NoMachineNames(t *testing.T) {
	strange := machineNames(t)
	err := filepath.WalkDir(atTop(), func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if entry.Name() == ".git" || name == atTop("bin") || name == atTop(".cache") {
				return filepath.SkipDir
			}
			return nil
		}
		if !entry.Type().IsRegular() {
			return nil
		}
		content, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		for _, s := range strange {
			if bytes.Contains(content, []byte(s)) {
				t.Errorf("%s contains %q", name, s)
			}
		}
		return nil
	})
	require.NoError(t, err)
}

// layerOf returns the deepest layer that contains a package, or none.
func layerOf(pkg string) (deepest layer) {
	for _, r := range layers {
		if within(pkg, ours(r.folder)) && len(r.folder) > len(deepest.folder) {
			deepest = r
		}
	}
	return deepest
}

func (r layer) violations(p listed, standard map[string]bool) []string {
	var found []string
	for _, imported := range p.Imports {
		allowed := len(r.mayImport) == 0 || standard[imported] ||
			within(imported, ours(r.folder)) || withinAny(imported, r.mayImport)
		if !allowed || withinAny(imported, r.mustNotImport) {
			found = append(found, p.ImportPath+" must not import "+imported)
		}
	}
	for _, reached := range p.Deps {
		if withinAny(reached, r.mustNotReach) {
			found = append(found, p.ImportPath+" must not depend on "+reached)
		}
	}
	return found
}

// within reports whether a package is at or below a path.
func within(pkg, path string) bool { return pkg == path || strings.HasPrefix(pkg, path+"/") }

func withinAny(pkg string, paths []string) bool {
	return slices.ContainsFunc(paths, func(path string) bool { return within(pkg, path) })
}

// machineNames returns the paths of this checkout and of its neighbours, and the hosts of module
// proxies.
func machineNames(t *testing.T) []string {
	t.Helper()
	top, err := filepath.Abs(atTop())
	require.NoError(t, err)
	names := []string{top}
	if parent := filepath.Dir(top); filepath.Dir(parent) != parent {
		beside, err := os.ReadDir(parent)
		require.NoError(t, err)
		for _, entry := range beside {
			if strings.HasPrefix(entry.Name(), ".") {
				continue // names such as .cache are the same on every machine
			}
			names = append(names, filepath.Join(parent, entry.Name())+"/")
		}
	}
	for proxy := range strings.FieldsFuncSeq(string(goCommand(t, "env", "GOPROXY")), isProxySeparator) {
		if u, err := url.Parse(proxy); err == nil && u.Host != "" {
			names = append(names, u.Host)
		}
	}
	return names
}

func isProxySeparator(r rune) bool { return r == ',' || r == '|' || r == '\n' }

// listPackages returns the packages of this module.
func listPackages(t *testing.T) []listed {
	t.Helper()
	out := json.NewDecoder(bytes.NewReader(goCommand(t, "list", "-json=ImportPath,Doc,GoFiles,Imports,Deps", "./...")))
	var packages []listed
	for {
		var p listed
		err := out.Decode(&p)
		if errors.Is(err, io.EOF) {
			return packages
		}
		require.NoError(t, err)
		packages = append(packages, p)
	}
}

func standardLibrary(t *testing.T) map[string]bool {
	t.Helper()
	standard := make(map[string]bool)
	for name := range strings.FieldsSeq(string(goCommand(t, "list", "std"))) {
		standard[name] = true
	}
	return standard
}

// goCommand runs the go command at the top of the repository.
func goCommand(t *testing.T, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = atTop()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, "go %s: %s", strings.Join(args, " "), &stderr)
	return out
}

// atTop returns a path in the repository, relative to the folder of these tests.
func atTop(elem ...string) string { return filepath.Join(append([]string{".."}, elem...)...) }

// Every file has an SPDX line, so that a copied file keeps its licence.
func TestArchitecture_SPDXLines(t *testing.T) {
	err := filepath.WalkDir(atTop(), func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if path != atTop() && strings.HasPrefix(entry.Name(), ".") {
				return filepath.SkipDir
			}
			return nil
		}
		if filepath.Ext(path) != ".go" {
			return nil
		}
		source, err := os.ReadFile(path)
		if err == nil && !bytes.HasPrefix(source, []byte("// SPDX-License-Identifier: MIT\n\n")) {
			t.Errorf("%s does not begin with its SPDX line", path)
		}
		return err
	})
	require.NoError(t, err)
}
