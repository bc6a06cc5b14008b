// SPDX-License-Identifier: MIT

package tests

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tests/gatewaytest"
)

// These rows of docs/compatibility.md have no other test.
func TestCompatibility_Rows(t *testing.T) {
	g := gatewaytest.Start(t, gatewaytest.Config{Gate: "base_path /external-api/v1.0\nbackend sandbox"})
	app := g.AddApplication(nil)
	bearer := gatewaytest.Bearer(g.Token(app, "ada@example.org"))
	const rooms = "/external-api/v1.0/rooms"
	token := func(mail string) *gatewaytest.Answer {
		form := url.Values{"client_id": {app.ID}, "client_secret": {app.Secret}, "grant_type": {"client_credentials"}, "scope": {mail}}
		return g.Do(http.MethodPost, "/external-api/v1.0/application/token", form.Encode(), "Content-Type", "application/x-www-form-urlencoded")
	}
	require.Equal(t, 400, token("x@localhost").Status)
	require.Equal(t, 400, token(strings.Repeat("a", 65)+"@example.org").Status)
	require.Equal(t, 200, token(strings.Repeat("a", 64)+"@example.org").Status)

	require.Equal(t, 400, g.Do(http.MethodGet, rooms+"?page=1&page=1", "", "Authorization", bearer).Status)
	require.Equal(t, 400, g.Do(http.MethodGet, rooms+"?slug="+strings.Repeat("a", 2048), "", "Authorization", bearer).Status)
	html := g.Do(http.MethodGet, rooms, "", "Authorization", bearer, "Accept", "text/html")
	require.Equal(t, 200, html.Status)
	require.Equal(t, "application/json", html.Header.Get("Content-Type"))
	require.Equal(t, 201, createUndescribed(t, g.URL+rooms, " \n", bearer))
	options := g.Do(http.MethodOptions, rooms, "", "Origin", "https://calendar.example.org", "Access-Control-Request-Method", "POST")
	require.Equal(t, 405, options.Status)
	for name := range options.Header {
		require.NotContains(t, name, "Access-Control-")
	}
}

func TestCompatibility_StrictRoomsIgnoreTheBody(t *testing.T) {
	g := gatewaytest.Start(t, gatewaytest.Config{Gate: "base_path /external-api/v1.0\nbackend sandbox\nstrict_rooms"})
	bearer := gatewaytest.Bearer(g.Token(g.AddApplication(nil), "ada@example.org"))
	create := func(body, kind string) *gatewaytest.Answer {
		return g.Do(http.MethodPost, "/external-api/v1.0/rooms", body, "Authorization", bearer, "Content-Type", kind)
	}
	a := create(`{"access_level":"restricted"}`, "application/json")
	require.Equal(t, 201, a.Status)
	require.Equal(t, "trusted", a.JSON(t)["access_level"])
	require.Equal(t, 201, createUndescribed(t, g.Base()+"/rooms", "not json", bearer))
	require.Equal(t, 415, create(`a=b`, "text/plain").Status)
	require.Equal(t, 413, create(`{"a":"`+strings.Repeat("a", 64<<10)+`"}`, "application/json").Status)
}

// createUndescribed creates a room with a body outside the description, without checking the
// exchange, and returns the status.
func createUndescribed(t *testing.T, target, body, authorization string) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, target, strings.NewReader(body))
	require.NoError(t, err)
	r.Header.Set("Authorization", authorization)
	r.Header.Set("Content-Type", "application/json")
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Do(r)
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	return answer.StatusCode
}
