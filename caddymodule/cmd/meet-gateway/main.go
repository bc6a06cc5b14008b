// Command meet-gateway is Caddy with the gateway's modules in it.
package main

import (
	"runtime/debug"
	_ "time/tzdata"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard" // Caddy's own modules

	_ "github.com/meet-gateway/meet-gateway/caddymodule" // the gateway's
)

func main() {
	caddy.CustomBinaryName = "meet-gateway"
	if info, ok := debug.ReadBuildInfo(); ok {
		caddy.CustomVersion = "meet-gateway " + info.Main.Version + ", Caddy"
	}
	caddycmd.Main()
}
