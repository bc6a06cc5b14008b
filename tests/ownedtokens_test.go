// SPDX-License-Identifier: MIT

package tests

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/backendclient/sandbox"
	"github.com/meet-gateway/meet-gateway/tests/gatewaytest"
	"github.com/meet-gateway/meet-gateway/tests/redistest"
	"github.com/meet-gateway/meet-gateway/tokens"
)

const base = "/external-api/v1.0"

// asClient makes a form request with HTTP Basic.
func asClient(g *gatewaytest.Gateway, c *gatewaytest.Client, path string, pairs ...string) *gatewaytest.Answer {
	form := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		form.Set(pairs[i], pairs[i+1])
	}
	return g.Do(http.MethodPost, base+path, form.Encode(), "Content-Type", formType, "Authorization", basicOf(c.ID, c.Secret))
}

func basicOf(id, secret string) string {
	r := &http.Request{Header: http.Header{}}
	r.SetBasicAuth(url.QueryEscape(id), url.QueryEscape(secret))
	return r.Header.Get("Authorization")
}

func refreshing(app *tokens.Application) { app.Refresh = true }

func TestRevoke(t *testing.T) {
	g := gatewaytest.Start(t, gatewaytest.Config{})
	app, other := g.AddApplication(nil), g.AddApplication(nil)
	token := g.Token(app, "ada@example.org")
	rooms := func() int {
		return g.Do(http.MethodGet, base+"/rooms", "", "Authorization", gatewaytest.Bearer(token)).Status
	}

	for name, tc := range map[string]struct {
		answer *gatewaytest.Answer
		status int
		body   string
	}{
		"another application's": {
			asClient(g, other, "/application/revoke", "token", token),
			400, `{"detail":"The token was issued to another application.","error":"invalid_grant"}`,
		},
		"no token": {
			asClient(g, app, "/application/revoke", "token_type_hint", "access_token"),
			400, `{"token":["This field is required."],"error":"invalid_request","detail":"token: This field is required."}`,
		},
		"wrong secret": {
			g.Do(http.MethodPost, base+"/application/revoke", "token="+token, "Content-Type", formType, "Authorization", basicOf(app.ID, "wrong")),
			401, `{"detail":"Invalid credentials","error":"invalid_client"}`,
		},
		"credentials twice": {
			g.Do(http.MethodPost, base+"/application/revoke", "client_secret=x&token="+token, "Content-Type", formType, "Authorization", basicOf(app.ID, app.Secret)),
			400, `{"detail":"Client credentials were sent in more than one way.","error":"invalid_request"}`,
		},
		"the token as credential": {
			g.Do(http.MethodPost, base+"/application/revoke", "token="+token, "Content-Type", formType, "Authorization", gatewaytest.Bearer(token)),
			400, `{"client_id":["This field is required."],"client_secret":["This field is required."],"error":"invalid_request","detail":"client_id: This field is required. client_secret: This field is required."}`,
		},
		"text":             {g.Do(http.MethodPost, base+"/application/revoke", "x", "Content-Type", "text/plain"), 415, `{"detail":"Unsupported media type \"text/plain\" in request.","error":"invalid_request"}`},
		"an unknown token": {asClient(g, app, "/application/revoke/", "token", "x"), 200, `{}`},
	} {
		require.Equal(t, tc.status, tc.answer.Status, name)
		require.JSONEq(t, tc.body, tc.answer.Body, name)
		require.Equal(t, 200, rooms(), name)
	}

	for range 2 { // the second time there is nothing left to revoke
		a := g.Do(http.MethodPost, base+"/application/revoke", `{"client_id":"`+app.ID+`","client_secret":"`+app.Secret+`","token":"`+token+`","token_type_hint":"refresh_token"}`, "Content-Type", jsonType)
		require.Equal(t, 200, a.Status, a.Body)
		require.Equal(t, 401, rooms())
	}
}

// A revocation is confirmed only after Redis has acknowledged it.
func TestRevoke_NotBeforeRedisAcknowledges(t *testing.T) {
	server := redistest.Standalone(t)
	g := gatewaytest.Start(t, gatewaytest.Config{Global: "store redis " + server.URL() + " {\ntimeout 200ms\n}\nsecret 0123456789-0123456789-0123456789-abc"})
	app := g.AddApplication(refreshing)
	pair := g.TokenRequest(app, "ada@example.org").JSON(t)
	token, refresh := pair["access_token"].(string), pair["refresh_token"].(string)
	rooms := func() int {
		return g.Do(http.MethodGet, base+"/rooms", "", "Authorization", gatewaytest.Bearer(token)).Status
	}

	server.SetReadOnly(t, true) // after a failover, the gateway is connected to a replica
	for _, held := range []string{token, refresh} {
		a := asClient(g, app, "/application/revoke", "token", held)
		require.Equal(t, 503, a.Status, a.Body)
		require.NotEmpty(t, a.Header.Get("Retry-After"))
		require.JSONEq(t, `{"detail":"The service is temporarily unavailable. Try again later.","error":"temporarily_unavailable"}`, a.Body)
	}
	require.Equal(t, 503, rooms(), "a replica is not trusted")
	require.Equal(t, 503, asClient(g, app, "/application/token", "grant_type", "refresh_token", "refresh_token", refresh).Status)

	server.SetReadOnly(t, false)
	require.Equal(t, 200, rooms(), "not revoked")
	require.Equal(t, 200, asClient(g, app, "/application/token", "grant_type", "refresh_token", "refresh_token", refresh).Status, "not spent")
	require.Equal(t, 200, asClient(g, app, "/application/revoke", "token", token).Status)
	require.Equal(t, 401, rooms())

	server.Stop(t)
	for _, path := range []string{"/application/revoke", "/application/introspect"} {
		require.Equal(t, 503, asClient(g, app, path, "token", token).Status, path)
	}
}

func TestIntrospect(t *testing.T) {
	g := gatewaytest.Start(t, gatewaytest.Config{})
	app, other := g.AddApplication(refreshing), g.AddApplication(nil)
	pair := g.TokenRequest(app, "ada@example.org").JSON(t)
	token, refresh := pair["access_token"].(string), pair["refresh_token"].(string)

	a := asClient(g, app, "/application/introspect", "token", token)
	require.Equal(t, 200, a.Status, a.Body)
	claims := a.JSON(t)
	require.Equal(t, true, claims["active"])
	require.Equal(t, "Bearer", claims["token_type"])
	require.Equal(t, app.ID, claims["client_id"])
	require.Equal(t, "meet-clients", claims["aud"])
	require.Equal(t, "meet-gateway", claims["iss"])
	require.Regexp(t, `^[0-9A-Za-z]{8}$`, claims["sub"])
	require.InDelta(t, 3600, claims["exp"].(float64)-claims["iat"].(float64), 1)
	require.Equal(t, pair["scope"], claims["scope"])
	require.NotEmpty(t, claims["jti"])
	require.Len(t, claims, 10, "username is not disclosed")
	require.NotContains(t, a.Body, "ada")
	require.Equal(t, "no-store", a.Header.Get("Cache-Control"))

	r := asClient(g, app, "/application/introspect/", "token", refresh).JSON(t)
	require.Equal(t, true, r["active"])
	require.Equal(t, claims["sub"], r["sub"])
	require.NotContains(t, r, "token_type")
	require.NotContains(t, r, "jti")

	inactive := func(c *gatewaytest.Client, token string) {
		t.Helper()
		a := asClient(g, c, "/application/introspect", "token", token)
		require.Equal(t, 200, a.Status)
		require.Equal(t, `{"active":false}`, a.Body)
	}
	inactive(other, token)
	inactive(other, refresh)
	inactive(app, "x")
	inactive(app, token+"x")

	bad := g.Do(http.MethodPost, base+"/application/introspect", "token="+token, "Content-Type", formType, "Authorization", basicOf(other.ID, app.Secret))
	require.Equal(t, 401, bad.Status)
	require.JSONEq(t, `{"detail":"Invalid credentials","error":"invalid_client"}`, bad.Body)
	require.Equal(t, `Basic realm="meet-gateway", charset="UTF-8"`, bad.Header.Get("WWW-Authenticate"))
	require.Equal(t, 400, g.Do(http.MethodPost, base+"/application/introspect", "token="+token, "Content-Type", formType).Status, "no credentials")

	// The revocation of a refresh token revokes its access token.
	require.Equal(t, 200, asClient(g, app, "/application/revoke", "token", refresh).Status)
	inactive(app, refresh)
	inactive(app, token)
}

func TestRefreshGrant(t *testing.T) {
	g := gatewaytest.Start(t, gatewaytest.Config{})
	app, other := g.AddApplication(refreshing), g.AddApplication(refreshing)
	refresh := func(c *gatewaytest.Client, token string, more ...string) *gatewaytest.Answer {
		return asClient(g, c, "/application/token", append([]string{"grant_type", "refresh_token", "refresh_token", token}, more...)...)
	}
	first := g.TokenRequest(app, "ada@example.org").JSON(t)

	a := refresh(other, first["refresh_token"].(string))
	require.Equal(t, 400, a.Status)
	require.JSONEq(t, `{"detail":"The refresh token is not valid.","error":"invalid_grant"}`, a.Body)
	a = refresh(app, first["refresh_token"].(string), "scope", "eve@example.org")
	require.Equal(t, 400, a.Status)
	require.JSONEq(t, `{"scope":["The refresh token belongs to another user."],"error":"invalid_scope","detail":"scope: The refresh token belongs to another user."}`, a.Body)
	require.Equal(t, 400, refresh(app, first["access_token"].(string)).Status)
	require.Equal(t, 400, refresh(app, "x").Status)
	a = asClient(g, app, "/application/token", "grant_type", "refresh_token")
	require.JSONEq(t, `{"refresh_token":["This field is required."],"error":"invalid_request","detail":"refresh_token: This field is required."}`, a.Body)

	// None of these used up the refresh token.
	a = refresh(app, first["refresh_token"].(string), "scope", "Ada@example.org")
	require.Equal(t, 200, a.Status, a.Body)
	second := a.JSON(t)
	require.NotEqual(t, first["access_token"], second["access_token"])
	require.NotEqual(t, first["refresh_token"], second["refresh_token"])
	require.Equal(t, first["scope"], second["scope"])
	require.Equal(t, "no-store", a.Header.Get("Cache-Control"))

	// A repeat returns the lost answer.
	again := refresh(app, first["refresh_token"].(string)).JSON(t)
	require.Equal(t, second["access_token"], again["access_token"])
	require.Equal(t, second["refresh_token"], again["refresh_token"])

	// The use of an older token indicates theft and revokes the family.
	require.Equal(t, 200, refresh(app, second["refresh_token"].(string)).Status)
	third := refresh(app, second["refresh_token"].(string)).JSON(t)
	require.Equal(t, 400, refresh(app, first["refresh_token"].(string)).Status)
	require.Equal(t, 400, refresh(app, third["refresh_token"].(string)).Status)
	require.Equal(t, 401, g.Do(http.MethodGet, base+"/rooms", "", "Authorization", gatewaytest.Bearer(third["access_token"].(string))).Status)
}

// The scope of a refresh request must not exceed the granted one (RFC 6749 §6). It may contain the
// user. Clients such as Spring repeat the scope of the response.
func TestRefreshGrant_Scope(t *testing.T) {
	g := gatewaytest.Start(t, gatewaytest.Config{})
	app := g.AddApplication(refreshing)
	answer := g.TokenRequest(app, "ada@example.org").JSON(t)
	granted := answer["scope"].(string)
	token := answer["refresh_token"].(string)
	refresh := func(scope string) *gatewaytest.Answer {
		return asClient(g, app, "/application/token", "grant_type", "refresh_token", "refresh_token", token, "scope", scope)
	}
	for scope, text := range map[string]string{
		granted + " rooms:everything":   "The refresh token was not granted this scope.",
		"rooms:list \"":                 "The refresh token was not granted this scope.",
		"rooms:list eve@example.org":    "The refresh token belongs to another user.",
		"ada@example.org eve@x@y.z":     "The refresh token belongs to another user.",
		"ada@example.org rooms:nothing": "The refresh token was not granted this scope.",
		"ROOMS:LIST":                    "The refresh token was not granted this scope.",
		"rooms:list Rooms:Create":       "The refresh token was not granted this scope.",
	} {
		a := refresh(scope)
		require.Equal(t, 400, a.Status, scope)
		require.Equal(t, "invalid_scope", a.JSON(t)["error"], scope)
		require.Equal(t, []any{text}, a.JSON(t)["scope"], scope)
	}
	// None of these used up the refresh token.
	for _, tc := range []struct{ scope, want string }{
		{granted, granted},
		{"rooms:list", "rooms:list"},
		{"", granted},
		{"rooms:retrieve Ada@Example.org", "rooms:retrieve"},
		{granted + " ada@example.org", granted},
	} {
		a := refresh(tc.scope)
		require.Equal(t, 200, a.Status, a.Body)
		answer = a.JSON(t)
		require.Equal(t, tc.want, answer["scope"], tc.scope)
		token = answer["refresh_token"].(string)
		want := 200
		if !strings.Contains(tc.want, "rooms:list") {
			want = 403
		}
		require.Equal(t, want, g.Do(http.MethodGet, base+"/rooms", "", "Authorization", gatewaytest.Bearer(answer["access_token"].(string))).Status, tc.scope)
	}
}

// A refresh repeats the checks of the grant, including those of Meet. A refusal does not use up the
// token.
func TestRefreshGrant_ChecksAgain(t *testing.T) {
	meet := strictMeet(t, nil)
	meet.AddApplication(sandbox.Application{ClientID: "second", Secret: "second-secret", Active: true, Scopes: []string{"rooms:list"}})
	g := gatewaytest.Start(t, gatewaytest.Config{Gate: meet.Backend()})
	app := g.AddApplication(func(a *tokens.Application) { a.Refresh, a.Domains = true, []string{"example.com"} })
	token := g.TokenRequest(app, "alice@example.com").JSON(t)["refresh_token"].(string)
	refresh := func() *gatewaytest.Answer {
		return asClient(g, app, "/application/token", "grant_type", "refresh_token", "refresh_token", token)
	}
	change := func(f func(*tokens.Application)) {
		t.Helper()
		_, err := g.Authority().UpdateApplication(t.Context(), app.ID, 0, func(a *tokens.Application) error {
			f(a)
			return nil
		})
		require.NoError(t, err)
	}

	change(func(a *tokens.Application) { a.Domains = []string{"example.org"} })
	require.JSONEq(t, `{"detail":"The refresh token is not valid.","error":"invalid_grant"}`, refresh().Body)
	change(func(a *tokens.Application) { a.Domains, a.Active = []string{"example.com"}, false })
	a := refresh()
	require.Equal(t, 401, a.Status)
	require.JSONEq(t, `{"detail":"Application is inactive","error":"Application is inactive"}`, a.Body)
	// Without a stored token for the credentials, the gateway calls Meet.
	change(func(a *tokens.Application) {
		a.Active, a.Backend = true, &tokens.BackendCredentials{ClientID: "second", ClientSecret: "second-secret"}
	})
	meet.RemoveUser("alice@example.com")
	a = refresh()
	require.Equal(t, 400, a.Status)
	require.JSONEq(t, `{"detail":"User not found.","error":"User not found."}`, a.Body)
	meet.AddUser(sandbox.User{Sub: "alice", Email: "alice@example.com", Active: true})
	change(func(a *tokens.Application) { a.Backend = nil })
	a = refresh()
	require.Equal(t, 200, a.Status, a.Body)
}

func TestRefreshGrant_OffUnlessAllowed(t *testing.T) {
	g := gatewaytest.Start(t, gatewaytest.Config{})
	app := g.AddApplication(nil)
	answer := g.TokenRequest(app, "ada@example.org").JSON(t)
	require.NotContains(t, answer, "refresh_token")
	a := asClient(g, app, "/application/token", "grant_type", "refresh_token", "refresh_token", "mgr_x")
	require.Equal(t, 400, a.Status)
	require.JSONEq(t, `{"grant_type":["\"refresh_token\" is not a valid choice."],"error":"unauthorized_client","detail":"grant_type: \"refresh_token\" is not a valid choice."}`, a.Body)
}

func TestWellKnown(t *testing.T) {
	g := gatewaytest.Start(t, gatewaytest.Config{
		Gate: "base_path /external-api/v1.0 /\nbackend sandbox\nroute PATCH /rooms/{id} rooms:update",
	})
	for path, base := range map[string]string{
		"/.well-known/oauth-authorization-server":              g.URL,
		"/.well-known/oauth-authorization-server/":             g.URL,
		base + "/.well-known/oauth-authorization-server":       g.URL + base,
		"/.well-known/oauth-authorization-server" + base:       g.URL + base,
		"/.well-known/oauth-authorization-server" + base + "/": g.URL + base,
	} {
		a := g.Do(http.MethodGet, path, "")
		require.Equal(t, 200, a.Status, path)
		require.JSONEq(t, `{
			"issuer":"`+base+`","token_endpoint":"`+base+`/application/token","jwks_uri":"`+base+`/.well-known/jwks.json",
			"response_types_supported":[],
			"grant_types_supported":["client_credentials","refresh_token"],
			"token_endpoint_auth_methods_supported":["client_secret_basic","client_secret_post"],
			"revocation_endpoint":"`+base+`/application/revoke","revocation_endpoint_auth_methods_supported":["client_secret_basic","client_secret_post"],
			"introspection_endpoint":"`+base+`/application/introspect","introspection_endpoint_auth_methods_supported":["client_secret_basic","client_secret_post"]
		}`, a.Body, path)
	}
	a := g.Do(http.MethodGet, "/.well-known/oauth-protected-resource"+base, "")
	require.JSONEq(t, `{
		"resource":"`+g.URL+base+`","authorization_servers":["`+g.URL+base+`"],"bearer_methods_supported":["header"],
		"resource_name":"La Suite Meet external API","resource_documentation":"`+g.URL+base+`/openapi.yaml"
	}`, a.Body)
	revoked := gatewaytest.Bearer(g.Token(g.AddApplication(nil), "ada@example.org"))
	require.NoError(t, g.Authority().RevokeAll(t.Context()))
	// A challenge has the URL of the metadata below the requested base path (RFC 9728 §5.1), and the
	// metadata has the token endpoint.
	for _, base := range []string{g.URL + base, g.URL} {
		for _, path := range []string{"/rooms", "/identity"} {
			_, challenge, found := strings.Cut(g.Do(http.MethodGet, strings.TrimPrefix(base, g.URL)+path, "", "Authorization", revoked).Header.Get("WWW-Authenticate"), `resource_metadata="`)
			require.True(t, found)
			var resource struct {
				Resource string
				Servers  []string `json:"authorization_servers"`
			}
			metadata := g.Do(http.MethodGet, strings.TrimPrefix(strings.TrimSuffix(challenge, `"`), g.URL), "")
			require.NoError(t, json.Unmarshal([]byte(metadata.Body), &resource), metadata.Body)
			require.Equal(t, base, resource.Resource)
			require.Equal(t, []string{base}, resource.Servers)
		}
	}
	for _, path := range []string{
		"/.well-known/oauth-authorization-server/external-api", "/.well-known/oauth-authorization-serverx", "/.well-known/jwks.json" + base,
		"/.well-known/openid-configuration",
	} {
		require.Equal(t, 404, g.Do(http.MethodGet, path, "").Status, path)
	}

	require.JSONEq(t, `{"keys":[]}`, g.Do(http.MethodGet, "/.well-known/jwks.json", "").Body, "the key of HS256 is secret")
	require.Equal(t, 405, g.Do(http.MethodPost, "/.well-known/jwks.json", "").Status)
}

// Behind a proxy, the challenge and the documents name the address that the caller
// used.
func TestWellKnown_BehindAProxy(t *testing.T) {
	g := gatewaytest.Start(t, gatewaytest.Config{Servers: "trusted_proxies static 127.0.0.1/32"})
	forwarded := []string{"X-Forwarded-Proto", "https", "X-Forwarded-Host", "api.example.net", "X-Forwarded-Port", "8443"}
	metadata := "https://api.example.net:8443" + base + "/.well-known/oauth-protected-resource"
	require.Equal(t, `Bearer realm="meet-gateway", resource_metadata="`+metadata+`"`,
		g.Do(http.MethodGet, base+"/rooms", "", forwarded...).Header.Get("WWW-Authenticate"))
	a := g.Do(http.MethodGet, base+"/.well-known/oauth-protected-resource", "", forwarded...)
	require.Equal(t, "https://api.example.net:8443"+base, a.JSON(t)["resource"])
}

// With the option, `iss` is the issuer of the metadata, which is the address it was fetched from
// (RFC 8414 §3.3). Verifiers with the published keys compare them (RFC 9068 §4).
func TestWellKnown_IssuerOfTokens(t *testing.T) {
	g := gatewaytest.Start(t, gatewaytest.Config{})
	g.Reload(gatewaytest.Config{Global: "store embedded\nissuer " + g.URL + base})
	_, payload, _ := strings.Cut(g.Token(g.AddApplication(nil), "ada@example.org"), ".")
	payload, _, _ = strings.Cut(payload, ".")
	claims, err := base64.RawURLEncoding.DecodeString(payload)
	require.NoError(t, err)
	var token struct{ Iss string }
	require.NoError(t, json.Unmarshal(claims, &token))
	require.Equal(t, g.Do(http.MethodGet, "/.well-known/oauth-authorization-server"+base, "").JSON(t)["issuer"], token.Iss)
}

func TestJWKS_HoldsTheConfiguredKeys(t *testing.T) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "key.pem")
	require.NoError(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))

	// The key is published while the secret still signs, and used afterwards.
	global := "store embedded\nsigning_key secret\nsigning_key {file." + file + "}"
	g := gatewaytest.Start(t, gatewaytest.Config{Global: global})
	require.Equal(t, "HS256", g.Authority().Algorithm())
	early := g.Do(http.MethodGet, base+"/.well-known/jwks.json", "").Body
	g.Reload(gatewaytest.Config{Global: strings.Replace(global, "signing_key secret\n", "", 1)})
	require.Equal(t, "EdDSA", g.Authority().Algorithm())
	a := g.Do(http.MethodGet, base+"/.well-known/jwks.json", "")
	require.JSONEq(t, a.Body, early)
	require.Equal(t, "public, max-age=300", a.Header.Get("Cache-Control"))
	require.Empty(t, a.Header.Get("Vary"))
	var set struct{ Keys []map[string]string }
	require.NoError(t, json.Unmarshal([]byte(a.Body), &set))
	require.Len(t, set.Keys, 1)
	require.Equal(t, "EdDSA", set.Keys[0]["alg"])
	require.NotEmpty(t, set.Keys[0]["kid"])
	require.NotContains(t, set.Keys[0], "d", "the private key")
}

func TestOpenAPI_IsServedWithItsOwnAddress(t *testing.T) {
	g := gatewaytest.Start(t, gatewaytest.Config{Gate: "base_path /external-api/v1.0 /\nbackend sandbox"})
	for _, base := range []string{"", base} {
		y := g.Do(http.MethodGet, base+"/openapi.yaml", "")
		require.Equal(t, 200, y.Status)
		require.Equal(t, "application/yaml", y.Header.Get("Content-Type"))
		require.Contains(t, y.Body, `- url: "`+g.URL+base+`"`)
		require.NotContains(t, y.Body, "gateway.invalid")
		j := g.Do(http.MethodGet, base+"/openapi.json/", "")
		require.Equal(t, jsonType, j.Header.Get("Content-Type"))
		require.Equal(t, g.URL+base, j.JSON(t)["servers"].([]any)[0].(map[string]any)["url"])
	}
}
