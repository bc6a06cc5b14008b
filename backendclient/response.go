// SPDX-License-Identifier: MIT

package backendclient

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"unicode/utf8"
)

// Response is Meet's answer to a request that it understood, of any status: a room, a list,
// 400 for a field, 403, 404, 405. The body is JSON; it is empty with status 204 and for HEAD.
type Response struct {
	Status int

	// Location is the web page of a new room, Allow the methods of the path after a 405.
	Location, Allow string

	Body []byte

	// Rooms are those of a list, as Meet wrote them.
	Rooms []Room
}

// single returns the value of a header, "" if it is repeated.
func single(h http.Header, name string) string {
	if v := h[name]; len(v) == 1 {
		return v[0]
	}
	return ""
}

// answer converts a reply to a Response.
func (a *reply) answer() *Response {
	return &Response{Status: a.status, Location: a.location, Allow: a.allow, Body: a.body}
}

const maxDetail = 256

// detail returns Meet's text in an error body: the string "detail" or "error", else the
// whole body.
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

// cut truncates a text without splitting a character.
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

// printable truncates a text, and returns "" if it repeats a secret or the mail address.
func printable(text string, caller Caller) string {
	for _, s := range [...]string{caller.Credentials.ClientSecret, caller.Mail} {
		if s != "" && strings.Contains(text, s) {
			return ""
		}
	}
	return cut(text)
}

// has reports whether the body is an object with this key.
func has(body []byte, key string) bool { return member(body, key) != nil }
