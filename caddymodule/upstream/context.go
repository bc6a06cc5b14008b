// SPDX-License-Identifier: MIT

package upstream

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

// requestContext is the context of a request that the handler sees: what
// Caddy's handlers expect to find in one, each made when it is asked for. The
// replacer and the variables are used by a handler every time and hardly ever by a
// transport alone. The rest, with all placeholders of HTTP requests, is what
// caddyhttp.PrepareRequest makes of the request: that costs as much as the gate
// itself.
type requestContext struct {
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

func (u *Upstream) newContext(ctx context.Context) *requestContext {
	return &requestContext{Context: ctx, fallback: u.server}
}

// furnish makes what is written to, for this request alone. A transport may ask
// for it from several goroutines.
func (c *requestContext) furnish() {
	c.furnished.Do(func() {
		c.vars = map[string]any{
			// The headers are all ours, so reverse_proxy is to keep them as they are.
			caddyhttp.TrustedProxyVarKey: true,
			caddyhttp.ClientIPVarKey:     c.clientIP(),
		}
		c.repl = caddy.NewEmptyReplacer()
		c.repl.Map(c.placeholder)
	})
}

// clientIP is who the client is by what Caddy says (trusted_proxies), never by what
// a header claims; "" outside of any client's request.
func (c *requestContext) clientIP() string {
	if source := backendclient.Source(c.Context); source != "" {
		return source // of an exchange, which is in no client's request
	}
	ip, _ := caddyhttp.GetVar(c.Context, caddyhttp.ClientIPVarKey).(string)
	return ip
}

// peer is the address of the client's end of the connection; "@" for a socket that
// has none, and outside of any client's request.
func (c *requestContext) peer() string {
	if original, ok := c.Context.Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok {
		return original.RemoteAddr
	}
	return "@"
}

func (c *requestContext) server() *caddyhttp.Server {
	if server, ok := c.Context.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server); ok {
		return server
	}
	return c.fallback
}

// take makes a request the handler's. It is not copied: backendclient makes each for one
// trip.
func (c *requestContext) take(r *http.Request, rec *recorder) {
	r.URL.Scheme, r.URL.Host = "", ""
	r.RequestURI = requestURI(r.URL)
	r.RemoteAddr = c.peer()
	// reverse_proxy appends the peer's own address.
	if clientIP := c.clientIP(); clientIP != "" && clientIP != peerIP(r.RemoteAddr) {
		r.Header["X-Forwarded-For"] = []string{clientIP}
	}
	c.request, c.rec = r, rec
}

// Value implements context.Context.
func (c *requestContext) Value(key any) any {
	name, ok := key.(caddy.CtxKey)
	if !ok {
		return c.Context.Value(key)
	}
	switch name {
	case caddy.ReplacerCtxKey:
		c.furnish()
		return c.repl
	case caddyhttp.VarsCtxKey:
		c.furnish()
		return c.vars
	case caddyhttp.ServerCtxKey:
		return c.server()
	}
	return c.prepare().Context().Value(key)
}

// placeholder resolves a placeholder that is not set.
func (c *requestContext) placeholder(key string) (any, bool) {
	if name, ok := strings.CutPrefix(key, "http.vars."); ok {
		return c.vars[name], true
	}
	if strings.HasPrefix(key, "http.reverse_proxy.") {
		return nil, false // set by it, or not there
	}
	return c.prepare().Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer).Get(key)
}

// prepare returns the request as Caddy prepares those of clients.
func (c *requestContext) prepare() *http.Request {
	c.prepared.Do(func() {
		r := c.request.WithContext(c.Context)
		c.full = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), c.rec, c.server())
	})
	return c.full
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
