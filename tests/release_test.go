// SPDX-License-Identifier: MIT

package tests

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/caddymodule"
)

// The version is in caddymodule/version.go, and what has to repeat it says the same.
func TestRelease_OneVersion(t *testing.T) {
	for file, line := range map[string]string{
		"deploy/helm/meet-gateway/Chart.yaml": "\nversion: " + caddymodule.Release + "\nappVersion: " + caddymodule.Release + "\n",
		"CHANGELOG.md":                        "\n## [" + caddymodule.Release + "]",
		"docs/upgrading.md":                   "\n### " + caddymodule.Release + "\n",
	} {
		content, err := os.ReadFile(atTop(file))
		require.NoError(t, err)
		require.Contains(t, string(content), line, file)
	}
}
