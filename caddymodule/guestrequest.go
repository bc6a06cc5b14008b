package caddymodule

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// guestRequest is the context of a request that the guest handler sees: what
// Caddy's handlers expect to find in one. The server, the replacer and the
// variables, which reverse_proxy uses every time, are at hand. The rest, with all
// placeholders of HTTP requests, is what caddyhttp.PrepareRequest makes of the
// request, once somebody asks: that costs as much as the gate itself.
type guestRequest struct {
	context.Context
	request *http.Request
	server  *caddyhttp.Server
	repl    *caddy.Replacer
	vars    map[string]any
	rec     *recorder

	once sync.Once
	full *http.Request // prepared by Caddy
}

// newGuest makes the context of a request of the guest's, in a client's request or
// outside of any.
func (t *guestTransport) newGuest(ctx context.Context) *guestRequest {
	g := &guestRequest{Context: ctx, server: t.server, repl: caddy.NewEmptyReplacer()}
	if server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server); ok {
		g.server = server
	}
	clientIP, _ := caddyhttp.GetVar(ctx, caddyhttp.ClientIPVarKey).(string)
	g.vars = map[string]any{
		// The headers are all ours, so reverse_proxy is to keep them as they are.
		caddyhttp.TrustedProxyVarKey: true,
		caddyhttp.ClientIPVarKey:     clientIP,
	}
	g.repl.Map(g.placeholder)
	return g
}

// take makes a request the guest's, as it is: backendclient makes each for one trip.
func (g *guestRequest) take(r *http.Request, rec *recorder) {
	r.URL.Scheme, r.URL.Host = "", ""
	r.RequestURI = requestURI(r.URL)
	r.RemoteAddr = "@"
	if original, ok := g.Context.Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok {
		r.RemoteAddr = original.RemoteAddr
	}
	// The client is who Caddy says (trusted_proxies), never who a header claims.
	// reverse_proxy appends the peer's own address.
	if clientIP, _ := g.vars[caddyhttp.ClientIPVarKey].(string); clientIP != "" && clientIP != peerIP(r.RemoteAddr) {
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
		return g.repl
	case caddyhttp.ServerCtxKey:
		return g.server
	case caddyhttp.VarsCtxKey:
		return g.vars
	}
	return g.prepared().Context().Value(key)
}

// placeholder resolves what nobody has set.
func (g *guestRequest) placeholder(key string) (any, bool) {
	if name, ok := strings.CutPrefix(key, "http.vars."); ok {
		return g.vars[name], true
	}
	if strings.HasPrefix(key, "http.reverse_proxy.") {
		return nil, false // set by it, or not there
	}
	return g.prepared().Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer).Get(key)
}

// prepared returns the request as Caddy prepares those of clients.
func (g *guestRequest) prepared() *http.Request {
	g.once.Do(func() {
		r := g.request.WithContext(g.Context)
		g.full = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), g.rec, g.server)
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
