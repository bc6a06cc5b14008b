// SPDX-License-Identifier: MIT

package tests

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/stretchr/testify/require"
)

// TestDocs_CompatibilityOptionsExist checks that the options in the last column of a table in
// docs/compatibility.md exist.
func TestDocs_CompatibilityOptionsExist(t *testing.T) {
	doc, err := os.ReadFile("../docs/compatibility.md")
	require.NoError(t, err)
	options := slices.Concat(
		allowedOptions(t, "{\n\tmeet_gateway {\n\t\tno_such_option\n\t}\n}\n"),
		allowedOptions(t, ":80 {\n\tmeet_gateway {\n\t\tno_such_option\n\t}\n}\n"),
	)
	named := map[string]bool{}
	for line := range strings.Lines(string(doc)) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) < 3 {
			continue
		}
		for _, code := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cells[len(cells)-2], -1) {
			named[code[1]] = true
		}
	}
	require.Greater(t, len(named), 10)
	for code := range named {
		option, value, _ := strings.Cut(code, " ")
		require.Contains(t, options, option)
		if value != "" {
			_, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(":80 {\n\tmeet_gateway {\n\t\tbackend sandbox\n\t\t"+code+"\n\t}\n}\n"), nil)
			require.NoError(t, err, code)
		}
	}
	// Options that change an answer belong in the table.
	for _, option := range options {
		if strings.HasSuffix(option, "_status") || strings.HasSuffix(option, "_style") || strings.Contains(option, "room_") || strings.HasPrefix(option, "strict_") {
			require.True(t, named[option] || option == "max_room_body", "%s is not in docs/compatibility.md", option)
		}
	}
}

// allowedOptions returns the options that a parse error lists.
func allowedOptions(t *testing.T, caddyfile string) []string {
	t.Helper()
	_, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), map[string]any{"filename": "Caddyfile"})
	require.Error(t, err)
	list := regexp.MustCompile(`expected one of: ([a-z_, ]+)`).FindStringSubmatch(err.Error())
	require.NotNil(t, list, err)
	return strings.Split(strings.TrimSpace(list[1]), ", ")
}

// Every replayed client is in the table of clients, under the same name.
func TestDocs_CompatibilityNamesTheClients(t *testing.T) {
	doc, err := os.ReadFile("../docs/compatibility.md")
	require.NoError(t, err)
	rows := map[string]string{
		"booking-worker": "booking on a Cloudflare worker", "cal-diy": "cal.diy OpenVisio", "cozy-stack": "Cozy", "dumont-meet": `Cal.com "Dumont Meet"`,
		"la-suite-hub": "La Suite Hub", "nextjs": "Next.js integration", "outlook-add-in": "Outlook add-in", "rdv-service-public": "RDV Service Public",
		"twake-calendar": "Twake Calendar", "twake-chat": "Twake Chat (ToM)",
	}
	files, err := filepath.Glob(filepath.Join("testdata", "callers", "*.json"))
	require.NoError(t, err)
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		if name == "published-sample" {
			continue // the published file itself
		}
		require.NotEmpty(t, rows[name], "%s has no row", name)
		require.Contains(t, string(doc), "\n| "+rows[name]+" |", name)
	}
}
