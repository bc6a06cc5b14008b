// SPDX-License-Identifier: MIT

package tests

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/backendclient/sandbox"
	"github.com/meet-gateway/meet-gateway/tests/gatewaytest"
	"github.com/meet-gateway/meet-gateway/tokens"
)

// statusOf returns the status of a raw response.
func statusOf(t *testing.T, raw string) int {
	t.Helper()
	var status int
	_, err := fmt.Sscanf(raw, "HTTP/1.1 %d", &status)
	require.NoError(t, err, "%q", raw)
	return status
}

// The gateway refuses ambiguous request targets even with a valid token (path confusion, as in Caddy
// CVE-2026-27587, Envoy CVE-2021-29492, Kong CVE-2021-27306, Traefik CVE-2025-66490, oauth2-proxy
// CVE-2025-54576, HAProxy CVE-2023-45539).
func TestPaths_AmbiguousTargetsAreRefused(t *testing.T) {
	meet := gatewaytest.StartMeet(t, sandbox.Quickstart(), nil)
	g := gatewaytest.Start(t, gatewaytest.Config{Gate: meet.Backend() + "\nbase_path /external-api/v1.0 /"})
	token := g.Token(g.AddApplication(nil), "ada@example.org")
	before := len(meet.Requests())

	for _, base := range []string{"", "/external-api/v1.0"} {
		for _, target := range []string{
			base + "/x/../rooms", base + "/./rooms", base + "/rooms/.", base + "/rooms/..", base + "//rooms", base + "/rooms//", base + "/rooms//1",
			base + "/rooms/%2e%2e/rooms", base + "/%2E/rooms", base + "/rooms%2f", base + "/rooms%2F" + roomID(1), base + "%2Frooms", base + "/rooms%5c1",
			base + `/rooms\1`, base + "/rooms;x", base + "/rooms;/../x", base + "/rooms%3bx", base + "/rooms%00", base + "/rooms%0a", base + "/rooms%252f1",
			base + "/rooms#x", base + "/rooms%23x", base + "/rooms%3fpage=1", base + "/rooms/%ff", base + "/rooms/%c0%af",
			"http://meet.example.org" + base + "/rooms", "HTTP://x/rooms", base + "/rooms?page=1&page=2", base + "/rooms?page=1;page=2", base + "/rooms?page=%00", base + "/rooms?page=%ff",
			"*", base + "/rooms?page=1#x",
		} {
			raw := g.Raw("GET " + target + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer " + token + "\r\n\r\n")
			require.Equal(t, 400, statusOf(t, raw), target)
		}
		for _, target := range []string{
			base + "/Rooms", base + "/ROOMS", base + "/roomsx", base + "/r%6Foms", base + "/rooms.json", base + "/api/v1.0/users", base + "/admin/", base + "/__heartbeat__",
			base + "/external-api/v1.0/external-api/v1.0/rooms", "/external-api/v1.1/rooms", "/external-api/v1.0x/rooms", "/external-api/", "/external-api/v1.0", base + "/rooms/" + roomID(1) + "/..a",
			base + "/application", base + "/application/token/x", base + "/rooms/%41" + "/x",
		} {
			raw := g.Raw("GET " + target + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer " + token + "\r\n\r\n")
			require.Equal(t, 404, statusOf(t, raw), target)
			require.Contains(t, raw, `{"detail":"Not found.","error":"Not found."}`)
		}
	}
	for _, method := range []string{"CONNECT", "TRACE", "OPTIONS", "get", "PROPFIND", "PURGE"} {
		raw := g.Raw(method + " /rooms HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer " + token + "\r\n\r\n")
		require.Equal(t, 405, statusOf(t, raw), method)
	}
	require.Equal(t, 400, statusOf(t, g.Raw("CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\nConnection: close\r\n\r\n")))
	require.Len(t, meet.Requests(), before)
}

// The gateway builds requests to Meet from scratch. No header of a client reaches Meet in any
// spelling (Caddy CVE-2026-30851 and CVE-2026-52845, Traefik CVE-2026-33433,
// oauth2-proxy CVE-2025-64484, APISIX CVE-2026-39998), and no client can have the
// gateway's headers removed (Traefik CVE-2024-45410, Go CVE-2021-33197).
func TestHeaders_ForgedIdentityNeverReachesBackend(t *testing.T) {
	meet := gatewaytest.StartMeet(t, sandbox.Quickstart(), nil)
	const trusted = "trusted_proxies static 127.0.0.1/32"
	for _, tc := range []struct{ name, servers, more string }{
		{"client", "", ""},
		{"trusted proxy", trusted, ""},
		{"client, backend with options", "", whole},
		{"trusted proxy, backend with options", trusted, whole},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := gatewaytest.Start(t, gatewaytest.Config{Gate: meet.Backend(tc.more), Servers: tc.servers})
			token := g.Token(g.AddApplication(nil), "ada@example.org")
			raw := g.Raw(strings.Join([]string{
				"GET " + roomsPath + " HTTP/1.1", "Host: evil.example", "Authorization: Bearer " + token, "X-Request-Id: mine-1",
				"Connection: close, authorization, x-forwarded-proto, x-request-id, host",
				"X-Forwarded-For: 203.0.113.7", "X-Forwarded-Proto: http", "x-forwarded-host: evil.example", "X-Forwarded-Port: 1", "X-Forwarded-Uri: /admin", "X-Forwarded-User: root",
				"X_Forwarded_Proto: http", "X.Forwarded.Proto: http", "Forwarded: for=203.0.113.7;host=evil.example;proto=http",
				"X-Original-Url: /admin", "X-Rewrite-Url: /admin", "X-Http-Method-Override: DELETE", "X-Remote-User: root", "Remote-User: root", "REMOTE_USER: root",
				"Cookie: sessionid=canary", "Accept-Language: fr", "Accept: text/html", "Accept-Encoding: gzip, br", "User-Agent: canary", "Via: 1.1 canary", "X-Canary: canary",
				"Traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "Proxy-Authorization: Basic canary", "X-Real-Ip: 203.0.113.7", "Te: trailers",
			}, "\r\n") + "\r\n\r\n")
			require.Equal(t, 200, statusOf(t, raw), raw)
			require.Contains(t, raw, "X-Request-Id: mine-1")

			requests := meet.Requests()
			last := requests[len(requests)-1]
			require.Equal(t, "meet.example.org", last.Host)
			got := map[string]string{}
			for name, values := range last.Header {
				require.Len(t, values, 1, name)
				got[name] = values[0]
			}
			require.NotEqual(t, "Bearer "+token, got["Authorization"], "the caller's token does not reach Meet")
			require.True(t, strings.HasPrefix(got["Authorization"], "Bearer ey"))
			delete(got, "Authorization")
			want := map[string]string{
				"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "meet-gateway", "X-Forwarded-Proto": "https",
				"X-Request-Id": "mine-1", "X-Forwarded-Host": "meet.example.org", "X-Forwarded-For": "127.0.0.1", "Via": "1.1 Caddy",
			}
			if tc.servers != "" {
				want["X-Forwarded-For"] = "203.0.113.7, 127.0.0.1"
			}
			require.Equal(t, want, got)
		})
	}
}

// Bodies are forwarded with a length and never chunked, which Meet would drop.
func TestBodies_ChunkedRequestsArriveWithALength(t *testing.T) {
	meet := gatewaytest.StartMeet(t, sandbox.Quickstart(), nil)
	g := gatewaytest.Start(t, gatewaytest.Config{Gate: meet.Backend()})
	token := g.Token(g.AddApplication(nil), "ada@example.org")
	body := `{"access_level":"restricted"}`
	raw := g.Raw("POST " + roomsPath + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer " + token +
		"\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n" + fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(body), body))
	require.Equal(t, 201, statusOf(t, raw))
	require.Contains(t, raw, `"access_level":"restricted"`)
	requests := meet.Requests()
	require.NotEmpty(t, requests[len(requests)-1].Header.Get("Content-Length"))
}

// Meet receives each decisive header exactly once (Envoy CVE-2021-32777).
func TestHeaders_RepeatedOnesRefused(t *testing.T) {
	g := gatewaytest.Start(t, gatewaytest.Config{})
	app := g.AddApplication(nil)
	token := g.Token(app, "ada@example.org")
	a := g.Do("GET", roomsPath, "", "Authorization", "Bearer "+token, "Authorization", "Bearer x")
	require.Equal(t, 401, a.Status)
	require.Equal(t, "Invalid token header.", a.JSON(t)["detail"])
	a = g.Do("POST", tokenPath, gatewaytest.TokenBody(app.ID, app.Secret, "ada@example.org"), "Content-Type", jsonType, "Content-Type", formType)
	require.Equal(t, 400, a.Status)
	a = g.Do("POST", tokenPath, "grant_type=client_credentials&scope=a%40b.example", "Content-Type", formType, "Authorization", basic(app.ID, app.Secret), "Authorization", basic("x", "y"))
	require.Equal(t, 400, a.Status)
}

// The gateway ignores tokens in the URL, because URLs end up in logs.
func TestToken_NeverReadFromTheQuery(t *testing.T) {
	g := gatewaytest.Start(t, gatewaytest.Config{})
	app := g.AddApplication(nil)
	token := g.Token(app, "ada@example.org")
	require.Equal(t, 401, g.Do("GET", roomsPath+"?access_token="+token, "").Status)
	require.Equal(t, 400, g.Do("POST", tokenPath+"?client_id="+app.ID+"&client_secret=x&grant_type=client_credentials&scope=a@b.example", "").Status)
}

// An application's networks are compared with the address that Caddy trusts, not with a header.
func TestNetworks_HeaderCannotClaimAnAddress(t *testing.T) {
	g := gatewaytest.Start(t, gatewaytest.Config{})
	elsewhere := g.AddApplication(func(a *tokens.Application) { a.Networks = prefixes("203.0.113.0/24") })
	a := g.Do("POST", tokenPath, gatewaytest.TokenBody(elsewhere.ID, elsewhere.Secret, "ada@example.org"), "Content-Type", jsonType, "X-Forwarded-For", "203.0.113.7")
	require.Equal(t, 403, a.Status)
	require.Equal(t, 403, g.Do("GET", identityPath, "", "Authorization", basic(elsewhere.ID, elsewhere.Secret)).Status)

	here := g.AddApplication(func(a *tokens.Application) { a.Networks = prefixes("127.0.0.0/8") })
	token := g.Token(here, "ada@example.org")
	require.Equal(t, 200, g.Do("GET", roomsPath, "", "Authorization", "Bearer "+token).Status)
}

// Secrets do not appear in /config/, logs, metrics or answers.
func TestSecrets_AbsentFromAdminConfigLogsAndMetrics(t *testing.T) {
	t.Setenv("CANARY_GATEWAY_SECRET", "canary-gateway-secret-0123456789abcdef")
	t.Setenv("CANARY_MEET_SECRET", "canary-meet-secret")
	meet := gatewaytest.StartMeet(t, sandbox.Quickstart(), nil)
	meet.AddApplication(sandbox.Application{ClientID: "canary-free", Secret: "canary-meet-secret", Scopes: []string{"rooms:list"}, Active: true})
	g := gatewaytest.Start(t, gatewaytest.Config{
		Global: "store embedded\nsecret {env.CANARY_GATEWAY_SECRET}",
		Gate:   "backend " + meet.Address + " {\nhost meet.example.org\ncredentials canary-free {env.CANARY_MEET_SECRET}\n}",
	})
	app := g.AddApplication(nil)
	token := g.Token(app, "secret.person@example.org")
	sent := []string{
		g.Do("GET", roomsPath, "", "Authorization", "Bearer "+token).Body,
		g.Do("POST", roomsPath, "", "Authorization", "Bearer "+token).Body,
		g.Do("GET", identityPath, "", "Authorization", basic(app.ID, app.Secret)).Body,
		g.Do("POST", tokenPath, gatewaytest.TokenBody(app.ID, app.Secret+"x", "secret.person@example.org"), "Content-Type", jsonType).Body,
		g.Do("GET", roomsPath, "", "Authorization", "Bearer "+token+"x").Body,
	}
	sinks := append(sent, g.Logs())
	for _, path := range []string{"/config/", "/metrics"} {
		res, err := http.Get("http://" + g.Admin + path)
		require.NoError(t, err)
		var b strings.Builder
		require.NoError(t, res.Write(&b))
		require.NoError(t, res.Body.Close())
		sinks = append(sinks, b.String())
	}
	for _, sink := range sinks {
		for _, secret := range []string{"canary-gateway", "canary-meet", app.Secret, app.Secret[:20], token, strings.Split(token, ".")[2], "secret.person"} {
			require.NotContains(t, sink, secret)
		}
	}
	require.Contains(t, g.Logs(), `"client_id":"`+app.ID+`"`)
	require.Contains(t, g.Logs(), `"reason":"bad_signature"`)
}

// The gateway never returns another room than the requested one. HTTP/1.1 matches responses to
// requests only by order, so a surplus or late response would reach another user (go-redis
// CVE-2025-29923, Traefik CVE-2026-71324).
func TestAnswers_MixedUpResponsesAreRefused(t *testing.T) {
	meet := startRawMeet(t)
	for _, more := range []string{"", whole} {
		t.Run("backend "+more, func(t *testing.T) {
			g := gatewaytest.Start(t, gatewaytest.Config{Gate: meet.backend(more)})
			token := g.Token(g.AddApplication(nil), "ada@example.org")
			meet.say(jsonAnswer("200 OK", `{"id":"`+roomID(1)+`","name":"canary","slug":"canary","access_level":"restricted","configuration":{}}`))
			a := g.Do("GET", roomsPath+"/"+roomID(2), "", "Authorization", "Bearer "+token)
			require.Equal(t, 502, a.Status, a.Body)
			require.NotContains(t, a.Body, "canary")
			require.Contains(t, g.Logs(), "mixes answers up")

			a = g.Do("GET", roomsPath+"/"+strings.ToUpper(strings.ReplaceAll(roomID(1), "-", "")), "", "Authorization", "Bearer "+token)
			require.Equal(t, 200, a.Status, a.Body)
		})
	}
}

// The gateway normalises the id in a path to Meet's form. It does not change a slug that looks like
// an id, because the normalised one would name another room.
func TestPaths_OnlyTheIDIsRewritten(t *testing.T) {
	meet := startRawMeet(t)
	g := gatewaytest.Start(t, gatewaytest.Config{Gate: "route POST /rooms/{slug}/merge/{id} rooms:create\n" + meet.backend("")})
	token := g.Token(g.AddApplication(nil), "ada@example.org")
	upper := strings.ToUpper(strings.ReplaceAll(roomID(1), "-", ""))
	for _, slug := range []string{upper, upper + "x"} {
		meet.say(jsonAnswer("200 OK", "{}"))
		a := g.Do("POST", roomsPath+"/"+slug+"/merge/"+upper, "{}", "Authorization", "Bearer "+token, "Content-Type", jsonType)
		require.Equal(t, 200, a.Status, a.Body)
		asked := meet.asked()
		require.Len(t, asked, 1)
		require.True(t, strings.HasPrefix(asked[0], "POST "+roomsPath+"/"+slug+"/merge/"+roomID(1)+"/ "), asked[0])
	}
}
