// SPDX-License-Identifier: MIT

package caddymodule

import (
	"net/http"
	"net/netip"
	"slices"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// isEarly reports whether the request came in TLS early data (RFC 8470), here or at
// a proxy that says so: until the handshake is complete the request may be a copy of
// one that was recorded, and over UDP the source address may be a false one.
func (c *call) isEarly() bool {
	return c.r.TLS != nil && !c.r.TLS.HandshakeComplete || slices.Contains(c.r.Header["Early-Data"], "1")
}

// mayBeEarly refuses what must not be carried out twice. Reads may: those that the
// source address decides about are refused by [call.source].
func (c *call) mayBeEarly() error {
	if c.r.Method != http.MethodGet && c.r.Method != http.MethodHead && c.isEarly() {
		return errTooEarly
	}
	return nil
}

// source is the client's address as Caddy trusts it; invalid if there is none. The
// error is errTooEarly while the address is not proven.
func (c *call) source() (netip.Addr, error) {
	if c.isEarly() {
		return netip.Addr{}, errTooEarly
	}
	text, _ := caddyhttp.GetVar(c.ctx, caddyhttp.ClientIPVarKey).(string)
	ip, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Addr{}, nil //nolint:nilerr // a Unix socket has no address
	}
	return ip, nil
}

// sourceText is the caller's address as it is written, or "" where none is known.
func (c *call) sourceText() string {
	if c.isEarly() {
		return ""
	}
	text, _ := caddyhttp.GetVar(c.ctx, caddyhttp.ClientIPVarKey).(string)
	if _, err := netip.ParseAddr(text); err != nil {
		return ""
	}
	return text
}
