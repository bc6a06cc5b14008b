// SPDX-License-Identifier: MIT

package store

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/stretchr/testify/require"
)

// If the URL is missing, the error names the variable to set.
func TestRedis_WithoutURL(t *testing.T) {
	t.Setenv("REDIS_URL", "")
	for _, url := range []string{"", "{env.REDIS_URL}", "{env.MEET_GATEWAY_NOT_THERE}"} {
		s := Redis{URL: url}
		require.ErrorContains(t, s.Provision(caddy.Context{}), "set REDIS_URL", url)
	}
}

// Errors name the option or the file, which errors of crypto/tls do not.
func TestTLS_ErrorsNameOption(t *testing.T) {
	dir := t.TempDir()
	missing, empty := filepath.Join(dir, "missing"), filepath.Join(dir, "empty")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))

	_, _, err := (&TLS{CA: missing}).config(caddy.NewReplacer())
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, "ca: ")
	_, _, err = (&TLS{CA: empty}).config(caddy.NewReplacer())
	require.EqualError(t, err, empty+" contains no certificate")
	_, _, err = (&TLS{Certificate: empty, Key: empty}).config(caddy.NewReplacer())
	require.ErrorContains(t, err, "certificate: tls: ")
	_, _, err = (&TLS{Certificate: empty}).config(caddy.NewReplacer())
	require.ErrorContains(t, err, "set together")
}
