// SPDX-License-Identifier: MIT

package tests

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/backendclient/sandbox"
	"github.com/meet-gateway/meet-gateway/tests/gatewaytest"
	"github.com/meet-gateway/meet-gateway/tokens"
)

const (
	roomsPath = "/external-api/v1.0/rooms"
	aliceID   = "a11ce000-0000-4000-8000-00000000000a"
)

// roomsOfAlice creates n rooms of alice and one of another user.
func roomsOfAlice(m *gatewaytest.Meet, n int) {
	for i := 1; i <= n; i++ {
		m.AddRoom(sandbox.Room{ID: roomID(i), Slug: fmt.Sprintf("alice-room-%02d", i), Roles: map[string]sandbox.Role{aliceID: sandbox.Owner}, Configuration: map[string]any{}})
	}
	m.AddUser(sandbox.User{ID: "b0b00000-0000-4000-8000-00000000000b", Sub: "bob", Email: "bob@example.com", Active: true})
	m.AddRoom(sandbox.Room{ID: roomID(100), Slug: "bob-private", Roles: map[string]sandbox.Role{"b0b00000-0000-4000-8000-00000000000b": sandbox.Owner}, Configuration: map[string]any{}})
}

func roomID(n int) string { return fmt.Sprintf("5eed0000-0000-4000-8000-%012x", n) }

func TestRooms_PublishedErrors(t *testing.T) {
	meet := strictMeet(t, nil)
	roomsOfAlice(meet, 1)
	g := gatewaytest.Start(t, gatewaytest.Config{Gate: meet.Backend()})
	app := g.AddApplication(nil)
	token := gatewaytest.Bearer(g.Token(app, "alice@example.com"))
	none := gatewaytest.Bearer(g.Token(g.AddApplication(func(a *tokens.Application) { a.Scopes = tokens.Scopes{"rooms:update"} }), "alice@example.com"))
	meet.Requests()

	for _, tc := range []struct {
		name, method, path, authorization string
		status                            int
		text, challenge                   string
	}{
		{"no header", "GET", "", "", 401, "Authentication credentials were not provided.", `Bearer realm="meet-gateway"`},
		{"no header, unknown room", "GET", "/not-a-uuid", "", 401, "Authentication credentials were not provided.", `Bearer realm="meet-gateway"`},
		{"basic", "GET", "", "Basic eDp5", 401, "Authentication credentials were not provided.", `Bearer realm="meet-gateway"`},
		{"other scheme", "GET", "", "Token x", 401, "Authentication credentials were not provided.", `Bearer realm="meet-gateway"`},
		{"bearer alone", "GET", "", "Bearer", 401, "Invalid token header.", `Bearer realm="meet-gateway", error="invalid_request"`},
		{"two words", "GET", "", "Bearer a b", 401, "Invalid token header.", `Bearer realm="meet-gateway", error="invalid_request"`},
		{"garbage", "GET", "", "Bearer garbage", 401, "Invalid token.", `Bearer realm="meet-gateway", error="invalid_token"`},
		{"unsigned", "GET", "", "Bearer eyJhbGciOiJub25lIn0.eyJpc3MiOiJtZWV0LWdhdGV3YXkifQ.", 401, "Invalid token.", `Bearer realm="meet-gateway", error="invalid_token"`},
		{"tampered", "GET", "", token + "x", 401, "Invalid token.", `Bearer realm="meet-gateway", error="invalid_token"`},
		{"scope list", "GET", "", none, 403, "Insufficient permissions. Required scope: 'rooms:list'", `Bearer realm="meet-gateway", error="insufficient_scope", scope="rooms:list"`},
		{"scope create", "POST", "", none, 403, "Insufficient permissions. Required scope: 'rooms:create'", `Bearer realm="meet-gateway", error="insufficient_scope", scope="rooms:create"`},
		{"scope retrieve", "GET", "/" + roomID(1), none, 403, "Insufficient permissions. Required scope: 'rooms:retrieve'", `Bearer realm="meet-gateway", error="insufficient_scope", scope="rooms:retrieve"`},
		{"unknown room", "GET", "/" + roomID(999), token, 404, "Not found.", ""},
		{"no uuid", "GET", "/alice-room-01", token, 404, "Not found.", ""},
		{"another user's room", "GET", "/" + roomID(100), token, 403, "You do not have permission to perform this action.", ""},
		{"put", "PUT", "/" + roomID(1), token, 405, `Method "PUT" not allowed.`, ""},
		{"delete", "DELETE", "/" + roomID(1), token, 405, `Method "DELETE" not allowed.`, ""},
		{"delete the list", "DELETE", "", token, 405, `Method "DELETE" not allowed.`, ""},
		{"below a room", "GET", "/" + roomID(1) + "/invite", token, 404, "Not found.", ""},
		{"page 0", "GET", "?page=0", token, 404, "Invalid page.", ""},
		{"page abc", "GET", "?page=abc", token, 404, "Invalid page.", ""},
		{"page past the end", "GET", "?page=2", token, 404, "Invalid page.", ""},
		{"page_size 0", "GET", "?page_size=0", token, 404, "Invalid page.", ""},
		{"page_size 101", "GET", "?page_size=101", token, 404, "Invalid page.", ""},
		{"page_size -1", "GET", "?page_size=-1", token, 404, "Invalid page.", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, slash := range []string{"", "/"} {
				path, query, found := strings.Cut(tc.path, "?")
				path = roomsPath + path + slash
				if found {
					path += "?" + query
				}
				headers := []string{"Accept-Language", "fr"}
				if tc.authorization != "" {
					headers = append(headers, "Authorization", tc.authorization)
				}
				a := g.Do(tc.method, path, "", headers...)
				require.Equal(t, tc.status, a.Status, a.Body)
				require.Equal(t, map[string]any{"detail": tc.text, "error": tc.text}, a.JSON(t))
				challenge := tc.challenge
				if challenge != "" {
					challenge += `, resource_metadata="` + g.URL + `/external-api/v1.0/.well-known/oauth-protected-resource"`
				}
				require.Equal(t, challenge, a.Header.Get("Www-Authenticate"))
				require.Equal(t, "application/json", a.Header.Get("Content-Type"))
				require.Equal(t, "no-store", a.Header.Get("Cache-Control"))
				require.Equal(t, "Authorization", a.Header.Get("Vary"))
				for _, name := range []string{"Server", "Set-Cookie", "Strict-Transport-Security", "Content-Language", "Via", "X-Frame-Options"} {
					require.Empty(t, a.Header.Values(name), name)
				}
			}
		})
	}
	require.Equal(t, "GET, HEAD, POST", g.Do("PUT", roomsPath, "", "Authorization", token).Header.Get("Allow"))
	require.Equal(t, "GET, HEAD", g.Do("PUT", roomsPath+"/"+roomID(1), "", "Authorization", token).Header.Get("Allow"))

	head := g.Do("HEAD", roomsPath+"/"+roomID(1), "", "Authorization", token)
	require.Equal(t, 200, head.Status)
	require.Empty(t, head.Body)
}

func TestRooms_EveryPageSize(t *testing.T) {
	meet := strictMeet(t, nil)
	const total = 45
	roomsOfAlice(meet, total)
	g := gatewaytest.Start(t, gatewaytest.Config{Gate: meet.Backend()})
	token := gatewaytest.Bearer(g.Token(g.AddApplication(nil), "alice@example.com"))

	for _, slash := range []string{"", "/"} {
		for size := 1; size <= 100; size += 7 {
			next := fmt.Sprintf("%s%s%s?page_size=%d", g.URL, roomsPath, slash, size)
			var slugs []string
			for page := 1; next != ""; page++ {
				a := g.Do("GET", next, "", "Authorization", token)
				require.Equal(t, 200, a.Status, a.Body)
				list := a.JSON(t)
				require.EqualValues(t, total, list["count"])
				for _, room := range list["results"].([]any) {
					slugs = append(slugs, room.(map[string]any)["slug"].(string))
				}
				if page > 1 {
					previous, err := url.Parse(list["previous"].(string))
					require.NoError(t, err)
					require.Equal(t, fmt.Sprint(size), previous.Query().Get("page_size"))
				} else {
					require.Nil(t, list["previous"])
				}
				next, _ = list["next"].(string)
				if next != "" {
					require.Equal(t, fmt.Sprintf("%s%s%s?page=%d&page_size=%d", g.URL, roomsPath, slash, page+1, size), next)
				}
			}
			require.Len(t, slugs, total, "page_size %d", size)
			for i, slug := range slugs {
				require.Equal(t, fmt.Sprintf("alice-room-%02d", i+1), slug)
			}
		}
	}

	def := g.Do("GET", roomsPath, "", "Authorization", token).JSON(t)
	require.Len(t, def["results"], 20)
	require.Equal(t, g.URL+roomsPath+"?page=2", def["next"])
	require.Equal(t, g.URL+roomsPath, g.Do("GET", roomsPath+"?page=2", "", "Authorization", token).JSON(t)["previous"])
	require.Len(t, g.Do("GET", roomsPath+"?page=last", "", "Authorization", token).JSON(t)["results"], 5)
}

// net/http would send long answers in chunks.
func TestRooms_AnswersHaveALength(t *testing.T) {
	meet := strictMeet(t, nil)
	roomsOfAlice(meet, 45)
	g := gatewaytest.Start(t, gatewaytest.Config{Gate: meet.Backend(), Site: "encode gzip"})
	token := gatewaytest.Bearer(g.Token(g.AddApplication(nil), "alice@example.com"))
	for _, path := range []string{roomsPath + "?page_size=1", roomsPath + "?page_size=45", "/external-api/v1.0/openapi.yaml"} {
		answer := g.Do(http.MethodGet, path, "", "Authorization", token, "Accept-Encoding", "identity")
		require.Equal(t, http.StatusOK, answer.Status, path)
		require.Equal(t, strconv.Itoa(len(answer.Body)), answer.Header.Get("Content-Length"), path)
	}
	compressed := g.Do(http.MethodGet, roomsPath+"?page_size=45", "", "Authorization", token) // net/http asks for gzip
	require.Contains(t, compressed.Header["Vary"], "Accept-Encoding")
	require.Len(t, compressed.JSON(t)["results"], 45)
}

func TestRooms_LinksUseTheCallersURL(t *testing.T) {
	meet := strictMeet(t, nil)
	roomsOfAlice(meet, 30)
	gate := meet.Backend() + "\nbase_path /external-api/v1.0 /"
	g := gatewaytest.Start(t, gatewaytest.Config{Gate: gate})
	token := gatewaytest.Bearer(g.Token(g.AddApplication(nil), "alice@example.com"))
	next := func(path string, headers ...string) any {
		return g.Do("GET", path, "", append(headers, "Authorization", token)...).JSON(t)["next"]
	}
	require.Equal(t, "http://api.example.net/rooms?page=2", next("/rooms", "Host", "api.example.net"))
	require.Equal(t, "http://api.example.net:8443/rooms/?page=2", next("/rooms/", "Host", "api.example.net:8443"))
	forwarded := []string{"Host", "inner:8080", "X-Forwarded-Proto", "https", "X-Forwarded-Host", "api.example.net", "X-Forwarded-Port", "8443", "Forwarded", "host=evil.example"}
	require.Equal(t, "http://inner:8080/rooms?page=2", next("/rooms", forwarded...), "not from a trusted proxy")

	g.Reload(gatewaytest.Config{Gate: gate, Servers: "trusted_proxies static 127.0.0.1/32"})
	require.Equal(t, "https://api.example.net:8443/rooms?page=2", next("/rooms", forwarded...))
	require.Equal(t, "https://api.example.net/external-api/v1.0/rooms?page=2",
		next(roomsPath, "X-Forwarded-Proto", "https", "X-Forwarded-Host", "api.example.net", "X-Forwarded-Port", "443"))
	require.Equal(t, "https://proxy.example/rooms?page=2",
		next("/rooms", "X-Forwarded-Proto", "https", "X-Forwarded-Host", "spoofed.example, proxy.example"), "the last proxy's word counts")
	require.Equal(t, "http://inner/rooms?page=2",
		next("/rooms", "Host", "inner", "X-Forwarded-Proto", "javascript", "X-Forwarded-Host", "a/b", "X-Forwarded-Port", "x"))
}

func TestRooms_Slug(t *testing.T) {
	meet := strictMeet(t, nil)
	roomsOfAlice(meet, 45)
	g := gatewaytest.Start(t, gatewaytest.Config{Gate: meet.Backend()})
	token := gatewaytest.Bearer(g.Token(g.AddApplication(nil), "alice@example.com"))
	list := g.Do("GET", roomsPath+"?slug=alice-room-44", "", "Authorization", token).JSON(t)
	require.EqualValues(t, 1, list["count"])
	require.Equal(t, roomID(44), list["results"].([]any)[0].(map[string]any)["id"])
	for _, slug := range []string{"bob-private", "no-such-room", "%2e%2e", "a%20b"} {
		a := g.Do("GET", roomsPath+"?slug="+slug, "", "Authorization", token)
		require.Equal(t, 200, a.Status)
		require.JSONEq(t, `{"count":0,"next":null,"previous":null,"results":[]}`, a.Body)
	}
}

func TestRooms_CreationPolicy(t *testing.T) {
	settings := sandbox.Quickstart()
	settings.AllowPublicAccess = true
	settings.DefaultAccessLevel = "public" // the gateway must send a level
	meet := gatewaytest.StartMeet(t, settings, nil)
	g := gatewaytest.Start(t, gatewaytest.Config{Gate: meet.Backend()})
	app := g.AddApplication(nil)
	token := gatewaytest.Bearer(g.Token(app, "ada@example.org"))
	withDefaults := gatewaytest.Bearer(g.Token(g.AddApplication(func(a *tokens.Application) {
		a.RoomDefaults = tokens.RoomDefaults{AccessLevel: "restricted", Configuration: []byte(`{"everyone_can_mute":true}`)}
	}), "ada@example.org"))
	create := func(token, body string) *gatewaytest.Answer {
		return g.Do("POST", roomsPath, body, "Authorization", token, "Content-Type", jsonType)
	}

	for _, tc := range []struct{ token, body, level, configuration string }{
		{token, "", "trusted", `{}`},
		{token, "{}", "trusted", `{}`},
		{token, `{"access_level":"restricted"}`, "restricted", `{}`},
		{token, `{"configuration":{"everyone_can_mute":false}}`, "trusted", `{"everyone_can_mute":false}`},
		{token, `{"name":"mine","slug":"mine","pin_code":"1","unknown":{"a":1}}`, "trusted", `{}`},
		{withDefaults, "", "restricted", `{"everyone_can_mute":true}`},
		{withDefaults, `{"access_level":"trusted"}`, "trusted", `{"everyone_can_mute":true}`},
		{withDefaults, `{"configuration":{}}`, "restricted", `{}`},
	} {
		a := create(tc.token, tc.body)
		require.Equal(t, 201, a.Status, a.Body)
		require.Equal(t, tc.level, a.JSON(t)["access_level"], tc.body)
		require.Contains(t, a.Body, `"configuration":`+tc.configuration)
	}

	for body, want := range map[string]string{
		`{"access_level":"public"}`:                          `{"access_level":["Public rooms are disabled for the external API."],"error":"invalid_request","detail":"access_level: Public rooms are disabled for the external API."}`,
		`{"access_level":"nope"}`:                            `{"access_level":["\"nope\" is not a valid choice."],"error":"invalid_request","detail":"access_level: \"nope\" is not a valid choice."}`,
		`{"access_level":null}`:                              `{"access_level":["This field may not be null."],"error":"invalid_request","detail":"access_level: This field may not be null."}`,
		`{"access_level":["public"]}`:                        `{"access_level":["\"[\\\"public\\\"]\" is not a valid choice."],"error":"invalid_request","detail":"access_level: \"[\\\"public\\\"]\" is not a valid choice."}`,
		`{"access_level":"trusted","access_level":"public"}`: `{"detail":"JSON parse error - duplicate key.","error":"invalid_request"}`,
		`null`:  `{"error":"invalid_request","non_field_errors":["No data provided"],"detail":"No data provided"}`,
		`[]`:    `{"error":"invalid_request","non_field_errors":["Invalid data. Expected a dictionary, but got list."],"detail":"Invalid data. Expected a dictionary, but got list."}`,
		`{"a":`: `{"detail":"JSON parse error - the body is not valid JSON.","error":"invalid_request"}`,
	} {
		a := create(token, body)
		require.Equal(t, 400, a.Status, body)
		require.JSONEq(t, want, a.Body)
	}
	meetsOwnWords := create(token, `{"configuration":{"unsupported":1}}`)
	require.Equal(t, 400, meetsOwnWords.Status)
	require.Contains(t, meetsOwnWords.Body, "extra_forbidden")

	require.Equal(t, 413, create(token, `{"x":"`+strings.Repeat("a", 65536)+`"}`).Status)
	require.Equal(t, 415, g.Do("POST", roomsPath, "access_level=public", "Authorization", token, "Content-Type", formType).Status)

	g.Reload(gatewaytest.Config{Gate: meet.Backend() + "\nroom_access_levels restricted public"})
	require.Equal(t, "restricted", create(token, "").JSON(t)["access_level"])
	require.Equal(t, "public", create(token, `{"access_level":"public"}`).JSON(t)["access_level"])
	require.Equal(t, 400, create(token, `{"access_level":"trusted"}`).Status)

	g.Reload(gatewaytest.Config{Gate: meet.Backend() + "\nstrict_rooms"})
	require.Equal(t, 201, create(token, `{"access_level":"restricted"}`).Status)
	requests := meet.Requests()
	require.JSONEq(t, "{}", string(requests[len(requests)-1].Body))
}

func TestRooms_URLFilled(t *testing.T) {
	settings := sandbox.Quickstart()
	settings.BaseURL = ""
	meet := gatewaytest.StartMeet(t, settings, nil)
	g := gatewaytest.Start(t, gatewaytest.Config{Gate: meet.Backend() + "\nroom_url_base https://visio.example.org/"})
	token := gatewaytest.Bearer(g.Token(g.AddApplication(nil), "ada@example.org"))
	created := g.Do("POST", roomsPath, "", "Authorization", token).JSON(t)
	want := "https://visio.example.org/" + created["slug"].(string)
	require.Equal(t, want, created["url"])
	require.Equal(t, want, g.Do("GET", roomsPath+"/"+created["id"].(string), "", "Authorization", token).JSON(t)["url"])
	list := g.Do("GET", roomsPath, "", "Authorization", token).JSON(t)
	require.Equal(t, want, list["results"].([]any)[0].(map[string]any)["url"])
}

func TestRooms_OperatorRoutes(t *testing.T) {
	var seen atomic.Value
	wrap := func(meet http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case strings.HasSuffix(r.URL.Path, "/grant-access/"):
				body := httptest.NewRecorder()
				_, _ = body.Body.ReadFrom(r.Body)
				seen.Store(r.Method + " " + r.RequestURI + " " + body.Body.String())
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(http.StatusCreated)
				_, _ = w.Write([]byte(`{"granted":true}`))
			default:
				meet.ServeHTTP(w, r)
			}
		})
	}
	meet := strictMeet(t, wrap)
	roomsOfAlice(meet, 1)
	g := gatewaytest.Start(t, gatewaytest.Config{Gate: meet.Backend() + "\nroute PATCH /rooms/{id} rooms:update\nroute POST /rooms/{id}/grant-access rooms:grant-access"})
	token := gatewaytest.Bearer(g.Token(g.AddApplication(nil), "alice@example.com"))
	for _, ambiguous := range []string{`{"name":"a","name":"b"}`, `{"name":"\ud800"}`, `[]`, `{"name":"a"} {}`, strings.Repeat(`{"a":`, 40) + "1" + strings.Repeat("}", 40)} {
		refused := g.Do("PATCH", roomsPath+"/"+roomID(1), ambiguous, "Authorization", token, "Content-Type", jsonType)
		require.Equal(t, 400, refused.Status, ambiguous)
	}
	patch := g.Do("PATCH", roomsPath+"/"+roomID(1), "{}", "Authorization", token, "Content-Type", jsonType)
	require.Equal(t, 405, patch.Status, "Meet does not have the route")
	require.Equal(t, map[string]any{"detail": `Method "PATCH" not allowed.`, "error": `Method "PATCH" not allowed.`}, patch.JSON(t))

	grant := roomsPath + "/" + strings.ToUpper(roomID(1)) + "/grant-access?x=1"
	require.Equal(t, 403, g.Do("POST", grant, "{}", "Authorization", token, "Content-Type", jsonType).Status)
	require.Nil(t, seen.Load())
	meet.AddApplication(sandbox.Application{ClientID: "granter", Secret: "granter-secret", Scopes: []string{"rooms:grant-access"}, Active: true})
	granter := gatewaytest.Bearer(g.Token(g.AddApplication(func(a *tokens.Application) {
		a.Scopes = tokens.Scopes{"rooms:grant-access"}
		a.Backend = &tokens.BackendCredentials{ClientID: "granter", ClientSecret: "granter-secret"}
	}), "alice@example.com"))
	granted := g.Do("POST", grant, `{"user":"bob"}`, "Authorization", granter, "Content-Type", jsonType)
	require.Equal(t, 201, granted.Status, granted.Body)
	require.JSONEq(t, `{"granted":true}`, granted.Body)
	require.Equal(t, "POST /external-api/v1.0/rooms/"+roomID(1)+`/grant-access/ {"user":"bob"}`, seen.Load())
	require.Equal(t, 404, g.Do("POST", roomsPath+"/nope/grant-access", "{}", "Authorization", granter, "Content-Type", jsonType).Status)
	require.Equal(t, 405, g.Do("GET", grant, "", "Authorization", token).Status)
}

func TestRooms_MeetFailures(t *testing.T) {
	var fault atomic.Value
	fault.Store(http.HandlerFunc(nil))
	wrap := func(meet http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if f := fault.Load().(http.HandlerFunc); f != nil && strings.Contains(r.URL.Path, "/rooms/") {
				f(w, r)
				return
			}
			meet.ServeHTTP(w, r)
		})
	}
	html := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			w.Header().Set("Set-Cookie", "sessionid=canary")
			w.WriteHeader(status)
			_, _ = w.Write([]byte("<h1>canary</h1>"))
		}
	}
	meet := strictMeet(t, wrap)
	g := gatewaytest.Start(t, gatewaytest.Config{Gate: meet.Backend()})
	app := g.AddApplication(nil)
	var calls atomic.Int32
	for name, tc := range map[string]struct {
		fault  http.HandlerFunc
		status int   // a POST that may have been carried out gets 502 instead of 503
		posts  int32 // how often a POST may arrive
	}{
		"html 200": {html(200), 502, 1},
		"html 500": {html(500), 502, 1},
		"html 404": {html(404), 502, 1},
		"html 403": {html(403), 502, 1},
		"html 400": {html(400), 502, 2},
		"301": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://evil.example/", http.StatusMovedPermanently)
		}, 502, 1},
		"502":           {html(502), 503, 1},
		"503":           {html(503), 503, 1},
		"504":           {html(504), 504, 1},
		"truncated":     {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 503, 1},
		"half a body":   {halfABody, 502, 1},
		"no json":       {jsonBody(200, `{"id":`), 502, 1},
		"expired token": {jsonBody(401, `{"detail":"Token expired."}`), 502, 2},
		"user disabled": {jsonBody(401, `{"detail":"User account is disabled."}`), 401, 1},
	} {
		t.Run(name, func(t *testing.T) {
			for _, method := range []string{"GET", "POST"} {
				fault.Store(http.HandlerFunc(nil))
				token := gatewaytest.Bearer(g.Token(app, "alice@example.com"))
				calls.Store(0)
				fault.Store(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { calls.Add(1); tc.fault(w, r) }))
				a := g.Do(method, roomsPath, "", "Authorization", token)
				status := tc.status
				if method == http.MethodPost && tc.status == http.StatusServiceUnavailable {
					status = http.StatusBadGateway
				}
				require.Equal(t, status, a.Status, "%s %s", method, a.Body)
				require.Equal(t, "application/json", a.Header.Get("Content-Type"))
				require.NotContains(t, a.Body, "canary")
				require.Empty(t, a.Header.Values("Set-Cookie"))
				require.Empty(t, a.Header.Values("Location"))
				require.Equal(t, status == http.StatusServiceUnavailable, a.Header.Get("Retry-After") != "")
				if method == "POST" {
					require.LessOrEqual(t, calls.Load(), tc.posts)
				}
			}
		})
	}
	require.NotContains(t, g.Logs(), "canary")
}

func jsonBody(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
}

func halfABody(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", "100")
	_, _ = w.Write([]byte(`{"id":"`))
}

func TestRooms_DisabledUserIsRefused(t *testing.T) {
	meet := strictMeet(t, nil)
	g := gatewaytest.Start(t, gatewaytest.Config{Gate: meet.Backend()})
	token := gatewaytest.Bearer(g.Token(g.AddApplication(nil), "inactive@example.com"))
	require.Equal(t, 200, g.Do("GET", "/external-api/v1.0/identity", "", "Authorization", token).Status)
	first := g.Do("GET", roomsPath, "", "Authorization", token)
	require.Equal(t, 401, first.Status)
	require.Equal(t, "User account is disabled.", first.JSON(t)["detail"])
	require.Equal(t, 401, g.Do("GET", "/external-api/v1.0/identity", "", "Authorization", token).Status)
	require.Equal(t, "User account is disabled.", g.Do("GET", roomsPath, "", "Authorization", token).JSON(t)["detail"])
}

func TestRooms_503WithoutMeet(t *testing.T) {
	meet := strictMeet(t, nil)
	g := gatewaytest.Start(t, gatewaytest.Config{Gate: meet.Backend()})
	app := g.AddApplication(nil)
	token := gatewaytest.Bearer(g.Token(app, "alice@example.com"))
	g.Reload(gatewaytest.Config{Gate: "backend 127.0.0.1:1 {\nhost meet.example.org\ncredentials a b\n}"})
	for _, a := range []*gatewaytest.Answer{g.Do("GET", roomsPath, "", "Authorization", token), g.TokenRequest(app, "alice@example.com")} {
		require.Equal(t, 503, a.Status, a.Body)
		require.NotEmpty(t, a.Header.Get("Retry-After"))
		require.Equal(t, "temporarily_unavailable", a.JSON(t)["error"])
	}
	require.Contains(t, g.Logs(), "check the backend's address, port and TLS")
}
