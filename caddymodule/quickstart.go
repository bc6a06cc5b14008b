// SPDX-License-Identifier: MIT

package caddymodule

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/meet-gateway/meet-gateway/caddymodule/store"
	"github.com/meet-gateway/meet-gateway/tokens"
)

// quickstart registers the demo application and prints how to use it, once per embedded
// store and after the servers have started.
func (a *App) quickstart(ctx caddy.Context) error {
	inMemory, embedded := a.store.(*store.Embedded)
	if !embedded {
		return nil
	}
	i := slices.IndexFunc(a.handlers, func(h *Handler) bool { return h.sandbox })
	if i < 0 {
		return nil
	}
	var err error
	inMemory.Once(func() { err = a.printDemo(ctx, a.handlers[i]) })
	return err
}

func (a *App) printDemo(ctx caddy.Context, h *Handler) error {
	bounded, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	app, secret, err := a.Authority().CreateApplication(bounded, tokens.Application{
		Name: "Demo", Active: true, Domains: []string{"*"},
		Scopes: tokens.Scopes{tokens.ScopeRoomsList, tokens.ScopeRoomsRetrieve, tokens.ScopeRoomsCreate},
		Note:   "Made by quickstart.",
	})
	if err != nil {
		return fmt.Errorf("making the demo application: %w", err)
	}
	httpApp, err := ctx.AppIfConfigured("http")
	if err != nil {
		return err
	}
	base := baseURL(httpApp.(*caddyhttp.App), h)
	return writeDemo(os.Stdout, base, app.ID, secret)
}

// writeDemo prints commands to paste in this order.
func writeDemo(w io.Writer, base, id, secret string) error {
	_, err := fmt.Fprintf(w, `
The gateway is ready, with a Meet in memory behind it. Nothing is kept.

  base URL       %[1]s
  client id      %[2]s
  client secret  %[3]s

Paste these, one after the other: a token for a user, a room, the rooms, what the gateway knows about the token.

  TOKEN=$(curl -s %[1]s/application/token -H 'Content-Type: application/json' -d '{"client_id":"%[2]s","client_secret":"%[3]s","grant_type":"client_credentials","scope":"ada@example.org"}' | sed 's/.*"access_token":"\([^"]*\)".*/\1/') && echo "$TOKEN"
  curl -s -X POST %[1]s/rooms -H "Authorization: Bearer $TOKEN"; echo
  curl -s %[1]s/rooms -H "Authorization: Bearer $TOKEN"; echo
  curl -s %[1]s/identity -H "Authorization: Bearer $TOKEN"; echo

`, base, id, secret)
	return err
}

// baseURL returns the URL at which a handler can be reached from this machine.
func baseURL(app *caddyhttp.App, h *Handler) string {
	path := h.BasePaths[0]
	if path == "/" {
		path = ""
	}
	for _, server := range app.Servers {
		hosts, found := findHandler(server.Routes, h, nil)
		if !found || len(server.Listen) == 0 {
			continue
		}
		return serverOrigin(app, server, hosts) + path
	}
	return "http://localhost" + path
}

func serverOrigin(app *caddyhttp.App, server *caddyhttp.Server, hosts []string) string {
	host, port := "localhost", ""
	if address, err := caddy.ParseNetworkAddress(server.Listen[0]); err == nil {
		port = fmt.Sprint(address.StartPort)
		if ip := net.ParseIP(address.Host); ip != nil && !ip.IsUnspecified() {
			host = address.Host
		}
	}
	if i := slices.IndexFunc(hosts, func(h string) bool { return !strings.ContainsAny(h, "*{") }); i >= 0 {
		host = hosts[i]
	}
	scheme, usual := "http", fmt.Sprint(cmp.Or(app.HTTPPort, caddyhttp.DefaultHTTPPort))
	if len(server.TLSConnPolicies) > 0 {
		scheme, usual = "https", fmt.Sprint(cmp.Or(app.HTTPSPort, caddyhttp.DefaultHTTPSPort))
	}
	if port == "" || port == usual {
		return scheme + "://" + host
	}
	return scheme + "://" + net.JoinHostPort(host, port)
}

// findHandler returns the host names of the route with the handler.
func findHandler(routes caddyhttp.RouteList, h *Handler, hosts []string) ([]string, bool) {
	for _, route := range routes {
		names := hosts
		for _, set := range route.MatcherSets {
			for _, matcher := range set {
				if m, ok := matcher.(*caddyhttp.MatchHost); ok {
					names = *m
				}
			}
		}
		for _, handler := range route.Handlers {
			switch handler := handler.(type) {
			case *Handler:
				if handler == h {
					return names, true
				}
			case *caddyhttp.Subroute:
				if found, ok := findHandler(handler.Routes, h, names); ok {
					return found, true
				}
			}
		}
	}
	return nil, false
}
