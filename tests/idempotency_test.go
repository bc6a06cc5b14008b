// SPDX-License-Identifier: MIT

package tests

import (
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/backendclient/sandbox"
	"github.com/meet-gateway/meet-gateway/tests/gatewaytest"
	"github.com/meet-gateway/meet-gateway/tokens"
)

func TestIdempotency_RepeatsCreateOneRoom(t *testing.T) {
	var creations atomic.Int32
	arrived, release := make(chan struct{}), make(chan struct{})
	meet := strictMeet(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost && r.URL.Path == roomsPath+"/" {
				if creations.Add(1) == 1 {
					close(arrived)
				}
				<-release
			}
			next.ServeHTTP(w, r)
		})
	})
	g := gatewaytest.Start(t, gatewaytest.Config{Gate: meet.Backend()})
	app := g.AddApplication(nil)
	token := gatewaytest.Bearer(g.Token(app, "alice@example.com"))
	create := func(path, key, body, token string) *gatewaytest.Answer {
		return g.Do("POST", path, body, "Authorization", token, "Content-Type", "application/json", "Idempotency-Key", key)
	}

	// Of sixteen concurrent requests, one creates the room.
	answers := make([]*gatewaytest.Answer, 16)
	var done sync.WaitGroup
	for i := range answers {
		done.Go(func() { answers[i] = create(roomsPath, "attempt-1", `{}`, token) })
	}
	<-arrived // the first is at Meet; let it answer
	close(release)
	done.Wait()
	var room map[string]any
	for _, a := range answers {
		switch a.Status {
		case http.StatusCreated:
			if room == nil {
				room = a.JSON(t)
			}
			require.Equal(t, room, a.JSON(t))
		case http.StatusConflict:
			require.Equal(t, "conflict", a.JSON(t)["error"])
			require.NotEmpty(t, a.Header.Get("Retry-After"))
		default:
			t.Fatalf("status %d: %s", a.Status, a.Body)
		}
	}
	require.NotNil(t, room)

	again := create(roomsPath+"/", `"attempt-1"`, `{}`, token) // with a trailing slash, and quoted as in the draft
	require.Equal(t, http.StatusCreated, again.Status)
	require.Equal(t, room, again.JSON(t))
	require.NotEmpty(t, again.Header.Get("Location"))
	require.EqualValues(t, 1, creations.Load(), "repeats create no further room")

	other := create(roomsPath, "attempt-1", `{"access_level":"restricted"}`, token)
	require.Equal(t, http.StatusUnprocessableEntity, other.Status)
	require.Equal(t, "unprocessable", other.JSON(t)["error"])

	// The key belongs to the application and the user.
	require.NotEqual(t, room["id"], create(roomsPath, "attempt-1", `{}`, gatewaytest.Bearer(g.Token(g.AddApplication(nil), "alice@example.com"))).JSON(t)["id"])
	meet.AddUser(sandbox.User{Sub: "carol", Email: "carol@example.com", Active: true})
	require.NotEqual(t, room["id"], create(roomsPath, "attempt-1", `{}`, gatewaytest.Bearer(g.Token(app, "carol@example.com"))).JSON(t)["id"])

	// A refused request has no effect, so the corrected one may use the key.
	require.Equal(t, http.StatusBadRequest, create(roomsPath, "attempt-2", `{"access_level":"nope"}`, token).Status)
	require.Equal(t, http.StatusCreated, create(roomsPath, "attempt-2", `{}`, token).Status)

	require.Equal(t, http.StatusBadRequest, create(roomsPath, "no spaces", `{}`, token).Status)
	twice := g.Do("POST", roomsPath, `{}`, "Authorization", token, "Content-Type", "application/json", "Idempotency-Key", "a", "Idempotency-Key", "b")
	require.Equal(t, http.StatusBadRequest, twice.Status)
}

func TestIdempotency_NoRetryAfterLostAnswer(t *testing.T) {
	var creations atomic.Int32
	meet := strictMeet(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost && r.URL.Path == roomsPath+"/" {
				creations.Add(1)
				panic(http.ErrAbortHandler) // the room may exist
			}
			next.ServeHTTP(w, r)
		})
	})
	g := gatewaytest.Start(t, gatewaytest.Config{Gate: meet.Backend()})
	app := g.AddApplication(func(a *tokens.Application) { a.Name = "Impatient" })
	token := gatewaytest.Bearer(g.Token(app, "alice@example.com"))
	create := func() *gatewaytest.Answer {
		return g.Do("POST", roomsPath, `{}`, "Authorization", token, "Content-Type", "application/json", "Idempotency-Key", "lost")
	}
	first := create()
	require.Equal(t, http.StatusBadGateway, first.Status)
	second := create()
	require.Equal(t, http.StatusConflict, second.Status)
	require.Contains(t, second.JSON(t)["detail"], "not known")
	require.EqualValues(t, 1, creations.Load(), "a request that may have had an effect is not sent twice")
}
