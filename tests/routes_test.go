// SPDX-License-Identifier: MIT

package tests

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/backendclient/sandbox"
	"github.com/meet-gateway/meet-gateway/tests/gatewaytest"
	"github.com/meet-gateway/meet-gateway/tokens"
)

// nextMeet is a Meet with the endpoints of its open pull requests: grant-access
// (#1682), transit codes (#1600), update, soft deletion (#1724) and allowed access
// levels (#1619), with their messages.
type nextMeet struct {
	*gatewaytest.Meet
	mu      sync.Mutex
	arrived []string // method, path, query and body of what reached an opened route
	header  http.Header
	trail   string // the gateway's
	answer  func(r *http.Request, body string) (status int, answer string)
}

func startNextMeet(t *testing.T) *nextMeet {
	n := &nextMeet{}
	n.Meet = strictMeet(t, func(meet http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			path := strings.TrimPrefix(r.URL.Path, "/external-api/v1.0")
			opened := strings.HasSuffix(path, "/grant-access/") || strings.HasPrefix(path, "/users/") || r.Method == "PATCH" || r.Method == "PUT" || r.Method == "DELETE"
			if !opened {
				meet.ServeHTTP(w, r)
				return
			}
			body, _ := io.ReadAll(r.Body)
			n.mu.Lock()
			n.header = r.Header.Clone()
			n.arrived = append(n.arrived, strings.TrimSpace(r.Method+" "+r.URL.String()+" "+string(body)))
			answer := n.answer
			n.mu.Unlock()
			status, text := 200, `{"status":"ok"}`
			if answer != nil {
				status, text = answer(r, string(body))
			}
			if text != "" {
				w.Header().Set("Content-Type", jsonType)
			}
			w.WriteHeader(status)
			_, _ = io.WriteString(w, text)
		})
	})
	roomsOfAlice(n.Meet, 2)
	return n
}

func (n *nextMeet) take() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	arrived := n.arrived
	n.arrived = nil
	return arrived
}

// lastHeader returns the header of the last request to an opened route.
func (n *nextMeet) lastHeader() http.Header {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.header
}

func (n *nextMeet) say(status int, body string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.answer = func(*http.Request, string) (int, string) { return status, body }
}

const presets = `
route POST /rooms/{id}/grant-access rooms:grant-access {
	mail email
	idempotent
}
route PATCH /rooms/{id} rooms:update
route DELETE /rooms/{id} rooms:delete
route POST /users/transit-code users:session {
	mail none
	sensitive
}
`

func startRoutes(t *testing.T, more string) (*nextMeet, *gatewaytest.Gateway, *gatewaytest.Client, string) {
	meet := startNextMeet(t)
	scopes := append(tokens.MeetScopes(), "rooms:grant-access", "users:session")
	meet.AddApplication(sandbox.Application{ClientID: gatewaytest.MeetClientID, Secret: gatewaytest.MeetClientSecret, Active: true, Scopes: scopes})
	trail := filepath.Join(t.TempDir(), "audit.log")
	g := gatewaytest.Start(t, gatewaytest.Config{
		Global: "store embedded\nsecret " + auditSecret + "\naudit {\noutput file " + trail + "\n}", Gate: meet.Backend() + presets + more,
	})
	meet.trail = trail
	app := g.AddApplication(func(a *tokens.Application) {
		a.Scopes, a.Domains, a.DeniedMails = scopes, []string{"example.com"}, []tokens.Mail{"boss@example.com"}
	})
	return meet, g, app, gatewaytest.Bearer(g.Token(app, "alice@example.com"))
}

func TestRoutes_ChecksOnEveryOpenedRoute(t *testing.T) {
	meet, g, _, token := startRoutes(t, "")
	grant, room, transit := roomsPath+"/"+roomID(1)+"/grant-access", roomsPath+"/"+roomID(1), "/external-api/v1.0/users/transit-code"
	for _, tc := range []struct {
		method, path, body string
		status             int
	}{
		{"POST", grant, `{"email":"victim@other.org","role":"administrator"}`, 403},
		{"POST", grant, `{"email":"boss@example.com","role":"administrator"}`, 403},
		{"POST", grant, `{"email":"Bob@Example.com","role":"member"}`, 200},
		{"POST", grant + "/", `{"email":"bob@example.com","note":"x@example.com"}`, 400},
		{"POST", grant, `{"email":"bob@example.com","email":"victim@other.org"}`, 400},
		{"POST", grant, "\ufeff" + `{"email":"bob@example.com"}`, 400},
		{"PATCH", room, `{"owner":{"mail":"victim@other.org"}}`, 403},
		{"PATCH", room, `{"owner":{"mail":"not a mail @"}}`, 400},
		{"PATCH", room, `{"owner":{"mail":"bob@example.com"}}`, 200},
		{"PATCH", room, `{"access_level":"public"}`, 400},
		{"PATCH", room, `{"configuration":{"access_level":"public"}}`, 400},
		{"PATCH", room, `{"access_level":"restricted"}`, 200},
		{"POST", transit, `{"next":"victim@other.org"}`, 200},
		{"POST", transit, `{"access_level":"public"}`, 400},
		{"DELETE", room, `{"x":"victim@other.org"}`, 403},
	} {
		a := g.Do(tc.method, tc.path+"?email=victim@other.org", tc.body, "Authorization", token, "Content-Type", jsonType)
		require.Equal(t, tc.status, a.Status, "%s %s: %s", tc.path, tc.body, a.Body)
		require.Equal(t, "no-store", a.Header.Get("Cache-Control"))
		arrived := meet.take()
		if tc.status >= 400 {
			require.Empty(t, arrived, tc.body)
			continue
		}
		require.Equal(t, []string{tc.method + " " + strings.TrimSuffix(tc.path, "/") + "/ " + tc.body}, arrived, "byte for byte, and no query")
	}
	require.Contains(t, g.Logs(), `"routes":["PATCH /rooms/{id}"]`, "the load logs routes with default checks")
	require.NotContains(t, g.Logs(), `"reason":"invalid_fields","status":400,"endpoint":"operator","request_id":"victim`)
}

// Meet gets only the body of the request, and no headers that would change how it reads the checked
// body.
func TestRoutes_HostileRequests(t *testing.T) {
	meet, g, _, token := startRoutes(t, "")
	const foreign = `{"email":"victim@other.org"}`
	const form, multipart = "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"
	for _, route := range [][2]string{
		{"POST", roomsPath + "/" + roomID(1) + "/grant-access"}, {"PATCH", roomsPath + "/" + roomID(1)}, {"POST", "/external-api/v1.0/users/transit-code"},
	} {
		for _, tc := range []struct {
			name, contentType, body string
			status                  int
			headers                 []string
		}{
			{"UTF-7", jsonType + "; charset=utf-7", `{"note":"victim+AEA-other.org"}`, 415, nil},
			{"UTF-16, declared", jsonType + "; charset=UTF-16LE", "{\x00}\x00", 415, nil},
			{"UTF-16, undeclared", jsonType, "{\x00}\x00", 400, nil},
			{"EBCDIC", jsonType + "; charset=cp037", `{}`, 415, nil},
			{"Latin-1", jsonType + `; charset="iso-8859-1"`, `{}`, 415, nil},
			{"charset twice", jsonType + "; charset=utf-8; charset=utf-7", `{}`, 415, nil},
			{"two types", jsonType, foreign, 400, []string{"Content-Type", "text/plain"}},
			{"gzip, declared", jsonType, `{}`, 415, []string{"Content-Encoding", "gzip"}},
			{"gzip, undeclared", jsonType, "\x1f\x8b\x08\x00", 400, nil},
			{"two codings", jsonType, `{}`, 415, []string{"Content-Encoding", "identity", "Content-Encoding", "deflate"}},
			{"form", form, "email=victim%40other.org", 415, nil},
			{"form, declared as JSON", jsonType, "email=victim%40other.org", 400, nil},
			{"multipart", multipart, "--x\r\nContent-Disposition: form-data; name=\"email\"\r\n\r\nvictim@other.org\r\n--x--\r\n", 415, nil},
			{"merge patch", "application/merge-patch+json", foreign, 415, nil},
			{"JSON patch", "application/json-patch+json", `[{"op":"add","path":"/email","value":"victim@other.org"}]`, 415, nil},
			{"JSON patch, declared as JSON", jsonType, `[{"op":"add","path":"/email","value":"victim@other.org"}]`, 400, nil},
			{"no type", "", foreign, 415, nil},
			{"two bodies", jsonType, "{}\n" + foreign, 400, nil},
			{"levels", jsonType, `{"accessLevel":"public"}`, 400, nil},
			{"too large", jsonType, `{"x":"` + strings.Repeat("x", 64<<10) + `"}`, 413, nil},
			{"UTF-8, declared", jsonType + `; charset="UTF-8"`, `{}`, 200, nil},
			{"other headers", jsonType, `{}`, 200, []string{
				"X-HTTP-Method-Override", "DELETE", "X-Forwarded-Email", "victim@other.org", "From", "victim@other.org", "Content-Encoding", "identity",
				"X-Request-Id", "victim@other.org", "Content-Location", "/?email=victim@other.org", "Cookie", "email=victim@other.org",
			}},
			{"no body", "", "", 200, nil},
		} {
			headers := append([]string{"Authorization", token}, tc.headers...)
			if tc.contentType != "" {
				headers = append(headers, "Content-Type", tc.contentType)
			}
			a := g.Do(route[0], route[1]+"?email=victim@other.org&access_level=public", tc.body, headers...)
			require.Equal(t, tc.status, a.Status, "%s %s: %s", route[1], tc.name, a.Body)
			require.NotContains(t, a.Body, "victim")
			arrived := meet.take()
			if tc.status != 200 {
				require.Empty(t, arrived, tc.name)
				continue
			}
			require.Equal(t, []string{strings.TrimSpace(route[0] + " " + route[1] + "/ " + tc.body)}, arrived, tc.name)
			for _, values := range meet.lastHeader() {
				require.NotContains(t, strings.Join(values, " "), "victim", tc.name)
			}
		}
	}
	require.NotContains(t, g.Logs(), `"reason":"victim`)
}

// A path with several ids is rebuilt from their canonical forms, in order.
func TestRoutes_SeveralIDs(t *testing.T) {
	meet, g, _, token := startRoutes(t, "route PUT /rooms/{id}/accesses/{id} rooms:update")
	plain := func(id string) string { return strings.ToUpper(strings.ReplaceAll(id, "-", "")) }
	want := roomsPath + "/" + roomID(1) + "/accesses/" + roomID(2)
	for _, path := range []string{want, want + "/", roomsPath + "/" + plain(roomID(1)) + "/accesses/" + plain(roomID(2)), roomsPath + "/" + plain(roomID(1)) + "/accesses/" + roomID(2)} {
		require.Equal(t, 200, g.Do("PUT", path, `{"role":"member"}`, "Authorization", token, "Content-Type", jsonType).Status, path)
		require.Equal(t, []string{"PUT " + want + `/ {"role":"member"}`}, meet.take(), path)
	}
	for _, path := range []string{roomsPath + "/" + roomID(1) + "/accesses/x", roomsPath + "/x/accesses/" + roomID(2), roomsPath + "/" + roomID(1) + "/accesses"} {
		require.Equal(t, 404, g.Do("PUT", path, `{}`, "Authorization", token, "Content-Type", jsonType).Status, path)
		require.Empty(t, meet.take())
	}
	require.Equal(t, 403, g.Do("PUT", want, `{"email":"victim@other.org"}`, "Authorization", token, "Content-Type", jsonType).Status)
	yaml := g.Do("GET", "/external-api/v1.0/openapi.yaml", "").Body
	require.Contains(t, yaml, "/rooms/{id}/accesses/{id2}:")
}

func TestRoutes_MeetDecidesLevels(t *testing.T) {
	meet, g, _, token := startRoutes(t, "room_access_levels meet")
	require.Equal(t, 200, g.Do("PATCH", roomsPath+"/"+roomID(1), `{"access_level":"public"}`, "Authorization", token, "Content-Type", jsonType).Status)
	require.Len(t, meet.take(), 1)
	created := func(body string) string {
		require.Equal(t, 201, g.Do("POST", roomsPath, body, "Authorization", token, "Content-Type", jsonType).Status)
		requests := meet.Requests()
		return string(requests[len(requests)-1].Body)
	}
	require.JSONEq(t, `{}`, created(`{}`), "without an access level")
	require.JSONEq(t, `{"access_level":"restricted"}`, created(`{"access_level":"restricted"}`))
	refused := g.Do("POST", roomsPath, `{"access_level":"public"}`, "Authorization", token, "Content-Type", jsonType)
	require.Equal(t, 400, refused.Status)
	require.Contains(t, refused.Body, "Public rooms are disabled", "Meet's own message")
}

func TestRoutes_MeetsMessages(t *testing.T) {
	meet, g, _, token := startRoutes(t, "not_a_member_status 404")
	grant := func() *gatewaytest.Answer {
		return g.Do("POST", roomsPath+"/"+roomID(1)+"/grant-access", `{"email":"bob@example.com"}`, "Authorization", token, "Content-Type", jsonType)
	}
	for _, tc := range []struct {
		status int
		body   string
		want   int
		text   string
		reason string
	}{
		{404, `{"detail":"User not found."}`, 404, "User not found.", "user_not_found"},
		{404, `{"detail":"No Room matches the given query."}`, 404, "No Room matches the given query.", "not_found"},
		{403, `{"detail":"Insufficient permissions. Required scope: rooms:grant-access"}`, 403, "Insufficient permissions. Required scope: rooms:grant-access", "scope_refused_by_meet"},
		{403, `{"error":"This application lost the scope."}`, 403, "This application lost the scope.", "scope_refused_by_meet"},
		{403, `{"detail":"Something else."}`, 403, "Something else.", "forbidden_by_meet"},
		{403, `{"detail":"You do not have permission to perform this action."}`, 404, "Not found.", "not_a_member"},
		{400, `{"email":["Enter a valid email address."]}`, 400, "", "refused_by_meet"},
	} {
		meet.say(tc.status, tc.body)
		a := grant()
		require.Equal(t, tc.want, a.Status, a.Body)
		if tc.text != "" {
			require.Equal(t, tc.text, a.JSON(t)["detail"])
			require.Equal(t, tc.text, a.JSON(t)["error"])
		} else {
			require.Equal(t, []any{"Enter a valid email address."}, a.JSON(t)["email"])
			require.Equal(t, "email: Enter a valid email address.", a.JSON(t)["detail"])
		}
		require.Contains(t, g.Logs(), `"reason":"`+tc.reason+`"`)
	}
}

func TestRoutes_Idempotent(t *testing.T) {
	meet, g, _, token := startRoutes(t, "")
	send := func(path, body, key string) *gatewaytest.Answer {
		return g.Do("POST", path, body, "Authorization", token, "Content-Type", jsonType, "Idempotency-Key", key)
	}
	var granted atomic.Int32
	meet.mu.Lock()
	meet.answer = func(*http.Request, string) (int, string) { granted.Add(1); return 201, `{"role":"member"}` }
	meet.mu.Unlock()
	grant := roomsPath + "/" + roomID(1) + "/grant-access"
	for range 3 {
		a := send(grant, `{"email":"bob@example.com"}`, "k")
		require.Equal(t, 201, a.Status, a.Body)
		require.JSONEq(t, `{"role":"member"}`, a.Body)
	}
	require.EqualValues(t, 1, granted.Load())
	require.Equal(t, 422, send(grant, `{"email":"carol@example.com"}`, "k").Status, "another request")
	require.Equal(t, 422, send(roomsPath+"/"+roomID(2)+"/grant-access", `{"email":"bob@example.com"}`, "k").Status, "another room")
	require.Equal(t, 422, send(roomsPath, `{"email":"bob@example.com"}`, "k").Status, "another route")
	require.EqualValues(t, 1, granted.Load())
}

func TestRoutes_SensitiveAnswer(t *testing.T) {
	meet, g, _, token := startRoutes(t, "")
	meet.say(201, `{"code":"canary-code","slug":"canary-code","id":"`+roomID(7)+`","expires_in":60}`)
	for range 2 {
		a := g.Do("POST", "/external-api/v1.0/users/transit-code", `{}`, "Authorization", token, "Content-Type", jsonType, "Idempotency-Key", "same")
		require.Equal(t, 201, a.Status, a.Body)
		require.Equal(t, "canary-code", a.JSON(t)["code"])
		require.Equal(t, "no-store", a.Header.Get("Cache-Control"))
	}
	require.Len(t, meet.take(), 2, "a single-use code is not repeated")
	meet.say(500, `{"detail":"canary-code leaked"}`)
	require.Equal(t, 502, g.Do("POST", "/external-api/v1.0/users/transit-code", `{}`, "Authorization", token, "Content-Type", jsonType).Status)
	require.NotContains(t, g.Logs(), "canary-code")
	trail, err := os.ReadFile(meet.trail)
	require.NoError(t, err)
	require.Contains(t, string(trail), "/users/transit-code")
	require.NotContains(t, string(trail), "canary-code")
	require.NotContains(t, string(trail), roomID(7))
}

func TestRoutes_QuotaOfNewUsers(t *testing.T) {
	meet := startNextMeet(t)
	scopes := append(tokens.MeetScopes(), "rooms:grant-access", "users:session")
	meet.AddApplication(sandbox.Application{ClientID: gatewaytest.MeetClientID, Secret: gatewaytest.MeetClientSecret, Active: true, Scopes: scopes})
	g := gatewaytest.Start(t, gatewaytest.Config{Global: "store embedded\nlimit users 2/1d", Gate: meet.Backend() + presets})
	app := g.AddApplication(func(a *tokens.Application) { a.Scopes = scopes })
	token := gatewaytest.Bearer(g.Token(app, "alice@example.com"))
	grant := func(mail string) int {
		return g.Do("POST", roomsPath+"/"+roomID(1)+"/grant-access", `{"email":"`+mail+`"}`, "Authorization", token, "Content-Type", jsonType).Status
	}
	meet.say(404, `{"detail":"User not found."}`)
	require.Equal(t, 404, grant("nobody@example.com"), "a user that Meet refuses does not count")
	meet.say(200, `{}`)
	require.Equal(t, 200, grant("one@example.com"))
	require.Equal(t, 403, grant("two@example.com"))
}

// The served description contains the opened routes.
func TestRoutes_InTheDescription(t *testing.T) {
	_, g, _, _ := startRoutes(t, "")
	var doc struct {
		Paths map[string]map[string]struct {
			Security    []map[string][]string      `json:"security"`
			Parameters  []map[string]any           `json:"parameters"`
			Responses   map[string]json.RawMessage `json:"responses"`
			Description string                     `json:"description"`
		} `json:"paths"`
	}
	a := g.Do("GET", "/external-api/v1.0/openapi.json", "")
	require.NoError(t, json.Unmarshal([]byte(a.Body), &doc))
	grant := doc.Paths["/rooms/{id}/grant-access"]["post"]
	require.Contains(t, grant.Description, "email")
	require.Contains(t, grant.Responses, "403")
	require.Contains(t, doc.Paths["/rooms/{id}"], "patch")
	require.Contains(t, doc.Paths["/rooms/{id}"], "get")
	require.Contains(t, doc.Paths, "/users/transit-code")
	yaml := g.Do("GET", "/external-api/v1.0/openapi.yaml", "").Body
	require.Contains(t, yaml, "/users/transit-code")
	require.Contains(t, yaml, g.URL)
}
