// Command meet-gateway is Caddy with the gateway's modules in it.
package main

import (
	"os"
	"runtime/debug"
	_ "time/tzdata"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	// Modules: Caddy's own and the gateway's.
	_ "github.com/caddyserver/caddy/v2/modules/standard"
	_ "github.com/meet-gateway/meet-gateway/caddymodule"
)

// gcPercent is Go's GOGC unless that is set. What a gateway keeps is little beside
// what requests leave behind: at Go's 100 the collector runs every few hundred
// requests. It costs twice what is kept in memory, and GOMEMLIMIT holds.
const gcPercent = 300

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
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	caddy.CustomBinaryName = "meet-gateway"
	caddy.CustomVersion = version()
	caddycmd.Main()
}
