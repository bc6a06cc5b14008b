// SPDX-License-Identifier: MIT

package caddymodule

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/meet-gateway/meet-gateway/caddymodule/parse"
)

// clientRequest is a request that an application authenticates with its own
// credentials. Its fields are trimmed. It prints none of them.
type clientRequest struct {
	clientID, clientSecret string
	// Of the token endpoint (RFC 6749 §4.4.2 and §6).
	grantType, scope, refreshToken string
	// token is the token to revoke (RFC 7009 §2.1) or to introspect (RFC 7662 §2.1).
	token string
}

func (clientRequest) String() string { return "client request" }

// GoString implements fmt.GoStringer.
func (r clientRequest) GoString() string { return r.String() }

var errTwoCredentials = errors.New("client credentials were sent in more than one way")

// fieldRequired is Meet's text for a missing field.
const fieldRequired = "This field is required."

// grantClientCredentials is the published grant (RFC 6749 §4.4).
const grantClientCredentials = "client_credentials"

// parseTokenRequest parses a token request (RFC 6749 §4.4.2 and §6). Errors are those
// of parseClientFields.
func parseTokenRequest(h http.Header, body []byte) (clientRequest, error) {
	f, err := parseClientFields(h, body, "grant_type", "scope", "refresh_token")
	if err != nil {
		return clientRequest{}, err
	}
	req := f.takeCredentials()
	f.take("grant_type", &req.grantType)
	switch req.grantType {
	case grantRefreshToken:
		f.take("refresh_token", &req.refreshToken)
		f.takeOptional("scope", &req.scope)
		return req, f.err()
	case grantClientCredentials, "":
	default:
		f.wrong.Add("grant_type", notAChoice(req.grantType))
	}
	f.take("scope", &req.scope)
	return req, f.err()
}

// parseHeldTokenRequest parses a request to revoke or introspect a token. It ignores
// token_type_hint, since the types of our tokens look different. Errors are those of
// parseClientFields.
func parseHeldTokenRequest(h http.Header, body []byte) (clientRequest, error) {
	f, err := parseClientFields(h, body, "token", "token_type_hint")
	if err != nil {
		return clientRequest{}, err
	}
	req := f.takeCredentials()
	f.take("token", &req.token)
	return req, f.err()
}

// clientFields are the fields of a client request. It collects all invalid fields, so
// that one answer names them all.
type clientFields struct {
	values map[string]*string // a nil value is JSON's null
	// basic is set if the application authenticated with HTTP Basic.
	basic parse.Credential
	wrong parse.FieldErrors
}

// parseClientFields parses the body, JSON or form, and the HTTP Basic credential (RFC
// 6749 §2.3.1) of a client request. known names the endpoint's form parameters beside
// the credentials. Errors are parse.FieldErrors, *parse.RequestError and
// errTwoCredentials.
func parseClientFields(h http.Header, body []byte, known ...string) (*clientFields, error) {
	f := &clientFields{wrong: parse.FieldErrors{}}
	mt, err := clientMediaType(h, len(body) > 0)
	if err != nil {
		return nil, err
	}
	switch mt {
	case mediaTypeJSON:
		f.values, err = parse.JSONFields(body)
	case mediaTypeForm:
		f.values, err = parse.FormFields(string(body), append(known, "client_id", "client_secret"))
	}
	if err != nil {
		return nil, err
	}
	auth, err := basicOfClient(h)
	if err != nil {
		return nil, err
	}
	if auth.Scheme != parse.SchemeBasic {
		return f, nil
	}
	// JSON keeps empty values, for Meet's error messages. Beside Basic an empty value
	// counts as missing, as in a form.
	if secret, sent := f.values["client_secret"]; sent && !isEmptyString(secret) {
		return nil, errTwoCredentials
	}
	if other := f.values["client_id"]; other != nil && !isEmptyString(other) && *other != auth.ID {
		return nil, errTwoCredentials
	}
	f.basic = auth
	return f, nil
}

const (
	mediaTypeJSON = "application/json"
	mediaTypeForm = "application/x-www-form-urlencoded"
)

// clientMediaType returns the media type of a client request, or "" if it has no body.
// Errors are *parse.RequestError.
func clientMediaType(h http.Header, hasContent bool) (string, error) {
	mt, err := parse.MediaType(h)
	if err != nil {
		return "", err
	}
	if mt == mediaTypeJSON || mt == mediaTypeForm || mt == "" && !hasContent {
		return mt, nil
	}
	return "", parse.UnsupportedMediaType(h.Get("Content-Type"))
}

// basicOfClient returns the HTTP Basic credential of a client request. Other schemes
// are ignored, as at Meet: some clients send their last Bearer token with every
// request. Errors are *parse.RequestError.
func basicOfClient(h http.Header) (parse.Credential, error) {
	auth, err := parse.Authorization(h)
	if err != nil && (auth.Scheme == parse.SchemeBasic || errors.Is(err, parse.ErrAuthorizationRepeated)) {
		return parse.Credential{}, &parse.RequestError{Status: http.StatusBadRequest, Text: "Malformed Authorization header."}
	}
	auth.ID, auth.Secret = parse.FormDecoded(auth.ID), parse.FormDecoded(auth.Secret)
	return auth, nil
}

// isEmptyString reports whether a field was sent as an empty string.
func isEmptyString(value *string) bool {
	return value != nil && value != &parse.NotText && *value == ""
}

// takeCredentials returns a request with the credentials set.
func (f *clientFields) takeCredentials() (r clientRequest) {
	if f.basic.Scheme == parse.SchemeBasic {
		return clientRequest{clientID: f.basic.ID, clientSecret: f.basic.Secret}
	}
	f.take("client_id", &r.clientID)
	f.take("client_secret", &r.clientSecret)
	return r
}

// take sets dst to a required field, or adds an error in Meet's words.
func (f *clientFields) take(name string, dst *string) {
	value, sent := f.values[name]
	switch {
	case !sent:
		f.wrong.Add(name, fieldRequired)
	case value == nil:
		f.wrong.Add(name, "This field may not be null.")
	case value == &parse.NotText:
		f.wrong.Add(name, "Not a valid string.")
	case strings.Contains(*value, "\x00"):
		f.wrong.Add(name, "Null characters are not allowed.")
	case strings.TrimSpace(*value) == "":
		f.wrong.Add(name, "This field may not be blank.")
	default:
		*dst = strings.TrimSpace(*value)
	}
}

// takeOptional sets dst to an optional field. A parameter without a value counts as
// missing (RFC 6749 §3.2).
func (f *clientFields) takeOptional(name string, dst *string) {
	if value := f.values[name]; value != nil && (*value != "" || value == &parse.NotText) {
		f.take(name, dst)
	}
}

// err returns the errors found so far, or nil.
func (f *clientFields) err() error {
	if len(f.wrong) == 0 {
		return nil
	}
	return f.wrong
}

// notAChoice is Meet's text for a value that is not one of the choices.
func notAChoice(word string) string { return fmt.Sprintf("%q is not a valid choice.", cutText(word)) }
