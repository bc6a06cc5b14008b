// SPDX-License-Identifier: MIT

package sandbox

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
	"strconv"
	"time"
	"unicode/utf8"
)

// call is one request on its way through Meet.
type call struct {
	r         *http.Request
	body      []byte
	host      string
	https     bool
	language  string
	now       time.Time
	parseJSON func(body []byte) (any, error)
	bare      bool // answered before the middleware that sets Vary and language
	session   bool // the session was read, which shows in Vary
}

// answer is an answer of Meet.
type answer struct {
	status    int
	header    http.Header
	body      []byte
	chunked   bool // no Content-Length
	preflight bool
	server    bool // by the web server, before Django
}

// page is one of Django's HTML pages.
type page struct {
	status      int
	title, text string
}

var (
	emptyPage       = page{status: http.StatusOK}
	badRequestPage  = page{http.StatusBadRequest, "Bad Request (400)", ""}
	notFoundPage    = page{http.StatusNotFound, "Not Found", "The requested resource was not found on this server."}
	serverErrorPage = page{http.StatusInternalServerError, "Server Error (500)", ""}
)

func (c *call) page(p page) *answer {
	a := &answer{status: p.status, header: http.Header{"Content-Type": {"text/html; charset=utf-8"}}}
	if p.title != "" {
		a.body = []byte("\n<!doctype html>\n<html lang=\"en\">\n<head>\n  <title>" + p.title + "</title>\n</head>\n<body>\n  <h1>" +
			p.title + "</h1><p>" + p.text + "</p>\n</body>\n</html>\n")
	}
	return a
}

// redirect is a 301, which keeps neither method nor body with most clients.
func (c *call) redirect(location string) *answer {
	return &answer{
		status:  http.StatusMovedPermanently,
		header:  http.Header{"Content-Type": {"text/html; charset=utf-8"}, "Location": {location}},
		chunked: true,
	}
}

// json renders a body like Django REST framework. Half a surrogate pair cannot be encoded,
// which is a 500.
func (c *call) json(status int, body any) *answer {
	if !encodable(body) {
		return c.page(serverErrorPage)
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(body); err != nil {
		return c.page(serverErrorPage)
	}
	return &answer{
		status: status,
		header: http.Header{"Content-Type": {"application/json"}},
		body:   bytes.TrimSuffix(b.Bytes(), []byte("\n")),
	}
}

// detail is an error of Django REST framework.
func (c *call) detail(status int, text string) *answer {
	return c.json(status, map[string]string{"detail": text})
}

// encodable reports whether all texts in a body are UTF-8.
func encodable(body any) bool {
	switch v := body.(type) {
	case string:
		return utf8.ValidString(v)
	case []any:
		for _, e := range v {
			if !encodable(e) {
				return false
			}
		}
	case map[string]any:
		for k, e := range v {
			if !utf8.ValidString(k) || !encodable(e) {
				return false
			}
		}
	}
	return true
}

// with adds a header.
func (a *answer) with(name, value string) *answer {
	a.header.Set(name, value)
	return a
}

// allow sets Allow on a view's answer, but not on Django's page for a view that failed.
func (a *answer) allow(methods string) *answer {
	if a.header.Get("Content-Type") == mediaJSON {
		a.header.Set("Allow", methods)
	}
	return a
}

// write sends an answer with the common headers.
func (m *Meet) write(w http.ResponseWriter, c *call, a *answer) {
	h := w.Header()
	maps.Copy(h, a.header)
	if !m.settings.KeepAlive {
		h.Set("Connection", "close")
	}
	if a.server {
		h["Date"] = nil // keeps net/http from adding it
	} else {
		m.decorate(h, c, a)
	}
	chunked := a.chunked && c.r.Method != http.MethodHead
	if !chunked {
		h.Set("Content-Length", strconv.Itoa(len(a.body)))
	}
	w.WriteHeader(a.status)
	if c.r.Method != http.MethodHead {
		_, _ = w.Write(a.body) // the client may be gone
	}
	if chunked {
		// Otherwise net/http may set Content-Length.
		_ = http.NewResponseController(w).Flush()
	}
}

// decorate sets what Django's middleware and the web server add.
func (m *Meet) decorate(h http.Header, c *call, a *answer) {
	h.Set("Server", "gunicorn")
	refusedBare := c.bare && a.status == http.StatusBadRequest
	if !refusedBare {
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
	}
	if c.https {
		h.Set("Strict-Transport-Security", "max-age=60; includeSubDomains; preload")
	}
	if c.bare {
		return
	}
	h.Set("X-Frame-Options", "DENY")
	h.Set("Content-Language", c.language)
	vary := "origin, Accept-Language"
	if c.session {
		vary += ", Cookie"
		if _, err := c.r.Cookie("sessionid"); err == nil {
			h.Set("Set-Cookie", `sessionid=""; expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0; Path=/; SameSite=Lax`)
		}
	}
	h.Set("Vary", vary)
}
