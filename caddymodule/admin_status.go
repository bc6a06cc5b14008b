package caddymodule

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/meet-gateway/meet-gateway/tokens"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// gatewayStatus is how this node is doing.
type gatewayStatus struct {
	// Version is that of the program.
	Version string `json:"version"`
	// Ready is what health/ready answers, with its reason.
	Ready  bool   `json:"ready"`
	Reason string `json:"reason,omitempty"`
	tokens.Status
	Backends []backendStatus `json:"backends"`
}

// backendStatus is how the backend of one gate is doing, as far as Caddy's health
// checks know.
type backendStatus struct {
	// Host is Meet's public name, as sent to it.
	Host string `json:"host"`
	// Kind is "reverse_proxy", "sandbox", or the name of another handler.
	Kind string `json:"kind"`
	// Healthy is false if none of the upstreams is available.
	Healthy   bool             `json:"healthy"`
	Upstreams []upstreamHealth `json:"upstreams,omitempty"`
}

// upstreamHealth is how one upstream is doing.
type upstreamHealth struct {
	Address string `json:"address"`
	// Available is false if a health check failed, or as many requests are
	// running as are allowed. Without health checks it is always true.
	Available bool `json:"available"`
	// Requests are running, Fails are remembered by passive health checks.
	Requests int `json:"requests"`
	Fails    int `json:"fails"`
}

// shownRoutes is the closed route table of one gate.
type shownRoutes struct {
	BasePaths []string     `json:"base_paths"`
	Routes    []shownRoute `json:"routes"`
}

type shownRoute struct {
	Method   string `json:"method"`
	Path     string `json:"path"`
	Scope    string `json:"scope,omitempty"`
	Endpoint string `json:"endpoint"`
}

// showStatus answers GET status.
func (c *adminCall) showStatus() error {
	gateway, server := Version()
	s := gatewayStatus{Version: gateway + ", Caddy " + server, Status: c.authority.Status(c.r.Context()), Backends: []backendStatus{}}
	s.Ready, s.Reason = readiness(s.Status.Store.Error, s.Status.Feed.Fresh)
	for _, gate := range c.app.Gates() {
		s.Backends = append(s.Backends, gate.backendStatus())
	}
	return c.answer(http.StatusOK, s)
}

// readiness tells whether a node answers what it has not seen before, and what is
// not as it should be. Without Redis new tokens and tokens that are new to this
// node get 503, so it is not ready, although it serves what it knows from memory
// until the staleness bound. The backend does not count: it is the same for all
// nodes, and taking all of them out would only replace their answers.
func readiness(problem string, fresh bool) (ready bool, reason string) {
	switch {
	case problem != "" && fresh:
		return false, problem + "; what is known is still served from memory"
	case problem != "":
		return false, problem
	case !fresh:
		return true, "what other gateways change is not heard of; redis is asked per request"
	}
	return true, ""
}

// showLive answers GET health/live: this process runs a gateway.
func (c *adminCall) showLive() error {
	return c.answer(http.StatusOK, map[string]bool{"live": true})
}

// readyTimeout bounds a readiness check.
const readyTimeout = 2 * time.Second

// showReady answers GET health/ready: 503 when requests would be answered with it.
func (c *adminCall) showReady() error {
	ctx, cancel := context.WithTimeout(c.r.Context(), readyTimeout)
	defer cancel()
	ready, reason := readiness(tokens.StoreProblem(c.authority.Ready(ctx)), c.authority.Fresh())
	if !ready {
		return &problem{Status: http.StatusServiceUnavailable, Detail: sentence(reason), retryAfter: outageRetry}
	}
	answer := struct {
		Ready  bool   `json:"ready"`
		Reason string `json:"reason,omitempty"`
	}{true, reason}
	return c.answer(http.StatusOK, answer)
}

// showRoutes answers GET routes: what is open, and which scope it needs.
func (c *adminCall) showRoutes() error {
	gates := []shownRoutes{}
	for _, gate := range c.app.Gates() {
		gates = append(gates, gate.shownRoutes())
	}
	return c.answer(http.StatusOK, map[string]any{"gates": gates})
}

func (h *Handler) shownRoutes() shownRoutes {
	s := shownRoutes{BasePaths: h.BasePaths, Routes: []shownRoute{}}
	for _, p := range h.routes.patterns {
		for _, a := range p.actions {
			s.Routes = append(s.Routes, shownRoute{Method: a.method, Path: p.template, Scope: a.scope, Endpoint: string(a.endpoint)})
		}
	}
	slices.SortStableFunc(s.Routes, func(a, b shownRoute) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Method, b.Method))
	})
	return s
}

func (h *Handler) backendStatus() backendStatus {
	s := backendStatus{Host: h.host, Healthy: true}
	switch g := h.guest.handler.(type) {
	case sandboxed:
		s.Kind = "sandbox"
	case *reverseproxy.Handler:
		s.Kind = "reverse_proxy"
		for _, u := range g.Upstreams {
			s.Upstreams = append(s.Upstreams, healthOf(u))
		}
		s.Healthy = len(s.Upstreams) == 0 || // found by name for each request
			slices.ContainsFunc(s.Upstreams, func(u upstreamHealth) bool { return u.Available })
	case caddy.Module:
		s.Kind = g.CaddyModule().ID.Name()
	}
	return s
}

// healthOf reads what Caddy knows. Upstreams whose address is told by each
// request have no host yet.
func healthOf(u *reverseproxy.Upstream) upstreamHealth {
	s := upstreamHealth{Address: u.Dial, Available: true}
	if u.Host != nil {
		s.Available, s.Requests, s.Fails = u.Available(), u.Host.NumRequests(), u.Host.Fails()
	}
	return s
}
