// SPDX-License-Identifier: MIT

package caddymodule

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/meet-gateway/meet-gateway/caddymodule/parse"
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
	b.WriteString(c.target.Path)
	if c.target.Slash {
		b.WriteByte('/')
	}
	return publicURL{list: b.String()}
}

// publicRoot is what the caller puts before a path of this site: scheme, host, port,
// and the prefix below which the site is mounted.
func (c *call) publicRoot() string {
	trusted, _ := caddyhttp.GetVar(c.r.Context(), caddyhttp.TrustedProxyVarKey).(bool)
	scheme, host := parse.Origin(c.r, trusted)
	var forwarded string
	if trusted {
		forwarded = parse.ForwardedPrefix(c.r.Header)
	}
	return scheme + "://" + host + forwarded + c.strippedPrefix()
}

// strippedPrefix is what Caddy took off the path before the request came here
// (handle_path, uri strip_prefix). It is empty if the path was rewritten otherwise:
// then nothing tells what the caller has to write.
func (c *call) strippedPrefix() string {
	original, ok := c.r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request)
	if !ok || original.RequestURI == c.r.RequestURI {
		return ""
	}
	asked, err := parse.Target(original.RequestURI)
	if err != nil {
		return ""
	}
	prefix, below := strings.CutSuffix(asked.Path, c.target.Path)
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
