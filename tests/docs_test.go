// SPDX-License-Identifier: MIT

package tests

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/stretchr/testify/require"

	_ "github.com/meet-gateway/meet-gateway/caddymodule"
)

// TestDocs_EveryOptionIsDocumented checks that docs/caddyfile.md has every option. It gets the
// options from the parser's error about an unknown one in each block.
func TestDocs_EveryOptionIsDocumented(t *testing.T) {
	doc, err := os.ReadFile("../docs/caddyfile.md")
	require.NoError(t, err)
	const unknown = "no_such_option"
	for block, caddyfile := range map[string]string{
		"global option": "{\n\tmeet_gateway {\n\t\t" + unknown + "\n\t}\n}\n",
		"refresh":       "{\n\tmeet_gateway {\n\t\trefresh {\n\t\t\t" + unknown + "\n\t\t}\n\t}\n}\n",
		"store redis":   "{\n\tmeet_gateway {\n\t\tstore redis {\n\t\t\t" + unknown + "\n\t\t}\n\t}\n}\n",
		"tls":           "{\n\tmeet_gateway {\n\t\tstore redis {\n\t\t\ttls {\n\t\t\t\t" + unknown + "\n\t\t\t}\n\t\t}\n\t}\n}\n",
		"sandbox":       ":80 {\n\tmeet_gateway {\n\t\tbackend sandbox {\n\t\t\t" + unknown + "\n\t\t}\n\t}\n}\n",
		"directive":     ":80 {\n\tmeet_gateway {\n\t\t" + unknown + "\n\t}\n}\n",
	} {
		t.Run(block, func(t *testing.T) {
			_, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), map[string]any{"filename": "Caddyfile"})
			require.ErrorContains(t, err, unknown)
			list := regexp.MustCompile(`expected one of: ([a-z_, ]+)`).FindStringSubmatch(err.Error())
			require.NotNil(t, list, "the error lists the options: %v", err)
			for option := range strings.SplitSeq(list[1], ", ") {
				require.Regexp(t, "[`{; ]"+regexp.QuoteMeta(strings.TrimSpace(option))+"[ `]", string(doc), "option %s of %s", option, block)
			}
		})
	}
}

// TestDocs_EveryMetricIsDocumented checks that the documents have the name of every metric.
func TestDocs_EveryMetricIsDocumented(t *testing.T) {
	doc, err := os.ReadFile("../docs/monitoring.md")
	require.NoError(t, err)
	names := 0
	for _, file := range []string{"metrics.go", "metrics_applications.go"} {
		code, err := os.ReadFile("../caddymodule/" + file)
		require.NoError(t, err)
		for _, m := range regexp.MustCompile(`(?:Desc|Opts|Vec)\(\s*"([a-z_]+)",`).FindAllStringSubmatch(string(code), -1) {
			require.Contains(t, string(doc), "`"+m[1]+"`")
			names++
		}
	}
	require.Greater(t, names, 30)
}
