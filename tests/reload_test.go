// SPDX-License-Identifier: MIT

package tests

import (
	"context"
	"net/http"
	"net/netip"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tests/gatewaytest"
	"github.com/meet-gateway/meet-gateway/tests/redistest"
)

func prefixes(texts ...string) []netip.Prefix {
	var list []netip.Prefix
	for _, text := range texts {
		list = append(list, netip.MustParsePrefix(text))
	}
	return list
}

func TestReload_EmbeddedStateAndSandboxSurvive(t *testing.T) {
	g := gatewaytest.Start(t, gatewaytest.Config{})
	app := g.AddApplication(nil)
	token := gatewaytest.Bearer(g.Token(app, "ada@example.org"))
	room := g.Do("POST", roomsPath, "", "Authorization", token).JSON(t)["id"].(string)
	authority := g.Authority()

	g.Reload(gatewaytest.Config{})
	require.Same(t, authority, g.Authority(), "an unchanged configuration keeps caches and feed")
	require.Contains(t, g.Metrics(), `caddy_meet_gateway_cache_entries{cache="meet_tokens"} 1`)
	require.Equal(t, 200, g.Do("GET", roomsPath+"/"+room, "", "Authorization", token).Status)

	g.Reload(gatewaytest.Config{Global: "store embedded\ntoken_lifetime 30m"})
	require.NotSame(t, authority, g.Authority())
	require.Contains(t, g.Metrics(), `caddy_meet_gateway_cache_entries{cache="meet_tokens"} 0`)
	require.Equal(t, 200, g.Do("GET", roomsPath+"/"+room, "", "Authorization", token).Status, "same store, same secret")
	require.Equal(t, 1800.0, g.TokenRequest(app, "ada@example.org").JSON(t)["expires_in"])
}

func TestReload_BadConfigKeepsOldServing(t *testing.T) {
	g := gatewaytest.Start(t, gatewaytest.Config{})
	token := gatewaytest.Bearer(g.Token(g.AddApplication(nil), "ada@example.org"))
	for _, bad := range []gatewaytest.Config{
		{Gate: "backend 127.0.0.1:1 {\nhost meet.example.org\n}\nroom_url_base nonsense"},
		{Global: "store redis redis://127.0.0.1:1"},
		{Global: "store embedded\nsecret short"},
		{Global: "store embedded\nsecret {file./nonexistent/secret}"},
		{Global: "store embedded\ntoken_lifetime 1s"},
		{Global: "store embedded\nsigning_key nonsense"},
		{Global: "store embedded\nsigning_key secret\nsigning_key secret"},
	} {
		require.Error(t, g.TryReload(bad))
		require.Equal(t, 200, g.Do("GET", roomsPath, "", "Authorization", token).Status)
	}
}

func TestReload_InFlightRequestKeepsItsStoreAndBackend(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	var slow atomic.Bool
	meet := strictMeet(t, func(meet http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if slow.CompareAndSwap(true, false) {
				close(entered)
				<-release
			}
			meet.ServeHTTP(w, r)
		})
	})
	g := gatewaytest.Start(t, gatewaytest.Config{Gate: meet.Backend()})
	app := g.AddApplication(nil)
	slow.Store(true)
	done := make(chan *gatewaytest.Answer)
	go func() { done <- g.TokenRequest(app, "alice@example.com") }()
	<-entered
	g.Reload(gatewaytest.Config{Global: "store embedded\naudience others", Gate: meet.Backend()})
	close(release)
	require.Equal(t, 200, (<-done).Status)
	require.NotContains(t, g.Logs(), "panic") // which the client's retry would hide
}

func TestReload_ManyTimesLeaksNothing(t *testing.T) {
	g := gatewaytest.Start(t, gatewaytest.Config{})
	token := gatewaytest.Bearer(g.Token(g.AddApplication(nil), "ada@example.org"))
	g.Reload(gatewaytest.Config{})
	before := goroutines(t, 0)
	for range 30 {
		g.Reload(gatewaytest.Config{})
		require.Equal(t, 200, g.Do("GET", roomsPath, "", "Authorization", token).Status)
	}
	require.LessOrEqual(t, goroutines(t, before+5), before+5)
}

// goroutines returns the number of goroutines once it is at most the wanted one, or
// after a timeout.
func goroutines(t *testing.T, wanted int) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for tick := time.NewTicker(50 * time.Millisecond); ; {
		n := runtime.NumGoroutine()
		if wanted == 0 || n <= wanted {
			return n
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return n
		}
	}
}

// Reloading a production gateway from a shell with an empty environment fails, since the shipped
// Caddyfile would become a trial configuration.
func TestReload_ProductionDoesNotBecomeATrial(t *testing.T) {
	server := redistest.Standalone(t)
	redis := "store redis redis://" + server.Addr() + "\nsecret 0123456789-0123456789-0123456789"
	g := gatewaytest.Start(t, gatewaytest.Config{Global: redis})
	app := g.AddApplication(nil)

	err := g.TryReload(gatewaytest.Config{Global: "store embedded\nquickstart"})
	require.ErrorContains(t, err, "MEET_STORE")
	require.NotEmpty(t, g.Token(app, "alice@example.com"), "the old configuration is still served")

	g.Reload(gatewaytest.Config{Global: redis + "\nquickstart"})
	require.NotEmpty(t, g.Token(app, "alice@example.com"), "quickstart has no effect with redis")
	g.Reload(gatewaytest.Config{}) // without quickstart the reload is deliberate
	require.NotEmpty(t, g.Token(g.AddApplication(nil), "alice@example.com"))
}

func TestReload_SecretAndStoreChange(t *testing.T) {
	one, two := redistest.Standalone(t), redistest.Standalone(t)
	const first, second = "first-secret-0123456789-0123456789-abc", "second-secret-0123456789-0123456789-ab"
	g := gatewaytest.Start(t, gatewaytest.Config{Global: "store redis " + one.URL() + "\nsecret " + first})
	app := g.AddApplication(nil)
	old := gatewaytest.Bearer(g.Token(app, "ada@example.org"))

	g.Reload(gatewaytest.Config{Global: "store redis " + one.URL() + "\nsecret " + second + "\nsecret " + first})
	require.Equal(t, 200, g.Do("GET", roomsPath, "", "Authorization", old).Status, "old tokens stay valid")
	newer := gatewaytest.Bearer(g.Token(app, "ada@example.org"))

	g.Reload(gatewaytest.Config{Global: "store redis " + one.URL() + "\nsecret " + second})
	require.Equal(t, 503, g.Do("GET", roomsPath, "", "Authorization", old).Status, "the key of a live token was removed")
	require.Equal(t, 200, g.Do("GET", roomsPath, "", "Authorization", newer).Status)

	g.Reload(gatewaytest.Config{Global: "store redis " + two.URL() + "\nsecret " + second})
	require.Equal(t, 401, g.Do("GET", roomsPath, "", "Authorization", newer).Status, "the other store does not have the token")
}

func TestStart_503WithoutRedis(t *testing.T) {
	server := redistest.Standalone(t, "--appendonly", "yes")
	config := gatewaytest.Config{Global: "store redis " + server.URL() + " {\ntimeout 200ms\n}\nsecret 0123456789-0123456789-0123456789-abc"}
	g := gatewaytest.Start(t, config)
	app := g.AddApplication(nil)
	token := gatewaytest.Bearer(g.Token(app, "ada@example.org"))

	server.Stop(t)
	g.Reload(gatewaytest.Config{Global: config.Global + "\naudience elsewhere"}) // a new Authority, with empty caches
	for _, a := range []*gatewaytest.Answer{
		g.TokenRequest(app, "ada@example.org"),
		g.Do("GET", roomsPath, "", "Authorization", token),
		g.Do("GET", identityPath, "", "Authorization", basic(app.ID, app.Secret)),
	} {
		require.Contains(t, []int{401, 503}, a.Status)
	}
	a := g.TokenRequest(app, "ada@example.org")
	require.Equal(t, 503, a.Status)
	require.NotEmpty(t, a.Header.Get("Retry-After"))
	require.Equal(t, "temporarily_unavailable", a.JSON(t)["error"])
	require.Equal(t, "temporarily_unavailable", g.Do("GET", identityPath, "", "Authorization", basic(app.ID, app.Secret)).JSON(t)["error"].(map[string]any)["code"])

	server.Start(t)
	require.Eventually(t, func() bool { return g.TokenRequest(app, "ada@example.org").Status == 200 }, 20*time.Second, 50*time.Millisecond)
}
