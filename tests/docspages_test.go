// SPDX-License-Identifier: MIT

package tests

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tests/gatewaytest"
	"github.com/meet-gateway/meet-gateway/tokens"
)

// fenced matches the code blocks of a page.
var fenced = regexp.MustCompile("(?ms)^```[a-z]*\n.*?^```$")

func page(t *testing.T, file string) string {
	t.Helper()
	content, err := os.ReadFile(file)
	require.NoError(t, err)
	return string(content)
}

// TestDocs_IntegratorsCommandsWork runs all commands of the integrator's guide unchanged, in
// order, in one shell, for an application with refresh tokens and one without.
func TestDocs_IntegratorsCommandsWork(t *testing.T) {
	for name, refresh := range map[string]bool{"with refresh tokens": true, "without": false} {
		t.Run(name, func(t *testing.T) { testIntegratorsCommands(t, refresh) })
	}
}

func testIntegratorsCommands(t *testing.T, refresh bool) {
	g := gatewaytest.Start(t, gatewaytest.Config{})
	app := g.AddApplication(func(a *tokens.Application) { a.Refresh = refresh })

	var script strings.Builder
	script.WriteString("set -euo pipefail\n")
	first := true
	for _, b := range documented(t) {
		if b.file != "integrators.md" || b.language != "sh" {
			continue
		}
		if first { // values from the operator
			first = false
			continue
		}
		script.WriteString(b.text)
		if strings.Contains(b.text, `"grant_type":"refresh_token"`) {
			script.WriteString("cp token.json refreshed.json\n")
		}
	}
	require.False(t, first, "no commands found")

	dir := t.TempDir()
	command := exec.CommandContext(t.Context(), "bash", "-c", script.String())
	command.Dir = dir
	command.Env = append(os.Environ(), "BASE="+g.Base(), "CLIENT_ID="+app.ID, "CLIENT_SECRET="+app.Secret)
	said, err := command.CombinedOutput()
	require.NoError(t, err, "%s", said)

	require.Contains(t, page(t, filepath.Join(dir, "room.json")), `"url":`)
	require.Contains(t, string(said), `"count":1`, "the repeated creation creates no second room")
	token := regexp.MustCompile(`"access_token":"([^"]+)"`).FindStringSubmatch(page(t, filepath.Join(dir, "refreshed.json")))
	require.NotNil(t, token, "the refresh returns a new token, or leaves the former one")
	a := g.Do(http.MethodGet, "/external-api/v1.0/rooms", "", "Authorization", gatewaytest.Bearer(token[1]))
	require.Equal(t, http.StatusUnauthorized, a.Status, "the last command revoked it: %s", a.Body)
}

// TestDocs_ThreeCallsWork runs the quick start of the README unchanged, except for the values
// of the operator.
func TestDocs_ThreeCallsWork(t *testing.T) {
	_, section, found := strings.Cut(page(t, "../README.md"), "### Three calls\n")
	require.True(t, found)
	_, block, found := strings.Cut(section, "```sh\n")
	require.True(t, found)
	block, _, found = strings.Cut(block, "```")
	require.True(t, found)
	g := gatewaytest.Start(t, gatewaytest.Config{})
	app := g.AddApplication(func(a *tokens.Application) {
		a.Scopes = tokens.Scopes{tokens.ScopeRoomsCreate, tokens.ScopeRoomsRetrieve}
	})
	values := regexp.MustCompile(`(?m)^(BASE|CLIENT_ID|CLIENT_SECRET)=.*\n`)
	require.Len(t, values.FindAllString(block, -1), 3)

	command := exec.CommandContext(t.Context(), "bash", "-c", "set -euo pipefail\n"+values.ReplaceAllString(block, ""))
	command.Env = append(os.Environ(), "BASE="+g.Base(), "CLIENT_ID="+app.ID, "CLIENT_SECRET="+app.Secret)
	said, err := command.CombinedOutput()
	require.NoError(t, err, "%s", said)
	require.Regexp(t, `^\{"id":"[^"]+".*"url":"https://`, string(said))
}

// TestDocs_EveryLinkWorks checks that every link between pages leads to an existing
// page and heading.
func TestDocs_EveryLinkWorks(t *testing.T) {
	pages := []string{"../README.md", "../CONTRIBUTING.md", "../SECURITY.md", "../CHANGELOG.md"}
	for _, pattern := range []string{"../docs/*.md", "../docs/*/*.md"} {
		found, err := filepath.Glob(pattern)
		require.NoError(t, err)
		pages = append(pages, found...)
	}
	link := regexp.MustCompile(`\]\(([^)\s:]*)\)`)
	for _, from := range pages {
		for _, m := range link.FindAllStringSubmatch(fenced.ReplaceAllString(page(t, from), ""), -1) {
			target, anchor, _ := strings.Cut(m[1], "#")
			file := from
			if target != "" {
				file = filepath.Join(filepath.Dir(from), target)
			}
			_, err := os.Stat(file)
			require.NoError(t, err, "%s links to %s", from, m[1])
			if anchor != "" && strings.HasSuffix(file, ".md") {
				require.Contains(t, anchors(page(t, file)), anchor, "%s links to %s", from, m[1])
			}
		}
	}
}

// anchors returns the link names of a page's headings.
func anchors(content string) []string {
	var names []string
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(fenced.ReplaceAllString(content, ""), -1) {
		name := regexp.MustCompile(`[^\p{L}\p{N}_ -]`).ReplaceAllString(strings.ToLower(m[1]), "")
		names = append(names, strings.ReplaceAll(name, " ", "-"))
	}
	return names
}

// TestDocs_ProductionStaysShort limits the page to about two screens.
func TestDocs_ProductionStaysShort(t *testing.T) {
	require.LessOrEqual(t, strings.Count(page(t, "../docs/production.md"), "\n"), 60)
}
