// SPDX-License-Identifier: MIT

package tests

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/backendclient/sandbox"
	"github.com/meet-gateway/meet-gateway/tests/gatewaytest"
	"github.com/meet-gateway/meet-gateway/tokens"
	"github.com/meet-gateway/meet-gateway/tokens/django/djangotest"
)

func TestLimits_TooManyRequests(t *testing.T) {
	meet := strictMeet(t, nil)
	roomsOfAlice(meet, 1)
	g := gatewaytest.Start(t, gatewaytest.Config{
		Global: "store embedded\nlimit read_user 3/1h\nlimit create 2/1h\nlimit token 6/1h\ngateways 1", Gate: meet.Backend(),
	})
	app := g.AddApplication(nil)
	token := gatewaytest.Bearer(g.Token(app, "alice@example.com"))
	read := func() *gatewaytest.Answer { return g.Do("GET", roomsPath+"/"+roomID(1), "", "Authorization", token) }
	for range 3 {
		a := read()
		require.Equal(t, http.StatusOK, a.Status, a.Body)
		require.Equal(t, `"read_user";q=3;w=3600`, a.Header.Get("RateLimit-Policy"))
		require.NotEmpty(t, a.Header.Get("RateLimit"))
	}
	meet.ForgetRequests()
	a := read()
	require.Equal(t, http.StatusTooManyRequests, a.Status, a.Body)
	require.NotEmpty(t, a.Header.Get("Retry-After"))
	require.Equal(t, "rate_limited", a.JSON(t)["error"])
	require.Empty(t, meet.Requests(), "refused requests do not reach Meet")

	create := func() int { return g.Do("POST", roomsPath, "", "Authorization", token).Status }
	require.Equal(t, []int{201, 201, 429}, []int{create(), create(), create()}, "reads and creations are counted separately")

	own := g.AddApplication(func(a *tokens.Application) { a.Limits = map[string]string{"read_user": "off"} })
	unlimited := gatewaytest.Bearer(g.Token(own, "alice@example.com"))
	for range 5 {
		require.Equal(t, http.StatusOK, g.Do("GET", roomsPath, "", "Authorization", unlimited).Status)
	}
	for range 5 {
		require.Equal(t, http.StatusOK, g.TokenRequest(app, "alice@example.com").Status)
	}
	require.Equal(t, http.StatusTooManyRequests, g.TokenRequest(app, "alice@example.com").Status)
}

// Guesses are limited per network, so that the application under attack still works from other
// networks.
func TestLimits_GuessingDoesNotLockOut(t *testing.T) {
	meet := strictMeet(t, nil)
	g := gatewaytest.Start(t, gatewaytest.Config{
		Global:  "store embedded\nlimit failed 3/1h",
		Gate:    meet.Backend(),
		Servers: "trusted_proxies static 127.0.0.0/8\nclient_ip_headers X-Forwarded-For",
	})
	app := g.AddApplication(func(a *tokens.Application) { a.Aliases = []string{"at-meet", "at-meet-too"} })
	presented := 0
	from := func(ip, secret string) int {
		presented++ // alternate between the aliases and the id
		id := append(app.Aliases, app.ID)[presented%3]
		return g.Do("POST", "/external-api/v1.0/application/token", gatewaytest.TokenBody(id, secret, "alice@example.com"),
			"Content-Type", "application/json", "X-Forwarded-For", ip).Status
	}
	for range 3 {
		require.Equal(t, http.StatusUnauthorized, from("192.0.2.1", "wrong"))
	}
	require.Equal(t, http.StatusTooManyRequests, from("192.0.2.1", "wrong"))
	require.Equal(t, http.StatusTooManyRequests, from("192.0.2.77", "wrong"), "the same network")
	require.Equal(t, http.StatusOK, from("198.51.100.1", app.Secret), "the application from elsewhere")

	lenient := g.AddApplication(func(a *tokens.Application) { a.Limits = map[string]string{"failed": "off"} })
	for range 6 {
		body := gatewaytest.TokenBody(lenient.ID, "wrong", "alice@example.com")
		a := g.Do("POST", "/external-api/v1.0/application/token", body, "Content-Type", "application/json", "X-Forwarded-For", "192.0.2.1")
		require.Equal(t, http.StatusUnauthorized, a.Status, "it has its own limit")
	}
}

// Simultaneous guesses do not exceed the limit either.
func TestLimits_GuessingAtOnce(t *testing.T) {
	meet := strictMeet(t, nil)
	g := gatewaytest.Start(t, gatewaytest.Config{Global: "store embedded\nlimit failed 3/1h\ngateways 1", Gate: meet.Backend()})
	app := g.AddApplication(nil)
	right := func() int { return g.TokenRequest(app, "alice@example.com").Status }
	require.Equal(t, http.StatusOK, right())
	together := func(n int, ask func() int) map[int]int {
		answers := make(chan int, n)
		for range n {
			go func() { answers <- ask() }()
		}
		counts := map[int]int{}
		for range n {
			counts[<-answers]++
		}
		return counts
	}
	require.Equal(t, map[int]int{http.StatusOK: 20}, together(20, right), "correct credentials are not limited")
	wrong := *app
	wrong.Secret = "wrong"
	require.Equal(t, map[int]int{http.StatusUnauthorized: 3, http.StatusTooManyRequests: 17},
		together(20, func() int { return g.TokenRequest(&wrong, "alice@example.com").Status }))
}

func TestQuota_NewUsers(t *testing.T) {
	settings := sandbox.Quickstart()
	for mode, tc := range map[string]struct {
		option string
		third  int
	}{"enforced": {"", http.StatusForbidden}, "dry run": {"\nquota_dry_run", http.StatusOK}} {
		t.Run(mode, func(t *testing.T) {
			meet := gatewaytest.StartMeet(t, settings, nil)
			g := gatewaytest.Start(t, gatewaytest.Config{Global: "store embedded\nlimit users 2/1d" + tc.option, Gate: meet.Backend()})
			app := g.AddApplication(func(a *tokens.Application) { a.Domains = []string{"example.com"} })
			for _, mail := range []string{"one@example.com", "two@example.com", "one@example.com"} {
				require.Equal(t, http.StatusOK, g.TokenRequest(app, mail).Status)
			}
			exchanges := meet.Exchanges()
			third := g.TokenRequest(app, "three@example.com")
			require.Equal(t, tc.third, third.Status, third.Body)
			if tc.third == http.StatusForbidden {
				require.Contains(t, third.JSON(t)["detail"], "new users")
				require.Equal(t, exchanges, meet.Exchanges(), "Meet does not create the user")
			}
			require.Equal(t, http.StatusOK, g.TokenRequest(app, "two@example.com").Status, "known users are still served")
			require.Contains(t, g.Logs(), "80 % of its quota")
			require.NotContains(t, g.Logs(), "three@example.com")
		})
	}
}

func TestAdopt_ExistingApplications(t *testing.T) {
	meet := strictMeet(t, nil)
	meet.AddApplication(sandbox.Application{ClientID: "old-client", Secret: "old-secret", Active: true, Scopes: []string{"rooms:list", "rooms:create"}})
	g := gatewaytest.Start(t, gatewaytest.Config{Gate: meet.Backend() + "\nunknown_applications adopt"})
	ask := func(id, secret string) *gatewaytest.Answer {
		return g.Do("POST", "/external-api/v1.0/application/token/", gatewaytest.TokenBody(id, secret, "alice@example.com"), "Content-Type", "application/json")
	}
	first := ask("old-client", "old-secret")
	require.Equal(t, http.StatusOK, first.Status, first.Body)
	require.Equal(t, "rooms:list rooms:create", first.JSON(t)["scope"])
	app, err := g.Authority().Application(t.Context(), "old-client")
	require.NoError(t, err)
	require.Equal(t, []string{"*"}, app.Domains)

	exchanges := meet.Exchanges()
	require.Equal(t, http.StatusOK, ask("old-client", "old-secret").Status)
	require.Equal(t, http.StatusUnauthorized, ask("old-client", "wrong").Status)
	require.LessOrEqual(t, meet.Exchanges(), exchanges+1, "the gateway checks the secret now; Meet's token may be fetched once")

	meet.AddApplication(sandbox.Application{ClientID: "other", Secret: "other-secret", Active: true})
	exchanges = meet.Exchanges()
	for range 4 {
		require.Equal(t, http.StatusUnauthorized, ask("other", "guess").Status)
	}
	require.Equal(t, exchanges+1, meet.Exchanges(), "refused credentials are not tried again")
	refused := g.Do("GET", "/external-api/v1.0/identity", "", "Authorization", "Basic b3RoZXI6Z3Vlc3M=")
	require.Equal(t, http.StatusUnauthorized, refused.Status)
}

// Requests with Meet's credentials of a deleted application neither restore it nor create another
// one.
func TestAdopt_DeletedStaysDeleted(t *testing.T) {
	meet := strictMeet(t, nil)
	for _, id := range []string{"old-client", "by-hand"} {
		meet.AddApplication(sandbox.Application{ClientID: id, Secret: "secret", Active: true, Scopes: []string{"rooms:list"}})
	}
	g := gatewaytest.Start(t, gatewaytest.Config{Gate: meet.Backend() + "\nunknown_applications adopt"})
	ask := func(id string) int {
		return g.Do("POST", "/external-api/v1.0/application/token/", gatewaytest.TokenBody(id, "secret", "alice@example.com"), "Content-Type", "application/json").Status
	}
	require.Equal(t, http.StatusOK, ask("old-client"))
	app, err := g.Authority().CurrentApplication(t.Context(), "old-client")
	require.NoError(t, err)
	require.NoError(t, g.Authority().DeleteApplication(t.Context(), app.ID, 0))
	g.AddApplication(func(a *tokens.Application) {
		a.Active = false
		a.Backend = &tokens.BackendCredentials{ClientID: "by-hand", ClientSecret: "secret"}
	})
	exchanges := meet.Exchanges()
	require.Equal(t, http.StatusUnauthorized, ask("old-client"))
	require.Equal(t, http.StatusUnauthorized, ask("by-hand"))
	require.Equal(t, exchanges, meet.Exchanges(), "Meet is not asked")

	require.NoError(t, g.Authority().AllowAdoption(t.Context(), "old-client"))
	require.Equal(t, http.StatusOK, ask("old-client"))
}

// An imported application keeps its identity at Meet: its requests succeed even if the
// gateway's own application is disabled.
func TestImport_MeetSeesTheSameClient(t *testing.T) {
	meet := strictMeet(t, nil)
	meet.AddApplication(sandbox.Application{ClientID: djangotest.ClientID(0), Secret: djangotest.Secret(0), Active: true, Scopes: []string{"rooms:list"}})
	meet.SetApplicationActive(gatewaytest.MeetClientID, false)
	g := gatewaytest.Start(t, gatewaytest.Config{Gate: meet.Backend()})
	admin := func(method, path, body string) *gatewaytest.Answer {
		return g.Do(method, "http://"+g.Admin+"/meet-gateway/applications"+path, body, "Content-Type", "application/json", "Origin", "http://"+g.Admin)
	}
	var dump strings.Builder
	require.NoError(t, djangotest.WriteDump(&dump, djangotest.Options{Applications: 3}))
	imported := admin("POST", "/import?any_domain=true", dump.String())
	require.Equal(t, http.StatusOK, imported.Status, imported.Body)
	ask := func(i int) *gatewaytest.Answer {
		return g.Do("POST", "/external-api/v1.0/application/token/",
			gatewaytest.TokenBody(djangotest.ClientID(i), djangotest.Secret(i), "alice@example.com"), "Content-Type", "application/json")
	}
	path := "/" + djangotest.ClientID(0)
	require.Equal(t, djangotest.ClientID(0), admin("GET", path, "").JSON(t)["learns_backend"])

	first := ask(0)
	require.Equal(t, http.StatusOK, first.Status, first.Body)
	require.Equal(t, "rooms:list", first.JSON(t)["scope"], "the scopes that Meet grants this client")
	shown := admin("GET", path, "")
	require.Equal(t, map[string]any{"client_id": djangotest.ClientID(0)}, shown.JSON(t)["backend"])
	require.NotContains(t, shown.Body, "learns_backend")
	require.NotContains(t, shown.Body, djangotest.Secret(0))
	rooms := g.Do("GET", roomsPath, "", "Authorization", gatewaytest.Bearer(first.JSON(t)["access_token"].(string)))
	require.Equal(t, http.StatusOK, rooms.Status, rooms.Body)

	// An application that Meet has disabled stays disabled. One that Meet does not know
	// uses the gateway's credentials.
	meet.SetApplicationActive(gatewaytest.MeetClientID, true)
	meet.AddApplication(sandbox.Application{ClientID: djangotest.ClientID(1), Secret: djangotest.Secret(1)})
	require.Equal(t, http.StatusUnauthorized, ask(1).Status)
	unknown := ask(2)
	require.Equal(t, http.StatusOK, unknown.Status, unknown.Body)
	shown = admin("GET", "/"+djangotest.ClientID(2), "")
	require.Nil(t, shown.JSON(t)["backend"])
	require.NotContains(t, shown.Body, "learns_backend")
	require.Contains(t, g.Logs(), "Meet does not know the credentials of an imported application")
	require.NotContains(t, g.Logs(), djangotest.Secret(2))
}

func TestSlug_SeenRoomCostsOneRequest(t *testing.T) {
	meet := strictMeet(t, nil)
	roomsOfAlice(meet, 45)
	g := gatewaytest.Start(t, gatewaytest.Config{Gate: meet.Backend()})
	app := g.AddApplication(nil)
	token := gatewaytest.Bearer(g.Token(app, "alice@example.com"))
	find := func(slug string) []any {
		a := g.Do("GET", roomsPath+"?slug="+slug, "", "Authorization", token)
		require.Equal(t, http.StatusOK, a.Status, a.Body)
		return a.JSON(t)["results"].([]any)
	}
	require.Len(t, find("alice-room-44"), 1)
	require.Empty(t, find("bob-private"), "a user does not see the rooms of others")
	require.Eventually(t, func() bool {
		meet.ForgetRequests()
		return len(find("alice-room-44")) == 1 && len(meet.Requests()) == 1
	}, 10*time.Second, 20*time.Millisecond)
}

// Revocation and introspection count like token requests.
func TestLimits_RevokeAndIntrospect(t *testing.T) {
	meet := strictMeet(t, nil)
	g := gatewaytest.Start(t, gatewaytest.Config{Global: "store embedded\nlimit token 4/1h\ngateways 1", Gate: meet.Backend()})
	for path, effect := range map[string]bool{"revoke": true, "introspect": false} {
		t.Run(path, func(t *testing.T) {
			app := g.AddApplication(nil)
			token := g.Token(app, "alice@example.com") // the first of four
			ask := func(token string) *gatewaytest.Answer {
				form := url.Values{"client_id": {app.ID}, "client_secret": {app.Secret}, "token": {token}}.Encode()
				return g.Do("POST", "/external-api/v1.0/application/"+path, form, "Content-Type", "application/x-www-form-urlencoded")
			}
			for range 3 {
				a := ask("not a token")
				require.Equal(t, http.StatusOK, a.Status, a.Body)
				require.Equal(t, `"token";q=4;w=3600`, a.Header.Get("RateLimit-Policy"))
			}
			a := ask(token)
			require.Equal(t, http.StatusTooManyRequests, a.Status, a.Body)
			require.Equal(t, "rate_limited", a.JSON(t)["error"])
			require.NotEmpty(t, a.Header.Get("Retry-After"))
			require.NotContains(t, a.Body, "active")
			require.Equal(t, http.StatusOK, g.Do("GET", roomsPath, "", "Authorization", gatewaytest.Bearer(token)).Status, "the request had no effect")
			require.Equal(t, http.StatusTooManyRequests, g.TokenRequest(app, "alice@example.com").Status, "they are counted together")

			// An application with its own limit is still served.
			app = g.AddApplication(func(a *tokens.Application) { a.Limits = map[string]string{"token": "off"} })
			token = g.Token(app, "alice@example.com")
			for range 6 {
				require.Equal(t, http.StatusOK, ask("not a token").Status)
			}
			require.Equal(t, http.StatusOK, ask(token).Status)
			want := http.StatusOK
			if effect {
				want = http.StatusUnauthorized
			}
			require.Equal(t, want, g.Do("GET", roomsPath, "", "Authorization", gatewaytest.Bearer(token)).Status)
		})
	}
}

// If an imported application is deleted while its credentials are tried at Meet, it
// gets the response of a deleted application.
func TestToken_DeletedWhileMeetIsAsked(t *testing.T) {
	var g *gatewaytest.Gateway
	var imported *tokens.Application
	meet := gatewaytest.StartMeet(t, sandbox.Quickstart(), func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.URL.Path, "/application/token") {
				if err := g.Authority().DeleteApplication(r.Context(), imported.ID, 0); err != nil {
					t.Error(err)
				}
			}
			next.ServeHTTP(w, r)
		})
	})
	meet.AddApplication(sandbox.Application{ClientID: "at-meet", Secret: "right", Active: true, Scopes: []string{"rooms:list"}})
	g = gatewaytest.Start(t, gatewaytest.Config{Global: "store embedded", Gate: meet.Backend()})
	var err error
	imported, err = g.Authority().ImportApplication(t.Context(), tokens.Application{
		Name: "Imported", Active: true, Aliases: []string{"at-meet"}, Domains: []string{"*"},
	}, tokens.ImportedSecret{Hash: djangotest.Hash("right", "salt", 1), ClientID: "at-meet"})
	require.NoError(t, err)
	a := g.TokenRequest(&gatewaytest.Client{Application: &tokens.Application{ID: "at-meet"}, Secret: "right"}, "ada@example.org")
	require.Equal(t, http.StatusUnauthorized, a.Status, a.Body)
}
