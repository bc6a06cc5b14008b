// SPDX-License-Identifier: MIT

package parse

import (
	"net"
	"net/http"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// Origin returns the scheme and the host that the caller used, with the port unless it
// is the default one. X-Forwarded-Proto, -Host and -Port count only if trusted is true,
// and only with their last value, which the trusted proxy has set.
func Origin(r *http.Request, trusted bool) (scheme, host string) {
	scheme, host = "http", r.Host
	if r.TLS != nil {
		scheme = "https"
	}
	if !trusted {
		return scheme, host
	}
	if proto := strings.ToLower(lastValue(r.Header, "X-Forwarded-Proto")); proto == "http" || proto == "https" {
		scheme = proto
	}
	if forwarded := lastValue(r.Header, "X-Forwarded-Host"); validHost(forwarded) {
		host = forwarded
	}
	if port := lastValue(r.Header, "X-Forwarded-Port"); validPort(port) {
		host = withPort(scheme, host, port)
	}
	return scheme, host
}

// withPort adds a port to a host without one.
func withPort(scheme, host, port string) string {
	if _, _, err := net.SplitHostPort(host); err == nil {
		return host
	}
	if scheme == "http" && port == "80" || scheme == "https" && port == "443" {
		return host
	}
	return net.JoinHostPort(strings.Trim(host, "[]"), port)
}

// lastValue returns the last element of a list header.
func lastValue(h http.Header, name string) string {
	values := h[name]
	if len(values) == 0 {
		return ""
	}
	last := values[len(values)-1]
	if i := strings.LastIndexByte(last, ','); i >= 0 {
		last = last[i+1:]
	}
	return strings.TrimSpace(last)
}

func validHost(s string) bool {
	return s != "" && len(s) <= 255 && httpguts.ValidHostHeader(s) && !strings.ContainsAny(s, `/\@?#"<> `)
}

func validPort(s string) bool {
	port, err := strconv.Atoi(s)
	return err == nil && port > 0 && port <= 65535
}

// ForwardedPrefix returns the path prefix that a proxy removed (X-Forwarded-Prefix). As
// with other headers, the last value counts.
func ForwardedPrefix(h http.Header) string {
	prefix, err := Target(lastValue(h, "X-Forwarded-Prefix"))
	if err != nil || prefix.Query != "" {
		return ""
	}
	return prefix.Path
}
