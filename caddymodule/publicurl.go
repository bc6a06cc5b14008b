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

// address is where a request came to.
type address struct {
	r      *http.Request
	target parse.RequestTarget
	base   string // the base path that it is below
}

// cutBasePath finds the longest of the base paths that the target is below.
func (a *address) cutBasePath(basePaths []string) (rest string, ok bool) {
	for _, base := range basePaths {
		if rest, ok := strings.CutPrefix(a.target.Path, base); ok && strings.HasPrefix(rest, "/") {
			a.base = base
			return rest, true
		}
	}
	return "", false
}

// cutWellKnown finds the base path behind a well-known name, where RFC 8414
// §3.1 and RFC 9728 §3.1 put it: the metadata of
// https://host/base is also at https://host/.well-known/name/base.
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

// publicBase is the base path as the caller reached it: scheme, host, port and
// path, without a slash at the end.
func (a *address) publicBase() string { return a.publicRoot() + a.base }

// publicURL is where the caller found a list: links to its other pages lead
// there, in the same form.
type publicURL string

// publicURL builds the address of this request as the caller used it.
func (a *address) publicURL() publicURL {
	list := a.publicRoot() + a.target.Path
	if a.target.Slash {
		list += "/"
	}
	return publicURL(list)
}

// publicRoot is what the caller puts before a path of this site: scheme, host, port,
// and the prefix below which the site is mounted.
func (a *address) publicRoot() string {
	trusted, _ := caddyhttp.GetVar(a.r.Context(), caddyhttp.TrustedProxyVarKey).(bool)
	scheme, host := parse.Origin(a.r, trusted)
	var forwarded string
	if trusted {
		forwarded = parse.ForwardedPrefix(a.r.Header)
	}
	return scheme + "://" + host + forwarded + a.strippedPrefix()
}

// strippedPrefix is what Caddy took off the path before the request came here
// (handle_path, uri strip_prefix). It is empty if the path was rewritten otherwise:
// then nothing tells what the caller has to write.
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

// page is the link to a page. The page size is carried on if the caller gave one.
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
