// SPDX-License-Identifier: MIT

package backendclient

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	userAgent       = "meet-gateway"
	contentTypeJSON = "application/json"

	// maxRequestLine is the limit of Meet's server, 4094 bytes with method and version.
	maxRequestLine = 4000
)

// wireRequest is a request as it is sent to Meet.
type wireRequest struct {
	method      string
	path        string // absolute
	below       string // path below the base path
	op          string // name in errors; default method and path
	query       string
	contentType string
	body        []byte
	sensitive   bool
	room        string // id of the room that the answer must be about
	// authorization is the value of the header; "" for none.
	authorization string
	requestID     string
	effect        bool
	parse         func(body []byte) bool // default validJSON
}

func (r wireRequest) operation() string {
	if r.op != "" {
		return r.op
	}
	return r.method + " " + r.path
}

// reply is an answer of Meet. json is true if it is declared as JSON and valid, and only
// then body is set; for HEAD the declaration is enough.
type reply struct {
	status     int
	location   string
	allow      string
	retryAfter string
	body       []byte
	json       bool
}

// doWithTimeout is do with a timeout.
func (c *Client) doWithTimeout(ctx context.Context, r wireRequest, timeout time.Duration) (reply, *Error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return c.do(ctx, r)
}

// doRooms is do with the timeout for rooms.
func (c *Client) doRooms(ctx context.Context, r wireRequest) (reply, *Error) {
	b := c.timeoutPool.begin(ctx)
	a, e := c.do(b, r)
	if cause := c.timeoutPool.end(b, e == nil); cause != nil && e != nil {
		status := e.Status
		e = failed(r.operation(), r.effect, cause)
		e.Status = status
	}
	return a, e
}

// do sends a request and reads the answer. It returns an error if there is no answer.
func (c *Client) do(ctx context.Context, r wireRequest) (a reply, e *Error) {
	// A proxy handler panics with http.ErrAbortHandler if an answer breaks off. net/http
	// recovers in its own goroutines; in others the panic would end the process.
	defer func() {
		if p := recover(); p != nil {
			a, e = reply{}, &Error{Kind: ErrBadAnswer, Op: r.operation(), Effect: r.effect, Err: fmt.Errorf("transport panicked: %v", p)}
		}
	}()
	res, err := c.options.Transport.RoundTrip(c.httpRequest(c.options.Context(ctx), r))
	if err != nil {
		return a, failed(r.operation(), r.effect, err)
	}
	defer res.Body.Close()

	a = reply{
		status:     res.StatusCode,
		location:   single(res.Header, "Location"),
		allow:      single(res.Header, "Allow"),
		retryAfter: single(res.Header, "Retry-After"),
	}
	if !isJSON(res.Header.Get("Content-Type")) {
		return a, nil
	}
	if r.method == http.MethodHead {
		a.json = true
		return a, nil
	}
	bad := func(hint string, err error) *Error {
		return &Error{Kind: ErrBadAnswer, Op: r.operation(), Status: res.StatusCode, Hint: hint, Effect: r.effect, Err: err}
	}
	if e := res.Header.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		return a, bad(hintEncoded, nil)
	}
	if res.ContentLength > c.options.MaxBody {
		return a, bad(hintTooLarge, nil)
	}
	a.body, err = readBody(res, c.options.MaxBody)
	switch {
	case errors.Is(err, errTooLarge):
		return a, bad(hintTooLarge, nil)
	case err != nil:
		if e := failed(r.operation(), r.effect, err); !errors.Is(e.Kind, ErrUnavailable) {
			e.Status = res.StatusCode
			return a, e
		}
		return a, bad("", err)
	}
	if r.parse == nil {
		r.parse = validJSON
	}
	a.json = r.parse(a.body)
	return a, nil
}

var errTooLarge = errors.New("answer too large")

// readBody reads at most limit bytes. The caller has checked a declared length.
func readBody(res *http.Response, limit int64) ([]byte, error) {
	if res.ContentLength >= 0 {
		b := make([]byte, res.ContentLength)
		_, err := io.ReadFull(res.Body, b)
		return b, err //nolint:wrapcheck // do adds the operation
	}
	b, err := io.ReadAll(io.LimitReader(res.Body, limit+1))
	if err == nil && int64(len(b)) > limit {
		return nil, errTooLarge
	}
	return b, err //nolint:wrapcheck // do adds the operation
}

// httpRequest sets every header itself; no other header reaches Meet.
func (c *Client) httpRequest(ctx context.Context, r wireRequest) *http.Request {
	req := new(http.Request).WithContext(ctx) // the only way to set the context
	req.Method = r.method
	req.URL = &url.URL{Scheme: "https", Host: c.options.Host, Path: r.path, RawQuery: r.query}
	req.Host = c.options.Host
	req.Proto, req.ProtoMajor, req.ProtoMinor = "HTTP/1.1", 1, 1
	req.Body = http.NoBody
	h := newHeaders()
	h.set("Accept", contentTypeJSON)
	// Prevents http.Transport from asking for gzip, which would cost more than it saves.
	h.set("Accept-Encoding", "identity")
	h.set("User-Agent", userAgent)
	// Without it Meet in production answers everything with a redirect.
	h.set("X-Forwarded-Proto", "https")
	if r.requestID != "" {
		h.set("X-Request-Id", r.requestID)
	}
	if r.authorization != "" {
		h.set("Authorization", r.authorization)
	}
	req.Header = h.header
	if len(r.body) > 0 {
		// With a length and not chunked: Meet ignores a body without Content-Length.
		h.set("Content-Type", r.contentType)
		body := r.body // the closure must not keep all of r
		req.ContentLength = int64(len(body))
		req.Body = io.NopCloser(bytes.NewReader(body))
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	}
	return req
}

// headers builds a header map with one allocation for all values. Each value is a slice of
// capacity one, so that a handler that appends to it changes no other.
type headers struct {
	header http.Header
	values []string
}

func newHeaders() headers {
	const ours, added = 8, 3 // the handler adds X-Forwarded-For, X-Forwarded-Host and Via
	return headers{header: make(http.Header, ours+added), values: make([]string, 0, ours)}
}

// set takes a canonical name.
func (h *headers) set(name, value string) {
	h.values = append(h.values, value)
	n := len(h.values)
	h.header[name] = h.values[n-1 : n : n]
}

// isJSON reports whether a Content-Type is JSON, with any parameters.
func isJSON(contentType string) bool {
	if contentType == contentTypeJSON {
		return true
	}
	t, _, err := mime.ParseMediaType(contentType)
	return err == nil && (t == contentTypeJSON || strings.HasSuffix(t, "+json"))
}

// canonical reports whether an absolute path ends in a slash and has only plain segments:
// none empty, "." or "..", and no character that would be escaped. All servers read such
// a path in the same way.
func canonical(path string) bool {
	if !strings.HasPrefix(path, "/") || !strings.HasSuffix(path, "/") || path == "/" {
		return false
	}
	for segment := range strings.SplitSeq(path[1:len(path)-1], "/") {
		if segment == "" || segment == "." || segment == ".." {
			return false
		}
		for i := range len(segment) {
			switch c := segment[i]; {
			case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
			case strings.IndexByte("-._~", c) >= 0:
			default:
				return false
			}
		}
	}
	return true
}
