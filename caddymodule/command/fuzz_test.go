// SPDX-License-Identifier: MIT

package command

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzApplyFile reads the YAML of apply.
func FuzzApplyFile(f *testing.F) {
	for _, seed := range []string{
		"applications:\n  - name: Calendar\n    domains: [example.org]\n    backend: {client_id: c, client_secret: s}\n",
		"applications: []\n", "applications:\n- &a {name: x}\n- *a\n- <<: *a\n", "applications: {}\n", "{", "",
		"applications:\n- {backend: {client_secret: a, client_secret_env: B}}\n",
		"applications:\n- {1: 2}\n", "applications:\n- name: 2026-01-01\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if strings.Contains(string(text), "client_secret_file") || strings.Contains(string(text), `\`) {
			t.Skip("would read files of this machine")
		}
		file, err := readApplyFile("apps.yaml", text)
		if err != nil {
			require.True(t, strings.HasPrefix(err.Error(), "apps.yaml"), err)
			return
		}
		require.Len(t, file.applications, len(file.nodes))
		for i := range file.nodes {
			line, field, ok := file.line(fmt.Sprintf("applications[%d].name", i))
			require.True(t, ok)
			require.Positive(t, line)
			require.Equal(t, "name", field)
		}
		_, _, ok := file.line("applications[99999].name")
		require.Equal(t, len(file.nodes) > 99999, ok)
	})
}
