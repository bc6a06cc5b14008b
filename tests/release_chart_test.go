// SPDX-License-Identifier: MIT

package tests

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// A chart can read only its own files, so it has copies of the dashboard and of the rules.
func TestRelease_ChartCopiesAreCurrent(t *testing.T) {
	for original, copied := range map[string]string{
		"deploy/prometheus/rules.yaml":     "deploy/helm/meet-gateway/files/rules.yaml",
		"deploy/grafana/meet-gateway.json": "deploy/helm/meet-gateway/files/dashboard.json",
	} {
		want, err := os.ReadFile(atTop(original))
		require.NoError(t, err)
		got, err := os.ReadFile(atTop(copied))
		require.NoError(t, err)
		require.Equal(t, string(want), string(got), "cp %s %s", original, copied)
	}
}
