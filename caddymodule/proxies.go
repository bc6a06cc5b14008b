// SPDX-License-Identifier: MIT

package caddymodule

import (
	"bytes"
	"encoding/json"
	"fmt"

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
