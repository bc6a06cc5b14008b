// SPDX-License-Identifier: MIT

package sandbox

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"
)

// identity is the user and the scopes of a request to the rooms.
type identity struct {
	userID string
	scope  any // the claim as received
}

// authenticate asks Meet's authenticators in their order: tokens of
// applications, then the resource server. (The one for add-ons, between them, is off by
// default and not recorded.)
func (m *Meet) authenticate(c *call) (*identity, *answer) {
	if m.settings.ApplicationEnabled {
		who, a := m.authenticateApplication(c)
		if who != nil || a != nil {
			return who, a
		}
	}
	who, a := m.authenticateResourceServer(c)
	if who != nil || a != nil {
		return who, a
	}
	return nil, c.refuse(c.text(textNoCredentials))
}

// refuse is the 401 of the rooms.
func (c *call) refuse(text string) *answer {
	c.session = false // the framework has decided that it is anonymous
	return c.detail(http.StatusUnauthorized, text).with("WWW-Authenticate", "Bearer")
}

// bearerWords splits the Authorization header, all lines of it joined by
// commas, and tells whether its scheme is Bearer.
func (c *call) bearerWords() ([]string, bool) {
	words := strings.Fields(strings.Join(c.r.Header.Values("Authorization"), ","))
	return words, len(words) > 0 && strings.EqualFold(words[0], "bearer")
}

// authenticateApplication accepts tokens of the token endpoint. It leaves requests without a
// Bearer token, and tokens that Meet has not signed or cannot parse, to the next authenticator.
func (m *Meet) authenticateApplication(c *call) (*identity, *answer) {
	if m.settings.JWTSecretKey == "" {
		return nil, c.page(serverErrorPage)
	}
	words, ok := c.bearerWords()
	switch {
	case !ok:
		return nil, nil
	case len(words) != 2:
		return nil, c.refuse("Invalid token header.")
	case !utf8.ValidString(words[1]):
		return nil, c.refuse("Invalid token encoding.")
	}
	claims, err := verifyToken(words[1], &m.settings, c.now)
	switch {
	case errors.Is(err, errForeignToken):
		return nil, nil
	case errors.Is(err, errExpiredToken):
		return nil, c.refuse("Token expired.")
	case err != nil:
		return nil, c.refuse("Invalid token.")
	}
	return m.checkClaims(c, claims)
}

// checkClaims checks the claims against the current state.
func (m *Meet) checkClaims(c *call, claims map[string]any) (*identity, *answer) {
	if !truthy(claims["client_id"]) || !truthy(claims["user_id"]) {
		return nil, c.refuse("Invalid token claims.")
	}
	if !truthy(claims["delegated"]) {
		return nil, c.refuse("Invalid token type.")
	}
	clientID, _ := claims["client_id"].(string)
	application, ok := m.application(clientID)
	if !ok {
		return nil, c.refuse("Application not found.")
	}
	if !application.Active {
		return nil, c.refuse("Application is disabled.")
	}
	if _, isNumber := claims["user_id"].(json.Number); isNumber { // a UUID too, to Python
		return nil, c.refuse("User not found.")
	}
	text, _ := claims["user_id"].(string)
	id, ok := parseUUID(text)
	if !ok {
		// Meet does not fill in its placeholder here.
		return nil, c.json(http.StatusBadRequest, []any{"“%(value)s” is not a valid UUID."})
	}
	m.db.mu.RLock()
	user, ok := m.db.users[id]
	m.db.mu.RUnlock()
	if !ok {
		return nil, c.refuse("User not found.")
	}
	if !user.Active {
		return nil, c.refuse("User account is disabled.")
	}
	return &identity{userID: id, scope: claims["scope"]}, nil
}

// authenticateResourceServer accepts the identity provider's tokens if Meet is configured for
// them, and refuses all others.
func (m *Meet) authenticateResourceServer(c *call) (*identity, *answer) {
	words, ok := c.bearerWords()
	switch {
	case !ok:
		return nil, nil
	case !utf8.ValidString(strings.Join(words, "")):
		return nil, c.page(serverErrorPage)
	case len(words) == 1:
		return nil, c.refuse(`Invalid "bearer" header: No credentials provided.`)
	case len(words) > 2:
		return nil, c.refuse(`Invalid "bearer" header: Credentials string should not contain spaces.`)
	}
	switch m.settings.ResourceServer.Mode {
	case ResourceServerOff:
		return nil, c.refuse("Resource Server is improperly configured")
	case ResourceServerUnreachable:
		return nil, c.page(serverErrorPage)
	case ResourceServerInactive:
		return nil, c.page(badRequestPage)
	case ResourceServerActive:
	}
	return m.introspect(c, words[1])
}

// introspect accepts an active token of the identity provider. Meet does not check here
// whether the user is active.
func (m *Meet) introspect(c *call, token string) (*identity, *answer) {
	t, ok := m.settings.ResourceServer.Tokens[token]
	if !ok || t.Issuer != ForeignIssuer || t.ClientID == "" || !slices.Contains(strings.Fields(t.Scope), "lasuite_meet") {
		return nil, c.page(badRequestPage)
	}
	if t.Sub == "" {
		return nil, c.refuse("Login failed")
	}
	m.db.mu.Lock()
	defer m.db.mu.Unlock()
	for _, u := range m.db.users {
		if u.Sub == t.Sub {
			return &identity{userID: u.ID, scope: t.Scope}, nil
		}
	}
	return &identity{userID: m.db.addUser(User{Sub: t.Sub, Active: true}).ID, scope: t.Scope}, nil
}

// authorize checks that the scope claim has the scope that an action needs.
func (m *Meet) authorize(c *call, who *identity, needed string) *answer {
	if !truthy(who.scope) {
		return c.detail(http.StatusForbidden, "Insufficient permissions.")
	}
	scopes, ok := scopeList(who.scope)
	if !ok {
		return c.page(serverErrorPage)
	}
	scopePrefix := m.settings.ResourceServer.ScopePrefix + ":"
	for _, s := range scopes {
		if strings.TrimPrefix(strings.ToLower(s), scopePrefix) == needed {
			return nil
		}
	}
	return c.detail(http.StatusForbidden, "Insufficient permissions. Required scope: "+needed)
}

// scopeList reads a scope claim: text with spaces, a list, or the keys of an
// object. Meet fails on anything else.
func scopeList(claim any) ([]string, bool) {
	switch v := claim.(type) {
	case string:
		return strings.Fields(v), true
	case []any:
		var scopes []string
		for _, e := range v {
			s, ok := e.(string)
			if !ok {
				return nil, false
			}
			scopes = append(scopes, s)
		}
		return scopes, true
	case map[string]any:
		var scopes []string
		for k := range v {
			scopes = append(scopes, k)
		}
		return scopes, true
	}
	return nil, false
}
