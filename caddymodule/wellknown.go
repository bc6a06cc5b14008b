// SPDX-License-Identifier: MIT

package caddymodule

import (
	"encoding/json"
	"net/http"
	"strings"
)

// Paths of the documents that clients configure themselves by.
const (
	pathJWKS             = "/.well-known/jwks.json"
	pathServerMetadata   = "/.well-known/oauth-authorization-server"
	pathResourceMetadata = "/.well-known/oauth-protected-resource"
)

// headerMaxAge lets verifiers keep the keys for a while. A new key is published
// before it signs, so a copy this old misses nothing.
var headerMaxAge = []string{"public, max-age=300"}

// serverMetadata describes the token endpoint and its neighbours (RFC 8414
// §2). It names no scopes_supported, and neither does resourceMetadata:
// clients send what stands there as scope, which is a mail address here.
type serverMetadata struct {
	Issuer                string   `json:"issuer"`
	TokenEndpoint         string   `json:"token_endpoint"`
	JWKSURI               string   `json:"jwks_uri"`
	ResponseTypes         []string `json:"response_types_supported"`
	GrantTypes            []string `json:"grant_types_supported"`
	TokenAuth             []string `json:"token_endpoint_auth_methods_supported"`
	RevocationEndpoint    string   `json:"revocation_endpoint"`
	RevocationAuth        []string `json:"revocation_endpoint_auth_methods_supported"`
	IntrospectionEndpoint string   `json:"introspection_endpoint"`
	IntrospectionAuth     []string `json:"introspection_endpoint_auth_methods_supported"`
}

// resourceMetadata describes the rooms (RFC 9728 §2).
type resourceMetadata struct {
	Resource             string   `json:"resource"`
	AuthorizationServers []string `json:"authorization_servers"`
	BearerMethods        []string `json:"bearer_methods_supported"`
	Name                 string   `json:"resource_name"`
	Documentation        string   `json:"resource_documentation"`
}

// serveJWKS publishes the public signing keys (RFC 7517 §5). There are
// none while tokens are signed with HS256.
func (c documentCall) serveJWKS() error {
	return c.writePublic(c.h.app.Authority().JWKS(), headerMaxAge)
}

// serveServerMetadata answers for the base path under which it was asked.
func (c documentCall) serveServerMetadata() error {
	base := c.publicBase()
	methods := []string{"client_secret_basic", "client_secret_post"}
	return c.writePublic(serverMetadata{
		Issuer:                base,
		TokenEndpoint:         base + pathToken,
		JWKSURI:               base + pathJWKS,
		ResponseTypes:         []string{}, // there is no authorization endpoint
		GrantTypes:            []string{grantClientCredentials, grantRefreshToken},
		TokenAuth:             methods,
		RevocationEndpoint:    base + pathRevoke,
		RevocationAuth:        methods,
		IntrospectionEndpoint: base + pathIntrospect,
		IntrospectionAuth:     methods,
	}, headerNoStore)
}

// serveResourceMetadata answers for the base path under which it was asked.
func (c documentCall) serveResourceMetadata() error {
	base := c.publicBase()
	return c.writePublic(resourceMetadata{
		Resource:             base,
		AuthorizationServers: []string{base},
		BearerMethods:        []string{"header"},
		Name:                 "La Suite Meet external API",
		Documentation:        base + pathOpenAPIYAML,
	}, headerNoStore)
}

// writePublic answers with something that is the same for every caller.
func (c documentCall) writePublic(v any, cacheControl []string) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	delete(c.w.Header(), "Vary")
	c.w.Header()["Cache-Control"] = cacheControl
	return writeJSON(c.w, http.StatusOK, body)
}

// addResourceMetadata lets a Bearer challenge say where the resource describes itself
// (RFC 9728 §5.1), at the address that the caller is known to reach.
func (c *call) addResourceMetadata(r *refusal) {
	if !strings.HasPrefix(r.challenge, challengeBearer) {
		return
	}
	if url := c.publicBase() + pathResourceMetadata; !strings.ContainsAny(url, `"\`) { // a Host can hold much
		r.challenge += `, resource_metadata="` + url + `"`
	}
}
