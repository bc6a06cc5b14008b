// SPDX-License-Identifier: MIT

package caddymodule

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// setTrustedProxiesStrict enables trusted_proxies_strict on all servers with this
// directive, so that Caddy reads X-Forwarded-For from the right. The leftmost address
// is the caller's own claim, with which it could bypass networks and limits. Without
// trusted_proxies this has no effect.
func setTrustedProxiesStrict(ctx caddy.Context) error {
	mod, err := ctx.AppIfConfigured("http")
	if err != nil {
		return fmt.Errorf("finding the http app: %w", err)
	}
	for name, server := range mod.(*caddyhttp.App).Servers {
		// During provisioning, server still contains the configuration of the handlers
		// that are not provisioned yet.
		config, err := json.Marshal(server)
		if err != nil {
			return fmt.Errorf("reading the configuration of server %s: %w", name, err)
		}
		if bytes.Contains(config, []byte(`"handler":"`+appName+`"`)) {
			server.TrustedProxiesStrict = 1
		}
	}
	return nil
}

// correctClientIP corrects the client address that Caddy read from the headers of a
// trusted proxy. Caddy skips elements that are no addresses ("unknown", a name, an
// empty one) and takes the next one to the left, which the caller may have written to
// bypass networks and limits. If an element was skipped, the proxy's own address is
// used.
//
// The result is stored in Caddy's variable, so that limits, networks, the audit trail,
// the access log and Meet use the same address.
func correctClientIP(r *http.Request) {
	ctx := r.Context()
	if trusted, _ := caddyhttp.GetVar(ctx, caddyhttp.TrustedProxyVarKey).(bool); !trusted {
		return
	}
	read, _ := caddyhttp.GetVar(ctx, caddyhttp.ClientIPVarKey).(string)
	peer := peerIP(r)
	server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !ok || read == peer || isFromTrustedProxy(r.Header, server.ClientIPHeaders, read) {
		return
	}
	caddyhttp.SetVar(ctx, caddyhttp.ClientIPVarKey, peer)
}

// isFromTrustedProxy reports whether address is in the headers with only addresses to
// its right, in the order in which Caddy reads them.
func isFromTrustedProxy(h http.Header, names []string, address string) bool {
	for _, name := range names {
		values := h[http.CanonicalHeaderKey(name)]
		if len(values) == 0 {
			continue
		}
		for _, element := range slices.Backward(strings.Split(strings.Join(values, ","), ",")) {
			switch said := addressIn(element); said {
			case "":
				return false
			case address:
				return true
			}
		}
	}
	return false
}

// addressIn returns the address in an element of X-Forwarded-For in Caddy's form,
// without port and zone, or "".
func addressIn(element string) string {
	host, _, err := net.SplitHostPort(element)
	if err != nil {
		host = element
	}
	host, _, _ = strings.Cut(strings.TrimSpace(host), "%")
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return ""
	}
	return ip.String()
}

// peerIP returns the address of the connection's peer in Caddy's form, or "@" for a
// Unix socket.
func peerIP(r *http.Request) string {
	if ip := addressIn(r.RemoteAddr); ip != "" {
		return ip
	}
	return "@"
}
