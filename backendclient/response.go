// SPDX-License-Identifier: MIT

package backendclient

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"unicode/utf8"
)

// Response is what Meet says to a request that it understood, good or bad: a room,
// a list, 400 for a field, 403 for another user's room, 404, 405. Its body is
// JSON, or empty with status 204 and for HEAD.
type Response struct {
	Status int

	// Location is the web page of a new room, Allow the methods of a path that has
	// others. What else Meet's headers say means nothing to a caller.
	Location, Allow string

	Body []byte
}

// single is the value of a header. One that came twice means nothing.
func single(h http.Header, name string) string {
	if v := h[name]; len(v) == 1 {
		return v[0]
	}
	return ""
}

// answer makes an Response of a reply.
func (a *reply) answer() *Response {
	return &Response{Status: a.status, Location: a.location, Allow: a.allow, Body: a.body}
}

const maxDetail = 256

// detail is Meet's text in an error body: "detail" or "error" if one of them is
// a string, else the whole body.
func detail(body []byte) string {
	for _, name := range [...]string{"detail", "error"} {
		var text string
		if value := member(body, name); value != nil && json.Unmarshal(value, &text) == nil && text != "" {
			return text
		}
	}
	var b bytes.Buffer
	if json.Compact(&b, body) != nil {
		return ""
	}
	return b.String()
}

// cut bounds a text without splitting a character.
func cut(s string) string {
	if len(s) <= maxDetail {
		return s
	}
	n := maxDetail
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// printable bounds a text, and gives it up if it repeats what must not be in
// logs. Meet's own texts never do.
func printable(text string, caller Caller) string {
	for _, s := range [...]string{caller.Credentials.ClientSecret, caller.Mail} {
		if s != "" && strings.Contains(text, s) {
			return ""
		}
	}
	return cut(text)
}

// has says whether the body is an object with this key.
func has(body []byte, key string) bool { return member(body, key) != nil }
