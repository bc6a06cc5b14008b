// Command meet-gateway is Caddy with the gateway's modules in it.
package main

import (
	_ "time/tzdata"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	// Modules: Caddy's own and the gateway's.
	_ "github.com/caddyserver/caddy/v2/modules/standard"
	"github.com/meet-gateway/meet-gateway/caddymodule"
)

func main() {
	caddy.CustomBinaryName = "meet-gateway"
	gateway, _ := caddymodule.Version()
	caddy.CustomVersion = "meet-gateway " + gateway + ", Caddy"
	caddycmd.Main()
}
