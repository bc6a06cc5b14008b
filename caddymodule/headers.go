// SPDX-License-Identifier: MIT

package caddymodule

import (
	"net/http"
	"strconv"
)

// Constant header values. They are shared, so their capacity leaves no room for append.
var (
	headerNoStore  = []string{"no-store"}
	headerNoCache  = []string{"no-cache"}
	headerVary     = []string{"Authorization"}
	headerNoSniff  = []string{"nosniff"}
	headerTypeJSON = []string{"application/json"}
)

// headerValues stores the values of a call's own headers, without an allocation each.
type headerValues [3]string

// set sets a header to value, which is stored at index i.
func (v *headerValues) set(h http.Header, name string, i int, value string) {
	v[i] = value
	h[name] = v[i : i+1 : i+1]
}

// setAnswerHeaders sets the headers of all answers. Endpoints copy single headers of
// Meet's answers; none is passed on by default.
func (c *call) setAnswerHeaders() {
	h := c.w.Header()
	delete(h, "Server")
	c.values.set(h, "X-Request-Id", 0, c.requestID)
	h["Cache-Control"] = headerNoStore
	h["Vary"] = headerVary
	h["X-Content-Type-Options"] = headerNoSniff
	if hasUnreadBody(c.r) {
		h["Connection"] = headerClose
	}
}

// writeJSON writes the answer. It ignores clients that have disconnected.
func writeJSON(w http.ResponseWriter, status int, body []byte) error {
	if status == http.StatusNoContent {
		w.WriteHeader(status)
		return nil
	}
	return writeBody(w, status, headerTypeJSON, body)
}

// longBody is the length from which net/http sends a body in chunks, unless its
// Content-Length is set. It sets that of shorter bodies itself.
const longBody = 2048

// writeBody writes an answer of any media type.
func writeBody(w http.ResponseWriter, status int, mediaType []string, body []byte) error {
	w.Header()["Content-Type"] = mediaType
	if len(body) >= longBody {
		w.Header()["Content-Length"] = []string{strconv.Itoa(len(body))}
	}
	w.WriteHeader(status)
	_, _ = w.Write(body)
	return nil
}
