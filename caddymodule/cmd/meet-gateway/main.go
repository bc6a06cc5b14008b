// SPDX-License-Identifier: MIT

// Command meet-gateway is Caddy with the gateway's modules in it.
package main

import (
	"context"
	"os"
	_ "time/tzdata"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard" // Caddy's own modules
	"github.com/redis/go-redis/v9"

	"github.com/meet-gateway/meet-gateway/caddymodule" // and the gateway's
)

// quiet drops what go-redis prints by itself: the gateway logs the errors that it
// gets from it once. Only this binary does so, since the logger is process-wide and
// another Caddy may hold another plugin that uses go-redis.
type quiet struct{}

// Printf implements go-redis' logger.
func (quiet) Printf(context.Context, string, ...any) {}

func main() {
	redis.SetLogger(quiet{})
	go tuneCollector()
	go releaseStartPages()
	prepareEnvironment()
	caddy.CustomBinaryName = "meet-gateway"
	caddy.CustomVersion = "meet-gateway " + caddymodule.BuildInfo().String() + ", Caddy"
	warnOfNeighbour(os.Args, os.Stderr)
	caddycmd.Main()
}
