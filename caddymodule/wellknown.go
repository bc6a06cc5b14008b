// SPDX-License-Identifier: MIT

package caddymodule

import (
	"encoding/json"
	"net/http"
	"strings"
)

// Paths of metadata documents for clients.
const (
	pathJWKS             = "/.well-known/jwks.json"
	pathServerMetadata   = "/.well-known/oauth-authorization-server"
	pathResourceMetadata = "/.well-known/oauth-protected-resource"
)

// headerMaxAge allows verifiers to cache the keys. New keys are published long before
// they sign.
var headerMaxAge = []string{"public, max-age=300"}

// serverMetadata describes the authorization server (RFC 8414 §2). Neither it nor
// resourceMetadata has scopes_supported, since clients would send these scopes in token
// requests, where scope is a mail address.
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

// resourceMetadata describes the protected resource (RFC 9728 §2).
type resourceMetadata struct {
	Resource             string   `json:"resource"`
	AuthorizationServers []string `json:"authorization_servers"`
	BearerMethods        []string `json:"bearer_methods_supported"`
	Name                 string   `json:"resource_name"`
	Documentation        string   `json:"resource_documentation"`
}

// serveJWKS answers with the public signing keys (RFC 7517 §5), of which HS256 has
// none.
func (c documentCall) serveJWKS() error {
	return c.writePublic(c.h.app.Authority().JWKS(), headerMaxAge)
}

// serveServerMetadata answers for the requested base path.
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

// serveResourceMetadata answers for the requested base path.
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

// writePublic writes an answer that is the same for all callers.
func (c documentCall) writePublic(v any, cacheControl []string) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	delete(c.w.Header(), "Vary")
	c.w.Header()["Cache-Control"] = cacheControl
	return writeJSON(c.w, http.StatusOK, body)
}

// addResourceMetadata adds the resource's metadata to a Bearer challenge (RFC 9728
// §5.1).
func (c *call) addResourceMetadata(r *refusal) {
	if !strings.HasPrefix(r.challenge, challengeBearer) {
		return
	}
	if url := c.publicBase() + pathResourceMetadata; !strings.ContainsAny(url, `"\`) { // Host may contain these
		r.challenge += `, resource_metadata="` + url + `"`
	}
}
