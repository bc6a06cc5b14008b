// SPDX-License-Identifier: MIT

package caddymodule

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/meet-gateway/meet-gateway/caddymodule/parse"
)

// grantClientCredentials is the published grant (RFC 6749 §4.4).
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

var errTwoCredentials = errors.New("client credentials were sent in more than one way")

// fieldRequired is Meet's text for a field that is not there.
const fieldRequired = "This field is required."

// parseTokenRequest reads a token request (RFC 6749 §4.4.2 and 6).
// Errors are those of parseClientFields.
func parseTokenRequest(h http.Header, body []byte) (tokenRequest, error) {
	f, err := parseClientFields(h, body, "grant_type", "scope", "refresh_token")
	if err != nil {
		return tokenRequest{}, err
	}
	req := tokenRequest{basic: f.basic.Scheme == parse.SchemeBasic}
	f.takeCredentials(&req.clientID, &req.clientSecret)
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

// notAChoice is Meet's text for a word that is not on its list.
func notAChoice(word string) string { return fmt.Sprintf("%q is not a valid choice.", cutText(word)) }
