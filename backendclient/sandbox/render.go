package sandbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"html"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// maxBody bounds what the sandbox reads of a request. Meet itself has no limit
// for JSON; the recording goes to 3 MB.
const maxBody = 8 << 20

// call is one request on its way through Meet.
type call struct {
	r        *http.Request
	body     []byte
	host     string
	https    bool
	language string
	now      time.Time
	bare     bool // answered before the middleware that sets Vary and language
	session  bool // the session was looked at, which shows in Vary
}

// answer is what Meet says.
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

// json renders a body as Django REST framework does. Text with half a
// surrogate pair cannot be encoded, and that is a 500.
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

// detail is how Django REST framework says what is wrong.
func (c *call) detail(status int, text string) *answer {
	return c.json(status, map[string]string{"detail": text})
}

// encodable says whether all text in a body of errors is UTF-8.
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

// write sends an answer with the headers that all have, and the exceptions.
func (m *Meet) write(w http.ResponseWriter, c *call, a *answer) {
	h := w.Header()
	for name, values := range a.header {
		h[name] = values
	}
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
		_, _ = w.Write(a.body) // a client that left is not the sandbox's concern
	}
	if f, ok := w.(http.Flusher); ok && chunked {
		f.Flush() // or net/http counts the body itself
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

var errBodyTooLarge = errors.New("request body too large")

// readBody reads the body that the application sees and the one that it does
// not see, since what has no Content-Length counts as empty.
func readBody(r *http.Request) ([]byte, error) {
	if r.Body == nil {
		return nil, nil
	}
	b, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err == nil && len(b) > maxBody {
		return nil, errBodyTooLarge
	}
	return b, err
}

// The limits of the web server, gunicorn, in bytes.
const (
	maxRequestLine = 4094
	maxHeaderField = 8190
)

// refuseBroken is the web server's refusal of a request that never reaches
// Django, or nil.
func refuseBroken(r *http.Request) *answer {
	line := len(r.Method) + len(r.RequestURI) + len("  HTTP/1.1\r\n")
	if line > maxRequestLine {
		// What it says is the size of what it has read so far.
		return serverPage(http.StatusBadRequest, "Request Line is too large (8192 > "+strconv.Itoa(maxRequestLine)+")")
	}
	if r.Method != strings.ToUpper(r.Method) {
		return serverPage(http.StatusBadRequest, "Invalid Method 'Invalid HTTP method: '"+r.Method+"''")
	}
	for name, values := range r.Header {
		for _, v := range values {
			if len(name)+len(": ")+len(v) > maxHeaderField {
				return serverPage(http.StatusRequestHeaderFieldsTooLarge, "Error parsing headers: 'limit request headers fields size'")
			}
		}
	}
	if len(r.Header.Values("Content-Type")) > 1 {
		return serverPage(http.StatusBadRequest, "Invalid HTTP Header: 'CONTENT-TYPE'")
	}
	return nil
}

func serverPage(status int, message string) *answer {
	title := http.StatusText(status)
	message = strings.ReplaceAll(html.EscapeString(message), "&#39;", "&#x27;")
	return &answer{
		status: status,
		server: true,
		header: http.Header{"Content-Type": {"text/html"}},
		body: []byte("<html>\n  <head>\n    <title>" + title + "</title>\n  </head>\n  <body>\n    <h1><p>" + title +
			"</p></h1>\n    " + message + "\n  </body>\n</html>\n"),
	}
}
