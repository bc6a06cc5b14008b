// SPDX-License-Identifier: MIT

package admin

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestResources_AreDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/admin-api.md")
	require.NoError(t, err)
	for _, r := range resources {
		for method := range r.methods {
			require.Contains(t, string(doc), "| `"+method+" "+r.path)
		}
	}
	for _, f := range applicationFields {
		require.Contains(t, string(doc), "\n| `"+f.name+"` |")
	}
}
