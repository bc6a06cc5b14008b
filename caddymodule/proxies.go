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

// readAddressesFromTheRight makes Caddy read X-Forwarded-For from the right on every
// server that this directive is on, as trusted_proxies_strict does. From the left the
// first address is one that the caller wrote: with it he would pass the networks of an
// application and both limits of failures. Without trusted_proxies it changes nothing.
func readAddressesFromTheRight(ctx caddy.Context) error {
	mod, err := ctx.AppIfConfigured("http")
	if err != nil {
		return fmt.Errorf("finding the http app: %w", err)
	}
	for name, server := range mod.(*caddyhttp.App).Servers {
		// While handlers are provisioned, the configuration of those that are not yet
		// is still there, and so is that of this one.
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

// settleClientIP corrects the address that Caddy read out of the headers of a trusted
// proxy. From the right, Caddy passes over what is no address ("unknown", a name, an
// empty element) and takes the next one, which the caller may have written: it could pass
// the networks of an application and both limits of failures with it. Where something is
// passed over, nobody trusted has said who calls, and the address is that of the proxy
// itself.
//
// It stands in Caddy's own variable, so that limits, networks, the audit trail, the
// access log and Meet all see the same.
func settleClientIP(r *http.Request) {
	ctx := r.Context()
	if trusted, _ := caddyhttp.GetVar(ctx, caddyhttp.TrustedProxyVarKey).(bool); !trusted {
		return
	}
	read, _ := caddyhttp.GetVar(ctx, caddyhttp.ClientIPVarKey).(string)
	peer := peerOf(r)
	server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !ok || read == peer || saidByTrusted(r.Header, server.ClientIPHeaders, read) {
		return
	}
	caddyhttp.SetVar(ctx, caddyhttp.ClientIPVarKey, peer)
}

// saidByTrusted reports whether an address was found with nothing but addresses to the
// right of it, in the order in which Caddy looks.
func saidByTrusted(h http.Header, names []string, address string) bool {
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

// addressIn is the address in an element of X-Forwarded-For as Caddy writes it: without
// port and zone; "" where Caddy finds none.
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

// peerOf is the other end of the connection as Caddy writes it; "@" for a Unix socket.
func peerOf(r *http.Request) string {
	if ip := addressIn(r.RemoteAddr); ip != "" {
		return ip
	}
	return "@"
}
