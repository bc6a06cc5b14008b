package main

import (
	"os"

	"github.com/caddyserver/caddy/v2"
)

// prepareEnvironment takes variables that are set and empty for unset. Caddy gives
// {$NAME:default} its default only where NAME is not there at all, and Compose files
// set what they do not know to nothing.
func prepareEnvironment() {
	for _, name := range []string{"MEET_GATEWAY_ADDR", "MEET_STORE", "MEET_BACKEND", "MEET_GATEWAY_HEALTH", "MEET_GATEWAY_DRAIN"} {
		if value, set := os.LookupEnv(name); set && value == "" {
			_ = os.Unsetenv(name) // a name that can be looked up
		}
	}
	// Caddy has read CADDY_ADMIN already. Nothing would be a port of its choice, open
	// to everybody.
	if caddy.DefaultAdminListen == "" {
		caddy.DefaultAdminListen = "localhost:2019"
	}
}
