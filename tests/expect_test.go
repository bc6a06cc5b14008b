// SPDX-License-Identifier: MIT

package tests

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tests/gatewaytest"
	"github.com/meet-gateway/meet-gateway/tokens"
)

// expecting sends the head of a request that waits for permission to send its body, and
// returns the first response. After any response but 100, the test must not wait.
func expecting(t *testing.T, address, method, path, framing string, headers ...string) *http.Response {
	t.Helper()
	res, rest := firstAnswer(t, address, method, path, framing, headers...)
	if res.StatusCode != http.StatusContinue {
		_, err := rest.ReadByte()
		require.ErrorIs(t, err, io.EOF, "the connection is closed")
	}
	return res
}

// firstAnswer is expecting for tests that need only the response.
func firstAnswer(t *testing.T, address, method, path, framing string, headers ...string) (*http.Response, *bufio.Reader) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
	head := method + " " + path + " HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n" + framing + "\r\n"
	for i := 0; i+1 < len(headers); i += 2 {
		head += headers[i] + ": " + headers[i+1] + "\r\n"
	}
	_, err = io.WriteString(conn, head+"\r\n")
	require.NoError(t, err)
	r := bufio.NewReader(conn)
	res, err := http.ReadResponse(r, &http.Request{Method: method})
	require.NoError(t, err, "no answer within the deadline")
	if res.StatusCode != http.StatusContinue {
		_, err = io.Copy(io.Discard, res.Body)
		require.NoError(t, err)
		require.True(t, res.Close, "the next request would be read as the body")
	}
	return res, r
}

// A refusal that does not depend on the body arrives before the body is sent.
func TestExpect_RefusalsDoNotWait(t *testing.T) {
	meet := strictMeet(t, nil)
	healthAddress := claimPort(t).Addr()
	g := gatewaytest.Start(t, gatewaytest.Config{
		Global: "store embedded\nlimit failed off\nlimit failed_source off\nlimit create_user off\ngateways 1\nhealth " + healthAddress,
		Gate:   meet.Backend() + "\nroute POST /rooms/{id}/guests rooms:update {\nidempotent\n}\nroute PATCH /rooms/{id} rooms:update",
	})
	gate := strings.TrimPrefix(g.URL, "http://")
	app := g.AddApplication(nil)
	narrow := g.AddApplication(func(a *tokens.Application) { a.Scopes = tokens.Scopes{"rooms:list"} })
	outside := g.AddApplication(nil)
	off := g.AddApplication(nil)
	guessed := g.AddApplication(func(a *tokens.Application) { a.Limits = map[string]string{"failed": "2/1h"} })
	token := gatewaytest.Bearer(g.Token(app, "alice@example.com"))
	scopeless := gatewaytest.Bearer(g.Token(narrow, "alice@example.com"))
	elsewhere := gatewaytest.Bearer(g.Token(outside, "alice@example.com"))
	revoked := gatewaytest.Bearer(g.Token(app, "alice@example.com"))
	require.Equal(t, 200, g.Do("POST", base+"/application/revoke", "token="+strings.TrimPrefix(revoked, "Bearer "), "Content-Type", formType, "Authorization", basicOf(app.ID, app.Secret)).Status)
	spent := g.AddApplication(func(a *tokens.Application) { a.Limits = map[string]string{"create_user": "1/1h"} })
	used := gatewaytest.Bearer(g.Token(spent, "alice@example.com"))
	require.Equal(t, 201, g.Do("POST", roomsPath, "{}", "Authorization", used, "Content-Type", jsonType).Status)
	change := func(c *gatewaytest.Client, change func(*tokens.Application)) {
		_, err := g.Authority().UpdateApplication(t.Context(), c.ID, 0, func(a *tokens.Application) error { change(a); return nil })
		require.NoError(t, err)
	}
	change(outside, func(a *tokens.Application) { a.Networks = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")} })
	change(off, func(a *tokens.Application) { a.Active = false })
	for range 2 {
		require.Equal(t, 401, g.Do("POST", tokenPath, gatewaytest.TokenBody(guessed.ID, "wrong", "alice@example.com"), "Content-Type", jsonType).Status)
	}
	foreign := "Bearer eyJhbGciOiJIUzI1NiJ9.eyJhIjoxfQ.c2ln"
	guests := roomsPath + "/" + roomID(1) + "/guests"
	room := roomsPath + "/" + roomID(1)

	type row struct {
		name, method, path string
		want               int
		headers            []string
	}
	rows := []row{
		{"malformed target", "POST", "/external-api/../rooms", 400, nil},
		{"encoded slash", "POST", "/external-api%2Fv1.0/rooms", 400, nil},
		{"unknown path", "POST", "/nothing", 404, nil},
		{"unknown path below the base", "POST", base + "/users", 404, nil},
		{"early data", "POST", roomsPath, 425, []string{"Early-Data", "1"}},
		{"early data, token", "POST", tokenPath, 425, []string{"Early-Data", "1"}},
	}
	for _, path := range []string{roomsPath, room, tokenPath, base + "/application/revoke", base + "/application/introspect", base + "/identity", base + "/identity/source", base + "/docs", base + "/openapi.yaml", base + "/.well-known/jwks.json", guests} {
		rows = append(rows, row{"method", "PUT", path, 405, nil})
	}
	for _, path := range []string{base + "/docs", base + "/docs/style.css", base + "/openapi.json", base + "/.well-known/jwks.json", base + "/.well-known/oauth-protected-resource"} {
		rows = append(rows, row{"served without reading the body", "GET", path, 200, nil})
	}
	for _, at := range []struct{ method, path string }{{"POST", roomsPath}, {"POST", guests}, {"PATCH", room}} {
		rows = append(rows,
			row{"no credentials", at.method, at.path, 401, nil},
			row{"two credentials", at.method, at.path, 401, []string{"Authorization", token, "Authorization", token}},
			row{"not Bearer", at.method, at.path, 401, []string{"Authorization", basicOf(app.ID, app.Secret)}},
			row{"malformed header", at.method, at.path, 401, []string{"Authorization", "Bearer a b"}},
			row{"foreign token", at.method, at.path, 401, []string{"Authorization", foreign}},
			row{"bad signature", at.method, at.path, 401, []string{"Authorization", token + "x"}},
			row{"revoked", at.method, at.path, 401, []string{"Authorization", revoked}},
			row{"scope", at.method, at.path, 403, []string{"Authorization", scopeless}},
			row{"source", at.method, at.path, 403, []string{"Authorization", elsewhere}},
			row{"media type", at.method, at.path, 415, []string{"Authorization", token, "Content-Type", "text/plain"}},
			row{"no media type", at.method, at.path, 415, []string{"Authorization", token}},
			row{"form", at.method, at.path, 415, []string{"Authorization", token, "Content-Type", formType}},
			row{"media type twice", at.method, at.path, 400, []string{"Authorization", token, "Content-Type", jsonType, "Content-Type", formType}},
			row{"limit", at.method, at.path, 429, []string{"Authorization", used, "Content-Type", jsonType}},
		)
	}
	for _, path := range []string{roomsPath, guests} {
		rows = append(
			rows,
			row{"key malformed", "POST", path, 400, []string{"Authorization", token, "Content-Type", jsonType, "Idempotency-Key", strings.Repeat("k", 300)}},
			row{"key empty", "POST", path, 400, []string{"Authorization", token, "Content-Type", jsonType, "Idempotency-Key", ""}},
			row{"key twice", "POST", path, 400, []string{"Authorization", token, "Content-Type", jsonType, "Idempotency-Key", "a", "Idempotency-Key", "b"}},
		)
	}
	for _, path := range []string{guests, room} {
		method := "POST"
		if path == room {
			method = "PATCH"
		}
		rows = append(
			rows,
			row{"charset", method, path, 415, []string{"Authorization", token, "Content-Type", jsonType + "; charset=utf-16"}},
			row{"content coding", method, path, 415, []string{"Authorization", token, "Content-Type", jsonType, "Content-Encoding", "gzip"}},
			row{"no such room", method, roomsPath + "/nonsense" + strings.TrimPrefix(path, room), 404, []string{"Authorization", token, "Content-Type", jsonType}},
		)
	}
	for _, path := range []string{tokenPath, base + "/application/revoke", base + "/application/introspect"} {
		for _, kind := range []string{formType, jsonType} {
			with := func(authorization string) []string {
				return []string{"Content-Type", kind, "Authorization", authorization}
			}
			rows = append(rows,
				row{"wrong secret", "POST", path, 401, with(basicOf(app.ID, "wrong"))},
				row{"unknown client", "POST", path, 401, with(basicOf("nobody", "wrong"))},
				row{"inactive", "POST", path, 401, with(basicOf(off.ID, off.Secret))},
				row{"source", "POST", path, 403, with(basicOf(outside.ID, outside.Secret))},
				row{"failures", "POST", path, 429, with(basicOf(guessed.ID, guessed.Secret))},
				row{"malformed Basic", "POST", path, 400, with("Basic !")},
				row{"two headers", "POST", path, 400, append(with("Basic YTpi"), "Authorization", "Basic YTpi")},
			)
		}
		rows = append(rows,
			row{"media type", "POST", path, 415, []string{"Content-Type", "text/plain", "Authorization", basicOf(app.ID, app.Secret)}},
			row{"no media type", "POST", path, 415, nil},
			row{"multipart", "POST", path, 415, []string{"Content-Type", "multipart/form-data; boundary=x"}},
			row{"media type twice", "POST", path, 400, []string{"Content-Type", jsonType, "Content-Type", formType}},
		)
	}
	lengths := map[string]string{"length": "Content-Length: 10", "chunked": "Transfer-Encoding: chunked"}
	for how, framing := range lengths {
		for _, r := range rows {
			t.Run(how+" "+r.method+" "+r.path+" "+r.name, func(t *testing.T) {
				require.Equal(t, r.want, expecting(t, gate, r.method, r.path, framing, r.headers...).StatusCode)
			})
		}
	}
	for _, r := range []row{
		{"token", "POST", tokenPath, 413, nil},
		{"revoke", "POST", base + "/application/revoke", 413, nil},
		{"room", "POST", roomsPath, 413, []string{"Authorization", token, "Content-Type", jsonType}},
		{"opened route", "POST", guests, 413, []string{"Authorization", token, "Content-Type", jsonType}},
	} {
		t.Run("announced "+r.name, func(t *testing.T) {
			require.Equal(t, r.want, expecting(t, gate, r.method, r.path, "Content-Length: 1000000", r.headers...).StatusCode)
		})
	}
	for path, want := range map[string]int{"/livez": 405, "/readyz": 405, "/": 404, roomsPath: 404} {
		require.Equal(t, want, expecting(t, healthAddress, "POST", path, "Content-Length: 10").StatusCode, path)
	}

	// The gateway waits if the response depends on the body.
	for path, headers := range map[string][]string{
		tokenPath:                        {"Content-Type", formType, "Authorization", basicOf(app.ID, app.Secret)},
		tokenPath + "/":                  {"Content-Type", jsonType},
		base + "/application/introspect": {"Content-Type", formType, "Authorization", basicOf(app.ID, app.Secret)},
		roomsPath:                        {"Content-Type", jsonType, "Authorization", token, "Idempotency-Key", "k"},
		guests:                           {"Content-Type", jsonType, "Authorization", token},
	} {
		require.Equal(t, http.StatusContinue, expecting(t, gate, "POST", path, "Content-Length: "+strconv.Itoa(10), headers...).StatusCode, path)
	}

	// Tokens that Meet checks.
	g.Reload(gatewaytest.Config{Global: "store embedded\nlimit create_user 1/1h\ngateways 1", Gate: meet.Backend() + "\nforeign_tokens passthrough\nroute PATCH /rooms/{id} rooms:update"})
	for _, r := range []row{
		{"media type", "POST", roomsPath, 415, []string{"Content-Type", "text/plain"}},
		{"limit", "POST", roomsPath, 429, []string{"Content-Type", jsonType}},
		{"limit on an opened route", "PATCH", room, 429, []string{"Content-Type", jsonType}},
		{"a read", "GET", roomsPath, 401, []string{"Content-Type", "text/plain"}},
		{"no such room", "PATCH", roomsPath + "/nonsense", 404, nil},
	} {
		t.Run("passthrough "+r.name, func(t *testing.T) {
			require.Equal(t, r.want, expecting(t, gate, r.method, r.path, "Content-Length: 10", append(r.headers, "Authorization", foreign)...).StatusCode)
		})
	}
}
