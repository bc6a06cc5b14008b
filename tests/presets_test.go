// SPDX-License-Identifier: MIT

package tests

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/backendclient/sandbox"
	"github.com/meet-gateway/meet-gateway/tests/gatewaytest"
	"github.com/meet-gateway/meet-gateway/tokens"
)

// preset returns a block of docs/caddyfile.md that contains a word.
func preset(t *testing.T, word string) string {
	t.Helper()
	var found []string
	for _, b := range documented(t) {
		if b.file == "caddyfile.md" && b.language == "caddyfile" && strings.Contains(b.text, word) && !strings.Contains(b.text, "meet_gateway") {
			found = append(found, b.text)
		}
	}
	require.Len(t, found, 1, word)
	return found[0]
}

// presetWords name the presets, and their golden files.
var presetWords = map[string]string{
	"grant_access": "/grant-access", "update_delete": "DELETE", "transit_code": "/users/transit-code", "access_levels": "room_access_levels restricted",
}

// The documented presets are the golden files of package caddymodule.
func TestPresets_Golden(t *testing.T) {
	for name, word := range presetWords {
		golden, err := os.ReadFile("../caddymodule/testdata/adapt/preset_" + name + ".caddyfiletest")
		require.NoError(t, err)
		require.Contains(t, string(golden), "\n"+preset(t, word)+"\t}\n}\n", name)
	}
}

// comingMeet is a Meet with the changes of its open pull requests: grant-access and the filter by
// slug (#1682), update and soft deletion (#1724), transit codes, which check the scope in the
// database (#1600), and allowed access levels (#1619).
type comingMeet struct {
	*gatewaytest.Meet
	allowed []string // access levels

	mu      sync.Mutex
	rooms   map[string]sandbox.Room
	deleted map[string]bool
	granted []string // scopes of the application in the database
	codes   map[string]bool
	arrived []string // method, path, query and body of each request, but exchanges
}

const (
	bobID   = "b0b00000-0000-4000-8000-00000000000b"
	carolID = "ca401000-0000-4000-8000-00000000000c"
)

func startComingMeet(t *testing.T, settings sandbox.Settings) *comingMeet {
	m := &comingMeet{
		allowed: []string{"public", "trusted", "restricted"}, rooms: map[string]sandbox.Room{}, deleted: map[string]bool{}, codes: map[string]bool{},
		granted: append(tokens.MeetScopes(), "rooms:grant-access", "users:session"),
	}
	m.Meet = gatewaytest.StartMeet(t, settings, func(meet http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { m.serve(meet, w, r) })
	})
	m.AddApplication(sandbox.Application{ClientID: gatewaytest.MeetClientID, Secret: gatewaytest.MeetClientSecret, Active: true, Scopes: m.granted})
	for id, mail := range map[string]string{aliceID: "Alice@example.com", bobID: "bob@example.com", carolID: "carol@example.com"} {
		m.AddUser(sandbox.User{ID: id, Sub: mail, Email: mail, Active: true})
	}
	for i := 1; i <= 3; i++ {
		m.put(sandbox.Room{
			ID: roomID(i), Slug: fmt.Sprintf("alice-room-%02d", i), AccessLevel: "trusted", Configuration: map[string]any{},
			Roles: map[string]sandbox.Role{aliceID: sandbox.Owner, carolID: sandbox.Member},
		})
	}
	return m
}

// put adds or replaces a room.
func (m *comingMeet) put(room sandbox.Room) {
	m.RemoveRoom(room.ID)
	room.Roles = maps.Clone(room.Roles)
	m.AddRoom(room)
	m.rooms[room.ID] = room
}

func (m *comingMeet) take() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	arrived := m.arrived
	m.arrived = nil
	return arrived
}

func (m *comingMeet) serve(meet http.Handler, w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	path := strings.TrimPrefix(r.URL.Path, "/external-api/v1.0")
	if path == "/application/token/" {
		meet.ServeHTTP(w, r)
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.arrived = append(m.arrived, strings.TrimSpace(r.Method+" "+strings.TrimPrefix(r.URL.String(), "/external-api/v1.0")+" "+string(body)))
	status, answer := m.answer(meet, r, path, body)
	if status == 0 {
		meet.ServeHTTP(w, r)
		return
	}
	if answer != "" {
		w.Header().Set("Content-Type", "application/json")
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, answer)
}

// answer returns 0 if today's Meet handles the request.
func (m *comingMeet) answer(meet http.Handler, r *http.Request, path string, body []byte) (status int, answer string) {
	id, rest, _ := strings.Cut(strings.TrimPrefix(path, "/rooms/"), "/")
	switch {
	case path == "/rooms/" && r.Method == http.MethodPost:
		return m.refuseLevel(body)
	case path == "/users/transit-code/":
		if status, answer, _ = m.enter(meet, r, "users:session"); status == 0 {
			code := rand.Text()
			m.codes[code] = true
			status, answer = http.StatusCreated, fmt.Sprintf(`{"code":%q,"expires_in":60}`, code)
		}
	case !strings.HasPrefix(path, "/rooms/"):
	case r.Method == http.MethodPost && rest == "grant-access/":
		return m.grantAccess(meet, r, id, body)
	case r.Method == http.MethodPatch && rest == "":
		return m.update(meet, r, id, body)
	case r.Method == http.MethodDelete && rest == "":
		room, status, answer := m.mine(meet, r, "rooms:delete", id, sandbox.Owner)
		if status != 0 {
			return status, answer
		}
		m.deleted[id] = true
		m.RemoveRoom(room.ID)
		return http.StatusNoContent, ""
	}
	return status, answer
}

// enter authenticates a request like today's Meet, and checks the scope in the token and in the
// database.
func (m *comingMeet) enter(meet http.Handler, r *http.Request, scope string) (status int, answer, user string) {
	if r.Header.Get("X-Forwarded-Proto") != "https" || r.Host != "meet.example.org" || !strings.HasSuffix(r.URL.Path, "/") {
		return http.StatusMovedPermanently, "", ""
	}
	list := httptest.NewRequest(http.MethodGet, "/external-api/v1.0/rooms/", nil)
	list.Host, list.Header = r.Host, r.Header
	w := httptest.NewRecorder()
	meet.ServeHTTP(w, list)
	if w.Code == http.StatusUnauthorized {
		return w.Code, w.Body.String(), ""
	}
	var claims struct {
		UserID string `json:"user_id"`
		Scope  string `json:"scope"`
	}
	parts := strings.Split(r.Header.Get("Authorization"), ".")
	payload, err := base64.RawURLEncoding.DecodeString(parts[min(1, len(parts)-1)])
	if err != nil || json.Unmarshal(payload, &claims) != nil {
		return http.StatusUnauthorized, `{"detail":"Invalid token."}`, ""
	}
	switch {
	case !slices.Contains(strings.Fields(claims.Scope), scope):
		return http.StatusForbidden, fmt.Sprintf(`{"detail":"Insufficient permissions. Required scope: %s"}`, scope), ""
	case !slices.Contains(m.granted, scope):
		return http.StatusForbidden, `{"detail":"The application has no longer been granted the scope."}`, ""
	}
	return 0, "", claims.UserID
}

// mine returns a room in which the user of the request has one of some roles.
func (m *comingMeet) mine(meet http.Handler, r *http.Request, scope, id string, roles ...sandbox.Role) (room sandbox.Room, status int, answer string) {
	status, answer, user := m.enter(meet, r, scope)
	if status != 0 {
		return room, status, answer
	}
	room, known := m.rooms[id]
	switch {
	case !known || m.deleted[id]:
		return room, http.StatusNotFound, `{"detail":"No Room matches the given query."}`
	case !slices.Contains(roles, room.Roles[user]):
		return room, http.StatusForbidden, `{"detail":"You do not have permission to perform this action."}`
	}
	return room, 0, ""
}

func (m *comingMeet) grantAccess(meet http.Handler, r *http.Request, id string, body []byte) (int, string) {
	room, status, answer := m.mine(meet, r, "rooms:grant-access", id, sandbox.Owner, sandbox.Administrator)
	if status != 0 {
		return status, answer
	}
	asked := struct{ Email, Role string }{Role: "administrator"}
	if err := json.Unmarshal(body, &asked); err != nil || asked.Email == "" {
		return http.StatusBadRequest, `{"email":["This field is required."]}`
	}
	if asked.Role != "administrator" && asked.Role != "member" {
		return http.StatusBadRequest, fmt.Sprintf(`{"role":["\"%s\" is not a valid choice."]}`, asked.Role)
	}
	user := map[string]string{"alice@example.com": aliceID, "bob@example.com": bobID, "carol@example.com": carolID}[strings.ToLower(asked.Email)]
	if user == "" {
		return http.StatusNotFound, `{"detail":"User not found."}`
	}
	if room.Roles[user] != sandbox.Owner { // never downgrades an owner
		room.Roles = maps.Clone(room.Roles)
		room.Roles[user] = sandbox.Role(asked.Role)
		m.put(room)
	}
	return http.StatusCreated, fmt.Sprintf(`{"email":%q,"role":%q}`, asked.Email, room.Roles[user])
}

func (m *comingMeet) update(meet http.Handler, r *http.Request, id string, body []byte) (int, string) {
	room, status, answer := m.mine(meet, r, "rooms:update", id, sandbox.Owner, sandbox.Administrator)
	if status != 0 {
		return status, answer
	}
	if status, answer := m.refuseLevel(body); status != 0 {
		return status, answer
	}
	var asked struct {
		AccessLevel string `json:"access_level"`
	}
	if json.Unmarshal(body, &asked) == nil && asked.AccessLevel != "" {
		room.AccessLevel = asked.AccessLevel
	}
	m.put(room)
	return http.StatusOK, fmt.Sprintf(`{"id":%q,"name":%q,"slug":%q,"access_level":%q,"configuration":{}}`, id, room.Slug, room.Slug, room.AccessLevel)
}

// refuseLevel checks the list of allowed levels. A missing level means the default,
// which must be in the list for Meet to start.
func (m *comingMeet) refuseLevel(body []byte) (int, string) {
	var asked struct {
		AccessLevel *string `json:"access_level"`
	}
	if json.Unmarshal(body, &asked) != nil || asked.AccessLevel == nil || slices.Contains(m.allowed, *asked.AccessLevel) {
		return 0, ""
	}
	return http.StatusBadRequest, fmt.Sprintf(`{"access_level":["\"%s\" is not a valid choice."]}`, *asked.AccessLevel)
}

// opened is a gateway with a preset in front of a comingMeet.
type opened struct {
	*gatewaytest.Gateway
	meet *comingMeet
	app  *gatewaytest.Client
	t    *testing.T
}

func open(t *testing.T, settings sandbox.Settings, gate string) *opened {
	meet := startComingMeet(t, settings)
	g := gatewaytest.Start(t, gatewaytest.Config{Gate: meet.Backend() + "\n" + gate})
	app := g.AddApplication(func(a *tokens.Application) {
		a.Scopes, a.Domains = append(tokens.MeetScopes(), "rooms:grant-access", "users:session"), []string{"example.com"}
	})
	return &opened{g, meet, app, t}
}

// as makes a request for a user.
func (o *opened) as(user, method, path, body string, headers ...string) *gatewaytest.Answer {
	o.t.Helper()
	headers = append(headers, "Authorization", gatewaytest.Bearer(o.Token(o.app, user+"@example.com")))
	if body != "" {
		headers = append(headers, "Content-Type", jsonType)
	}
	return o.Do(method, "/external-api/v1.0"+path, body, headers...)
}

func TestPresets_GrantAccess(t *testing.T) {
	o := open(t, sandbox.Production(), preset(t, "/grant-access"))
	grant := "/rooms/" + roomID(1) + "/grant-access"
	require.EqualValues(t, 0, o.as("bob", "GET", "/rooms", "").JSON(t)["count"])
	o.meet.take()
	for range 2 {
		a := o.as("alice", "POST", grant, `{"email":"bob@example.com"}`, "Idempotency-Key", "one")
		require.Equal(t, 201, a.Status, a.Body)
		require.JSONEq(t, `{"email":"bob@example.com","role":"administrator"}`, a.Body)
	}
	require.Equal(t, []string{`POST ` + grant + `/ {"email":"bob@example.com"}`}, o.meet.take())
	require.EqualValues(t, 1, o.as("bob", "GET", "/rooms", "").JSON(t)["count"])
	require.Equal(t, 201, o.as("bob", "POST", grant, `{"email":"carol@example.com","role":"administrator"}`).Status, "bob has access now")

	for _, tc := range []struct {
		name, user, room, body string
		status                 int
		detail, reason         string
	}{
		{"unknown address", "alice", roomID(1), `{"email":"nobody@example.com"}`, 404, "User not found.", "user_not_found"},
		{"no room", "alice", roomID(50), `{"email":"bob@example.com"}`, 404, "No Room matches the given query.", "not_found"},
		{"a member", "carol", roomID(2), `{"email":"bob@example.com"}`, 403, "You do not have permission to perform this action.", "not_a_member"},
		{"another role", "alice", roomID(1), `{"email":"bob@example.com","role":"owner"}`, 400, `role: "owner" is not a valid choice.`, "refused_by_meet"},
		{"another domain", "alice", roomID(1), `{"email":"victim@other.org"}`, 403, "This application is not authorized for this email domain.", "domain_not_allowed"},
	} {
		a := o.as(tc.user, "POST", "/rooms/"+tc.room+"/grant-access", tc.body)
		require.Equal(t, tc.status, a.Status, "%s: %s", tc.name, a.Body)
		require.Equal(t, tc.detail, a.JSON(t)["detail"], tc.name)
		require.Contains(t, o.Logs(), `"reason":"`+tc.reason+`"`, tc.name)
	}
	for _, arrived := range o.meet.take() {
		require.NotContains(t, arrived, "other.org")
	}
	o.meet.setGranted("rooms:list", "rooms:retrieve")
	a := o.as("alice", "POST", grant, `{"email":"bob@example.com"}`)
	require.Equal(t, 403, a.Status)
	require.Equal(t, "The application has no longer been granted the scope.", a.JSON(t)["detail"])
	require.Contains(t, o.Logs(), `"reason":"scope_refused_by_meet"`)
}

func (m *comingMeet) setGranted(scopes ...string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.granted = scopes
}

// If Meet filters by slug, the gateway sends it one request, with the same response to the caller.
func TestPresets_SlugFilter(t *testing.T) {
	answers := map[bool][]string{}
	for _, filters := range []bool{true, false} {
		t.Run(fmt.Sprint(filters), func(t *testing.T) {
			settings := sandbox.Production()
			settings.SlugFilter, settings.PageSize = filters, 2
			o := open(t, settings, "")
			for _, slug := range []string{"alice-room-03", "no-such-room"} {
				o.meet.take()
				a := o.as("alice", "GET", "/rooms?slug="+slug, "")
				require.Equal(t, 200, a.Status, a.Body)
				answers[filters] = append(answers[filters], a.Body)
				want := []string{"GET /rooms/?slug=" + slug}
				if !filters { // not on the pages fetched so far
					want = append(want, "GET /rooms/?page=2")
				}
				require.Equal(t, want, o.meet.take())
			}
			require.EqualValues(t, 0, o.as("bob", "GET", "/rooms?slug=alice-room-03", "").JSON(t)["count"], "another user's room")
		})
	}
	require.Equal(t, answers[false], answers[true])
	require.Contains(t, answers[true][0], `"count":1`)
	require.Contains(t, answers[true][1], `"count":0`)
}

func TestPresets_TransitCode(t *testing.T) {
	o := open(t, sandbox.Production(), preset(t, "/users/transit-code"))
	var codes []string
	for range 2 {
		a := o.as("alice", "POST", "/users/transit-code/", "", "Idempotency-Key", "same")
		require.Equal(t, 201, a.Status, a.Body)
		require.Equal(t, "no-store", a.Header.Get("Cache-Control"))
		codes = append(codes, a.JSON(t)["code"].(string))
	}
	require.NotEqual(t, codes[0], codes[1], "codes are for single use")
	require.Len(t, o.meet.codes, 2)
	require.Equal(t, 405, o.as("alice", "GET", "/users/transit-code", "").Status)
	o.meet.setGranted("rooms:list")
	a := o.as("alice", "POST", "/users/transit-code", "{}")
	require.Equal(t, 403, a.Status)
	require.Equal(t, "The application has no longer been granted the scope.", a.JSON(t)["error"])
	logs := o.Logs()
	for _, code := range codes {
		require.NotContains(t, logs, code)
	}
	require.Contains(t, logs, `"reason":"scope_refused_by_meet"`)
}

func TestPresets_UpdateAndDelete(t *testing.T) {
	o := open(t, sandbox.Production(), preset(t, "DELETE"))
	room := "/rooms/" + roomID(1)
	level := func() any { return o.as("alice", "GET", room, "").JSON(t)["access_level"] }
	require.Equal(t, "trusted", level())
	require.Equal(t, 200, o.as("alice", "PATCH", room, `{"access_level":"restricted"}`).Status)
	require.Equal(t, "restricted", level())
	require.Equal(t, 400, o.as("alice", "PATCH", room, `{"access_level":"public"}`).Status)
	require.Equal(t, 403, o.as("carol", "PATCH", room, `{}`).Status, "a member")
	require.Equal(t, "restricted", level())

	// A look-up by slug removes a deleted room from the index.
	found := func() any { return o.as("alice", "GET", "/rooms?slug=alice-room-01", "").JSON(t)["count"] }
	require.EqualValues(t, 1, found())
	inIndex := func() bool { // written in the background
		_, err := o.Authority().FindSlug(context.Background(), "meet.example.org", "alice-room-01")
		return err == nil
	}
	require.Eventually(t, inIndex, 20*time.Second, time.Millisecond)
	require.Equal(t, 403, o.as("carol", "DELETE", room, "").Status, "not the owner")
	require.EqualValues(t, 1, found())
	a := o.as("alice", "DELETE", room, "")
	require.Equal(t, 204, a.Status)
	require.Empty(t, a.Body)
	require.EqualValues(t, 0, found())
	_, err := o.Authority().FindSlug(context.Background(), "meet.example.org", "alice-room-01")
	require.ErrorIs(t, err, tokens.ErrNotFound)
	require.EqualValues(t, 2, o.as("alice", "GET", "/rooms", "").JSON(t)["count"])
	for method, body := range map[string]string{"GET": "", "PATCH": `{}`, "DELETE": ""} {
		require.Equal(t, 404, o.as("alice", method, room, body).Status, method)
	}

	// A room that was deleted directly at Meet as well.
	require.EqualValues(t, 1, o.as("alice", "GET", "/rooms?slug=alice-room-02", "").JSON(t)["count"])
	o.meet.RemoveRoom(roomID(2))
	require.EqualValues(t, 0, o.as("alice", "GET", "/rooms?slug=alice-room-02", "").JSON(t)["count"])
}

func TestPresets_AllowedAccessLevels(t *testing.T) {
	settings := sandbox.Production()
	settings.DefaultAccessLevel = "restricted"
	for gate, want := range map[string]struct {
		nothing, trusted int
		sent             string
	}{
		preset(t, "room_access_levels restricted"): {201, 400, `{"access_level":"restricted"}`},
		"room_access_levels meet":                  {201, 400, `{}`},
		"":                                         {400, 400, `{"access_level":"trusted"}`}, // without the preset
	} {
		t.Run(gate, func(t *testing.T) {
			o := open(t, settings, gate)
			o.meet.allowed = []string{"restricted"}
			a := o.as("alice", "POST", "/rooms", "{}")
			require.Equal(t, want.nothing, a.Status, a.Body)
			require.Equal(t, []string{"POST /rooms/ " + want.sent}, o.meet.take())
			if a.Status == 201 {
				require.Equal(t, "restricted", a.JSON(t)["access_level"])
			}
			a = o.as("alice", "POST", "/rooms", `{"access_level":"trusted"}`)
			require.Equal(t, want.trusted, a.Status)
			require.Equal(t, []any{`"trusted" is not a valid choice.`}, a.JSON(t)["access_level"], "Meet's message")
		})
	}
}
