package caddymodule

import (
	"fmt"
	"os"

	"github.com/caddyserver/caddy/v2"
)

// Caddy gives {$NAME:default} its default only where NAME is not there at all.
// Compose files set what they do not know to nothing: here that counts as not set.
func init() {
	for _, name := range []string{"MEET_GATEWAY_ADDR", "MEET_STORE", "MEET_BACKEND", "MEET_GATEWAY_HEALTH", "MEET_GATEWAY_DRAIN"} {
		if isEmptyVariable(name) {
			_ = os.Unsetenv(name) // a name that can be looked up
		}
	}
	// Caddy has read this one already. Nothing would be a port of its choice, open
	// to everybody.
	if caddy.DefaultAdminListen == "" {
		caddy.DefaultAdminListen = "localhost:2019"
	}
}

func isEmptyVariable(name string) bool {
	value, there := os.LookupEnv(name)
	return there && value == ""
}

// emptyVariable says so of a variable that the shipped Caddyfile takes an argument
// from. A file of variables (--envfile) is read later than init.
func emptyVariable(name string) string {
	if !isEmptyVariable(name) {
		return ""
	}
	return fmt.Sprintf(" (%s is set and empty: unset it, or give it a value)", name)
}
