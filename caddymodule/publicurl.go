// SPDX-License-Identifier: MIT

package caddymodule

import (
	"net"
	"net/http"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"golang.org/x/net/http/httpguts"
)

// publicURL is where the caller found a list: links to its other pages lead
// there, in the same form.
type publicURL struct {
	// list is scheme, host, port, base path and path, with a slash at the end if
	// the caller's had one.
	list string
}

// publicURL builds the address of this request as the caller used it.
func (c *call) publicURL() publicURL {
	var b strings.Builder
	b.WriteString(c.publicRoot())
	b.WriteString(c.target.path)
	if c.target.slash {
		b.WriteByte('/')
	}
	return publicURL{list: b.String()}
}

// publicRoot is what the caller puts before a path of this site: scheme, host, port,
// and the prefix below which the site is mounted.
func (c *call) publicRoot() string {
	trusted, _ := caddyhttp.GetVar(c.r.Context(), caddyhttp.TrustedProxyVarKey).(bool)
	scheme, host := origin(c.r, trusted)
	var forwarded string
	if trusted {
		forwarded = forwardedPrefix(c.r.Header)
	}
	return scheme + "://" + host + forwarded + c.strippedPrefix()
}

// forwardedPrefix is what a proxy took off the path before it sent the request on
// (X-Forwarded-Prefix). As with the other headers, the last value counts.
func forwardedPrefix(h http.Header) string {
	prefix, err := parseTarget(lastValue(h, "X-Forwarded-Prefix"))
	if err != nil || prefix.query != "" {
		return ""
	}
	return prefix.path
}

// strippedPrefix is what Caddy took off the path before the request came here
// (handle_path, uri strip_prefix). It is empty if the path was rewritten otherwise:
// then nothing tells what the caller has to write.
func (c *call) strippedPrefix() string {
	original, ok := c.r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request)
	if !ok || original.RequestURI == c.r.RequestURI {
		return ""
	}
	asked, err := parseTarget(original.RequestURI)
	if err != nil {
		return ""
	}
	prefix, below := strings.CutSuffix(asked.path, c.target.path)
	if !below {
		return ""
	}
	return prefix
}

// page is the link to a page. The page size is carried on if the caller gave one.
func (u publicURL) page(page, size int, withSize bool) string {
	link := u.list
	separator := "?"
	if page != 1 {
		link += separator + "page=" + strconv.Itoa(page)
		separator = "&"
	}
	if withSize {
		link += separator + "page_size=" + strconv.Itoa(size)
	}
	return link
}

// origin is the scheme and the host, with the port if it is not the default one,
// that the caller used. X-Forwarded-Proto, -Host and -Port count only if the
// request comes from a proxy that Caddy trusts, and only the value of the last
// proxy, which is the one that is trusted.
func origin(r *http.Request, trusted bool) (scheme, host string) {
	scheme, host = "http", r.Host
	if r.TLS != nil {
		scheme = "https"
	}
	if !trusted {
		return scheme, host
	}
	if proto := strings.ToLower(lastValue(r.Header, "X-Forwarded-Proto")); proto == "http" || proto == "https" {
		scheme = proto
	}
	if forwarded := lastValue(r.Header, "X-Forwarded-Host"); validHost(forwarded) {
		host = forwarded
	}
	if port := lastValue(r.Header, "X-Forwarded-Port"); validPort(port) {
		host = withPort(scheme, host, port)
	}
	return scheme, host
}

// withPort adds a port to a host that has none.
func withPort(scheme, host, port string) string {
	if _, _, err := net.SplitHostPort(host); err == nil {
		return host
	}
	if scheme == "http" && port == "80" || scheme == "https" && port == "443" {
		return host
	}
	return net.JoinHostPort(strings.Trim(host, "[]"), port)
}

// lastValue is the last of the values of a list header.
func lastValue(h http.Header, name string) string {
	values := h[name]
	if len(values) == 0 {
		return ""
	}
	last := values[len(values)-1]
	if i := strings.LastIndexByte(last, ','); i >= 0 {
		last = last[i+1:]
	}
	return strings.TrimSpace(last)
}

func validHost(s string) bool {
	return s != "" && len(s) <= 255 && httpguts.ValidHostHeader(s) && !strings.ContainsAny(s, `/\@?#"<> `)
}

func validPort(s string) bool {
	port, err := strconv.Atoi(s)
	return err == nil && port > 0 && port <= 65535
}
