// SPDX-License-Identifier: MIT

// Package generators checks the served API description with linters and client generators. It
// generates clients, compiles them, and runs them against a gateway.
//
// The tools are Python's and Node's, and `make deps` installs them. Without them the tests are
// skipped, or fail in `make test`.
package generators

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tests/gatewaytest"
)

// tool finds a program that .ci/tools has installed.
func tool(t *testing.T, name string) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	require.NoError(t, err)
	path := filepath.Join(root, ".cache", "tools", "bin", name)
	if _, err := os.Stat(path); err != nil {
		if os.Getenv("MEET_GATEWAY_REQUIRE_TOOLS") != "" {
			t.Fatalf("%s is missing: run .ci/tools", path)
		}
		t.Skipf("%s is missing: run make deps", name)
	}
	return path
}

// run runs a tool and returns its standard output.
func run(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	command := exec.CommandContext(t.Context(), tool(t, name), args...)
	command.Dir = dir
	command.Env = append(os.Environ(), "REDOCLY_TELEMETRY=off", "REDOCLY_SUPPRESS_UPDATE_NOTICE=true", "PYTHONPATH="+dir, "NO_COLOR=1")
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	require.NoError(t, command.Run(), "%s %v\n%s%s", name, args, stdout.String(), stderr.String())
	return stdout.String()
}

// opened has one route of each kind that an operator can open.
const opened = `
route POST /rooms/{id}/grant-access rooms:grant-access {
	mail email
	idempotent
}
route PATCH /rooms/{id} rooms:update
route DELETE /rooms/{id} rooms:delete
route PUT /rooms/{id}/accesses/{id} rooms:update
route GET /lobbies/{slug}/of/{slug} rooms:list
route GET /lob-bies rooms:list
route GET /lob/bies rooms:list
route POST /users/transit-code users:session {
	mail none
	sensitive
}
`

// descriptions runs a test on the descriptions of gateways without and with opened routes.
func descriptions(t *testing.T, test func(t *testing.T, g *gatewaytest.Gateway, dir string)) {
	t.Helper()
	for name, routes := range map[string]string{"published": "", "with opened routes": opened} {
		t.Run(name, func(t *testing.T) {
			g, dir := served(t, routes)
			test(t, g, dir)
		})
	}
}

// served starts a gateway and stores its description in a file.
func served(t *testing.T, routes string) (g *gatewaytest.Gateway, dir string) {
	t.Helper()
	tool(t, "node") // skip before starting a gateway
	g = gatewaytest.Start(t, gatewaytest.Config{Gate: "base_path /external-api/v1.0\nbackend sandbox\n" + routes})
	dir = t.TempDir()
	for _, name := range []string{"openapi.yaml", "openapi.json"} {
		answer := g.Do("GET", "/external-api/v1.0/"+name, "")
		require.Equal(t, 200, answer.Status)
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(answer.Body), 0o600))
	}
	return g, dir
}

// copyFiles copies files of this folder to the folder of the tools.
func copyFiles(t *testing.T, dir string, names ...string) {
	t.Helper()
	for _, name := range names {
		content, err := os.ReadFile(name)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, filepath.Base(name)), content, 0o600))
	}
}

func TestLinters_ReportNothing(t *testing.T) {
	descriptions(t, func(t *testing.T, _ *gatewaytest.Gateway, dir string) {
		copyFiles(t, dir, "redocly.yaml", "spectral.yaml")
		for _, file := range []string{"openapi.yaml", "openapi.json"} {
			run(t, dir, "redocly", "lint", "--config", "redocly.yaml", "--max-problems", "1000", file)
			run(t, dir, "spectral", "lint", "--ruleset", "spectral.yaml", "--fail-severity", "hint", file)
		}
	})
}

func TestLinters_ReportNothingOnTheAdminAPI(t *testing.T) {
	tool(t, "node") // skip before starting a gateway
	g := gatewaytest.Start(t, gatewaytest.Config{})
	answer := g.Do("GET", "http://"+g.Admin+"/meet-gateway/openapi.yaml", "")
	require.Equal(t, 200, answer.Status)
	dir := t.TempDir()
	copyFiles(t, dir, "redocly-admin.yaml", "spectral.yaml")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "openapi.yaml"), []byte(answer.Body), 0o600))
	run(t, dir, "redocly", "lint", "--config", "redocly-admin.yaml", "--max-problems", "1000", "openapi.yaml")
	run(t, dir, "spectral", "lint", "--ruleset", "spectral.yaml", "--fail-severity", "hint", "openapi.yaml")
}

// flow is what the clients in testdata report.
const flow = `{"expires_in": 3600, "room": true, "listed": true, "type": "user"}`

func arguments(g *gatewaytest.Gateway) []string {
	client := g.AddApplication(nil)
	return []string{g.Base(), client.ID, client.Secret, "ada@example.org"}
}

func TestTypeScript_ClientCompilesAndRuns(t *testing.T) {
	descriptions(t, func(t *testing.T, g *gatewaytest.Gateway, dir string) {
		copyFiles(t, dir, "testdata/client.ts", "testdata/node.d.ts", "testdata/tsconfig.json", "package.json")
		modules, err := filepath.Abs("../../.cache/tools/node/node_modules")
		require.NoError(t, err)
		require.NoError(t, os.Symlink(modules, filepath.Join(dir, "node_modules")))
		run(t, dir, "openapi-typescript", "openapi.yaml", "--output", "api.d.ts")
		run(t, dir, "tsc", "--project", "tsconfig.json")
		require.JSONEq(t, flow, run(t, dir, "node", append([]string{"client.js"}, arguments(g)...)...))
	})
}

func TestPython_ClientCompilesAndRuns(t *testing.T) {
	descriptions(t, func(t *testing.T, g *gatewaytest.Gateway, dir string) {
		copyFiles(t, dir, "testdata/client.py")
		run(t, dir, "openapi-python-client", "generate", "--fail-on-warning", "--meta", "none", "--path", "openapi.json", "--output-path", "meet_client")
		run(t, dir, "python", "-W", "error", "-m", "compileall", "-q", "meet_client")
		require.JSONEq(t, flow, run(t, dir, "python", append([]string{"client.py"}, arguments(g)...)...))
	})
}
