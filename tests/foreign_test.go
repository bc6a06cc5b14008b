// SPDX-License-Identifier: MIT

package tests

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/backendclient/sandbox"
	"github.com/meet-gateway/meet-gateway/tests/gatewaytest"
)

// The gateway passes on tokens of Meet's add-ons and of its identity provider.
func TestForeignTokens(t *testing.T) {
	meet := strictMeet(t, nil)
	roomsOfAlice(meet, 30)
	exchange := func(g *gatewaytest.Gateway) string {
		a := g.Do("POST", "http://"+meet.Address+tokenPath+"/", gatewaytest.TokenBody(gatewaytest.MeetClientID, gatewaytest.MeetClientSecret, "alice@example.com"),
			"Content-Type", jsonType, "X-Forwarded-Proto", "https", "Host", "meet.example.org")
		require.Equal(t, 200, a.Status, a.Body)
		return a.JSON(t)["access_token"].(string)
	}

	g := gatewaytest.Start(t, gatewaytest.Config{Gate: meet.Backend()})
	foreign := gatewaytest.Bearer(exchange(g))
	before := len(meet.Requests())
	a := g.Do("GET", roomsPath, "", "Authorization", foreign)
	require.Equal(t, 401, a.Status)
	require.Equal(t, "Invalid token.", a.JSON(t)["detail"])
	require.Len(t, meet.Requests(), before, "refused here")

	g.Reload(gatewaytest.Config{Gate: meet.Backend() + "\nforeign_tokens passthrough"})
	list := g.Do("GET", roomsPath+"?page_size=7&x=1", "", "Authorization", foreign, "Cookie", "a=b", "Accept-Language", "fr")
	require.Equal(t, 200, list.Status, list.Body)
	require.Len(t, list.JSON(t)["results"], 20, "pages are Meet's own")
	require.Equal(t, g.URL+roomsPath+"?page=2", list.JSON(t)["next"])
	require.Equal(t, g.URL+roomsPath+"/", g.Do("GET", roomsPath+"/?page=2", "", "Authorization", foreign).JSON(t)["previous"])
	requests := meet.Requests()
	last := requests[len(requests)-2]
	require.Equal(t, foreign, last.Header.Get("Authorization"))
	require.Empty(t, last.Header.Get("Cookie")+last.Header.Get("Accept-Language"))
	require.Equal(t, "/external-api/v1.0/rooms/", last.Path)

	created := g.Do("POST", roomsPath, "", "Authorization", foreign)
	require.Equal(t, 201, created.Status, created.Body)
	require.Equal(t, "trusted", created.JSON(t)["access_level"])
	twice := [2]*gatewaytest.Answer{} // keys belong to applications, and this caller has none
	for i := range twice {
		twice[i] = g.Do("POST", roomsPath, "", "Authorization", foreign, "Idempotency-Key", "the-same")
		require.Equal(t, 201, twice[i].Status, twice[i].Body)
	}
	require.NotEqual(t, twice[0].JSON(t)["id"], twice[1].JSON(t)["id"])
	require.Equal(t, 400, g.Do("POST", roomsPath, `{"access_level":"public"}`, "Authorization", foreign, "Content-Type", jsonType).Status)
	require.Equal(t, 200, g.Do("GET", roomsPath+"/"+roomID(1), "", "Authorization", foreign).Status)
	require.Equal(t, 403, g.Do("GET", roomsPath+"/"+roomID(100), "", "Authorization", foreign).Status)
	require.Equal(t, 404, g.Do("GET", roomsPath+"/"+roomID(999), "", "Authorization", foreign).Status)
	require.Equal(t, 404, g.Do("GET", roomsPath+"?page=99", "", "Authorization", foreign).Status)
	require.Equal(t, 405, g.Do("DELETE", roomsPath+"/"+roomID(1), "", "Authorization", foreign).Status)
	require.Equal(t, 404, g.Do("GET", "/external-api/v1.0/users", "", "Authorization", foreign).Status)

	refused := g.Do("GET", roomsPath, "", "Authorization", "Bearer neither-ours-nor-meets")
	require.Equal(t, 401, refused.Status)
	require.Equal(t, "Invalid token.", refused.JSON(t)["detail"])

	// Credentials of the gateway never reach Meet.
	app := g.AddApplication(nil)
	before = len(meet.Requests())
	token := g.Token(app, "alice@example.com")
	basic := base64.StdEncoding.EncodeToString([]byte(app.ID + ":" + app.Secret))
	for _, own := range []string{
		app.Secret, "mgr_" + strings.Repeat("a", 40), token + "x",
		basic, strings.TrimRight(basic, "="), // a value for Basic under Bearer
		token[:255], token[:200], // truncated to the width of a column
		base64.StdEncoding.EncodeToString([]byte(token)), base64.RawURLEncoding.EncodeToString([]byte(token)),
	} {
		require.Equal(t, 401, g.Do("GET", roomsPath, "", "Authorization", "Bearer "+own).Status)
	}
	for _, r := range meet.Requests()[before:] {
		require.NotEqual(t, http.MethodGet, r.Method)
	}
}

func TestForeignTokens_MeetFailures(t *testing.T) {
	settings := sandbox.Production()
	meet := gatewaytest.StartMeet(t, settings, func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(500)
			_, _ = w.Write([]byte("canary"))
		})
	})
	g := gatewaytest.Start(t, gatewaytest.Config{Gate: meet.Backend() + "\nforeign_tokens passthrough"})
	a := g.Do("GET", roomsPath, "", "Authorization", "Bearer foreign")
	require.Equal(t, 502, a.Status)
	require.NotContains(t, a.Body, "canary")
	g.Reload(gatewaytest.Config{Gate: "backend 127.0.0.1:1 {\nhost meet.example.org\n}\nforeign_tokens passthrough"})
	require.Equal(t, 503, g.Do("GET", roomsPath, "", "Authorization", "Bearer foreign").Status)
}
