// SPDX-License-Identifier: MIT

package parse

import (
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"
)

// MediaType returns the media type of a request's body without parameters, or
// empty if it has none. More than one Content-Type has no meaning.
func MediaType(h http.Header) (string, error) {
	values := h["Content-Type"]
	switch len(values) {
	case 0:
		return "", nil
	case 1:
	default:
		return "", &RequestError{http.StatusBadRequest, "More than one Content-Type header."}
	}
	mt, _, err := mime.ParseMediaType(values[0])
	if err != nil && mt == "" {
		return "", UnsupportedMediaType(values[0])
	}
	return mt, nil
}

// UnsupportedMediaType is the error for a body of another media type, in Meet's words.
func UnsupportedMediaType(mt string) error {
	if len(mt) > 100 || !utf8.ValidString(mt) {
		mt = ""
	}
	return &RequestError{http.StatusUnsupportedMediaType, fmt.Sprintf("Unsupported media type \"%s\" in request.", mt)}
}

// NotText stands for a JSON value that cannot be read as text.
var NotText string

// JSONFields reads the fields of a flat JSON object. Numbers count as their
// text, as at Meet.
func JSONFields(body []byte) (map[string]*string, error) {
	object, err := JSONObject(body)
	if err != nil || object == nil {
		return nil, err
	}
	fields := make(map[string]*string, len(object))
	for name, raw := range object {
		fields[name] = textOf(raw)
	}
	return fields, nil
}

// textOf reads a JSON value as text: nil for null, NotText for what is
// neither a string nor a number.
func textOf(raw json.RawMessage) *string {
	var text string
	switch c := raw[0]; {
	case c == '"':
		if json.Unmarshal(raw, &text) != nil {
			return &NotText
		}
	case c == '-' || '0' <= c && c <= '9':
		text = string(raw)
	case c == 'n':
		return nil
	default:
		return &NotText
	}
	return &text
}

// FormFields reads the known parameters of an application/x-www-form-urlencoded
// body (RFC 6749 §3.2): an empty parameter counts as left out, an unknown one is
// ignored however often it is sent, and a known one must not be sent twice.
func FormFields(body string, known []string) (map[string]*string, error) {
	fields := make(map[string]*string, len(known))
	for body != "" {
		var pair string
		pair, body, _ = strings.Cut(body, "&")
		key, value, _ := strings.Cut(pair, "=")
		key, errKey := url.QueryUnescape(key)
		value, errValue := url.QueryUnescape(value)
		if errKey != nil || errValue != nil || !utf8.ValidString(key) || !utf8.ValidString(value) {
			return nil, &RequestError{http.StatusBadRequest, "Malformed form."}
		}
		if value == "" || !slices.Contains(known, key) {
			continue
		}
		if _, duplicate := fields[key]; duplicate {
			return nil, &RequestError{http.StatusBadRequest, "Duplicate form parameter."}
		}
		fields[key] = &value
	}
	return fields, nil
}
