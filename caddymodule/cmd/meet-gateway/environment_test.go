// SPDX-License-Identifier: MIT

package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOtherNames(t *testing.T) {
	for addresses, want := range map[string][]string{
		"":                                         {},
		":8080":                                    {},
		"http://:8080":                             {},
		"http://gateway.example.org:8080":          {"http://:8080"},
		"http://gateway.example.org":               {"http://:80"},
		"gateway.example.org:80":                   {"http://:80"},
		"gateway.example.org":                      {"http://:80", "https://:443"},
		"https://gateway.example.org:8443":         {"http://:80", "https://:8443"},
		"a.example.org, b.example.org":             {"http://:80", "https://:443"},
		"a.example.org http://:80":                 {"https://:443"},
		"http://a.example.org:8080 :8080":          {},
		"http://a.example.org:8080,http://b:18080": {"http://:18080", "http://:8080"},
		"http://a.example.org:8080 :80":            {"http://:8080"},
		"ftp://gateway.example.org":                {},
	} {
		require.Equal(t, want, append([]string{}, otherNames(addresses)...), addresses)
	}
}

// Requests for other names are misdirected even if only a file for --envfile sets the address.
func TestEnvFiles(t *testing.T) {
	file := filepath.Join(t.TempDir(), "gateway.env")
	require.NoError(t, os.WriteFile(file, []byte("# MEET_GATEWAY_ADDR=a\nMEET_STORE=redis\nexport MEET_GATEWAY_ADDR=\"gateway.example.org\" # ours\n"), 0o600))
	require.Equal(t, "gateway.example.org", addressIn(file))
	require.Empty(t, addressIn(file+".none"))
	require.Equal(t, []string{"a", "b"}, envFiles([]string{"meet-gateway", "run", "--envfile", "a", "--config", "c", "--envfile=b"}))
	require.Empty(t, envFiles([]string{"meet-gateway", "run", "--envfile"}))

	for _, name := range []string{variableAddress, variableOtherNames} {
		t.Setenv(name, "")
	}
	t.Cleanup(func(args []string) func() { return func() { os.Args = args } }(os.Args))
	os.Args = []string{"meet-gateway", "run", "--envfile", file}
	prepareEnvironment()
	require.Equal(t, "misdirected http://:80 https://:443", os.Getenv(variableOtherNames))
}
