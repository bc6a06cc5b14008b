// SPDX-License-Identifier: MIT

package admin

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/meet-gateway/meet-gateway/caddymodule/admin/wire"
	"github.com/meet-gateway/meet-gateway/tests/redistest"
	"github.com/meet-gateway/meet-gateway/tokens"
)

// steps returns one line for each change in the answer.
func steps(answer map[string]any) []string {
	list := []string{}
	for _, change := range answer["changes"].([]any) {
		change := change.(map[string]any)
		line := change["action"].(string) + " " + change["name"].(string)
		if fields, ok := change["fields"].([]any); ok && change["action"] == wire.ActionChange {
			for _, f := range fields {
				line += " " + f.(map[string]any)["field"].(string)
			}
		}
		list = append(list, line)
	}
	return list
}

func (a *tester) apply(body string) []string {
	a.t.Helper()
	return steps(a.object(http.StatusOK, http.MethodPut, "applications/apply", body))
}

func TestApply_CreatesChangesAndPrunes(t *testing.T) {
	a := newTester(t)
	old, _ := a.create(`{"name":"Old"}`)
	const file = `{"applications":[
		{"name":"Calendar","domains":["Example.org"],"scopes":["rooms:list"],"backend":{"client_id":"c","client_secret":"CANARY"}},
		{"name":"Chat","active":false,"aliases":["chat-at-meet"],"token_lifetime":"1800s"}]`

	require.Equal(t, []string{"create Calendar", "create Chat", "delete Old"}, a.apply(file+`,"prune":true,"dry_run":true}`))
	require.Len(t, a.object(http.StatusOK, http.MethodGet, "applications", "")["applications"], 1)

	answer := a.object(http.StatusOK, http.MethodPut, "applications/apply", file+`}`)
	require.Equal(t, []string{"create Calendar", "create Chat"}, steps(answer))
	for _, change := range answer["changes"].([]any) {
		require.NotEmpty(t, change.(map[string]any)["client_secret"])
	}
	require.Empty(t, a.apply(file+`}`), "applying again changes nothing")
	a.object(http.StatusOK, http.MethodGet, "applications/"+old, "")

	require.Equal(t, []string{"delete Old"}, a.apply(file+`,"prune":true}`))
	a.problem(http.StatusNotFound, "", http.MethodGet, "applications/"+old, "")

	// A missing field gets its default, except backend and active. An alias identifies a renamed
	// application.
	require.Equal(t, []string{"change Calendar scopes domains", "change Chat 2 name token_lifetime"}, a.apply(
		`{"applications":[{"name":"Calendar"},{"name":"Chat 2","aliases":["chat-at-meet"]}]}`))
	require.NotNil(t, a.object(http.StatusOK, http.MethodGet, "applications?prefix=Calendar", "")["applications"].([]any)[0].(map[string]any)["backend"])

	// A new secret is a change. No secret is shown.
	answer = a.object(http.StatusOK, http.MethodPut, "applications/apply", `{"applications":[{"name":"Calendar","backend":{"client_id":"c","client_secret":"CANARY2"}}]}`)
	require.Equal(t, []string{"change Calendar backend"}, steps(answer))
	require.Equal(t, []string{"change Calendar backend"}, a.apply(`{"applications":[{"name":"Calendar","backend":null}]}`))
	for _, text := range a.answers {
		require.NotContains(t, text, "CANARY")
	}
}

// An application that was disabled in an emergency stays disabled, unless the file has the
// field active.
func TestApply_KeepsDisabled(t *testing.T) {
	a := newTester(t)
	id, _ := a.create(calendar)
	exported := a.call(http.MethodGet, "applications/export", "").Body.String()
	active := func() any { return a.object(http.StatusOK, http.MethodGet, "applications/"+id, "")["active"] }
	disable := func() { a.object(http.StatusOK, http.MethodPatch, "applications/"+id, `{"active":false}`) }

	disable()
	require.Empty(t, a.apply(exported), "the export was made before")
	require.Equal(t, []string{"change Calendar scopes domains"}, a.apply(`{"applications":[{"name":"Calendar"}]}`))
	require.Equal(t, false, active())
	require.Contains(t, a.call(http.MethodGet, "applications/export", "").Body.String(), `"active":false`)

	for _, value := range []string{"true", "null"} { // null asks for the default
		disable()
		require.Equal(t, []string{"change Calendar active"}, a.apply(`{"applications":[{"name":"Calendar","active":`+value+`}]}`))
		require.Equal(t, true, active())
	}
	require.Equal(t, []string{"change Calendar active"}, a.apply(`{"applications":[{"name":"Calendar","active":false}]}`))
	require.Equal(t, []string{"create New"}, a.apply(`{"applications":[{"name":"New"}]}`))
	page := a.object(http.StatusOK, http.MethodGet, "applications?prefix=New", "")
	require.Equal(t, true, page["applications"].([]any)[0].(map[string]any)["active"])
}

func TestApply_ExportChangesNothing(t *testing.T) {
	a := newTester(t)
	a.create(`{"name":"Calendar","domains":["example.org"],"scopes":["rooms:list"],"token_lifetime":"10m","refresh":true,
		"backend":{"client_id":"at-meet","client_secret":"s"},"networks":["192.0.2.7"],"limits":{"token":"10/m"},"aliases":["x"],
		"room_defaults":{"access_level":"restricted","configuration":{"a":1}},"denied_mails":["Ada@example.org"],"note":"n"}`)
	a.create(`{"name":"Empty"}`)
	w := a.call(http.MethodGet, "applications/export", "")
	require.Equal(t, http.StatusOK, w.Code)
	require.True(t, json.Valid(w.Body.Bytes()), w.Body.String())
	exported := w.Body.String()

	answer := a.object(http.StatusOK, http.MethodPut, "applications/apply", exported[:len(exported)-2]+`,"prune":true}`)
	require.Empty(t, steps(answer))
	require.InDelta(t, 2, answer["unchanged"], 0)
	require.JSONEq(t, `{"applications":[]}`, a.call(http.MethodGet, "applications/export?prefix=zz", "").Body.String())
}

func TestApply_AllOrNothing(t *testing.T) {
	a := newTester(t)
	a.create(`{"name":"Twin"}`)
	a.create(`{"name":"Twin"}`)
	a.create(`{"name":"A","aliases":["a"]}`)
	a.create(`{"name":"B","aliases":["b"]}`)
	for name, tc := range map[string]struct{ field, applications string }{
		"invalid value":              {"applications[1].domains", `{"name":"x"},{"name":"y","domains":["a b"]}`},
		"unknown field":              {"applications[0].nmae", `{"nmae":"x"}`},
		"no name":                    {"applications[0].name", `{}`},
		"not an object":              {"applications[0]", `7`},
		"wrong type":                 {"applications[0].name", `{"name":7}`},
		"unknown id":                 {"applications[0].id", `{"id":"00000000000000000000000000000000","name":"x"}`},
		"one application twice":      {"applications[1]", `{"name":"A"},{"aliases":["a"],"name":"A2"}`},
		"two new ones with one name": {"applications[1].name", `{"name":"x"},{"name":"x"}`},
		"an ambiguous name":          {"applications[0].name", `{"name":"Twin"}`},
		"one alias for two":          {"applications[1].aliases", `{"name":"x","aliases":["n"]},{"name":"y","aliases":["n"]}`},
		"aliases of two":             {"applications[0].aliases", `{"name":"x","aliases":["a","b"]}`},
		"backend without a secret":   {"applications[0].backend.client_secret", `{"name":"x","backend":{"client_id":"c"}}`},
	} {
		t.Run(name, func(t *testing.T) {
			a.t = t
			p := a.call(http.MethodPut, "applications/apply", `{"prune":true,"applications":[`+tc.applications+`]}`)
			require.Contains(t, []int{http.StatusBadRequest, http.StatusUnprocessableEntity}, p.Code, p.Body.String())
			var got wire.Problem
			require.NoError(t, json.Unmarshal(p.Body.Bytes(), &got))
			require.Equal(t, tc.field, got.Field, got.Detail)
		})
	}
	a.t = t
	a.problem(http.StatusBadRequest, "applications", http.MethodPut, "applications/apply", `{}`)
	require.Len(t, a.object(http.StatusOK, http.MethodGet, "applications", "")["applications"], 4)
}

func TestApply_ReportsPartialResult(t *testing.T) {
	a := newTester(t)
	// Redis stops when the first application has been created.
	a.gateway.logger = a.gateway.logger.WithOptions(zap.Hooks(func(zapcore.Entry) error {
		a.redis.Close()
		return nil
	}))
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPut, wire.Base+"applications/apply", strings.NewReader(`{"applications":[{"name":"First"},{"name":"Second"}]}`))
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	require.NoError(t, a.api.serve(w, r))
	require.Equal(t, http.StatusServiceUnavailable, w.Code, w.Body.String())
	var p struct {
		Field string
		Done  wire.Applied
	}
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &p))
	require.Equal(t, "applications[1]", p.Field)
	require.Len(t, p.Done.Changes, 1)
	first := p.Done.Changes[0]
	require.NotEmpty(t, first.ID)
	require.True(t, tokens.ChecksumOK(first.ClientSecret))
}

// An unchanged application may be the result of a write that was answered with 503 and is on
// no replica. apply reports it as unchanged only if enough replicas have it.
func TestApply_ConfirmsUnchanged(t *testing.T) {
	server := redistest.Standalone(t) // it has no replica
	connect := func(replicas int) *tokens.Store {
		store, err := tokens.OpenRedis(tokens.RedisOptions{URL: server.URL(), WaitReplicas: replicas, Timeout: 10 * time.Second})
		require.NoError(t, err)
		return store
	}
	a := newTesterOver(t, connect(0))
	id, _ := a.create(calendar)
	withReplica := newTesterOver(t, connect(1))
	withReplica.problem(http.StatusServiceUnavailable, "", http.MethodPatch, "applications/"+id, `{"active":false}`)
	exported := withReplica.call(http.MethodGet, "applications/export", "").Body.String()
	require.Contains(t, exported, `"active":false`, "the primary has the change")

	dry := withReplica.object(http.StatusOK, http.MethodPut, "applications/apply", `{"dry_run":true,`+exported[1:])
	require.InDelta(t, 1, dry["unchanged"], 0)
	withReplica.problem(http.StatusServiceUnavailable, "applications[0]", http.MethodPut, "applications/apply", exported)
	require.Empty(t, a.apply(exported), "no replica is required")
}

// Credentials that were sealed with a removed secret stay until they are set or removed
// explicitly.
func TestApply_UnreadableBackend(t *testing.T) {
	a := newTester(t)
	id, _ := a.create(`{"name":"Calendar","backend":{"client_id":"c","client_secret":"s"}}`)
	store, err := a.redis.Connect()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	other, err := tokens.New(tokens.Options{Store: store, Secrets: [][]byte{[]byte(strings.Repeat("o", tokens.MinSecret))}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, other.Close()) })
	a.gateway.authority = other

	path := "applications/" + id
	require.Len(t, a.object(http.StatusOK, http.MethodGet, path, "")["warnings"], 3)
	require.Empty(t, a.apply(`{"applications":[{"name":"Calendar"}]}`))
	a.problem(http.StatusUnprocessableEntity, "backend.client_secret", http.MethodPatch, path, `{"backend":{"client_id":"c"}}`)

	require.Equal(t, []string{"change Calendar backend"}, a.apply(`{"dry_run":true,"applications":[{"name":"Calendar","backend":{"client_id":"c","client_secret":"s"}}]}`))
	a.object(http.StatusOK, http.MethodPatch, path, `{"backend":null}`)
	require.Len(t, a.object(http.StatusOK, http.MethodGet, path, "")["warnings"], 2)
}
