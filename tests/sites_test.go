// SPDX-License-Identifier: MIT

package tests

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	caddyserver "github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/backendclient/sandbox"
	"github.com/meet-gateway/meet-gateway/tests/gatewaytest"
)

// metric returns the value of one sample, as text.
func metric(t *testing.T, g *gatewaytest.Gateway, sample string) string {
	t.Helper()
	res, err := http.Get("http://" + g.Admin + "/metrics")
	require.NoError(t, err)
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	for line := range strings.Lines(string(b)) {
		if value, ok := strings.CutPrefix(line, sample+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func TestSites_ShareTheAppAndTheMetrics(t *testing.T) {
	meet := gatewaytest.StartMeet(t, sandbox.Quickstart(), nil)
	two := gatewaytest.Config{
		Site: "handle /second/* {\nmeet_gateway {\nbase_path /second\n" + meet.Backend() + "\n}\n}",
		Gate: meet.Backend() + "\nbase_path /external-api/v1.0 /",
	}
	g := gatewaytest.Start(t, two)
	token := gatewaytest.Bearer(g.Token(g.AddApplication(nil), "ada@example.org"))
	const sample = `caddy_meet_gateway_requests_total{endpoint="rooms_list",outcome="ok"}`
	count := func() int {
		text := metric(t, g, sample)
		if text == "" {
			return 0 // not counted yet
		}
		n, err := strconv.Atoi(text)
		require.NoError(t, err)
		return n
	}
	before := count()
	for _, path := range []string{"/rooms", "/external-api/v1.0/rooms", "/second/rooms"} {
		require.Equal(t, 200, g.Do("GET", path, "", "Authorization", token).Status, path)
	}
	require.Equal(t, before+3, count(), "one metric for both sites")
	g.Reload(two)
	require.Equal(t, 200, g.Do("GET", "/rooms", "", "Authorization", token).Status)
	require.Equal(t, before+4, count(), "and after a reload")
}

func TestPlaceholdersAndAccessLog(t *testing.T) {
	g := gatewaytest.Start(t, gatewaytest.Config{Site: `
		log_append seen_client {http.auth.user.client_id}
		log_append seen_scopes {http.auth.user.scopes}
		log_append seen_outcome {http.meet_gateway.outcome}
		log_append seen_id {http.meet_gateway.request_id}`})
	app := g.AddApplication(nil)
	token := g.Token(app, "ada@example.org")
	require.Equal(t, 404, g.Do("GET", roomsPath+"/nope", "", "Authorization", "Bearer "+token, "X-Request-Id", "find-me").Status)
	user := g.Do("GET", identityPath, "", "Authorization", "Bearer "+token).JSON(t)["payload"].(map[string]any)["id"].(string)
	logs := g.Logs()
	for _, seen := range []string{
		`"seen_client":"` + app.ID + `"`, `"seen_scopes":"rooms:list rooms:retrieve rooms:create rooms:update rooms:delete"`,
		`"seen_outcome":"not_found"`, `"seen_id":"find-me"`,
	} {
		require.Contains(t, logs, seen)
	}
	require.Contains(t, logs, `"user_id":"`+user+`"`)
	require.Contains(t, logs, `"request_id":"find-me","endpoint":"rooms_retrieve","outcome":"not_found","client_id":"`+app.ID+`"`)
}

// Placeholders in options of reverse_proxy refer to the request to Meet.
func TestBackend_ReverseProxyOptions(t *testing.T) {
	meet := gatewaytest.StartMeet(t, sandbox.Quickstart(), nil)
	g := gatewaytest.Start(t, gatewaytest.Config{Gate: meet.Backend(
		"header_up X-Seen-Path {http.request.uri.path}", "header_up X-Seen-Host {http.request.host}", "header_up X-Seen-Client {client_ip}", "header_up X-Seen-Id {http.request.header.x-request-id}",
		"lb_policy round_robin", "health_uri /__lbheartbeat__", "health_interval 1h",
	)})
	token := gatewaytest.Bearer(g.Token(g.AddApplication(nil), "ada@example.org"))
	require.Equal(t, 200, g.Do("GET", roomsPath, "", "Authorization", token, "X-Request-Id", "mine").Status)
	requests := meet.Requests()
	last := requests[len(requests)-1].Header
	require.Equal(t, "/external-api/v1.0/rooms/", last.Get("X-Seen-Path"))
	require.Equal(t, "meet.example.org", last.Get("X-Seen-Host"))
	require.Equal(t, "127.0.0.1", last.Get("X-Seen-Client"))
	require.Equal(t, "mine", last.Get("X-Seen-Id"))
}

// handle_response of reverse_proxy runs Caddy's own routes inside the handler.
func TestBackend_HandleResponse(t *testing.T) {
	meet := gatewaytest.StartMeet(t, sandbox.Quickstart(), nil)
	g := gatewaytest.Start(t, gatewaytest.Config{Gate: meet.Backend("@gone status 404", "handle_response @gone {\nheader X-Handled yes\nrespond `{\"detail\":\"handled\"}` 404\n}")})
	token := gatewaytest.Bearer(g.Token(g.AddApplication(nil), "ada@example.org"))
	a := g.Do("GET", roomsPath+"/"+roomID(1), "", "Authorization", token)
	require.Equal(t, 404, a.Status)
	require.JSONEq(t, `{"detail":"Not found.","error":"Not found."}`, a.Body)
	require.Empty(t, a.Header.Values("X-Handled"), "the gateway writes all response headers")
	require.Equal(t, 200, g.Do("GET", roomsPath, "", "Authorization", token).Status)
}

// With TLS to Meet, Host is the configured one and not the upstream's address, which Meet would
// refuse.
func TestBackend_HostOverTLS(t *testing.T) {
	meet := sandbox.New(sandbox.Production())
	meet.AddApplication(sandbox.Application{ClientID: "a", Secret: "b", Scopes: []string{"rooms:list"}, Active: true})
	meet.AddUser(sandbox.User{Sub: "alice", Email: "alice@example.com", Active: true})
	server := httptest.NewTLSServer(meet)
	t.Cleanup(server.Close)
	g := gatewaytest.Start(t, gatewaytest.Config{
		Gate: "backend " + server.URL + " {\nhost meet.example.org\ncredentials a b\ntransport http {\ntls_insecure_skip_verify\n}\n}",
	})
	token := gatewaytest.Bearer(g.Token(g.AddApplication(nil), "alice@example.com"))
	require.Equal(t, 200, g.Do("GET", roomsPath, "", "Authorization", token).Status)
	for _, r := range meet.Requests() {
		require.Equal(t, "meet.example.org", r.Host)
	}
}

// A JSON configuration cannot rewrite a checked request either.
func TestBackend_RewriteRefused(t *testing.T) {
	meet := gatewaytest.StartMeet(t, sandbox.Quickstart(), nil)
	g := gatewaytest.Start(t, gatewaytest.Config{Gate: meet.Backend()})
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(g.Caddyfile(gatewaytest.Config{Gate: meet.Backend()})), nil)
	require.NoError(t, err)
	changed := bytes.Replace(config, []byte(`"handler":"reverse_proxy"`), []byte(`"handler":"reverse_proxy","rewrite":{"uri":"/admin/"}`), 1)
	require.NotEqual(t, config, changed)
	require.ErrorContains(t, caddyserver.Validate(parsed(t, changed)), "rewrite is not allowed")
	require.NoError(t, caddyserver.Validate(parsed(t, config)))
}

func parsed(t *testing.T, config []byte) *caddyserver.Config {
	t.Helper()
	c := new(caddyserver.Config)
	require.NoError(t, json.Unmarshal(config, c))
	return c
}
