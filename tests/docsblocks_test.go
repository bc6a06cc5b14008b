// SPDX-License-Identifier: MIT

package tests

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/meet-gateway/meet-gateway/tests/gatewaytest"
)

// block is a code block of the documentation.
type block struct{ file, language, text string }

// documented lists the code blocks of README and docs.
func documented(t *testing.T) []block {
	t.Helper()
	files, err := filepath.Glob("../docs/*.md")
	require.NoError(t, err)
	files = append(files, "../README.md", "../CONTRIBUTING.md", "../SECURITY.md")
	fence := regexp.MustCompile("(?ms)^```([a-z]*)\n(.*?)^```$")
	var blocks []block
	for _, file := range files {
		content, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, m := range fence.FindAllStringSubmatch(string(content), -1) {
			blocks = append(blocks, block{filepath.Base(file), m[1], m[2]})
		}
	}
	return blocks
}

// places are templates into which a Caddyfile block may fit: a whole file, or lines of
// a site, the directive, the backend, or a global option.
var places = []string{
	"%s",
	":80 {\n%s\n}\n",
	":80 {\n\tmeet_gateway {\n\t\tbackend sandbox\n%s\n\t}\n}\n",
	":80 {\n\tmeet_gateway {\n\t\tbackend https://meet.internal {\n%s\n\t\t}\n\t}\n}\n",
	"{\n%s\n}\n",
	"{\n\tmeet_gateway {\n%s\n\t}\n}\n",
}

func adapt(text string) ([]byte, error) {
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), map[string]any{"filename": "Caddyfile"})
	return config, err
}

func TestDocs_EveryCaddyfileAdapts(t *testing.T) {
	found := 0
	for _, b := range documented(t) {
		if b.language != "caddyfile" {
			continue
		}
		found++
		var errs []error
		for _, place := range places {
			if _, err := adapt(fmt.Sprintf(place, b.text)); err != nil {
				errs = append(errs, err)
			}
		}
		require.Less(t, len(errs), len(places), "%s:\n%s\nfits no template: %v", b.file, b.text, errs)
		if !strings.Contains(b.text, "  ") { // aligned columns are not formatted
			require.Equal(t, b.text, string(caddyfile.Format([]byte(b.text))), b.file)
		}
	}
	require.GreaterOrEqual(t, found, 5, "too few blocks found")
}

// Every JSON block is a configuration equal to the README's Caddyfile, or a body of the
// admin API.
func TestDocs_EveryJSONIsValid(t *testing.T) {
	var readme []byte
	for _, b := range documented(t) {
		if b.file == "README.md" && b.language == "caddyfile" {
			var err error
			readme, err = adapt(b.text)
			require.NoError(t, err)
		}
	}
	configurations, problems := 0, 0
	for _, b := range documented(t) {
		if b.language != "json" {
			continue
		}
		var object map[string]any
		require.NoError(t, json.Unmarshal([]byte(b.text), &object), b.file)
		if _, ok := object["apps"]; ok {
			configurations++
			require.JSONEq(t, string(readme), b.text, b.file)
			continue
		}
		problems++
		for name := range object {
			require.Contains(t, []string{"title", "status", "detail", "field"}, name, "%s: %s", b.file, b.text)
		}
	}
	require.Positive(t, configurations)
	require.Positive(t, problems)
}

// Every YAML block is a file for `meet app apply` that a gateway accepts.
func TestDocs_EveryYAMLIsValid(t *testing.T) {
	g := gatewaytest.Start(t, gatewaytest.Config{})
	for _, b := range documented(t) {
		if b.language != "yaml" {
			continue
		}
		var file map[string]any
		require.NoError(t, yaml.Unmarshal([]byte(b.text), &file), b.file)
		file["dry_run"] = true
		body, err := json.Marshal(file)
		require.NoError(t, err)
		// Words that the command resolves before it calls the admin API.
		body = regexp.MustCompile(`client_secret_(file|env)`).ReplaceAll(body, []byte("client_secret"))
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://"+g.Admin+"/meet-gateway/applications/apply", bytes.NewReader(body))
		require.NoError(t, err)
		r.Header.Set("Content-Type", "application/json")
		answer, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		said, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		require.NoError(t, answer.Body.Close())
		require.Equal(t, http.StatusOK, answer.StatusCode, "%s: %s", b.file, said)
	}
}
