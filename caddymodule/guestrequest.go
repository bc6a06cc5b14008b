// SPDX-License-Identifier: MIT

package caddymodule

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/meet-gateway/meet-gateway/backendclient"
)

// guestRequest is the context of a request that the guest handler sees: what
// Caddy's handlers expect to find in one, each made when somebody asks for it. The
// replacer and the variables are used by a handler every time and hardly ever by a
// transport alone. The rest, with all placeholders of HTTP requests, is what
// caddyhttp.PrepareRequest makes of the request: that costs as much as the gate
// itself.
type guestRequest struct {
	context.Context
	request  *http.Request
	fallback *caddyhttp.Server // outside of any client's request
	rec      *recorder

	furnished sync.Once // the two below
	repl      *caddy.Replacer
	vars      map[string]any

	prepared sync.Once
	full     *http.Request // prepared by Caddy
}

// newGuest makes the context of a request of the guest's, in a client's request or
// outside of any.
func (t *guestTransport) newGuest(ctx context.Context) *guestRequest {
	return &guestRequest{Context: ctx, fallback: t.server}
}

// furnish makes what is written to, for this request alone. A transport may ask
// for it from several goroutines.
func (g *guestRequest) furnish() {
	g.furnished.Do(func() {
		g.vars = map[string]any{
			// The headers are all ours, so reverse_proxy is to keep them as they are.
			caddyhttp.TrustedProxyVarKey: true,
			caddyhttp.ClientIPVarKey:     g.clientIP(),
		}
		g.repl = caddy.NewEmptyReplacer()
		g.repl.Map(g.placeholder)
	})
}

// clientIP is who the client is by what Caddy says (trusted_proxies), never by what
// a header claims; "" outside of any client's request.
func (g *guestRequest) clientIP() string {
	if source := backendclient.Source(g.Context); source != "" {
		return source // of an exchange, which is in no client's request
	}
	ip, _ := caddyhttp.GetVar(g.Context, caddyhttp.ClientIPVarKey).(string)
	return ip
}

// peer is the address of the client's end of the connection; "@" for a socket that
// has none, and outside of any client's request.
func (g *guestRequest) peer() string {
	if original, ok := g.Context.Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok {
		return original.RemoteAddr
	}
	return "@"
}

func (g *guestRequest) server() *caddyhttp.Server {
	if server, ok := g.Context.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server); ok {
		return server
	}
	return g.fallback
}

// take makes a request the guest's, as it is: backendclient makes each for one trip.
func (g *guestRequest) take(r *http.Request, rec *recorder) {
	r.URL.Scheme, r.URL.Host = "", ""
	r.RequestURI = requestURI(r.URL)
	r.RemoteAddr = g.peer()
	// reverse_proxy appends the peer's own address.
	if clientIP := g.clientIP(); clientIP != "" && clientIP != peerIP(r.RemoteAddr) {
		r.Header["X-Forwarded-For"] = []string{clientIP}
	}
	g.request, g.rec = r, rec
}

// Value implements context.Context.
func (g *guestRequest) Value(key any) any {
	name, ok := key.(caddy.CtxKey)
	if !ok {
		return g.Context.Value(key)
	}
	switch name {
	case caddy.ReplacerCtxKey:
		g.furnish()
		return g.repl
	case caddyhttp.VarsCtxKey:
		g.furnish()
		return g.vars
	case caddyhttp.ServerCtxKey:
		return g.server()
	}
	return g.prepare().Context().Value(key)
}

// placeholder resolves what nobody has set.
func (g *guestRequest) placeholder(key string) (any, bool) {
	if name, ok := strings.CutPrefix(key, "http.vars."); ok {
		return g.vars[name], true
	}
	if strings.HasPrefix(key, "http.reverse_proxy.") {
		return nil, false // set by it, or not there
	}
	return g.prepare().Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer).Get(key)
}

// prepare returns the request as Caddy prepares those of clients.
func (g *guestRequest) prepare() *http.Request {
	g.prepared.Do(func() {
		r := g.request.WithContext(g.Context)
		g.full = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), g.rec, g.server())
	})
	return g.full
}

// requestURI is u.RequestURI for paths that need no escaping, which are all that
// backendclient sends.
func requestURI(u *url.URL) string {
	if u.RawPath != "" || u.ForceQuery {
		return u.RequestURI()
	}
	if u.RawQuery == "" {
		return u.Path
	}
	return u.Path + "?" + u.RawQuery
}

// peerIP cuts port, brackets and zone from a socket's address.
func peerIP(address string) string {
	if i := strings.LastIndexByte(address, ':'); i >= 0 {
		address = address[:i]
	}
	address = strings.TrimSuffix(strings.TrimPrefix(address, "["), "]")
	address, _, _ = strings.Cut(address, "%")
	return address
}
