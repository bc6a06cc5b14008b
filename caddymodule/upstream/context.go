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

// requestContext is the context of a request that the handler sees. It provides what
// Caddy's handlers expect in one, created on demand: the replacer and the variables,
// which a handler always uses and a transport hardly ever, and everything else that
// caddyhttp.PrepareRequest provides, which costs as much as the gateway itself.
type requestContext struct {
	context.Context
	request  *http.Request
	fallback *caddyhttp.Server // if there is no client's request
	rec      *recorder

	varsOnce sync.Once // for repl and vars
	repl     *caddy.Replacer
	vars     map[string]any

	prepared sync.Once
	full     *http.Request // prepared by Caddy
}

func (u *Upstream) newContext(ctx context.Context) *requestContext {
	return &requestContext{Context: ctx, fallback: u.server}
}

// prepareVars creates the replacer and the variables. A transport may call it from
// several goroutines.
func (c *requestContext) prepareVars() {
	c.varsOnce.Do(func() {
		c.vars = map[string]any{
			// The headers are ours, so reverse_proxy must keep them.
			caddyhttp.TrustedProxyVarKey: true,
			caddyhttp.ClientIPVarKey:     c.clientIP(),
		}
		c.repl = caddy.NewEmptyReplacer()
		c.repl.Map(c.placeholder)
	})
}

// clientIP returns the client's address according to Caddy (trusted_proxies), or "" if
// there is no client's request.
func (c *requestContext) clientIP() string {
	if source := backendclient.Source(c.Context); source != "" {
		return source // of an exchange, which belongs to no client's request
	}
	ip, _ := caddyhttp.GetVar(c.Context, caddyhttp.ClientIPVarKey).(string)
	return ip
}

// peer returns the address of the connection's peer, or "@" for a Unix socket or if
// there is no client's request.
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

// take turns r into the handler's request. It is not copied, since backendclient
// creates one per attempt.
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
		c.prepareVars()
		return c.repl
	case caddyhttp.VarsCtxKey:
		c.prepareVars()
		return c.vars
	case caddyhttp.ServerCtxKey:
		return c.server()
	}
	return c.prepare().Context().Value(key)
}

// placeholder resolves a placeholder that no handler has set.
func (c *requestContext) placeholder(key string) (any, bool) {
	if name, ok := strings.CutPrefix(key, "http.vars."); ok {
		return c.vars[name], true
	}
	if strings.HasPrefix(key, "http.reverse_proxy.") {
		return nil, false // only reverse_proxy sets these
	}
	return c.prepare().Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer).Get(key)
}

// prepare returns the request as Caddy prepares a client's.
func (c *requestContext) prepare() *http.Request {
	c.prepared.Do(func() {
		r := c.request.WithContext(c.Context)
		c.full = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), c.rec, c.server())
	})
	return c.full
}

// requestURI is u.RequestURI without the escaping, which backendclient's paths do not
// need.
func requestURI(u *url.URL) string {
	if u.RawPath != "" || u.ForceQuery {
		return u.RequestURI()
	}
	if u.RawQuery == "" {
		return u.Path
	}
	return u.Path + "?" + u.RawQuery
}

// peerIP removes port, brackets and zone from an address.
func peerIP(address string) string {
	if i := strings.LastIndexByte(address, ':'); i >= 0 {
		address = address[:i]
	}
	address = strings.TrimSuffix(strings.TrimPrefix(address, "["), "]")
	address, _, _ = strings.Cut(address, "%")
	return address
}
