// SPDX-License-Identifier: MIT

package parse

import (
	"crypto/tls"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOrigin(t *testing.T) {
	for _, tc := range []struct {
		name         string
		host         string
		tls, trusted bool
		header       http.Header
		want         string
	}{
		{"plain", "api.example.org", false, false, nil, "http://api.example.org"},
		{"tls and port", "api.example.org:8443", true, false, nil, "https://api.example.org:8443"},
		{"ipv6", "[2001:db8::1]:8080", false, false, nil, "http://[2001:db8::1]:8080"},
		{"untrusted", "a", false, false, http.Header{"X-Forwarded-Proto": {"https"}, "X-Forwarded-Host": {"b"}, "X-Forwarded-Port": {"1"}}, "http://a"},
		{"trusted", "a:8080", false, true, http.Header{"X-Forwarded-Proto": {"https"}, "X-Forwarded-Host": {"b"}}, "https://b"},
		{"trusted port", "a", false, true, http.Header{"X-Forwarded-Proto": {"HTTPS"}, "X-Forwarded-Port": {"8443"}}, "https://a:8443"},
		{"port in host wins", "a", false, true, http.Header{"X-Forwarded-Host": {"b:81"}, "X-Forwarded-Port": {"82"}}, "http://b:81"},
		{"usual port", "a", false, true, http.Header{"X-Forwarded-Port": {"80"}}, "http://a"},
		{"ipv6 and port", "[2001:db8::1]", false, true, http.Header{"X-Forwarded-Port": {"81"}}, "http://[2001:db8::1]:81"},
		{"last of several", "a", false, true, http.Header{"X-Forwarded-Host": {"evil, b"}, "X-Forwarded-Proto": {"http", "https"}}, "https://b"},
		{"invalid values", "a", true, true, http.Header{"X-Forwarded-Host": {"b/c"}, "X-Forwarded-Proto": {"ftp"}, "X-Forwarded-Port": {"0"}}, "https://a"},
		{"user info", "a", true, true, http.Header{"X-Forwarded-Host": {"evil@b"}, "X-Forwarded-Port": {"99999"}}, "https://a"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := &http.Request{Host: tc.host, Header: tc.header}
			if tc.tls {
				r.TLS = new(tls.ConnectionState)
			}
			scheme, host := Origin(r, tc.trusted)
			require.Equal(t, tc.want, scheme+"://"+host)
		})
	}
}

// An accepted prefix is a plain path.
func FuzzForwardedPrefix(f *testing.F) {
	for _, seed := range []string{"", "/", "/api", "/api/", "api", "/a/../b", "//evil.example", "/a?b", "/a, /b", "https://evil.example/"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		prefix := ForwardedPrefix(http.Header{"X-Forwarded-Prefix": {value}})
		if prefix != "" && (prefix[0] != '/' || strings.HasPrefix(prefix, "//") || strings.ContainsAny(prefix, "?#\\\r\n") || strings.Contains(prefix, "..")) {
			t.Fatalf("%q is accepted as %q", value, prefix)
		}
	})
}
