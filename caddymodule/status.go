// SPDX-License-Identifier: MIT

package caddymodule

import (
	"cmp"
	"slices"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/meet-gateway/meet-gateway/caddymodule/admin/wire"
)

// Routes implements admin.Gateway.
func (a *App) Routes() []wire.Routes {
	list := []wire.Routes{}
	for _, h := range a.handlers {
		list = append(list, h.listRoutes())
	}
	return list
}

// Backends implements admin.Gateway.
func (a *App) Backends() []wire.Backend {
	list := []wire.Backend{}
	for _, h := range a.handlers {
		list = append(list, h.backendStatus())
	}
	return list
}

// Version implements admin.Gateway.
func (*App) Version() string {
	b := BuildInfo()
	return b.Version + ", Caddy " + b.Caddy
}

func (h *Handler) listRoutes() wire.Routes {
	s := wire.Routes{BasePaths: h.BasePaths, Routes: []wire.Route{}}
	for _, p := range h.routes.patterns {
		for _, a := range p.actions {
			s.Routes = append(s.Routes, wire.Route{
				Method: a.method, Path: p.template, Scope: a.scope, Endpoint: string(a.endpoint), Policy: a.route.policy(),
			})
		}
	}
	slices.SortStableFunc(s.Routes, func(a, b wire.Route) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Method, b.Method))
	})
	return s
}

func (h *Handler) backendStatus() wire.Backend {
	s := wire.Backend{Host: h.host, Healthy: true}
	switch g := h.upstream.Handler().(type) {
	case *Sandbox:
		s.Kind, s.Checked = "sandbox", true
	case *reverseproxy.Handler:
		s.Kind = "reverse_proxy"
		s.Checked = checksHealth(g.HealthChecks)
		for _, u := range g.Upstreams {
			s.Upstreams = append(s.Upstreams, healthOf(u))
		}
		s.Healthy = len(s.Upstreams) == 0 || // dynamic upstreams
			slices.ContainsFunc(s.Upstreams, func(u wire.Upstream) bool { return u.Available })
	case caddy.Module:
		s.Kind = g.CaddyModule().ID.Name()
	}
	return s
}

// checksHealth reports whether health checks or passive checks are enabled.
func checksHealth(c *reverseproxy.HealthChecks) bool {
	return c != nil && (c.Active != nil && c.Active.IsEnabled() ||
		c.Passive != nil && (c.Passive.FailDuration > 0 || c.Passive.UnhealthyRequestCount > 0))
}

// healthOf returns Caddy's state of an upstream. One with placeholders in its address
// has no host yet.
func healthOf(u *reverseproxy.Upstream) wire.Upstream {
	s := wire.Upstream{Address: u.Dial, Available: true}
	if u.Host != nil {
		s.Available, s.Requests, s.Fails = u.Available(), u.Host.NumRequests(), u.Host.Fails()
	}
	return s
}
