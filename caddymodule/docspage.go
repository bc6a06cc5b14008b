// SPDX-License-Identifier: MIT

package caddymodule

import (
	"net/http"
	"net/url"
	"path"
	"strings"

	"github.com/meet-gateway/meet-gateway/caddymodule/docs"
	"github.com/meet-gateway/meet-gateway/caddymodule/parse"
)

// pathDocs is the path of the page for integrators and of its assets.
const pathDocs = "/docs"

// Values of the option docs.
const (
	docsOn  = "on"
	docsOff = "off"
)

// serveDocs answers with the page for integrators in the reader's language.
func (c documentCall) serveDocs() error {
	h := c.w.Header()
	h["Content-Security-Policy"] = []string{docs.ContentSecurityPolicy}
	h["Referrer-Policy"] = []string{"no-referrer"}
	delete(h, "Vary") // the answer does not depend on Authorization
	name := path.Base(c.match.pattern.template)
	if mediaType, ok := docs.Assets[name]; ok {
		return writeBody(c.w, http.StatusOK, []string{mediaType}, docs.Asset(name))
	}
	query, err := url.ParseQuery(c.target.Query)
	if err != nil {
		return parse.ErrQuery
	}
	language := docs.Language(query.Get("lang"), strings.Join(c.r.Header.Values("Accept-Language"), ","))
	h["Vary"] = []string{"Accept-Language"}
	h["Content-Language"] = []string{language}
	base := c.publicBase()
	page, err := docs.Page(withServer(c.h.description().json, base), base, language)
	if err != nil {
		return err
	}
	return writeBody(c.w, http.StatusOK, []string{"text/html; charset=utf-8"}, page)
}
