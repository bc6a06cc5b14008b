// SPDX-License-Identifier: MIT

package caddymodule

import "net/http"

// Header values that never change. They are shared, so each has no room to be
// appended to in place.
var (
	headerNoStore  = []string{"no-store"}
	headerNoCache  = []string{"no-cache"}
	headerVary     = []string{"Authorization"}
	headerNoSniff  = []string{"nosniff"}
	headerTypeJSON = []string{"application/json"}
)

// headerValues holds what an answer's own headers say, in one piece with the call.
type headerValues [3]string

// set makes the i-th of them the only value of a header.
func (v *headerValues) set(h http.Header, name string, i int, value string) {
	v[i] = value
	h[name] = v[i : i+1 : i+1]
}

// setAnswerHeaders writes what every answer carries. The header map of an answer
// starts from what this server has set, never from what Meet said: of Meet's
// headers an endpoint takes over the few that it names.
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

// writeJSON ends an answer. Every body that leaves the gateway goes through here.
// A client that has gone away is no error.
func writeJSON(w http.ResponseWriter, status int, body []byte) error {
	if status == http.StatusNoContent {
		w.WriteHeader(status)
		return nil
	}
	w.Header()["Content-Type"] = headerTypeJSON
	w.WriteHeader(status)
	_, _ = w.Write(body)
	return nil
}
