// SPDX-License-Identifier: MIT

package caddymodule

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/meet-gateway/meet-gateway/caddymodule/parse"
)

// address is the address of a request.
type address struct {
	r      *http.Request
	target parse.RequestTarget
	base   string // matches target
}

// cutBasePath removes the longest matching base path from the target.
func (a *address) cutBasePath(basePaths []string) (rest string, ok bool) {
	for _, base := range basePaths {
		if rest, ok := strings.CutPrefix(a.target.Path, base); ok && strings.HasPrefix(rest, "/") {
			a.base = base
			return rest, true
		}
	}
	return "", false
}

// cutWellKnown finds the base path after a well-known name (RFC 8414 §3.1, RFC 9728
// §3.1): the metadata of https://host/base are also at
// https://host/.well-known/name/base.
func (a *address) cutWellKnown(basePaths []string) (rest string, ok bool) {
	for _, name := range []string{pathServerMetadata, pathResourceMetadata} {
		base, found := strings.CutPrefix(a.target.Path, name)
		if found && slices.Contains(basePaths, base) {
			a.base = base
			return name, true
		}
	}
	return "", false
}

// publicBase returns the base path's URL as the caller sees it, without a trailing
// slash.
func (a *address) publicBase() string { return a.publicRoot() + a.base }

// publicURL is the URL of a list as the caller sees it. Links to other pages use it.
type publicURL string

// publicURL returns the URL of this request as the caller sees it, without the query.
func (a *address) publicURL() publicURL {
	list := a.publicRoot() + a.target.Path
	if a.target.Slash {
		list += "/"
	}
	return publicURL(list)
}

// publicRoot returns the site's URL as the caller sees it: scheme, host, port and any
// prefix that was stripped.
func (a *address) publicRoot() string {
	trusted, _ := caddyhttp.GetVar(a.r.Context(), caddyhttp.TrustedProxyVarKey).(bool)
	scheme, host := parse.Origin(a.r, trusted)
	var forwarded string
	if trusted {
		forwarded = parse.ForwardedPrefix(a.r.Header)
	}
	return scheme + "://" + host + forwarded + a.strippedPrefix()
}

// strippedPrefix returns the prefix that handle_path or uri strip_prefix removed from
// the path. It returns "" after any other rewrite.
func (a *address) strippedPrefix() string {
	original, ok := a.r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request)
	if !ok || original.RequestURI == a.r.RequestURI {
		return ""
	}
	asked, err := parse.Target(original.RequestURI)
	if err != nil {
		return ""
	}
	prefix, below := strings.CutSuffix(asked.Path, a.target.Path)
	if !below {
		return ""
	}
	return prefix
}

// page returns the link to a page, with the page size if the caller sent one.
func (u publicURL) page(page, size int, withSize bool) string {
	link := string(u)
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
