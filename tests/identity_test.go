// SPDX-License-Identifier: MIT

package tests

import (
	"context"
	"encoding/base64"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tests/gatewaytest"
	"github.com/meet-gateway/meet-gateway/tokens"
)

const identityPath = "/external-api/v1.0/identity"

func basic(id, secret string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(id+":"+secret))
}

func TestIdentity_Application(t *testing.T) {
	g := gatewaytest.Start(t, gatewaytest.Config{})
	app := g.AddApplication(func(a *tokens.Application) { a.Name = "A totally normal app"; a.Scopes = tokens.Scopes{"rooms:list"} })
	for _, slash := range []string{"", "/"} {
		a := g.Do("GET", identityPath+slash, "", "Authorization", basic(app.ID, app.Secret))
		require.Equal(t, 200, a.Status)
		require.Equal(t, `{"status":"success","payload":{"type":"application","id":"`+app.ID+`","valid_until":null,"credential_type":"basic","scopes":["rooms:list"]},"code":200}`, a.Body)
		require.Len(t, app.ID, 32)
		require.Equal(t, "no-store", a.Header.Get("Cache-Control"))
		require.Equal(t, "no-cache", a.Header.Get("Pragma"))

		a = g.Do("GET", identityPath+"/source"+slash, "", "Authorization", "bAsIc"+basic(app.ID, app.Secret)[5:])
		require.Equal(t, `{"status":"success","payload":{"id":"`+app.ID+`","name":"A totally normal app","type":"classic"},"code":200}`, a.Body)
	}
	head := g.Do("HEAD", identityPath, "", "Authorization", basic(app.ID, app.Secret))
	require.Equal(t, 200, head.Status)

	// With a retiring secret, the answer has its remaining grace period.
	_, _, err := g.Authority().RotateSecret(context.Background(), app.ID, 0, time.Hour)
	require.NoError(t, err)
	left := g.Do("GET", identityPath, "", "Authorization", basic(app.ID, app.Secret)).JSON(t)["payload"].(map[string]any)["valid_until"]
	require.InDelta(t, 3600, left, 30)

	none := g.AddApplication(func(a *tokens.Application) { a.Scopes = nil })
	require.Contains(t, g.Do("GET", identityPath, "", "Authorization", basic(none.ID, none.Secret)).Body, `"scopes":[]`)
}

func TestIdentity_Errors(t *testing.T) {
	meet := strictMeet(t, nil)
	g := gatewaytest.Start(t, gatewaytest.Config{Gate: meet.Backend()})
	app := g.AddApplication(nil)
	token := g.Token(app, "alice@example.com")
	revoked := g.Token(app, "alice@example.com")
	require.NoError(t, g.Authority().RevokeToken(context.Background(), revoked))
	off := g.AddApplication(nil)
	_, err := g.Authority().UpdateApplication(context.Background(), off.ID, 0, func(a *tokens.Application) error { a.Active = false; return nil })
	require.NoError(t, err)
	meet.Requests()
	before := len(meet.Requests())

	const headerType = `{"status":"error","payload":null,"code":400,"error":{"code":"invalid_authorization_header_type","message":"The Authorization header must be of type Bearer or Basic."}}`
	const headerValue = `{"status":"error","payload":null,"code":400,"error":{"code":"invalid_authorization_header_value","message":"The Authorization header is malformed."}}`
	const tokenValue = `{"status":"error","payload":null,"code":400,"error":{"code":"invalid_authorization_header_value","message":"The Bearer token is malformed."}}`
	const invalid = `{"status":"error","payload":null,"code":401,"error":{"code":"invalid_credentials","message":"The credential is not valid."}}`
	for _, path := range []string{identityPath, identityPath + "/source"} {
		for _, tc := range []struct {
			name, authorization string
			status              int
			want                string
		}{
			{"absent", "", 400, headerType},
			{"blank", " ", 400, headerType},
			{"digest", "Digest username=x", 400, headerType},
			{"token scheme", "Token " + token, 400, headerType},
			{"bearer without a token", "Bearer", 400, headerValue},
			{"two tokens", "Bearer a b", 400, headerValue},
			{"not ascii", "Bearer é", 400, headerValue},
			{"garbage", "Bearer garbage", 400, tokenValue},
			{"basic, bad base64", "Basic %%%", 400, headerValue},
			{"basic, no colon", "Basic " + base64.StdEncoding.EncodeToString([]byte(app.ID)), 400, headerValue},
			{"basic, control byte", basic(app.ID, "a\nb"), 400, headerValue},
			{"basic, wrong secret", basic(app.ID, "wrong"), 401, invalid},
			{"basic, unknown id", basic("unknown", app.Secret), 401, invalid},
			{"basic, disabled", basic(off.ID, off.Secret), 401, invalid},
			{"revoked", "Bearer " + revoked, 401, invalid},
			{"bad signature", "Bearer " + token[:len(token)-4] + "AAAA", 401, invalid},
		} {
			t.Run(tc.name, func(t *testing.T) {
				var headers []string
				if tc.authorization != "" {
					headers = []string{"Authorization", tc.authorization}
				}
				a := g.Do("GET", path, "", headers...)
				require.Equal(t, tc.status, a.Status, a.Body)
				require.Equal(t, tc.want, a.Body)
				require.Equal(t, tc.status == 401, a.Header.Get("Www-Authenticate") != "")
				require.Equal(t, "no-store", a.Header.Get("Cache-Control"))
			})
		}
		twice := g.Do("GET", path, "", "Authorization", "Bearer "+token, "Authorization", "Bearer "+token)
		require.Equal(t, headerValue, twice.Body)

		post := g.Do("POST", path, "", "Authorization", "Bearer "+token)
		require.Equal(t, 405, post.Status)
		require.Equal(t, "GET, HEAD", post.Header.Get("Allow"))
		require.Equal(t, `{"status":"error","payload":null,"code":405,"error":{"code":"method_not_allowed","message":"Method \"POST\" not allowed."}}`, post.Body)
	}
	require.Len(t, meet.Requests(), before, "Meet is never asked")
}

func TestIdentity_Options(t *testing.T) {
	g := gatewaytest.Start(t, gatewaytest.Config{Gate: "backend sandbox\nidentity_invalid_status 400\nidentity_error_style string"})
	a := g.Do("GET", identityPath, "", "Authorization", basic("unknown", "wrong"))
	require.Equal(t, 400, a.Status)
	require.Equal(t, `{"status":"error","payload":null,"code":"invalid_credentials","error":{"code":"invalid_credentials","message":"The credential is not valid."}}`, a.Body)
	require.Empty(t, a.Header.Values("Www-Authenticate"))
	a = g.Do("GET", identityPath, "")
	require.Contains(t, a.Body, `"code":"invalid_authorization_header_type","error"`)
}
