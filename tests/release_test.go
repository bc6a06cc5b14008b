// SPDX-License-Identifier: MIT

package tests

import (
	"os"
	"os/exec"
	"path"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/mod/module"

	"github.com/meet-gateway/meet-gateway/caddymodule"
)

// All files repeat the version of caddymodule/version.go.
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

// Go refuses a module with a file name that is invalid on some system, such as nul.
func TestRelease_ModuleFileNames(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "git", "ls-files")
	cmd.Dir = atTop()
	listed, err := cmd.Output()
	require.NoError(t, err)
	folded := map[string]string{}
	for name := range strings.Lines(string(listed)) {
		name = strings.TrimSuffix(name, "\n")
		require.NoError(t, module.CheckFilePath(name))
		for part := name; part != "."; part = path.Dir(part) {
			same := strings.ToLower(part)
			require.Contains(t, []string{"", part}, folded[same], "they differ in case only")
			folded[same] = part
		}
	}
	require.NotEmpty(t, folded)
}
