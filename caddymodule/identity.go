// SPDX-License-Identifier: MIT

package caddymodule

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/meet-gateway/meet-gateway/caddymodule/parse"
	"github.com/meet-gateway/meet-gateway/tokens"
)

// Error codes of the identity API. The first two are published.
const (
	codeHeaderType         = "invalid_authorization_header_type"
	codeHeaderValue        = "invalid_authorization_header_value"
	codeInvalidCredentials = "invalid_credentials"
)

// identityPayload is the published object Identity.
type identityPayload struct {
	Type string `json:"type"`
	ID   string `json:"id"`
	// ValidUntil is the remaining time in seconds, or null for a credential without an
	// end.
	ValidUntil     *int64                `json:"valid_until"`
	CredentialType tokens.CredentialType `json:"credential_type"`
	// Scopes is set only for applications.
	Scopes *tokens.Scopes `json:"scopes,omitempty"`
}

type sourcePayload struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	Type string `json:"type"`
}

// identityEnvelope wraps every answer of the identity API.
type identityEnvelope struct {
	Status  string         `json:"status"`
	Payload any            `json:"payload"`
	Code    any            `json:"code"`
	Error   *identityError `json:"error,omitempty"`
}

type identityError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// serveIdentity describes a credential and its remaining lifetime from current state,
// without a request to Meet.
func (c identityCall) serveIdentity() error {
	expires, err := c.inspect()
	if err != nil {
		return err
	}
	payload := identityPayload{CredentialType: c.identity.Credential, ValidUntil: remaining(expires)}
	if u := c.identity.User; u != nil {
		payload.Type, payload.ID = "user", u.ID
	} else {
		scopes := c.identity.Scopes
		if scopes == nil {
			scopes = tokens.Scopes{}
		}
		payload.Type, payload.ID, payload.Scopes = "application", c.application.ID, &scopes
	}
	return c.writeEnvelope(http.StatusOK, identityEnvelope{Status: "success", Payload: payload, Code: http.StatusOK})
}

// serveSource describes the application of a credential.
func (c identityCall) serveSource() error {
	if _, err := c.inspect(); err != nil {
		return err
	}
	app := c.application
	return c.writeEnvelope(http.StatusOK, identityEnvelope{
		Status: "success", Payload: sourcePayload{ID: app.ID, Name: app.Name, Type: app.Type}, Code: http.StatusOK,
	})
}

// remaining returns the whole seconds until expires, at least 1.
func remaining(expires time.Time) *int64 {
	if expires.IsZero() {
		return nil
	}
	seconds := max(int64(time.Until(expires)/time.Second), 1)
	return &seconds
}

// inspect verifies the credential in the Authorization header, which on these endpoints
// may be a refresh token.
func (c identityCall) inspect() (expires time.Time, err error) {
	auth, err := parse.Authorization(c.r.Header)
	if err != nil {
		return time.Time{}, identityRefusal(codeHeaderValue, "The Authorization header is malformed.")
	}
	c.detach()
	switch auth.Scheme {
	case parse.SchemeBearer:
		id, err := c.inspectBearer(auth.Token)
		if errors.Is(err, tokens.ErrTokenMalformed) {
			return time.Time{}, identityRefusal(codeHeaderValue, "The Bearer token is malformed.")
		}
		if err != nil {
			return time.Time{}, err
		}
		c.application, c.identity = id.Application, id
		if err := c.h.client.UserDisabled(id.TokenID); err != nil {
			return time.Time{}, err
		}
		return id.Expires, c.checkSource()
	case parse.SchemeBasic:
		secret, err := c.login(auth.ID, auth.Secret, c.h.app.Authority().CheckSecretNow)
		if err != nil {
			return time.Time{}, err
		}
		if err := c.checkSource(); err != nil {
			return time.Time{}, err
		}
		c.identity = &tokens.Identity{Credential: tokens.Basic, Application: c.application, Scopes: c.application.Scopes, Expires: secret.Expires}
		return secret.Expires, nil
	default:
		return time.Time{}, identityRefusal(codeHeaderType, "The Authorization header must be of type Bearer or Basic.")
	}
}

// inspectBearer verifies a token. Refresh tokens cost a read in Redis, so invalid ones
// count as failed authentications of their network.
func (c identityCall) inspectBearer(token string) (*tokens.Identity, error) {
	if !strings.HasPrefix(token, tokens.RefreshPrefix) {
		return c.h.app.Authority().Inspect(c.ctx, token)
	}
	source, err := sourceOf(c.r)
	if err != nil {
		return nil, err
	}
	attempt, d := c.h.app.authority.limiter.Attempt(c.ctx, "refresh token", source, nil)
	if !d.Allowed {
		return nil, c.applyDecision(d)
	}
	defer attempt.End()
	id, err := c.h.app.Authority().Inspect(c.ctx, token)
	if errors.Is(err, tokens.ErrTokenInvalid) {
		attempt.Fail()
	}
	return id, err
}

// identityRefusal returns one of the two published 400s.
func identityRefusal(code, text string) error {
	return &refusal{status: http.StatusBadRequest, code: code, detail: text, reason: code}
}

// writeIdentityError wraps a refusal in the envelope. All invalid credentials have the
// same code (RFC 7662 §2.2).
func (c *call) writeIdentityError(r *refusal) error {
	status, code, message := r.status, r.code, r.detail
	switch {
	case status == http.StatusUnauthorized:
		status, code, message = c.h.IdentityInvalidStatus, codeInvalidCredentials, "The credential is not valid."
		if status != http.StatusUnauthorized {
			c.w.Header().Del("Www-Authenticate")
		}
	case code == "" && status == http.StatusMethodNotAllowed:
		code = "method_not_allowed"
	case code == "":
		code = r.reason
	}
	envelope := identityEnvelope{Status: "error", Code: status, Error: &identityError{Code: code, Message: message}}
	if c.h.IdentityErrorStyle == styleString {
		envelope.Code = code
	}
	return c.writeEnvelope(status, envelope)
}

func (c *call) writeEnvelope(status int, envelope identityEnvelope) error {
	body, err := json.Marshal(envelope)
	if err != nil {
		return err
	}
	c.w.Header()["Pragma"] = headerNoCache
	return writeJSON(c.w, status, body)
}
