// SPDX-License-Identifier: MIT

package main

import (
	"cmp"
	"os"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
)

// prepareEnvironment takes variables that are set and empty for unset, and works out
// what the shipped Caddyfile does with other names than the gateway's. Caddy gives
// {$NAME:default} its default only where NAME is not there at all, and Compose files
// set what they do not know to nothing.
func prepareEnvironment() {
	for _, name := range []string{
		variableAddress, "MEET_GATEWAY_BIND", "MEET_STORE", "MEET_BACKEND", "MEET_GATEWAY_HEALTH", "MEET_GATEWAY_DRAIN",
		"MEET_GATEWAY_SECRET_AT", "MEET_CLIENT_SECRET_AT", variableOtherNames,
	} {
		if value, set := os.LookupEnv(name); set && value == "" {
			_ = os.Unsetenv(name) // a name that can be looked up
		}
	}
	if _, set := os.LookupEnv(variableOtherNames); !set {
		if addresses := otherNames(siteAddress(os.Args)); len(addresses) > 0 {
			_ = os.Setenv(variableOtherNames, "misdirected "+strings.Join(addresses, " "))
		}
	}
	// Caddy has read CADDY_ADMIN already. Nothing would be a port of its choice, open
	// to everybody.
	if caddy.DefaultAdminListen == "" {
		caddy.DefaultAdminListen = "localhost:2019"
	}
}

// variableOtherNames is what the shipped Caddyfile imports: a snippet of its own, and
// the snippet's arguments.
const variableOtherNames = "MEET_GATEWAY_OTHER_NAMES"

const variableAddress = "MEET_GATEWAY_ADDR"

// siteAddress is MEET_GATEWAY_ADDR as Caddy is going to have it; "" if it is not set.
func siteAddress(args []string) string {
	address := os.Getenv(variableAddress)
	for _, file := range envFiles(args) {
		address = cmp.Or(address, addressIn(file))
	}
	return address
}

// envFiles returns the values of --envfile. Caddy reads these files later.
func envFiles(args []string) (files []string) {
	for i, arg := range args {
		arg = strings.TrimPrefix(arg, "-")
		if file, ok := strings.CutPrefix(arg, "-envfile="); ok {
			files = append(files, file)
		} else if arg == "-envfile" && i+1 < len(args) {
			files = append(files, args[i+1])
		}
	}
	return files
}

// addressIn is the MEET_GATEWAY_ADDR of a file for --envfile; "" if it has none. Caddy
// says what is wrong with the file.
func addressIn(file string) (address string) {
	text, _ := os.ReadFile(file)
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "export "), "=")
		if name == variableAddress {
			value, _, _ = strings.Cut(value, "#")
			address = strings.Trim(strings.TrimSpace(value), `"'`)
		}
	}
	return address
}

// otherNames returns addresses for every name that the given site addresses do not
// serve, on the same ports. Caddy alone answers such a request with an empty 200. There
// are none for a port on which every name is served.
func otherNames(addresses string) []string {
	var others, served []string
	for _, text := range strings.FieldsFunc(addresses, func(r rune) bool { return r == ',' || r == ' ' }) {
		address, err := httpcaddyfile.ParseAddress(text)
		if err != nil || address.Scheme != "" && address.Scheme != "http" && address.Scheme != "https" {
			return nil // Caddy says what is wrong with it
		}
		port := address.Port
		plain := address.Scheme == "http" || port == "80"
		switch {
		case port == "" && plain:
			port = "80"
		case port == "" && address.Host != "":
			port = "443"
		}
		if address.Host == "" {
			served = append(served, ":"+port)
			continue
		}
		if plain {
			others = append(others, "http://:"+port)
			continue
		}
		others = append(others, "https://:"+port, "http://:80") // Caddy redirects from there
	}
	slices.Sort(others)
	return slices.DeleteFunc(slices.Compact(others), func(other string) bool {
		return slices.ContainsFunc(served, func(port string) bool { return strings.HasSuffix(other, "/"+port) })
	})
}
