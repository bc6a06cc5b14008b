// SPDX-License-Identifier: MIT

package caddymodule

import (
	"net/http"
	"net/netip"
	"slices"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// isEarly reports whether a request arrived in TLS early data (RFC 8470), here or at a
// proxy. Until the handshake is complete it may be a replay, and with QUIC its source
// address may be forged.
func isEarly(r *http.Request) bool {
	return r.TLS != nil && !r.TLS.HandshakeComplete || slices.Contains(r.Header["Early-Data"], "1")
}

// refuseEarlyChange refuses early requests that change something. [sourceOf] refuses
// early reads that depend on the source address.
func refuseEarlyChange(r *http.Request) error {
	if r.Method != http.MethodGet && r.Method != http.MethodHead && isEarly(r) {
		return errTooEarly
	}
	return nil
}

// sourceOf returns the client's address according to Caddy, or the zero Addr if it has
// none. It returns errTooEarly until the address is proven.
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

// sourceText returns the client's address as text, or "" if it is not known.
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
