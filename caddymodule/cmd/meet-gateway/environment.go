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

// prepareEnvironment unsets variables that are empty, since Caddy uses the default in
// {$NAME:default} only for unset ones and Compose files set unknown variables to
// nothing. It also prepares the shipped Caddyfile's answer to other host names.
func prepareEnvironment() {
	for _, name := range []string{
		variableAddress, "MEET_GATEWAY_BIND", "MEET_STORE", "MEET_BACKEND", "MEET_GATEWAY_HEALTH", "MEET_GATEWAY_DRAIN",
		"MEET_GATEWAY_SECRET_AT", "MEET_CLIENT_SECRET_AT", variableOtherNames,
	} {
		if value, set := os.LookupEnv(name); set && value == "" {
			_ = os.Unsetenv(name) // fails only for invalid names
		}
	}
	if _, set := os.LookupEnv(variableOtherNames); !set {
		if addresses := otherNames(siteAddress(os.Args)); len(addresses) > 0 {
			_ = os.Setenv(variableOtherNames, "misdirected "+strings.Join(addresses, " "))
		}
	}
	// Caddy has already read CADDY_ADMIN. An empty address would be a random port on
	// all interfaces.
	if caddy.DefaultAdminListen == "" {
		caddy.DefaultAdminListen = "localhost:2019"
	}
}

// variableOtherNames is imported by the shipped Caddyfile: the name of one of its
// snippets, and the snippet's arguments.
const variableOtherNames = "MEET_GATEWAY_OTHER_NAMES"

const variableAddress = "MEET_GATEWAY_ADDR"

// siteAddress returns MEET_GATEWAY_ADDR as Caddy will see it, or "".
func siteAddress(args []string) string {
	address := os.Getenv(variableAddress)
	for _, file := range envFiles(args) {
		address = cmp.Or(address, addressIn(file))
	}
	return address
}

// envFiles returns the values of --envfile, which Caddy reads later.
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

// addressIn returns the MEET_GATEWAY_ADDR in a file for --envfile, or "". Caddy reports
// errors in the file.
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

// otherNames returns site addresses for all host names that the given addresses do not
// serve, on the same ports. Caddy would answer requests for them with an empty 200.
func otherNames(addresses string) []string {
	var others, served []string
	for _, text := range strings.FieldsFunc(addresses, func(r rune) bool { return r == ',' || r == ' ' }) {
		address, err := httpcaddyfile.ParseAddress(text)
		if err != nil || address.Scheme != "" && address.Scheme != "http" && address.Scheme != "https" {
			return nil // Caddy reports it
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
		others = append(others, "https://:"+port, "http://:80") // where Caddy redirects from
	}
	slices.Sort(others)
	return slices.DeleteFunc(slices.Compact(others), func(other string) bool {
		return slices.ContainsFunc(served, func(port string) bool { return strings.HasSuffix(other, "/"+port) })
	})
}
