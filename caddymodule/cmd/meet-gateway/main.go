// Command meet-gateway is Caddy with the gateway's modules in it.
package main

import (
	"runtime/debug"
	_ "time/tzdata"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	// Modules: Caddy's own and the gateway's.
	_ "github.com/caddyserver/caddy/v2/modules/standard"
	_ "github.com/meet-gateway/meet-gateway/caddymodule"
)

// version tells the gateway's version before Caddy's.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	own := info.Main.Version
	for _, dep := range info.Deps {
		if dep.Path == "github.com/caddyserver/caddy/v2" {
			return "meet-gateway " + own + ", Caddy " + dep.Version
		}
	}
	return own
}

func main() {
	caddy.CustomBinaryName = "meet-gateway"
	caddy.CustomVersion = version()
	caddycmd.Main()
}
