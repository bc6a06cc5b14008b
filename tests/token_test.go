// SPDX-License-Identifier: MIT

package tests

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/meet-gateway/meet-gateway/backendclient/sandbox"
	"github.com/meet-gateway/meet-gateway/tests/gatewaytest"
	"github.com/meet-gateway/meet-gateway/tokens"
)

const tokenPath = "/external-api/v1.0/application/token"

const (
	jsonType = "application/json"
	formType = "application/x-www-form-urlencoded"
)

// strictMeet starts a Meet with production settings: no provisioning, one Host, https only, telephony.
func strictMeet(t *testing.T, wrap func(http.Handler) http.Handler) *gatewaytest.Meet {
	m := gatewaytest.StartMeet(t, sandbox.Production(), wrap)
	m.AddUser(sandbox.User{ID: "a11ce000-0000-4000-8000-00000000000a", Sub: "alice", Email: "Alice@example.com", Active: true})
	m.AddUser(sandbox.User{ID: "1fa40000-0000-4000-8000-00000000000e", Sub: "ivan", Email: "inactive@example.com", Active: false})
	m.AddUser(sandbox.User{ID: "d0bb1e00-0000-4000-8000-000000000010", Sub: "one", Email: "dup@example.com", Active: true})
	m.AddUser(sandbox.User{ID: "d0bb1e00-0000-4000-8000-000000000011", Sub: "two", Email: "dup@example.com", Active: true})
	return m
}

func TestToken_PublishedErrors(t *testing.T) {
	meet := strictMeet(t, nil)
	g := gatewaytest.Start(t, gatewaytest.Config{Gate: meet.Backend()})
	app := g.AddApplication(func(a *tokens.Application) { a.Domains = []string{"example.com"} })
	off := g.AddApplication(nil)
	_, err := g.Authority().UpdateApplication(context.Background(), off.ID, 0, func(a *tokens.Application) error {
		a.Active = false
		return nil
	})
	require.NoError(t, err)
	body := func(mail string) string { return gatewaytest.TokenBody(app.ID, app.Secret, mail) }

	for _, tc := range []struct {
		name, body, contentType string
		status                  int
		want                    string
	}{
		{"unknown user", body("nobody@example.com"), jsonType, 400, `{"detail":"User not found.","error":"User not found."}`},
		{"wrong secret", gatewaytest.TokenBody(app.ID, "wrong", "alice@example.com"), jsonType, 401, `{"detail":"Invalid credentials","error":"Invalid credentials"}`},
		{"unknown id", gatewaytest.TokenBody("nobody", app.Secret, "alice@example.com"), jsonType, 401, `{"detail":"Invalid credentials","error":"Invalid credentials"}`},
		{"inactive, right secret", gatewaytest.TokenBody(off.ID, off.Secret, "alice@example.com"), jsonType, 401, `{"detail":"Application is inactive","error":"Application is inactive"}`},
		{"inactive, wrong secret", gatewaytest.TokenBody(off.ID, "wrong", "alice@example.com"), jsonType, 401, `{"detail":"Invalid credentials","error":"Invalid credentials"}`},
		{"domain", body("alice@example.org"), jsonType, 403, `{"detail":"This application is not authorized for this email domain.","error":"This application is not authorized for this email domain."}`},
		{"subdomain", body("alice@sub.example.com"), jsonType, 403, `{"detail":"This application is not authorized for this email domain.","error":"This application is not authorized for this email domain."}`},
		{"no mail", body("alice"), jsonType, 400, `{"detail":"Scope should be a valid email address.","error":"Scope should be a valid email address.","scope":["Invalid email address."]}`},
		{"two mails", body("alice@example.com,bob@example.com"), jsonType, 400, `{"detail":"Scope should be a valid email address.","error":"Scope should be a valid email address.","scope":["Invalid email address."]}`},
		{"duplicate user", body("dup@example.com"), jsonType, 409, `{"detail":"Several users share this email address.","error":"Several users share this email address."}`},
		{"empty object", "{}", jsonType, 400, `{"client_id":["This field is required."],"client_secret":["This field is required."],"error":"invalid_request","grant_type":["This field is required."],"scope":["This field is required."],"detail":"client_id: This field is required. client_secret: This field is required. grant_type: This field is required. scope: This field is required."}`},
		{"grant type", strings.Replace(body("alice@example.com"), "client_credentials", "password", 1), jsonType, 400, `{"error":"unsupported_grant_type","grant_type":["\"password\" is not a valid choice."],"detail":"grant_type: \"password\" is not a valid choice."}`},
		{"no json", "{", jsonType, 400, `{"detail":"JSON parse error - the body is not valid JSON.","error":"invalid_request"}`},
		{"text", "x", "text/plain", 415, `{"detail":"Unsupported media type \"text/plain\" in request.","error":"invalid_request"}`},
		{"large", `{"x":"` + strings.Repeat("a", 9000) + `"}`, jsonType, 413, `{"detail":"The request body must not be larger than 8192 bytes.","error":"invalid_request"}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, slash := range []string{"", "/"} {
				a := g.Do(http.MethodPost, tokenPath+slash, tc.body, "Content-Type", tc.contentType)
				require.Equal(t, tc.status, a.Status, a.Body)
				require.JSONEq(t, tc.want, a.Body)
				require.Equal(t, "application/json", a.Header.Get("Content-Type"))
				require.Equal(t, "no-store", a.Header.Get("Cache-Control"))
				require.Equal(t, "no-cache", a.Header.Get("Pragma"))
				require.Equal(t, tc.status == 401, a.Header.Get("Www-Authenticate") != "")
				require.NotEmpty(t, a.Header.Get("X-Request-Id"))
				require.Empty(t, a.Header.Get("Server"))
			}
		})
	}

	for _, method := range []string{"GET", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"} {
		a := g.Do(method, tokenPath, "")
		require.Equal(t, 405, a.Status, method)
		require.Equal(t, "POST", a.Header.Get("Allow"))
		require.JSONEq(t, `{"detail":"Method \"`+method+`\" not allowed.","error":"Method \"`+method+`\" not allowed."}`, a.Body)
	}
	require.Equal(t, 405, g.Do("HEAD", tokenPath, "").Status)
}

func TestToken_UnknownAndWrongSecretIndistinguishable(t *testing.T) {
	g := gatewaytest.Start(t, gatewaytest.Config{})
	app := g.AddApplication(nil)
	unknown := g.Do("POST", tokenPath, gatewaytest.TokenBody("nobody", app.Secret, "a@example.org"), "Content-Type", jsonType, "X-Request-Id", "same")
	wrong := g.Do("POST", tokenPath, gatewaytest.TokenBody(app.ID, "wrong", "a@example.org"), "Content-Type", jsonType, "X-Request-Id", "same")
	for _, a := range []*gatewaytest.Answer{unknown, wrong} {
		a.Header.Del("Date")
	}
	require.Equal(t, unknown, wrong)
}

func TestToken_RefusedBeforeTheExchange(t *testing.T) {
	meet := strictMeet(t, nil)
	g := gatewaytest.Start(t, gatewaytest.Config{Gate: meet.Backend()})
	app := g.AddApplication(func(a *tokens.Application) { a.Domains = []string{"example.com"} })
	for _, body := range []string{
		gatewaytest.TokenBody(app.ID, "wrong", "alice@example.com"),
		gatewaytest.TokenBody("nobody", app.Secret, "alice@example.com"),
		gatewaytest.TokenBody(app.ID, app.Secret, "alice@elsewhere.example"),
		gatewaytest.TokenBody(app.ID, app.Secret, "alice"),
		"{}",
	} {
		require.GreaterOrEqual(t, g.Do("POST", tokenPath, body, "Content-Type", jsonType).Status, 400)
	}
	require.Empty(t, meet.Requests())
}

func TestToken_BasicAuthentication(t *testing.T) {
	g := gatewaytest.Start(t, gatewaytest.Config{})
	app := g.AddApplication(nil)
	request := func(id, secret, body string) *gatewaytest.Answer {
		r := httptest.NewRequest("POST", g.URL+tokenPath, strings.NewReader(body))
		r.RequestURI = ""
		r.Header.Set("Content-Type", formType)
		r.SetBasicAuth(id, secret)
		return g.Send(r)
	}
	const grant = "grant_type=client_credentials&scope=ada%40example.org"
	require.Equal(t, 200, request(app.ID, app.Secret, grant).Status)
	require.Equal(t, 200, request(app.ID, app.Secret, grant+"&client_id="+app.ID).Status)

	refused := request(app.ID, "wrong", grant)
	require.Equal(t, 401, refused.Status)
	require.Contains(t, refused.Header.Get("Www-Authenticate"), "Basic realm=")

	twice := request(app.ID, app.Secret, grant+"&client_id="+app.ID+"&client_secret="+app.Secret)
	require.Equal(t, 400, twice.Status)
	require.Equal(t, "invalid_request", twice.JSON(t)["error"])
}

func TestToken_OAuth2ClientLibrary(t *testing.T) {
	g := gatewaytest.Start(t, gatewaytest.Config{})
	app := g.AddApplication(nil)
	for name, style := range map[string]oauth2.AuthStyle{"auto": oauth2.AuthStyleAutoDetect, "params": oauth2.AuthStyleInParams, "header": oauth2.AuthStyleInHeader} {
		for _, slash := range []string{"", "/"} {
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			config := clientcredentials.Config{
				ClientID: app.ID, ClientSecret: app.Secret, TokenURL: g.URL + tokenPath + slash, Scopes: []string{"ada@example.org"}, AuthStyle: style,
			}
			client := config.Client(ctx)
			res, err := client.Post(g.Base()+"/rooms"+slash, jsonType, strings.NewReader("{}"))
			require.NoError(t, err, name)
			require.NoError(t, res.Body.Close())
			require.Equal(t, 201, res.StatusCode, name)

			config.ClientSecret = "wrong"
			_, err = config.Token(ctx)
			failure := new(oauth2.RetrieveError)
			require.ErrorAs(t, err, &failure)
			require.Equal(t, "Invalid credentials", failure.ErrorCode)
			cancel()
		}
	}
}

func TestToken_ExchangedOncePerUser(t *testing.T) {
	meet := strictMeet(t, nil)
	g := gatewaytest.Start(t, gatewaytest.Config{Gate: meet.Backend()})
	app := g.AddApplication(nil)
	for _, mail := range []string{"alice@example.com", "ALICE@EXAMPLE.COM", " Alice@Example.com "} {
		token := g.Token(app, mail)
		require.Equal(t, 200, g.Do("GET", "/external-api/v1.0/rooms", "", "Authorization", gatewaytest.Bearer(token)).Status)
	}
	require.Equal(t, 1, meet.Exchanges())
}

func TestToken_UnknownUserStatusAsMeet(t *testing.T) {
	meet := strictMeet(t, nil)
	g := gatewaytest.Start(t, gatewaytest.Config{Gate: meet.Backend() + "\nunknown_user_status 404"})
	a := g.TokenRequest(g.AddApplication(nil), "nobody@example.com")
	require.Equal(t, 404, a.Status)
	require.JSONEq(t, `{"detail":"User not found.","error":"User not found."}`, a.Body)
}

func TestToken_ScopesNarrowedByMeet(t *testing.T) {
	meet := gatewaytest.StartMeet(t, sandbox.Quickstart(), nil)
	meet.AddApplication(sandbox.Application{ClientID: "lister", Secret: "lister-secret", Scopes: []string{"rooms:list"}, Active: true})
	meet.AddApplication(sandbox.Application{ClientID: "nothing", Secret: "nothing-secret", Active: true})
	g := gatewaytest.Start(t, gatewaytest.Config{Gate: meet.Backend()})

	lister := g.AddApplication(func(a *tokens.Application) {
		a.Backend = &tokens.BackendCredentials{ClientID: "lister", ClientSecret: "lister-secret"}
	})
	a := g.TokenRequest(lister, "ada@example.org")
	require.Equal(t, "rooms:list", a.JSON(t)["scope"])
	token := gatewaytest.Bearer(a.JSON(t)["access_token"].(string))
	require.Equal(t, 200, g.Do("GET", "/external-api/v1.0/rooms", "", "Authorization", token).Status)
	require.Equal(t, 403, g.Do("POST", "/external-api/v1.0/rooms", "", "Authorization", token).Status)

	nothing := g.AddApplication(func(a *tokens.Application) {
		a.Backend = &tokens.BackendCredentials{ClientID: "nothing", ClientSecret: "nothing-secret"}
	})
	a = g.TokenRequest(nothing, "ada@example.org")
	require.Equal(t, 200, a.Status)
	require.NotContains(t, a.JSON(t), "scope")
}

func TestToken_WrongBackendCredentialsAreNotTheCallersFault(t *testing.T) {
	meet := strictMeet(t, nil)
	g := gatewaytest.Start(t, gatewaytest.Config{Gate: meet.Backend()})
	app := g.AddApplication(func(a *tokens.Application) {
		a.Backend = &tokens.BackendCredentials{ClientID: gatewaytest.MeetClientID, ClientSecret: "canary-backend-secret"}
	})
	a := g.TokenRequest(app, "alice@example.com")
	require.Equal(t, 502, a.Status)
	require.JSONEq(t, `{"detail":"The meeting service gave no usable answer.","error":"bad_gateway"}`, a.Body)
	require.Contains(t, g.Logs(), "the Meet client id or secret held by the gateway is wrong")
	require.NotContains(t, g.Logs(), "canary")
}
