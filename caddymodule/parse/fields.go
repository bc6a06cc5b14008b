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

	"github.com/meet-gateway/meet-gateway/caddymodule/strictjson"
)

// MediaType returns the media type of a request without parameters, or "" if it has
// none. Several Content-Type headers are an error.
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

// UnsupportedMediaType returns the error for another media type, in Meet's words.
func UnsupportedMediaType(mt string) error {
	if len(mt) > 100 || !utf8.ValidString(mt) {
		mt = ""
	}
	return &RequestError{http.StatusUnsupportedMediaType, fmt.Sprintf("Unsupported media type \"%s\" in request.", mt)}
}

// NotText marks a JSON value that is neither a string nor a number.
var NotText string

// JSONFields parses the fields of a JSON object. Numbers become strings, as at Meet;
// null becomes nil.
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

// textOf returns a JSON string or number as text, nil for null, and NotText for other
// values.
func textOf(raw json.RawMessage) *string {
	text := string(raw)
	switch c := raw[0]; {
	case c == '"':
		var err error
		if text, err = strictjson.Text(raw); err != nil {
			return &NotText
		}
	case c == '-' || '0' <= c && c <= '9':
	case c == 'n':
		return nil
	default:
		return &NotText
	}
	return &text
}

// FormFields parses the known parameters of an application/x-www-form-urlencoded body
// (RFC 6749 §3.2). It ignores empty and unknown parameters; a known one must not be
// repeated.
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
