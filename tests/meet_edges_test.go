// SPDX-License-Identifier: MIT

package tests

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/backendclient/sandbox"
	"github.com/meet-gateway/meet-gateway/tests/gatewaytest"
	"github.com/meet-gateway/meet-gateway/tokens"
)

// A creation completes after its caller disconnects, and its response is stored under the
// Idempotency-Key.
func TestIdempotency_CallerDisconnects(t *testing.T) {
	var creations atomic.Int32
	arrived, release := make(chan struct{}, 1), make(chan struct{})
	meet := strictMeet(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost && r.URL.Path == roomsPath+"/" {
				creations.Add(1)
				arrived <- struct{}{}
				<-release
				r = r.WithContext(context.WithoutCancel(r.Context())) // Meet's workers do not notice
			}
			next.ServeHTTP(w, r)
		})
	})
	g := gatewaytest.Start(t, gatewaytest.Config{Gate: meet.Backend()})
	token := gatewaytest.Bearer(g.Token(g.AddApplication(nil), "alice@example.com"))

	conn, err := net.Dial("tcp", strings.TrimPrefix(g.URL, "http://"))
	require.NoError(t, err)
	_, err = conn.Write([]byte("POST " + roomsPath + " HTTP/1.1\r\nHost: x\r\nAuthorization: " + token +
		"\r\nIdempotency-Key: impatient\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"))
	require.NoError(t, err)
	<-arrived
	require.NoError(t, conn.(*net.TCPConn).SetLinger(0)) // a reset, which the server notices at once
	require.NoError(t, conn.Close())
	require.Never(t, func() bool { return strings.Contains(g.Logs(), `"reason":"backend_bad_answer"`) }, 200*time.Millisecond, 50*time.Millisecond)
	close(release)

	var again *gatewaytest.Answer
	require.Eventually(t, func() bool {
		again = g.Do("POST", roomsPath, "{}", "Authorization", token, "Content-Type", jsonType, "Idempotency-Key", "impatient")
		return again.Status != http.StatusConflict || again.Header.Get("Retry-After") == "" // in progress until the response is stored
	}, 10*time.Second, 20*time.Millisecond)
	require.Equal(t, http.StatusCreated, again.Status, again.Body)
	require.EqualValues(t, 1, creations.Load())
	id := again.JSON(t)["id"].(string)
	require.Equal(t, http.StatusOK, g.Do("GET", roomsPath+"/"+id, "", "Authorization", token).Status)
}

// The same key at two sites with different Meets is two keys.
func TestIdempotency_KeyPerMeet(t *testing.T) {
	one, two := strictMeet(t, nil), strictMeet(t, nil)
	second := strings.Replace(two.Backend("path /external-api/v1.0"), "host meet.example.org", "host meet.example.org:443", 1)
	g := gatewaytest.Start(t, gatewaytest.Config{Gate: "base_path /one\n" + one.Backend(), Site: "@two path /two/*\nhandle @two {\nmeet_gateway {\nbase_path /two\n" + second + "\n}\n}\n"})
	require.NotNil(t, g)
	token := gatewaytest.Bearer(tokenAt(t, g, "/one", g.AddApplication(nil), "alice@example.com"))
	ids := map[any]bool{}
	for _, base := range []string{"/one", "/two", "/one", "/two"} {
		a := g.Do("POST", base+"/rooms", "{}", "Authorization", token, "Content-Type", jsonType, "Idempotency-Key", "the-same")
		require.Equal(t, http.StatusCreated, a.Status, a.Body)
		ids[a.JSON(t)["id"]] = true
	}
	require.Len(t, ids, 2, "one room at each Meet")
}

func tokenAt(t *testing.T, g *gatewaytest.Gateway, base string, app *gatewaytest.Client, mail string) string {
	t.Helper()
	a := g.Do("POST", base+"/application/token", gatewaytest.TokenBody(app.ID, app.Secret, mail), "Content-Type", jsonType)
	require.Equal(t, 200, a.Status, a.Body)
	return a.JSON(t)["access_token"].(string)
}

// A user whom one Meet has disabled is refused there, with one request to Meet every few seconds.
// The tokens stay valid, and another Meet is not affected.
func TestRooms_UserDisabledAtOneMeet(t *testing.T) {
	one, two := strictMeet(t, nil), strictMeet(t, nil)
	two.SetUserActive("inactive@example.com", true)
	g := gatewaytest.Start(t, gatewaytest.Config{
		Gate: "base_path /one\n" + one.Backend(),
		Site: "@two path /two/*\nhandle @two {\nmeet_gateway {\nbase_path /two\n" + two.Backend() + "\n}\n}\n",
	})
	app := g.AddApplication(func(a *tokens.Application) { a.Refresh = true })
	other := gatewaytest.Bearer(tokenAt(t, g, "/two", g.AddApplication(nil), "inactive@example.com"))
	first := g.Do("POST", "/one/application/token", gatewaytest.TokenBody(app.ID, app.Secret, "inactive@example.com"), "Content-Type", jsonType)
	require.Equal(t, 200, first.Status, first.Body)
	refresh := first.JSON(t)["refresh_token"].(string)
	token := gatewaytest.Bearer(first.JSON(t)["access_token"].(string))

	rooms := func() (asked int) {
		for _, r := range one.Requests() {
			if strings.HasSuffix(r.Path, "/rooms/") {
				asked++
			}
		}
		return asked
	}
	changes := g.Authority().Status(t.Context()).Feed.Changes
	for range 20 {
		before := rooms()
		for range 3 {
			a := g.Do("GET", "/one/rooms", "", "Authorization", token)
			require.Equal(t, 401, a.Status)
			require.Equal(t, "User account is disabled.", a.JSON(t)["detail"])
		}
		require.LessOrEqual(t, rooms(), before+2, "cached for some seconds")
		token = gatewaytest.Bearer(tokenAt(t, g, "/one", app, "inactive@example.com"))
	}
	require.Equal(t, changes, g.Authority().Status(t.Context()).Feed.Changes, "no change is published")
	require.Equal(t, 401, g.Do("GET", "/one/rooms", "", "Authorization", token).Status)
	require.Equal(t, 401, g.Do("GET", "/one/identity", "", "Authorization", token).Status)
	for _, theirs := range []string{token, other} {
		require.Equal(t, 200, g.Do("GET", "/two/rooms", "", "Authorization", theirs).Status)
		require.Equal(t, 200, g.Do("GET", "/two/identity", "", "Authorization", theirs).Status)
	}

	one.SetUserActive("inactive@example.com", true)
	require.Eventually(t, func() bool {
		return g.Do("GET", "/one/rooms", "", "Authorization", token).Status == 200
	}, 15*time.Second, 100*time.Millisecond, "served again, with the token that it has")
	again := g.Do("POST", "/one/application/token", "grant_type=refresh_token&client_id="+app.ID+"&client_secret="+app.Secret+"&refresh_token="+refresh,
		"Content-Type", "application/x-www-form-urlencoded")
	require.Equal(t, 200, again.Status, again.Body)
}

// Meet checks the secret first. An error about mail, domain or user therefore proves the
// credentials, and the gateway adopts the application without a token.
func TestAdopt_RefusalThatProvesTheCredentials(t *testing.T) {
	meet := strictMeet(t, nil)
	for _, id := range []string{"bad-mail", "no-user", "other-domain"} {
		meet.AddApplication(sandbox.Application{ClientID: id, Secret: "right", Active: true, Scopes: []string{"rooms:list"}, Domains: []string{"example.com"}})
	}
	g := gatewaytest.Start(t, gatewaytest.Config{Gate: meet.Backend() + "\nunknown_applications adopt"})
	ask := func(id, secret, mail string) *gatewaytest.Answer {
		return g.Do("POST", tokenPath, gatewaytest.TokenBody(id, secret, mail), "Content-Type", jsonType)
	}
	for _, tc := range []struct {
		id, mail string
		status   int
		text     string
	}{
		{"bad-mail", `"quoted"@example.com`, 400, "Scope should be a valid email address."},
		{"no-user", "nobody@example.com", 400, "User not found."},
		{"other-domain", "alice@elsewhere.example", 403, "This application is not authorized for this email domain."},
	} {
		require.Equal(t, 401, ask(tc.id, "wrong", tc.mail).Status)
		first := ask(tc.id, "right", tc.mail)
		require.Equal(t, tc.status, first.Status, first.Body)
		require.Equal(t, tc.text, first.JSON(t)["detail"])
		_, err := g.Authority().Application(t.Context(), tc.id)
		require.NoError(t, err)
		exchanges := meet.Exchanges()
		require.Equal(t, tc.status, ask(tc.id, "right", tc.mail).Status)
		require.Equal(t, 401, ask(tc.id, "wrong", tc.mail).Status)
		require.LessOrEqual(t, meet.Exchanges(), exchanges+1, "not tried again")
		list := ask(tc.id, "right", "alice@example.com")
		require.Equal(t, 200, list.Status, list.Body)
		require.Equal(t, "rooms:list", list.JSON(t)["scope"], "only the scopes that Meet grants")
	}
	for _, r := range meet.Requests() {
		require.NotContains(t, string(r.Body), "quoted", "an invalid address does not reach Meet")
	}
}

// An answer of a proxy between the gateway and Meet does not prove the credentials.
func TestAdopt_ProxyErrorProvesNothing(t *testing.T) {
	wall := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", jsonType)
		w.WriteHeader(403)
		_, _ = w.Write([]byte(`{"error":"blocked"}`))
	}))
	t.Cleanup(wall.Close)
	g := gatewaytest.Start(t, gatewaytest.Config{Gate: "backend " + strings.TrimPrefix(wall.URL, "http://") + " {\nhost meet.example.org\n}\nunknown_applications adopt"})
	require.Equal(t, 403, g.Do("POST", tokenPath, gatewaytest.TokenBody("anyone", "anything", "alice@example.com"), "Content-Type", jsonType).Status)
	_, err := g.Authority().Application(t.Context(), "anyone")
	require.ErrorIs(t, err, tokens.ErrNotFound)
}

// A disabled application of the operator at Meet is an outage, not a reason for applications to
// request new tokens.
func TestMeet_SharedApplicationDisabled(t *testing.T) {
	meet := strictMeet(t, nil)
	meet.AddApplication(sandbox.Application{ClientID: "own", Secret: "own-secret", Active: true, Scopes: []string{"rooms:list"}})
	g := gatewaytest.Start(t, gatewaytest.Config{Gate: meet.Backend()})
	shared := g.AddApplication(nil)
	own := g.AddApplication(func(a *tokens.Application) {
		a.Backend = &tokens.BackendCredentials{ClientID: "own", ClientSecret: "own-secret"}
	})
	sharedToken, ownToken := gatewaytest.Bearer(g.Token(shared, "alice@example.com")), gatewaytest.Bearer(g.Token(own, "alice@example.com"))
	meet.SetApplicationActive(gatewaytest.MeetClientID, false)
	meet.SetApplicationActive("own", false)
	meet.AddUser(sandbox.User{Sub: "new", Email: "new@example.com", Active: true})

	for _, a := range []*gatewaytest.Answer{
		g.Do("GET", roomsPath, "", "Authorization", sharedToken), g.TokenRequest(shared, "new@example.com"),
		g.Do("POST", roomsPath, "", "Authorization", sharedToken),
	} {
		require.Equal(t, 502, a.Status, a.Body)
		require.Equal(t, "bad_gateway", a.JSON(t)["error"])
		require.NotContains(t, a.JSON(t)["detail"], "carried out", "Meet has refused it")
	}
	require.Equal(t, 401, g.Do("GET", roomsPath, "", "Authorization", ownToken).Status)
	refused := g.TokenRequest(own, "new@example.com")
	require.Equal(t, 401, refused.Status)
	require.Equal(t, "Application is inactive", refused.JSON(t)["detail"])
	require.Contains(t, g.Logs(), "switched off or gone in Meet")

	meet.SetApplicationActive(gatewaytest.MeetClientID, true)
	require.Eventually(t, func() bool { return g.Do("GET", roomsPath, "", "Authorization", sharedToken).Status == 200 }, 15*time.Second, 100*time.Millisecond)
}

// A room without a PIN has no such field, since the published schema has no null.
func TestRooms_MissingPINIsOmitted(t *testing.T) {
	meet := strictMeet(t, nil)
	roomsOfAlice(meet, 1)
	g := gatewaytest.Start(t, gatewaytest.Config{Gate: meet.Backend()})
	token := gatewaytest.Bearer(g.Token(g.AddApplication(nil), "alice@example.com"))
	for _, path := range []string{roomsPath, roomsPath + "/" + roomID(1), roomsPath + "?slug=alice-room-01"} {
		a := g.Do("GET", path, "", "Authorization", token)
		require.Contains(t, a.Body, `"telephony":{`)
		require.NotContains(t, a.Body, "pin_code", path)
	}
}

// With a foreign token, an answer about another room is refused with 502 as well.
func TestForeignTokens_OtherRoomIs502(t *testing.T) {
	var body atomic.Value
	meet := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", jsonType)
		_, _ = w.Write([]byte(body.Load().(string)))
	}))
	t.Cleanup(meet.Close)
	g := gatewaytest.Start(t, gatewaytest.Config{
		Gate: "backend " + strings.TrimPrefix(meet.URL, "http://") + " {\nhost meet.example.org\n}\nforeign_tokens passthrough",
	})
	for answer, status := range map[string]int{
		`{"id":"` + roomID(1) + `","slug":"a-b-c","access_level":"trusted"}`: 200,
		`{"id":"` + roomID(2) + `","slug":"a-b-c","access_level":"trusted"}`: 502,
		`{"slug":"a-b-c","access_level":"trusted"}`:                          502,
		`{"id":null,"slug":"a-b-c"}`:                                         502,
		`[]`:                                                                 502,
	} {
		body.Store(answer)
		require.Equal(t, status, g.Do("GET", roomsPath+"/"+roomID(1), "", "Authorization", "Bearer foreign").Status, answer)
	}
	for answer, status := range map[string]int{
		`{"count":0,"next":null,"previous":null,"results":[]}`:                  200,
		`{"count":0,"next":7,"previous":"https://meet.internal/","results":[]}`: 502,
		`{"count":0,"next":null,"previous":"https://meet.internal/?page=1"}`:    502,
		`[{"id":"` + roomID(1) + `","slug":"a-b-c","access_level":"trusted"}]`:  502,
	} {
		body.Store(answer)
		require.Equal(t, status, g.Do("GET", roomsPath, "", "Authorization", "Bearer foreign").Status, answer)
	}
}

// Both spellings of an internationalised domain are one user, here and at Meet.
func TestToken_InternationalisedDomain(t *testing.T) {
	meet := gatewaytest.StartMeet(t, sandbox.Quickstart(), nil)
	g := gatewaytest.Start(t, gatewaytest.Config{Gate: meet.Backend()})
	app := g.AddApplication(func(a *tokens.Application) { a.Domains = []string{"münchen.example"} })
	users := map[any]bool{}
	for _, mail := range []string{"User@münchen.example", "user@xn--mnchen-3ya.example", "user@MÜNCHEN.example"} {
		token := gatewaytest.Bearer(g.Token(app, mail))
		users[g.Do("GET", identityPath, "", "Authorization", token).JSON(t)["payload"].(map[string]any)["id"]] = true
		require.Equal(t, 200, g.Do("GET", roomsPath, "", "Authorization", token).Status)
	}
	require.Len(t, users, 1)
	require.Equal(t, 1, meet.Exchanges())
	require.Contains(t, string(meet.Requests()[0].Body), "user@xn--mnchen-3ya.example")
	require.Equal(t, 403, g.TokenRequest(app, "user@munchen.example").Status)
	require.Equal(t, 400, g.TokenRequest(app, "usér@münchen.example").Status)
}

// If Meet's application restricts the scopes of a token, the log says so.
func TestToken_ScopeRestrictionByMeetIsLogged(t *testing.T) {
	meet := strictMeet(t, nil)
	meet.AddApplication(sandbox.Application{ClientID: gatewaytest.MeetClientID, Secret: gatewaytest.MeetClientSecret, Active: true, Scopes: []string{"rooms:list"}})
	g := gatewaytest.Start(t, gatewaytest.Config{Gate: meet.Backend()})
	token := gatewaytest.Bearer(g.Token(g.AddApplication(nil), "alice@example.com"))
	require.Equal(t, 403, g.Do("POST", roomsPath, "{}", "Authorization", token, "Content-Type", jsonType).Status)
	require.Contains(t, g.Logs(), "grant the scope in Meet's admin to the application that is presented to Meet")
}

// Every change to an application or user drops the stored tokens of Meet, so a scope
// that was granted in Meet works at once.
func TestMeet_ChangesDropStoredTokens(t *testing.T) {
	meet := strictMeet(t, nil)
	g := gatewaytest.Start(t, gatewaytest.Config{Gate: meet.Backend()})
	edit := func(app string, change func(*tokens.Application)) error {
		_, err := g.Authority().UpdateApplication(t.Context(), app, 0, func(a *tokens.Application) error { change(a); return nil })
		return err
	}
	const mail = "alice@example.com"
	for name, act := range map[string]func(app string) error{
		"revoke all":         func(string) error { return g.Authority().RevokeAll(t.Context()) },
		"revoke before":      func(string) error { return g.Authority().RevokeBefore(t.Context(), time.Now().Add(-time.Minute)) },
		"revoke user":        func(string) error { return g.Authority().RevokeUser(t.Context(), mail) },
		"revoke application": func(app string) error { return g.Authority().RevokeApplication(t.Context(), app) },
		"revoke grant":       func(app string) error { return g.Authority().RevokeGrant(t.Context(), app, mail) },
		"edit":               func(app string) error { return edit(app, func(a *tokens.Application) { a.Note = "ticked" }) },
		"disable and enable": func(app string) error {
			return errors.Join(edit(app, func(a *tokens.Application) { a.Active = false }), edit(app, func(a *tokens.Application) { a.Active = true }))
		},
	} {
		atMeet := sandbox.Application{ClientID: "of " + name, Secret: "secret", Active: true, Scopes: []string{"rooms:list"}}
		meet.AddApplication(atMeet)
		app := g.AddApplication(func(a *tokens.Application) {
			a.Backend = &tokens.BackendCredentials{ClientID: atMeet.ClientID, ClientSecret: atMeet.Secret}
		})
		scope := func() any { return g.TokenRequest(app, mail).JSON(t)["scope"] }
		require.Equal(t, "rooms:list", scope(), name)
		atMeet.Scopes = append(atMeet.Scopes, "rooms:create")
		meet.AddApplication(atMeet)
		before := meet.Exchanges()
		require.Equal(t, "rooms:list", scope(), "%s: cached for a minute", name)
		require.NoError(t, edit(app.ID, func(a *tokens.Application) { a.Limits = map[string]string{"token": "600/1m"} }))
		_, _, err := g.Authority().RotateSecret(t.Context(), app.ID, 0, time.Hour)
		require.NoError(t, err)
		require.Equal(t, "rooms:list", scope(), "%s: limits and secrets do not concern Meet", name)
		require.Equal(t, before, meet.Exchanges(), name)

		require.NoError(t, act(app.ID), name)
		for range 2 {
			require.Equal(t, "rooms:list rooms:create", scope(), name)
			require.Equal(t, before+1, meet.Exchanges(), name)
		}
		token := gatewaytest.Bearer(g.Token(app, mail))
		require.Equal(t, 201, g.Do("POST", roomsPath, "{}", "Authorization", token, "Content-Type", jsonType).Status, name)
		require.Equal(t, before+1, meet.Exchanges(), "%s: requests for rooms use the same token of Meet", name)
	}
}

// A scope that Meet does not grant is shown with the application, until Meet grants it.
func TestMeet_ShowsScopesNotGranted(t *testing.T) {
	meet := strictMeet(t, nil)
	atMeet := sandbox.Application{ClientID: gatewaytest.MeetClientID, Secret: gatewaytest.MeetClientSecret, Active: true, Scopes: []string{"rooms:list", "rooms:retrieve"}}
	meet.AddApplication(atMeet)
	g := gatewaytest.Start(t, gatewaytest.Config{Gate: meet.Backend()})
	app := g.AddApplication(func(a *tokens.Application) { a.Scopes = tokens.Scopes{"rooms:list", "rooms:create", "other:scope"} })
	shown := func() *tokens.Application {
		a, err := g.Authority().CurrentApplication(t.Context(), app.ID)
		require.NoError(t, err)
		return a
	}
	require.Empty(t, shown().NotGranted, "no exchange yet")
	g.Token(app, "alice@example.com")
	require.Eventually(t, func() bool { return len(shown().NotGranted) > 0 }, 10*time.Second, 10*time.Millisecond)
	first := shown().NotGranted[0]
	require.Equal(t, tokens.Scopes{"rooms:create"}, first.Scopes, "no route needs the other scope")
	require.Equal(t, "meet.example.org", first.Meet)
	require.WithinDuration(t, time.Now(), first.Since, time.Minute)
	require.Contains(t, strings.Join(shown().Warnings(), " "), "has not granted rooms:create")

	require.NoError(t, g.Authority().RevokeAll(t.Context()))
	g.Token(app, "alice@example.com")
	require.Equal(t, 2, meet.Exchanges())
	renamed, err := g.Authority().UpdateApplication(t.Context(), app.ID, 0, func(a *tokens.Application) error { a.Name = "Renamed"; return nil })
	require.NoError(t, err)
	require.Equal(t, []tokens.NotGranted{first}, renamed.NotGranted, "since the first time")

	atMeet.Scopes = append(atMeet.Scopes, "rooms:create")
	meet.AddApplication(atMeet)
	g.Token(app, "alice@example.com")
	require.Eventually(t, func() bool { return len(shown().NotGranted) == 0 }, 10*time.Second, 10*time.Millisecond)
	require.NotContains(t, strings.Join(shown().Warnings(), " "), "not granted")
}

// Meet's audit log names the source of a delegation if exactly one caller waits for it.
func TestToken_ExchangeCarriesTheCallersAddress(t *testing.T) {
	meet := strictMeet(t, nil)
	g := gatewaytest.Start(t, gatewaytest.Config{Gate: meet.Backend()})
	token := gatewaytest.Bearer(g.Token(g.AddApplication(nil), "alice@example.com"))
	requests := meet.Requests()
	require.Len(t, requests, 1)
	require.Equal(t, "127.0.0.1", requests[0].Header.Get("X-Forwarded-For"))

	// A request for rooms needs an exchange too if Meet refuses the cached token.
	meet.MergeUsers("alice@example.com")
	meet.ForgetRequests()
	require.Equal(t, 200, g.Do("GET", roomsPath, "", "Authorization", token).Status)
	requests = meet.Requests()
	require.Len(t, requests, 3)
	for _, r := range requests {
		require.Equal(t, "127.0.0.1", r.Header.Get("X-Forwarded-For"), r.Path)
	}
}
