// SPDX-License-Identifier: MIT

package caddymodule

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"
)

// grantClientCredentials is the published grant (RFC 6749 section 4.4).
const grantClientCredentials = "client_credentials"

// tokenRequest is a request to the token endpoint, fields trimmed. It prints
// without credentials and mail.
type tokenRequest struct {
	clientID, clientSecret, grantType, scope, refreshToken string
	// basic is true if the client authenticated by HTTP Basic.
	basic bool
}

// String shows nothing that was sent.
func (tokenRequest) String() string { return "token request" }

// GoString is String.
func (r tokenRequest) GoString() string { return r.String() }

// fieldErrors are the texts for each field that is wrong, in Meet's words.
type fieldErrors map[string][]string //nolint:errname // several at once

func (fieldErrors) Error() string { return "invalid fields" }

// sentence says in one text what is wrong with which field.
func (e fieldErrors) sentence() string {
	var said []string
	for _, name := range slices.Sorted(maps.Keys(e)) {
		text := strings.Join(e[name], " ")
		if name != "non_field_errors" {
			text = name + ": " + text
		}
		said = append(said, text)
	}
	return strings.Join(said, " ")
}

func (e fieldErrors) add(field, text string) { e[field] = append(e[field], text) }

// requestError is a request that cannot be read at all. In "error" it has a code
// (RFC 6749 §5.2): no text is published for it.
type requestError struct {
	status int
	text   string
}

func (e *requestError) Error() string { return e.text }

var errTwoCredentials = errors.New("client credentials were sent in more than one way")

// fieldRequired is Meet's text for a field that is not there.
const fieldRequired = "This field is required."

// mediaType returns the media type of a request's body without parameters, or
// empty if it has none. More than one Content-Type has no meaning.
func mediaType(h http.Header) (string, error) {
	values := h["Content-Type"]
	switch len(values) {
	case 0:
		return "", nil
	case 1:
	default:
		return "", &requestError{http.StatusBadRequest, "More than one Content-Type header."}
	}
	mt, _, err := mime.ParseMediaType(values[0])
	if err != nil && mt == "" {
		return "", unsupportedMediaType(values[0])
	}
	return mt, nil
}

func unsupportedMediaType(mt string) error {
	if len(mt) > 100 || !utf8.ValidString(mt) {
		mt = ""
	}
	return &requestError{http.StatusUnsupportedMediaType, fmt.Sprintf("Unsupported media type \"%s\" in request.", mt)}
}

// parseTokenRequest reads a token request (RFC 6749 sections 4.4.2 and 6).
// Errors are those of parseClientFields.
func parseTokenRequest(h http.Header, body []byte) (tokenRequest, error) {
	f, err := parseClientFields(h, body, "grant_type", "scope", "refresh_token")
	if err != nil {
		return tokenRequest{}, err
	}
	req := tokenRequest{basic: f.basic.scheme == schemeBasic}
	f.takeCredentials(&req.clientID, &req.clientSecret)
	f.take("grant_type", &req.grantType)
	switch req.grantType {
	case grantRefreshToken:
		f.take("refresh_token", &req.refreshToken)
		f.takeOptional("scope", &req.scope)
		return req, f.err()
	case grantClientCredentials, "":
	default:
		f.wrong.add("grant_type", notAChoice(req.grantType))
	}
	f.take("scope", &req.scope)
	return req, f.err()
}

// notAChoice is Meet's text for a word that is not on its list.
func notAChoice(word string) string { return fmt.Sprintf("%q is not a valid choice.", cutText(word)) }

// notAString stands for a JSON value that cannot be read as text.
var notAString string

// parseJSONFields reads the fields of a flat JSON object. Numbers count as their
// text, as at Meet.
func parseJSONFields(body []byte) (map[string]*string, error) {
	object, err := parseJSONObject(body)
	if err != nil || object == nil {
		return nil, err
	}
	fields := make(map[string]*string, len(object))
	for name, raw := range object {
		fields[name] = textOf(raw)
	}
	return fields, nil
}

// textOf reads a JSON value as text: nil for null, notAString for what is
// neither a string nor a number.
func textOf(raw json.RawMessage) *string {
	var text string
	switch c := raw[0]; {
	case c == '"':
		if json.Unmarshal(raw, &text) != nil {
			return &notAString
		}
	case c == '-' || '0' <= c && c <= '9':
		text = string(raw)
	case c == 'n':
		return nil
	default:
		return &notAString
	}
	return &text
}

// parseFormFields reads the known parameters of an application/x-www-form-urlencoded
// body (RFC 6749 §3.2): an empty parameter counts as left out, an unknown one is
// ignored however often it is sent, and a known one must not be sent twice.
func parseFormFields(body string, known []string) (map[string]*string, error) {
	fields := make(map[string]*string, len(known))
	for body != "" {
		var pair string
		pair, body, _ = strings.Cut(body, "&")
		key, value, _ := strings.Cut(pair, "=")
		key, errKey := url.QueryUnescape(key)
		value, errValue := url.QueryUnescape(value)
		if errKey != nil || errValue != nil || !utf8.ValidString(key) || !utf8.ValidString(value) {
			return nil, &requestError{http.StatusBadRequest, "Malformed form."}
		}
		if value == "" || !slices.Contains(known, key) {
			continue
		}
		if _, duplicate := fields[key]; duplicate {
			return nil, &requestError{http.StatusBadRequest, "Duplicate form parameter."}
		}
		fields[key] = &value
	}
	return fields, nil
}
