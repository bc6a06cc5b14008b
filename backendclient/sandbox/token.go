// SPDX-License-Identifier: MIT

package sandbox

import (
	"crypto/subtle"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// tokenResponse is the answer of the token endpoint.
type tokenResponse struct {
	AccessToken string `json:"access_token"`
	TokenType   string `json:"token_type"`
	ExpiresIn   int    `json:"expires_in"`
	Scope       string `json:"scope,omitempty"`
}

// tokenClaims are the claims of Meet's tokens, in Meet's order.
type tokenClaims struct {
	ClientID  string `json:"client_id"`
	Delegated bool   `json:"delegated"`
	IssuedAt  int64  `json:"iat"`
	ExpiresAt int64  `json:"exp"`
	UserID    string `json:"user_id"`
	Issuer    string `json:"iss,omitempty"`
	Audience  string `json:"aud,omitempty"`
	Scope     string `json:"scope,omitempty"`
}

// tokenOptions is what OPTIONS says of the endpoint.
var tokenOptions = map[string]any{
	"name":        "Generate jwt access token",
	"description": "Generate a JWT access token for a user from the credentials of an application.",
	"renders":     []string{mediaJSON},
	"parses":      []string{mediaForm, mediaJSON},
}

// tokenView is POST application/token/.
func (m *Meet) tokenView(c *call) *answer {
	return m.token(c).allow("POST, OPTIONS")
}

func (m *Meet) token(c *call) *answer {
	if a := c.negotiate(); a != nil {
		return a
	}
	switch c.r.Method {
	case http.MethodOptions:
		return c.json(http.StatusOK, tokenOptions)
	case http.MethodPost:
		return m.exchange(c)
	}
	return c.methodNotAllowed()
}

// exchange checks in Meet's order: fields, application, secret, activity, mail, domain, user.
// The secret costs a real Meet a second.
func (m *Meet) exchange(c *call) *answer {
	if !m.settings.ApplicationEnabled {
		return c.detail(http.StatusNotFound, c.text(textNotFound))
	}
	data, a := c.data(mediaForm, mediaJSON)
	if a != nil {
		return a
	}
	fields, a := c.tokenFields(data)
	if a != nil {
		return a
	}
	application, ok := m.application(fields["client_id"])
	if !ok {
		return c.unauthenticated("Invalid credentials")
	}
	if !m.checkSecret(c, application, fields["client_secret"]) {
		return c.unauthenticated("Invalid credentials")
	}
	if !application.Active {
		return c.unauthenticated("Application is inactive")
	}
	mail := fields["scope"]
	if !validMail(mail) {
		return c.json(http.StatusBadRequest, map[string]any{"error": "Scope should be a valid email address."})
	}
	if !application.mayActFor(mail) {
		return c.json(http.StatusForbidden, map[string]any{"error": "This application is not authorized for this email domain."})
	}
	user, a := m.findOrProvision(c, mail)
	if a != nil {
		return a
	}
	return m.issue(c, application, user)
}

// tokenFields validates the four fields and returns all faults.
func (c *call) tokenFields(data any) (map[string]string, *answer) {
	body, a := c.dictionary(data)
	if a != nil {
		return nil, a
	}
	fields, faults := map[string]string{}, map[string]any{}
	for _, name := range []string{"client_id", "client_secret", "grant_type", "scope"} {
		text, fault := c.tokenField(name, body)
		if fault != "" {
			faults[name] = []any{fault}
		}
		fields[name] = text
	}
	if len(faults) > 0 {
		return nil, c.json(http.StatusBadRequest, faults)
	}
	return fields, nil
}

func (c *call) tokenField(name string, body *object) (text, fault string) {
	value, ok := body.Values[name]
	switch {
	case !ok:
		return "", c.text(textRequired)
	case value == nil:
		return "", c.text(textNull)
	case name == "grant_type":
		if value != "client_credentials" {
			return "", c.text(textChoice, pythonText(value))
		}
		return "client_credentials", ""
	}
	switch typeName(value) {
	case "str", "int", "float":
	default:
		return "", c.text(textString)
	}
	text = pythonStrip(pythonText(value))
	if text == "" {
		return "", c.text(textBlank)
	}
	if strings.ContainsRune(text, 0) {
		return "", "Null characters are not allowed."
	}
	if r, ok := surrogate(text); ok {
		return "", "Surrogate characters are not allowed: " + fmt.Sprintf("U+%X", r) + "."
	}
	return text, ""
}

func (c *call) unauthenticated(text string) *answer {
	return c.detail(http.StatusUnauthorized, text).with("WWW-Authenticate", "Session")
}

// application looks a client up.
func (m *Meet) application(clientID string) (Application, bool) {
	m.db.mu.RLock()
	defer m.db.mu.RUnlock()
	a, ok := m.db.applications[clientID]
	if !ok && m.settings.AnyApplication {
		return Application{ClientID: clientID, Name: clientID, Scopes: allScopes, Active: true}, true
	}
	return a, ok
}

// checkSecret compares the secret after ExchangeDelay, or refuses it if the client goes away.
func (m *Meet) checkSecret(c *call, a Application, secret string) bool {
	m.exchanges.Add(1)
	if m.settings.ExchangeDelay > 0 {
		t := time.NewTimer(m.settings.ExchangeDelay)
		defer t.Stop()
		select {
		case <-t.C:
		case <-c.r.Context().Done():
			return false
		}
	}
	if a.Secret == "" { // only an application of AnyApplication has none
		return m.settings.AnyApplication
	}
	return subtle.ConstantTimeCompare([]byte(a.Secret), []byte(secret)) == 1
}

// mayActFor compares the mail's domain without regard to case.
func (a *Application) mayActFor(mail string) bool {
	return len(a.Domains) == 0 || slices.ContainsFunc(a.Domains, func(d string) bool {
		return strings.EqualFold(d, mailDomain(mail))
	})
}

// findOrProvision returns the only user with the mail, active or not, or creates a provisional
// one if allowed.
func (m *Meet) findOrProvision(c *call, mail string) (User, *answer) {
	m.db.mu.Lock()
	defer m.db.mu.Unlock()
	users := m.db.usersByMail(mail)
	switch {
	case len(users) == 1:
		return users[0], nil
	case len(users) > 1:
		return User{}, c.page(badRequestPage)
	case !m.settings.provisions():
		return User{}, c.detail(http.StatusNotFound, "User not found.")
	case utf8.RuneCountInString(mail) > maxStoredMail:
		return User{}, c.json(http.StatusConflict, map[string]any{"error": "Failed to create or retrieve provisional user."})
	}
	return m.db.addUser(User{Email: mail, Active: true}), nil
}

func (m *Meet) issue(c *call, a Application, u User) *answer {
	s := &m.settings
	claims := tokenClaims{
		ClientID:  a.ClientID,
		Delegated: true,
		IssuedAt:  c.now.Unix(),
		ExpiresAt: c.now.Add(s.JWTExpiration).Unix(),
		UserID:    u.ID,
		Issuer:    s.JWTIssuer,
		Scope:     strings.Join(a.Scopes, " "),
	}
	if s.JWTAudience != nil {
		claims.Audience = *s.JWTAudience
	}
	token, err := signToken(s.JWTAlgorithm, s.JWTSecretKey, claims)
	if err != nil {
		return c.page(serverErrorPage)
	}
	return c.json(http.StatusOK, tokenResponse{
		AccessToken: token,
		TokenType:   s.TokenType,
		ExpiresIn:   int(s.JWTExpiration / time.Second),
		Scope:       claims.Scope,
	})
}
