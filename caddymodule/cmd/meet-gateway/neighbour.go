// SPDX-License-Identifier: MIT

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// neighbourPatience is the timeout of the search for another gateway.
const neighbourPatience = 300 * time.Millisecond

// warnOfNeighbour warns before the start that a port is taken or that another gateway
// answers at the admin endpoint. Caddy does not: on Linux it shares its ports with
// other Caddy processes, and each gets some of the requests.
func warnOfNeighbour(args []string, out io.Writer) {
	if len(args) < 2 || !slices.Contains([]string{"run", "start"}, args[1]) {
		return
	}
	admin := caddy.DefaultAdminListen
	if answers(admin) {
		fmt.Fprintf(out, "Warning: another gateway is running: its admin endpoint answers at %s.\n"+
			"If this one is not to replace it, give it addresses of its own: MEET_GATEWAY_ADDR=:9080 CADDY_ADMIN=localhost:9019\n", admin)
		return
	}
	if os.Getenv("LISTEN_FDS") != "" {
		return // systemd passes the port
	}
	address := cmp.Or(siteAddress(args), ":8080")
	if configured(args) && taken(address) {
		fmt.Fprintf(out, "Warning: %s is taken by another program. Set MEET_GATEWAY_ADDR to another address, such as :9080\n", address)
	}
}

// answers reports whether a gateway's admin endpoint answers at an address.
func answers(address string) bool {
	parsed, err := caddy.ParseNetworkAddress(address)
	if err != nil || parsed.IsUnixNetwork() {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), neighbourPatience)
	defer cancel()
	origin := "http://" + parsed.JoinHostPort(0)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, origin+"/meet-gateway/health/live", http.NoBody)
	if err != nil {
		return false
	}
	req.Header.Set("Origin", origin)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	return resp.StatusCode == http.StatusOK || resp.Header.Get("Content-Type") == "application/problem+json"
}

// configured reports whether the configuration uses MEET_GATEWAY_ADDR, as the shipped
// Caddyfile does.
func configured(args []string) bool {
	name := "Caddyfile"
	for i, arg := range args {
		if value, ok := strings.CutPrefix(arg, "--config="); ok {
			name = value
		}
		if (arg == "--config" || arg == "-c") && i+1 < len(args) {
			name = args[i+1]
		}
	}
	text, err := os.ReadFile(name) //nolint:gosec // a file that the operator names
	return err == nil && strings.Contains(string(text), "MEET_GATEWAY_ADDR")
}

// taken reports whether another process listens on the address.
func taken(address string) bool {
	if _, port, err := net.SplitHostPort(address); err != nil || port == "" {
		return false
	}
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", address)
	if err == nil {
		_ = l.Close() // only a test
	}
	return errors.Is(err, syscall.EADDRINUSE)
}
