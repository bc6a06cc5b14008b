// SPDX-License-Identifier: MIT

package parse

import (
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

func TestParseTarget(t *testing.T) {
	for raw, want := range map[string]RequestTarget{
		"/":                         {Slash: true},
		"/rooms":                    {Path: "/rooms"},
		"/rooms/":                   {Path: "/rooms", Slash: true},
		"/rooms/?page=2":            {Path: "/rooms", Slash: true, Query: "page=2"},
		"/rooms?page=2?":            {Path: "/rooms", Query: "page=2?"},
		"/external-api/v1.0/rooms":  {Path: "/external-api/v1.0/rooms"},
		"/rooms/a%20b":              {Path: "/rooms/a%20b"},
		"/rooms/%C3%A9":             {Path: "/rooms/%C3%A9"},
		"/rooms/a..b/...":           {Path: "/rooms/a..b/..."},
		"/rooms/a:b@c!$&'()*+,=~_-": {Path: "/rooms/a:b@c!$&'()*+,=~_-"},
	} {
		got, err := Target(raw)
		require.NoError(t, err, raw)
		require.Equal(t, want, got, raw)
	}
}

// Two servers in a row have read each of these as different paths (Caddy CVE-2026-27587, Envoy
// CVE-2021-29492, Traefik CVE-2025-66490, Kong CVE-2021-27306, APISIX CVE-2021-43557, HAProxy
// CVE-2023-45539 and others).
var ambiguousTargets = []string{
	"", "*", "rooms", "http://meet.example.org/rooms", "//meet.example.org/rooms", "meet.example.org:443",
	"//rooms", "/rooms//", "/rooms//1", "/x//../rooms", "///",
	"/./rooms", "/rooms/.", "/rooms/..", "/x/../rooms", "/rooms/../admin", "/rooms/./1", "/../rooms",
	"/%2e/rooms", "/x/%2e%2e/rooms", "/x/%2E%2E/rooms", "/x/.%2e/rooms", "/rooms%2e", "/rooms/%2e%2E%2f",
	"/rooms%2f1", "/rooms%2F1", "/rooms/..%2fadmin", "/rooms%2f", "/%2frooms",
	"/rooms%5c1", "/rooms%5C1", `/rooms\1`, `/x\..\rooms`, `/\rooms`,
	"/rooms%252f1", "/rooms/%25", "/rooms/%2525",
	"/rooms;x=1", "/rooms;", "/rooms/;/1", "/rooms/..;/admin", "/rooms%3b", "/rooms%3Bx",
	"/rooms#x", "/rooms?page=1#x", "/rooms%23x", "/rooms%3fpage=1", "/rooms%3Fpage",
	"/rooms%00", "/rooms%0a", "/rooms%0D%0AX:1", "/rooms\x00", "/rooms\n", "/rooms\t", "/rooms /x", "/rooms\x7f", "/rooms%7f",
	"/rooms/\xff", "/rooms/%ff", "/rooms/%c0%af", "/rooms/%C0%AE", "/rooms/é", "/rooms/%ed%a0%80",
	"/rooms/%", "/rooms/%2", "/rooms/%zz", "/rooms/%u002f",
	`/rooms/"`, "/rooms/<x>", "/rooms/{id}", "/rooms/[1]", "/rooms/^", "/rooms/|", "/rooms/`",
	"/rooms?page=1\x00", "/rooms?a b", "/rooms?\xff", `/rooms?a\b`, "/rooms?page=1\x7f",
}

func TestTarget_RefusesAmbiguous(t *testing.T) {
	for _, raw := range append(ambiguousTargets, "/"+strings.Repeat("a", MaxTarget)) {
		_, err := Target(raw)
		require.ErrorIs(t, err, ErrTarget, "%q", raw)
	}
}

func FuzzParseTarget(f *testing.F) {
	for _, raw := range ambiguousTargets {
		f.Add(raw)
	}
	for _, raw := range []string{"/", "/rooms", "/rooms/?page=1&page_size=2", "/identity/source/", "/rooms/%41"} {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		got, err := Target(raw)
		if err != nil {
			return
		}
		rebuilt := got.Path
		if got.Slash {
			rebuilt += "/"
		}
		if got.Query != "" {
			rebuilt += "?" + got.Query
		}
		require.Equal(t, strings.TrimSuffix(raw, "?"), strings.TrimSuffix(rebuilt, "?"))
		for segment := range strings.SplitSeq(strings.TrimPrefix(got.Path, "/"), "/") {
			decoded, err := url.PathUnescape(segment)
			require.NoError(t, err)
			require.NotContains(t, []string{".", ".."}, decoded)
			require.True(t, utf8.ValidString(decoded))
			require.False(t, strings.ContainsFunc(decoded, isControl))
			require.False(t, decoded != segment && strings.ContainsAny(decoded, `/\.;%?#`) && !strings.ContainsAny(segment, "."), "%q", segment)
			require.False(t, strings.ContainsAny(decoded, `/\;?#`))
		}
		if got.Path != "" {
			require.NotContains(t, got.Path, "//")
			require.False(t, strings.HasSuffix(got.Path, "/"))
		}
	})
}

func BenchmarkParseTarget(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Target("/external-api/v1.0/rooms/7c9e6679-7425-40de-944b-e07fc1f90ae7"); err != nil {
			b.Fatal(err)
		}
	}
}
