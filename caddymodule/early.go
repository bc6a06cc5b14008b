// SPDX-License-Identifier: MIT

package caddymodule

import (
	"net/http"
	"net/netip"
	"slices"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// isEarly reports whether a request came in TLS early data (RFC 8470), here or at
// a proxy that says so: until the handshake is complete the request may be a copy of
// one that was recorded, and over UDP the source address may be a false one.
func isEarly(r *http.Request) bool {
	return r.TLS != nil && !r.TLS.HandshakeComplete || slices.Contains(r.Header["Early-Data"], "1")
}

// mayBeEarly refuses early requests that must not be carried out twice. Reads may be
// early; where the source address decides about them, [sourceOf] refuses them.
func mayBeEarly(r *http.Request) error {
	if r.Method != http.MethodGet && r.Method != http.MethodHead && isEarly(r) {
		return errTooEarly
	}
	return nil
}

// sourceOf is the client's address as Caddy trusts it; invalid if there is none. The
// error is errTooEarly while the address is not proven.
func sourceOf(r *http.Request) (netip.Addr, error) {
	if isEarly(r) {
		return netip.Addr{}, errTooEarly
	}
	ip, err := netip.ParseAddr(clientIP(r))
	if err != nil {
		return netip.Addr{}, nil //nolint:nilerr // a Unix socket has no address
	}
	return ip, nil
}

// sourceText is the client's address as text, or "" where none is known.
func sourceText(r *http.Request) string {
	if ip, err := sourceOf(r); err != nil || !ip.IsValid() {
		return ""
	}
	return clientIP(r)
}

func clientIP(r *http.Request) string {
	text, _ := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
	return text
}
