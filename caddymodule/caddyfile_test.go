// SPDX-License-Identifier: MIT

package caddymodule

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/meet-gateway/meet-gateway/backendclient"
	"github.com/meet-gateway/meet-gateway/caddymodule/store"
)

var update = flag.Bool("update", false, "write the results to the golden files")

// A golden file holds a Caddyfile, a line of ten dashes, and the result: the JSON of the apps,
// or the text of the error.
func TestAdapt(t *testing.T) {
	files, err := filepath.Glob("testdata/adapt/*.caddyfiletest")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".caddyfiletest"), func(t *testing.T) {
			const border = "\n----------\n"
			content, err := os.ReadFile(file)
			require.NoError(t, err)
			caddyfile, want, _ := strings.Cut(string(content), border)
			got := adapt(t, caddyfile)
			if *update {
				require.NoError(t, os.WriteFile(file, []byte(caddyfile+border+got+"\n"), 0o644))
				return
			}
			require.Equal(t, strings.TrimSpace(want), got)
		})
	}
}

// adapt returns the apps as JSON, or the error.
func adapt(t *testing.T, caddyfile string) string {
	t.Helper()
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		return err.Error()
	}
	var whole struct{ Apps json.RawMessage }
	require.NoError(t, json.Unmarshal(config, &whole))
	var b bytes.Buffer
	require.NoError(t, json.Indent(&b, whole.Apps, "", "\t"))
	return b.String()
}

// Every JSON field can be set in a Caddyfile.
func TestAdapt_JSONParity(t *testing.T) {
	var adapted string
	for _, name := range []string{"everything", "cluster"} { // cluster excludes some options of everything
		golden, err := os.ReadFile("testdata/adapt/" + name + ".caddyfiletest")
		require.NoError(t, err)
		_, part, _ := strings.Cut(string(golden), "\n----------\n")
		adapted += part
	}
	for _, v := range []any{App{}, Handler{}, store.Redis{}, store.TLS{}, Refresh{}, Credentials{}, Route{}} {
		for _, name := range jsonNames(v) {
			if name == "nodes" || name == "fence_dry_run" {
				continue // former names, for which a Caddyfile sets the present fields
			}
			require.Contains(t, adapted, `"`+name+`"`, "%T", v)
		}
	}
}

// An error names the variable that is set and empty, because the Caddyfile does not show this.
func TestAdapt_EmptyVariable(t *testing.T) {
	for name, caddyfile := range map[string]string{
		"MEET_STORE":   "{\n\tmeet_gateway {\n\t\tstore {$MEET_STORE:embedded}\n\t}\n}\n",
		"MEET_BACKEND": ":8080 {\n\tmeet_gateway {\n\t\tbackend {$MEET_BACKEND:sandbox} {\n\t\t\thost {env.MEET_BACKEND_HOST}\n\t\t}\n\t}\n}\n",
	} {
		require.NotContains(t, adapt(t, caddyfile), "is set and empty")
		t.Setenv(name, "")
		require.Contains(t, adapt(t, caddyfile), "("+name+" is set and empty: unset it, or give it a value), at Caddyfile:3")
	}
}

// A Caddyfile accepts the hosts and paths that the client of the backend accepts.
func TestAdapt_BackendHostAndPath(t *testing.T) {
	accepted := func(host, path string) bool {
		_, err := backendclient.New(backendclient.Options{Transport: http.DefaultTransport, Host: host, BasePath: path})
		return err == nil
	}
	for _, host := range []string{"meet.example.org", "meet:8443", "[::1]:80", "", "http://meet", "meet/", "a b", "a@b", "a?b", "a#b", `a\b`, "a\tb"} {
		require.Equal(t, accepted(host, "/"), isHost(host), host)
	}
	for _, path := range []string{"/external-api/v1.0", "/external-api/v1.0/", "/", "external-api", "//a", "/a/../b", "/a?b", "/a#b", "/a b"} {
		require.Equal(t, accepted("meet", path), isBackendPath(path), path)
	}
}

func jsonNames(v any) []string {
	var names []string
	for field := range reflect.TypeOf(v).Fields() {
		if name, _, _ := strings.Cut(field.Tag.Get("json"), ","); name != "" && name != "-" {
			names = append(names, name)
		}
	}
	return names
}

// The former names of options still work.
func TestCaddyfile_FormerNames(t *testing.T) {
	with := func(options string) string {
		return adapt(t, "{\n\tmeet_gateway {\n\t\tstore embedded\n"+options+"\n\t}\n}")
	}
	require.Equal(t, with("gateways 3\nquota_dry_run"), with("nodes 3\nfence_dry_run"))

	app := &App{Nodes: 3, FenceDryRun: true, logger: zap.NewNop()}
	app.readFormerNames()
	require.Equal(t, 3, app.Gateways)
	require.True(t, app.QuotaDryRun)
}
