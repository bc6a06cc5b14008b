// SPDX-License-Identifier: MIT

package main

import (
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
