package caddymodule

import "runtime/debug"

// Version tells which version of the gateway this binary holds, and of Caddy.
func Version() (gateway, caddy string) {
	gateway, caddy = "unknown", "unknown"
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return gateway, caddy
	}
	for _, m := range append(info.Deps, &info.Main) {
		switch m.Path {
		case "github.com/meet-gateway/meet-gateway":
			gateway = m.Version
		case "github.com/caddyserver/caddy/v2":
			caddy = m.Version
		}
	}
	return gateway, caddy
}
