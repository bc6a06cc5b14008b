// SPDX-License-Identifier: MIT

package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	logobserver "go.uber.org/zap/zaptest/observer"

	"github.com/meet-gateway/meet-gateway/caddymodule/admin/wire"
	"github.com/meet-gateway/meet-gateway/tokens"
	"github.com/meet-gateway/meet-gateway/tokens/embedded"
)

// tester calls the admin API without Caddy.
type tester struct {
	t         testing.TB
	api       *api
	gateway   *fakeGateway
	authority *tokens.Authority
	redis     *embedded.Server
	logs      *logobserver.ObservedLogs
	// answers are the bodies of all answers so far.
	answers []string
}

func newTester(t testing.TB) *tester {
	t.Helper()
	server, err := embedded.Start()
	require.NoError(t, err)
	t.Cleanup(server.Close)
	store, err := server.Connect()
	require.NoError(t, err)
	a := newTesterOver(t, store)
	a.redis = server
	return a
}

// newTesterOver is newTester with the given store, which it closes.
func newTesterOver(t testing.TB, store *tokens.Store) *tester {
	t.Helper()
	authority, err := tokens.New(tokens.Options{Store: store, Secrets: [][]byte{[]byte(strings.Repeat("k", 32))}})
	require.NoError(t, err)
	authority.Start()
	t.Cleanup(func() {
		require.NoError(t, authority.Close())
		require.NoError(t, store.Close())
	})
	core, logs := logobserver.New(zapcore.DebugLevel)
	gateway := &fakeGateway{authority: authority, logger: zap.New(core).Named(appName)}
	return &tester{
		t: t, gateway: gateway, authority: authority, logs: logs,
		api: &api{active: func() (Gateway, error) { return gateway, nil }},
	}
}

// fakeGateway is a gateway with a real Authority. Everything else is fake.
type fakeGateway struct {
	authority *tokens.Authority
	logger    *zap.Logger
	routes    []wire.Routes
	backends  []wire.Backend
}

func (g *fakeGateway) Authority() *tokens.Authority { return g.authority }
func (g *fakeGateway) Logger() *zap.Logger          { return g.logger }
func (g *fakeGateway) Routes() []wire.Routes        { return append([]wire.Routes{}, g.routes...) }
func (g *fakeGateway) Backends() []wire.Backend     { return append([]wire.Backend{}, g.backends...) }

func (*fakeGateway) Diagnose(context.Context, string) wire.Diagnosis {
	return wire.Diagnosis{Healthy: true, Checks: 1, Findings: []wire.Finding{}}
}
func (*fakeGateway) Version() string { return "v1, Caddy v2" }

// call sends a request. header lists names and values in turn.
func (a *tester) call(method, path, body string, header ...string) *httptest.ResponseRecorder {
	a.t.Helper()
	r := httptest.NewRequest(method, wire.Base+path, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	require.NoError(a.t, a.api.serve(w, r))
	requireDescribed(a.t, r, body, w)
	a.answers = append(a.answers, w.Body.String())
	return w
}

// object sends a request and returns the decoded answer, which must have the status.
func (a *tester) object(status int, method, path, body string, header ...string) map[string]any {
	a.t.Helper()
	w := a.call(method, path, body, header...)
	require.Equal(a.t, status, w.Code, w.Body.String())
	var object map[string]any
	require.NoError(a.t, json.Unmarshal(w.Body.Bytes(), &object), w.Body.String())
	return object
}

// problem sends a request and returns the answer, which must be a problem with the status and
// the field.
func (a *tester) problem(status int, field, method, path, body string, header ...string) *wire.Problem {
	a.t.Helper()
	w := a.call(method, path, body, header...)
	require.Equal(a.t, status, w.Code, w.Body.String())
	require.Equal(a.t, "application/problem+json", w.Header().Get("Content-Type"))
	p := new(wire.Problem)
	require.NoError(a.t, json.Unmarshal(w.Body.Bytes(), p))
	require.Equal(a.t, status, p.Status)
	require.Equal(a.t, http.StatusText(status), p.Title)
	require.Equal(a.t, field, p.Field, p.Detail)
	require.NotEmpty(a.t, p.Detail)
	return p
}

// create registers an application and returns its id and secret.
func (a *tester) create(body string) (id, secret string) {
	a.t.Helper()
	app := a.object(http.StatusCreated, http.MethodPost, "applications", body)
	return app["id"].(string), app["client_secret"].(string)
}

const calendar = `{"name":"Calendar","domains":["Example.org"],"scopes":["rooms:list"]}`

func TestUnknownParameters(t *testing.T) {
	a := newTester(t)
	id, secret := a.create(calendar)
	for _, call := range [][3]string{
		{http.MethodPost, "applications", calendar},
		{http.MethodGet, "applications", ""},
		{http.MethodGet, "applications/" + id, ""},
		{http.MethodPatch, "applications/" + id, `{"note":"x"}`},
		{http.MethodDelete, "applications/" + id, ""},
		{http.MethodPost, "applications/" + id + "/rotate", `{"now":true}`},
		{http.MethodPut, "applications/apply", `{"applications":[]}`},
		{http.MethodGet, "applications/import", ""},
		{http.MethodGet, "applications/export", ""},
		{http.MethodDelete, "removed/" + id, ""},
		{http.MethodPost, "users/lookup", `{"mail":"ada@example.org"}`},
		{http.MethodGet, "users/00000000", ""},
		{http.MethodPost, "revocations", `{"all":true}`},
		{http.MethodGet, "status", ""},
		{http.MethodGet, "routes", ""},
		{http.MethodGet, "health/live", ""},
		{http.MethodGet, "health/ready", ""},
	} {
		a.problem(http.StatusBadRequest, "dry_runn", call[0], call[1]+"?dry_runn=true", call[2])
	}
	_, _, err := a.authority.Authenticate(context.Background(), id, secret)
	require.NoError(t, err, "nothing was changed")
}

func TestWarnings(t *testing.T) {
	a := newTester(t)
	first, _ := a.create(calendar)
	twin := a.object(http.StatusCreated, http.MethodPost, "applications", `{"name":"calendar","domains":["example.org"],"scopes":["rooms:list","rooms:crate"]}`)
	require.Equal(t, []any{
		`scope "rooms:crate": neither Meet nor a route here knows it (did you mean rooms:create?)`,
		`name "calendar": ` + first + ` has the same; use ids to tell them apart`,
	}, twin["warnings"])
	path := "applications/" + twin["id"].(string)
	require.NotContains(t, a.object(http.StatusOK, http.MethodPatch, path, `{"name":"Calendar 2","scopes":["rooms:list"]}`), "warnings")
	require.Len(t, a.object(http.StatusOK, http.MethodPatch, path, `{"name":"CALENDAR"}`)["warnings"], 1)

	// A scope that only a route requires is known.
	a.gateway.routes = []wire.Routes{{Routes: []wire.Route{{Method: "POST", Path: "/rooms/{id}/grant-access", Scope: "rooms:grant-access"}}}}
	require.NotContains(t, a.object(http.StatusOK, http.MethodPatch, path, `{"name":"Other","scopes":["rooms:grant-access"]}`), "warnings")
}

func TestReads_StoreUnavailable(t *testing.T) {
	a := newTester(t)
	a.redis.Close()
	for _, path := range []string{"applications", "applications/x", "users/00000000", "applications/export"} {
		require.Equal(t, detailNoAnswer, a.problem(http.StatusServiceUnavailable, "", http.MethodGet, path, "").Detail, path)
	}
	require.Equal(t, detailNoAnswer, a.problem(http.StatusServiceUnavailable, "", http.MethodPost, "users/lookup", `{"mail":"ada@example.org"}`).Detail)
	require.Equal(t, detailNotAcknowledged, a.problem(http.StatusServiceUnavailable, "", http.MethodPost, "applications", calendar).Detail)
}

func TestReadopt(t *testing.T) {
	a := newTester(t)
	id, _ := a.create(`{"name":"Calendar","aliases":["at/meet"]}`)
	a.problem(http.StatusNotFound, "", http.MethodDelete, "removed/at%2Fmeet", "")
	require.Equal(t, http.StatusNoContent, a.call(http.MethodDelete, "applications/"+id, "").Code)
	require.Equal(t, http.StatusNoContent, a.call(http.MethodDelete, "removed/at%2Fmeet", "").Code)
	a.problem(http.StatusNotFound, "", http.MethodDelete, "removed/at%2Fmeet", "")
}

func TestApplicationLifeCycle(t *testing.T) {
	a := newTester(t)
	ctx := context.Background()

	w := a.call(http.MethodPost, "applications", calendar)
	require.Equal(t, http.StatusCreated, w.Code, w.Body.String())
	require.Equal(t, `"1"`, w.Header().Get("ETag"))
	require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
	var created wire.Application
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &created))
	require.Len(t, created.ID, 32)
	require.Equal(t, created.ID, created.ClientID)
	require.True(t, tokens.ChecksumOK(created.ClientSecret))
	require.True(t, created.Active)
	require.Equal(t, []string{"example.org"}, created.Domains)
	require.Equal(t, wire.Base+"applications/"+created.ID, w.Header().Get("Location"))
	_, _, err := a.authority.Authenticate(ctx, created.ID, created.ClientSecret)
	require.NoError(t, err)

	path := "applications/" + created.ID
	app := a.object(http.StatusOK, http.MethodGet, path, "")
	require.Equal(t, "Calendar", app["name"])
	require.NotContains(t, app, "client_secret")

	app = a.object(http.StatusOK, http.MethodPatch, path, `{"active":false}`, "If-Match", `"1"`)
	require.Equal(t, false, app["active"])
	_, _, err = a.authority.Authenticate(ctx, created.ID, created.ClientSecret)
	require.ErrorIs(t, err, tokens.ErrInactiveApplication)

	a.object(http.StatusOK, http.MethodPatch, path, `{"active":true,"aliases":["meet/1"]}`)
	require.Equal(t, created.ID, a.object(http.StatusOK, http.MethodGet, "applications/meet%2F1", "")["id"])

	rotated := a.object(http.StatusOK, http.MethodPost, path+"/rotate", `{"grace":"24h"}`)
	require.Len(t, rotated["secrets"], 2)
	for _, secret := range []string{created.ClientSecret, rotated["client_secret"].(string)} {
		_, _, err = a.authority.Authenticate(ctx, "meet/1", secret)
		require.NoError(t, err)
	}
	again := a.object(http.StatusOK, http.MethodPost, path+"/rotate", `{"now":true}`)
	_, _, err = a.authority.Authenticate(ctx, created.ID, rotated["client_secret"].(string))
	require.ErrorIs(t, err, tokens.ErrInvalidClient)
	_, _, err = a.authority.Authenticate(ctx, created.ID, again["client_secret"].(string))
	require.NoError(t, err)

	require.Equal(t, http.StatusNoContent, a.call(http.MethodDelete, path, "").Code)
	a.problem(http.StatusNotFound, "", http.MethodGet, path, "")
	a.problem(http.StatusNotFound, "", http.MethodDelete, path, "")

	var actions []string
	for _, line := range a.logs.FilterLoggerName("meet_gateway.audit").All() {
		fields := line.ContextMap()
		actions = append(actions, fmt.Sprint(fields["action"], " ", fields["result"]))
		require.Equal(t, "local", fields["who"])
	}
	require.Equal(t, []string{
		"application.create done", "application.change done", "application.change done",
		"application.rotate done", "application.rotate done", "application.delete done", "application.delete refused",
	}, actions)
}

func TestList(t *testing.T) {
	a := newTester(t)
	for _, name := range []string{"b2", "a", "B1", "c"} {
		a.create(fmt.Sprintf(`{"name":%q}`, name))
	}
	var names []string
	query := "?limit=2"
	for {
		page := a.object(http.StatusOK, http.MethodGet, "applications"+query, "")
		for _, app := range page["applications"].([]any) {
			names = append(names, app.(map[string]any)["name"].(string))
		}
		if page["next"] == nil {
			break
		}
		query = "?limit=2&after=" + page["next"].(string)
	}
	require.Equal(t, []string{"a", "B1", "b2", "c"}, names)
	require.Len(t, a.object(http.StatusOK, http.MethodGet, "applications?prefix=b", "")["applications"], 2)
	require.Equal(t, []any{}, a.object(http.StatusOK, http.MethodGet, "applications?prefix=zz", "")["applications"])

	a.problem(http.StatusBadRequest, "limit", http.MethodGet, "applications?limit=0", "")
	a.problem(http.StatusBadRequest, "limit", http.MethodGet, "applications?limit=1001", "")
	a.problem(http.StatusBadRequest, "limits", http.MethodGet, "applications?limits=1", "")
	a.problem(http.StatusBadRequest, "limit", http.MethodGet, "applications?limit=1&limit=2", "")
	a.problem(http.StatusUnprocessableEntity, "after", http.MethodGet, "applications?after=!", "")
}

func TestInvalidRequests(t *testing.T) {
	a := newTester(t)
	id, _ := a.create(calendar)
	path := "applications/" + id
	for name, tc := range map[string]struct {
		status             int
		field              string
		method, path, body string
	}{
		"unknown resource":           {404, "", http.MethodGet, "nothing", ""},
		"the root":                   {404, "", http.MethodGet, "", ""},
		"too deep":                   {404, "", http.MethodGet, path + "/rotate/now", ""},
		"method of list":             {405, "", http.MethodDelete, "applications", ""},
		"method of rotate":           {405, "", http.MethodGet, path + "/rotate", ""},
		"no body":                    {415, "", http.MethodPost, "applications", ""},
		"not JSON":                   {400, "", http.MethodPost, "applications", "name=x"},
		"a list":                     {400, "", http.MethodPost, "applications", `[{"name":"x"}]`},
		"a key twice":                {400, "", http.MethodPost, "applications", `{"name":"x","name":"y"}`},
		"unknown field":              {400, "nmae", http.MethodPost, "applications", `{"name":"x","nmae":"y"}`},
		"a read-only field":          {400, "version", http.MethodPatch, path, `{"version":7}`},
		"secrets are read-only":      {400, "secrets", http.MethodPatch, path, `{"secrets":[]}`},
		"no name":                    {422, "name", http.MethodPost, "applications", `{}`},
		"name of the wrong type":     {400, "name", http.MethodPost, "applications", `{"name":7}`},
		"active of the wrong type":   {400, "active", http.MethodPatch, path, `{"active":"no"}`},
		"domains of the wrong type":  {400, "domains", http.MethodPatch, path, `{"domains":"example.org"}`},
		"an invalid domain":          {422, "domains", http.MethodPatch, path, `{"domains":["a b"]}`},
		"an invalid scope":           {422, "scopes", http.MethodPatch, path, `{"scopes":["rooms list"]}`},
		"a scope in capital letters": {422, "scopes", http.MethodPatch, path, `{"scopes":["ROOMS:LIST"]}`},
		"an invalid network":         {400, "networks", http.MethodPatch, path, `{"networks":["10.0.0.0/33"]}`},
		"an invalid lifetime":        {400, "token_lifetime", http.MethodPatch, path, `{"token_lifetime":"soon"}`},
		"a lifetime too long":        {422, "token_lifetime", http.MethodPatch, path, `{"token_lifetime":"1000h"}`},
		"unknown room default":       {400, "room_defaults", http.MethodPatch, path, `{"room_defaults":{"level":"public"}}`},
		"unknown access level":       {422, "room_defaults.access_level", http.MethodPatch, path, `{"room_defaults":{"access_level":"open"}}`},
		"backend without a secret":   {422, "backend.client_secret", http.MethodPatch, path, `{"backend":{"client_id":"x"}}`},
		"backend without a client":   {422, "backend", http.MethodPatch, path, `{"backend":{"client_id":"","client_secret":"x"}}`},
		"rotate without a parameter": {400, "grace", http.MethodPost, path + "/rotate", `{}`},
		"rotate with grace and now":  {400, "grace", http.MethodPost, path + "/rotate", `{"grace":"1h","now":true}`},
		"rotate with negative grace": {400, "grace", http.MethodPost, path + "/rotate", `{"grace":"-1h"}`},
		"rotate with a long grace":   {400, "grace", http.MethodPost, path + "/rotate", `{"grace":"9000h"}`},
		"no such application":        {404, "", http.MethodPatch, "applications/nobody", `{"active":true}`},
	} {
		t.Run(name, func(t *testing.T) {
			a.t = t
			a.problem(tc.status, tc.field, tc.method, tc.path, tc.body)
		})
	}
	a.t = t
	w := a.call(http.MethodPut, path, "{}")
	require.Equal(t, "DELETE, GET, HEAD, PATCH", w.Header().Get("Allow"))
	a.problem(http.StatusUnsupportedMediaType, "", http.MethodPost, "applications", calendar, "Content-Type", "text/plain")
	a.problem(http.StatusRequestEntityTooLarge, "", http.MethodPost, "applications", `{"note":"`+strings.Repeat("x", maxBody)+`"}`)
}

func TestMergePatch(t *testing.T) {
	a := newTester(t)
	id, _ := a.create(`{"name":"Calendar","domains":["example.org"],"scopes":["rooms:list"],"note":"n","token_lifetime":"10m",
		"backend":{"client_id":"at-meet","client_secret":"s"},"networks":["192.0.2.7","2001:db8::/32"],"limits":{"token":"10/m"},
		"room_defaults":{"access_level":"restricted","configuration":{"a":1}},"denied_mails":["Ada@example.org"]}`)
	path := "applications/" + id
	app := a.object(http.StatusOK, http.MethodGet, path, "")
	require.Equal(t, map[string]any{"client_id": "at-meet"}, app["backend"])
	require.Equal(t, []any{"192.0.2.7/32", "2001:db8::/32"}, app["networks"])
	require.Equal(t, []any{"ada@example.org"}, app["denied_mails"])
	require.Equal(t, "10m0s", app["token_lifetime"])

	// null sets the default. A missing field stays.
	app = a.object(http.StatusOK, http.MethodPatch, path, `{"note":null,"token_lifetime":null,"active":null,"networks":null,"room_defaults":null}`)
	for _, gone := range []string{"note", "token_lifetime", "networks", "room_defaults"} {
		require.NotContains(t, app, gone)
	}
	require.Equal(t, true, app["active"])
	require.Equal(t, []any{"example.org"}, app["domains"])
	require.Equal(t, map[string]any{"client_id": "at-meet"}, app["backend"])

	// A patch that changes nothing creates no version.
	require.Equal(t, app["version"], a.object(http.StatusOK, http.MethodPatch, path, `{"name":"Calendar","backend":{"client_id":"at-meet"}}`)["version"])

	app = a.object(http.StatusOK, http.MethodPatch, path, `{"backend":null}`)
	require.NotContains(t, app, "backend")
}

func TestConcurrentChanges(t *testing.T) {
	a := newTester(t)
	id, _ := a.create(calendar)
	path := "applications/" + id

	a.object(http.StatusOK, http.MethodPatch, path, `{"note":"first"}`, "If-Match", `"1"`)
	a.problem(http.StatusPreconditionFailed, "", http.MethodPatch, path, `{"note":"second"}`, "If-Match", `"1"`)
	a.problem(http.StatusPreconditionFailed, "", http.MethodDelete, path, "", "If-Match", `"1"`)
	a.problem(http.StatusPreconditionFailed, "", http.MethodPost, path+"/rotate", `{"now":true}`, "If-Match", `"1"`)
	a.problem(http.StatusPreconditionFailed, "", http.MethodPatch, path, `{"note":"second"}`, "If-Match", `W/"2"`)
	a.object(http.StatusOK, http.MethodPatch, path, `{"note":"second"}`, "If-Match", `"1", "2"`)
	a.object(http.StatusOK, http.MethodPatch, path, `{"note":"third"}`, "If-Match", `*`)

	// Without If-Match both changes are kept, in either order.
	var both sync.WaitGroup
	codes := make([]int, 2)
	for i, body := range []string{`{"scopes":["rooms:create"]}`, `{"domains":["example.net"]}`} {
		both.Go(func() {
			r := httptest.NewRequest(http.MethodPatch, wire.Base+path, strings.NewReader(body))
			r.Header.Set("Content-Type", "application/json")
			w := httptest.NewRecorder()
			_ = a.api.serve(w, r)
			codes[i] = w.Code
		})
	}
	both.Wait()
	require.Equal(t, []int{http.StatusOK, http.StatusOK}, codes)
	app := a.object(http.StatusOK, http.MethodGet, path, "")
	require.Equal(t, []any{"rooms:create"}, app["scopes"])
	require.Equal(t, []any{"example.net"}, app["domains"])
	require.InDelta(t, 6, app["version"], 0)

	// An alias belongs to one application.
	a.object(http.StatusOK, http.MethodPatch, path, `{"aliases":["one"]}`)
	a.problem(http.StatusConflict, "", http.MethodPost, "applications", `{"name":"Other","aliases":["one"]}`)
}

func TestStoreUnavailable(t *testing.T) {
	a := newTester(t)
	id, _ := a.create(calendar)
	a.redis.Close()
	for method, body := range map[string]string{http.MethodGet: "", http.MethodPatch: `{"note":"x"}`, http.MethodDelete: ""} {
		w := a.call(method, "applications/"+id, body)
		require.Equal(t, http.StatusServiceUnavailable, w.Code)
		require.Equal(t, "2", w.Header().Get("Retry-After"))
	}
	lines := a.logs.FilterLoggerName("meet_gateway.audit").FilterField(zap.String("result", "failed")).Len()
	require.Equal(t, 2, lines)
}

func TestAppNotConfigured(t *testing.T) {
	a := newTester(t)
	a.api.active = activeGateway
	a.problem(http.StatusServiceUnavailable, "", http.MethodGet, "applications", "")
}

// Before the first configuration is loaded, the API answers that the gateway is starting.
func TestStarting(t *testing.T) {
	a := &api{active: func() (Gateway, error) { return nil, errStarting }}
	w := httptest.NewRecorder()
	require.NoError(t, a.serve(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, wire.Base+"status", http.NoBody)))
	require.Equal(t, http.StatusServiceUnavailable, w.Code)
	require.NotEmpty(t, w.Header().Get("Retry-After"))
	require.Contains(t, w.Body.String(), "is starting")
}
