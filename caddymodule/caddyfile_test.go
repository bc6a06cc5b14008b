package caddymodule

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/caddymodule/store"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
)

var update = flag.Bool("update", false, "write what comes out into the golden files")

// Golden files hold a Caddyfile, a line of ten dashes, and what it adapts to: the
// JSON of the apps, or the text of the error.
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

// Every option of the Caddyfile is there in JSON and the other way round.
func TestAdapt_JSONParity(t *testing.T) {
	golden, err := os.ReadFile("testdata/adapt/everything.caddyfiletest")
	require.NoError(t, err)
	_, adapted, _ := strings.Cut(string(golden), "\n----------\n")
	for _, v := range []any{App{}, Handler{}, store.Redis{}, store.TLS{}, Refresh{}, Credentials{}, Route{}} {
		for _, name := range jsonNames(v) {
			require.Contains(t, adapted, `"`+name+`"`, "%T", v)
		}
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
