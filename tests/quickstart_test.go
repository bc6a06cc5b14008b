// SPDX-License-Identifier: MIT

package tests

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tests/gatewaytest"
)

func TestQuickstart_TokenIdentityRooms(t *testing.T) {
	g := gatewaytest.Start(t, gatewaytest.Config{})
	app := g.AddApplication(nil)

	for _, slash := range []string{"", "/"} {
		a := g.Do(http.MethodPost, "/external-api/v1.0/application/token"+slash, gatewaytest.TokenBody(app.ID, app.Secret, "Ada@Example.org"), "Content-Type", "application/json")
		require.Equal(t, 200, a.Status, a.Body)
		answer := a.JSON(t)
		require.Equal(t, "Bearer", answer["token_type"])
		require.Equal(t, 3600.0, answer["expires_in"])
		require.Equal(t, "rooms:list rooms:retrieve rooms:create rooms:update rooms:delete", answer["scope"])
		require.Len(t, answer, 4)
		require.Equal(t, "no-store", a.Header.Get("Cache-Control"))
		require.Equal(t, "no-cache", a.Header.Get("Pragma"))
		token := gatewaytest.Bearer(answer["access_token"].(string))

		created := g.Do(http.MethodPost, "/external-api/v1.0/rooms"+slash, "", "Authorization", token)
		require.Equal(t, 201, created.Status, created.Body)
		room := created.JSON(t)
		require.Equal(t, "trusted", room["access_level"])
		require.Equal(t, room["url"], created.Header.Get("Location"))

		read := g.Do(http.MethodGet, "/external-api/v1.0/rooms/"+room["id"].(string)+slash, "", "Authorization", token)
		require.Equal(t, 200, read.Status)
		require.JSONEq(t, created.Body, read.Body)

		list := g.Do(http.MethodGet, "/external-api/v1.0/rooms"+slash, "", "Authorization", token)
		require.Equal(t, 200, list.Status)
		require.Contains(t, list.Body, created.Body)

		identity := g.Do(http.MethodGet, "/external-api/v1.0/identity"+slash, "", "Authorization", token)
		require.Equal(t, 200, identity.Status)
		require.Regexp(t, `^\{"status":"success","payload":\{"type":"user","id":"[0-9A-Za-z]{8}","valid_until":(3600|35\d\d),"credential_type":"access_token"\},"code":200\}$`, identity.Body)
		source := g.Do(http.MethodGet, "/external-api/v1.0/identity/source"+slash, "", "Authorization", token)
		require.JSONEq(t, `{"status":"success","payload":{"id":"`+app.ID+`","name":"Test","type":"classic"},"code":200}`, source.Body)
	}
}
