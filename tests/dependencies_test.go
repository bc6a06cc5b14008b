// SPDX-License-Identifier: MIT

package tests

import (
	"os"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/mod/modfile"
)

// TestDocs_EveryDependencyIsListed compares go.mod with docs/dependencies.md.
func TestDocs_EveryDependencyIsListed(t *testing.T) {
	requirements, err := os.ReadFile("../go.mod")
	require.NoError(t, err)
	doc, err := os.ReadFile("../docs/dependencies.md")
	require.NoError(t, err)
	file, err := modfile.Parse("go.mod", requirements, nil)
	require.NoError(t, err)
	listed := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\| (v\\S+) \\| [A-Z][\\w. -]+ \\| [^?].+ \\|$").FindAllStringSubmatch(string(doc), -1) {
		listed[m[1]] = m[2]
	}
	required := map[string]string{}
	for _, r := range file.Require {
		if !r.Indirect {
			required[r.Mod.Path] = r.Mod.Version
		}
	}
	require.Equal(t, required, listed, "make licenses")
}
