// SPDX-License-Identifier: MIT

package generators

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tests/gatewaytest"
)

// TestPage_InABrowser opens the page for integrators in Chromium. It writes screenshots to the folder
// in PICTURES, if set.
func TestPage_InABrowser(t *testing.T) {
	g, dir := served(t, "")
	browser, err := exec.LookPath("chromium")
	if err != nil && os.Getenv("MEET_GATEWAY_REQUIRE_TOOLS") == "" {
		t.Skip("chromium is missing: run make deps")
	}
	require.NoError(t, err)
	copyFiles(t, dir, "testdata/page.mjs")
	modules, err := filepath.Abs("../../.cache/tools/node/node_modules")
	require.NoError(t, err)
	require.NoError(t, os.Symlink(modules, filepath.Join(dir, "node_modules")))
	a := arguments(g)
	out := run(t, dir, "node", "page.mjs", browser, a[0]+"/docs", a[1], a[2], a[3], os.Getenv("PICTURES"))
	require.JSONEq(t, `{"faults": [], "answers": [
		"POST /application/token: 200", "POST /rooms: 201", "GET /rooms: 200", "GET /identity: 200"
	]}`, out)
}

// page fetches the page of a gateway.
func page(t *testing.T, g *gatewaytest.Gateway, path string, headers ...string) *gatewaytest.Answer {
	t.Helper()
	return g.Do(http.MethodGet, path, "", headers...)
}

func TestPage_IsServedUnderEveryBasePath(t *testing.T) {
	g := gatewaytest.Start(t, gatewaytest.Config{Gate: "base_path /external-api/v1.0 /\nbackend sandbox"})
	for _, base := range []string{"", "/external-api/v1.0"} {
		for _, slash := range []string{"", "/"} {
			a := page(t, g, base+"/docs"+slash, "Accept-Language", "fr-CA, en;q=0.5")
			require.Equal(t, 200, a.Status)
			require.Equal(t, "fr", a.Header.Get("Content-Language"))
			require.Equal(t, "Accept-Language", a.Header.Get("Vary"))
			require.Contains(t, a.Body, `<html lang="fr">`)
			require.Contains(t, a.Body, `src="`+base+`/docs/try.js"`)
			require.Contains(t, a.Body, g.URL+base)
			require.NotContains(t, a.Body, "gateway.invalid")
			require.NotContains(t, a.Header.Get("Content-Security-Policy"), "unsafe")
		}
		require.Contains(t, page(t, g, base+"/docs?lang=en", "Accept-Language", "fr").Body, `<html lang="en">`)
		require.Contains(t, page(t, g, base+"/docs", "Accept-Language", "de").Body, `<html lang="en">`)
	}
	require.Equal(t, 405, g.Do(http.MethodPost, "/docs", "").Status)
	require.Equal(t, 404, g.Do(http.MethodGet, "/docs/page.html", "").Status)

	var compressed bytes.Buffer
	w := gzip.NewWriter(&compressed)
	for _, path := range []string{"/docs", "/docs/style.css", "/docs/try.js"} {
		a := page(t, g, path)
		require.Equal(t, 200, a.Status, path)
		_, err := w.Write([]byte(a.Body))
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	require.Less(t, compressed.Len(), 300_000)
}

func TestPage_Off(t *testing.T) {
	g := gatewaytest.Start(t, gatewaytest.Config{Gate: "base_path /\nbackend sandbox\ndocs off"})
	for _, path := range []string{"/docs", "/docs/style.css", "/docs/try.js"} {
		require.Equal(t, 404, g.Do(http.MethodGet, path, "").Status)
	}
}

// toolchains are the commands that run each example, if the machine has them.
var toolchains = map[string]struct {
	file string
	run  []string
}{
	"curl.sh":        {"curl.sh", []string{"sh", "curl.sh"}},
	"python.py":      {"python.py", []string{"python3", "python.py"}},
	"javascript.mjs": {"javascript.mjs", []string{"node", "javascript.mjs"}},
	"go.txt":         {"main.go", []string{"go", "run", "main.go"}},
	"Java.java":      {"Java.java", []string{"java", "Java.java"}},
	"php.php":        {"php.php", []string{"php", "php.php"}},
	"CSharp.cs":      {"Program.cs", []string{"dotnet", "run", "--project", "CSharp.csproj"}},
}

// project is the output of `dotnet new console`.
const project = `<Project Sdk="Microsoft.NET.Sdk"><PropertyGroup><OutputType>Exe</OutputType><TargetFramework>net8.0</TargetFramework><ImplicitUsings>enable</ImplicitUsings><Nullable>enable</Nullable></PropertyGroup></Project>`

// Every example of the page creates a room.
func TestPage_ExamplesRun(t *testing.T) {
	g := gatewaytest.Start(t, gatewaytest.Config{})
	a := arguments(g)
	examples, err := filepath.Glob("../../caddymodule/docs/files/examples/*")
	require.NoError(t, err)
	require.Len(t, examples, len(toolchains))
	for _, file := range examples {
		t.Run(filepath.Base(file), func(t *testing.T) {
			chain := toolchains[filepath.Base(file)]
			program, err := exec.LookPath(chain.run[0])
			if chain.run[0] == "node" && err != nil {
				program, err = tool(t, "node"), nil
			}
			if err != nil {
				t.Skipf("%s is not on this machine", chain.run[0])
			}
			code, err := os.ReadFile(file)
			require.NoError(t, err)
			dir := t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(dir, chain.file), code, 0o600))
			require.NoError(t, os.WriteFile(filepath.Join(dir, "CSharp.csproj"), []byte(project), 0o600))
			command := exec.CommandContext(t.Context(), program, chain.run[1:]...)
			command.Dir = dir
			command.Env = append(os.Environ(), "MEET_BASE="+a[0], "MEET_CLIENT_ID="+a[1], "MEET_CLIENT_SECRET="+a[2], "MEET_USER="+a[3], "GOFLAGS=")
			out, err := command.CombinedOutput()
			require.NoError(t, err, string(out))
			require.Regexp(t, `^https://meet\.example\.org/[a-z]{3}-[a-z]{4}-[a-z]{3}$`, strings.TrimSpace(string(out)))
		})
	}
}

// The page shows every operation of the description, and every example.
func TestPage_ShowsTheDescription(t *testing.T) {
	g := gatewaytest.Start(t, gatewaytest.Config{})
	var description struct {
		Paths map[string]map[string]struct{ OperationID string }
	}
	require.NoError(t, json.Unmarshal([]byte(page(t, g, "/external-api/v1.0/openapi.json").Body), &description))
	for _, lang := range []string{"en", "fr"} {
		body := page(t, g, "/external-api/v1.0/docs?lang="+lang).Body
		for path, methods := range description.Paths {
			for _, o := range methods {
				require.Contains(t, body, `id="`+o.OperationID+`"`, path)
			}
		}
		for _, name := range []string{"curl", "Python", "JavaScript", "Go", "Java", "PHP", "C#"} {
			require.Contains(t, body, "<h3>"+name+"</h3>")
		}
	}
}
