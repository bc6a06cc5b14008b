// SPDX-License-Identifier: MIT

package caddymodule

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/meet-gateway/meet-gateway/tokens"
)

// introspection is the answer of RFC 7662 §2.2. It identifies users by their public id,
// never by mail address.
type introspection struct {
	Active    bool   `json:"active"`
	Scope     string `json:"scope,omitempty"`
	ClientID  string `json:"client_id,omitempty"`
	TokenType string `json:"token_type,omitempty"`
	Expires   int64  `json:"exp,omitempty"`
	Issued    int64  `json:"iat,omitempty"`
	Subject   string `json:"sub,omitempty"`
	Audience  string `json:"aud,omitempty"`
	Issuer    string `json:"iss,omitempty"`
	TokenID   string `json:"jti,omitempty"`
}

// serveIntrospect tells an application whether one of its own tokens is valid now, by
// the same checks as /identity and rooms. Any other token is not active (RFC 7662
// §2.2).
func (c *call) serveIntrospect() error {
	token, err := c.readHeldTokenRequest()
	if err != nil {
		return err
	}
	id, err := c.h.app.Authority().Inspect(c.ctx, token)
	if errors.Is(err, tokens.ErrUnavailable) {
		return err
	}
	var answer introspection
	if err == nil && id.Application.ID == c.application.ID && c.h.client.UserDisabled(id.TokenID) == nil {
		answer = c.introspection(id)
	}
	body, err := json.Marshal(answer)
	if err != nil {
		return err
	}
	c.w.Header()["Pragma"] = headerNoCache
	return writeJSON(c.w, http.StatusOK, body)
}

func (c *call) introspection(id *tokens.Identity) introspection {
	authority := c.h.app.Authority()
	i := introspection{
		Active: true, Scope: id.Scopes.String(), ClientID: id.Application.ID, Subject: id.User.ID,
		Expires: id.Expires.Unix(), Issued: id.Issued.Unix(), Issuer: authority.Issuer(), TokenID: id.TokenID,
	}
	if id.Credential == tokens.AccessToken { // refresh tokens have no token type (RFC 6749 §5.1)
		i.TokenType, i.Audience = "Bearer", authority.Audience()
	}
	return i
}
