// SPDX-License-Identifier: MIT

package admin

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tokens"
)

// FuzzApplicationFields reads bodies of PATCH and entries of apply. An accepted application is
// the same after an export.
func FuzzApplicationFields(f *testing.F) {
	for _, seed := range []string{
		`{"name":"Calendar","domains":["Example.org",".example.net","*"],"scopes":["rooms:list"],"active":null}`,
		`{"name":"x","networks":["192.0.2.7","2001:db8::1/32"],"token_lifetime":"90s","refresh":true,"limits":{"token":"10/m"}}`,
		`{"name":"x","room_defaults":{"access_level":"public","configuration":{"a":[1]}},"denied_mails":["Ada@example.org"],"aliases":["a"]}`,
		`{"name":"x","backend":{"client_id":"c","client_secret":"s"},"note":"\u0000"}`,
		`{"name":"x","name":"y"}`, `{"name":7}`, `[]`, `null`, ``,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		app, err := readApplication(body)
		if err != nil {
			status := problemOf(err).Status
			require.Contains(t, []int{http.StatusBadRequest, http.StatusUnprocessableEntity}, status, err)
			return
		}
		element, err := exported(app)
		require.NoError(t, err)
		again := tokens.Application{Active: true}
		again.Backend = app.Backend // no export has the secret
		given, err := readObject([]byte(element), append([]string{"id"}, applicationFieldNames()...))
		require.NoError(t, err)
		require.NoError(t, setFields(&again, given))
		checked, err := again.Checked()
		require.NoError(t, err)
		require.Empty(t, changedFields(app, checked), element)
	})
}

func readApplication(body []byte) (*tokens.Application, error) {
	given, err := readObject(body, applicationFieldNames())
	if err != nil {
		return nil, err
	}
	app := tokens.Application{Active: true}
	if err := setFields(&app, given); err != nil {
		return nil, err
	}
	return app.Checked()
}

// FuzzBodies sends any body to each resource that takes one. The answer is JSON and no server
// error, and no mail address is logged.
func FuzzBodies(f *testing.F) {
	targets := []struct{ method, path string }{
		{http.MethodPost, "applications"},
		{http.MethodPut, "applications/apply"},
		{http.MethodPatch, "applications/calendar"},
		{http.MethodPost, "applications/calendar/rotate"},
		{http.MethodPost, "users/lookup"},
		{http.MethodPost, "revocations"},
		{http.MethodPost, "applications/import?dry_run=true"},
	}
	for i, seed := range []string{
		`{"name":"Chat","domains":["example.org"],"denied_mails":["ada@example.org"]}`,
		`{"applications":[{"name":"Chat","note":"ada@example.org"},{"id":"calendar"}],"prune":false,"dry_run":true}`,
		`{"note":"ada@example.org","active":null,"limits":{"token":"1/1m"}}`,
		`{"grace":"24h"}`, `{"mail":"ada@example.org"}`, `{"application":"calendar","user":"ada@example.org"}`,
		`[{"model":"core.application","pk":1,"fields":{"name":"x","client_id":"y","client_secret":"pbkdf2_sha256$1$a$b"}}]`,
	} {
		f.Add(uint8(i), []byte(seed))
		f.Add(uint8(i), []byte(`{"before":"2026-03-01T12:00:00Z","before":null}`))
		f.Add(uint8(i), []byte("{}"))
	}
	a := newTester(f)
	a.object(http.StatusCreated, http.MethodPost, "applications", `{"name":"Calendar","aliases":["calendar"],"domains":["example.org"]}`)
	f.Fuzz(func(t *testing.T, target uint8, body []byte) {
		a.t = t
		to := targets[int(target)%len(targets)]
		w := a.call(to.method, to.path, string(body))
		require.Less(t, w.Code, 500, w.Body.String())
		require.True(t, w.Code == http.StatusNoContent && w.Body.Len() == 0 || json.Valid(w.Body.Bytes()), w.Body.String())
		for _, line := range a.logs.TakeAll() {
			text, err := json.Marshal(line.ContextMap())
			require.NoError(t, err)
			require.NotContains(t, strings.ToLower(string(text)+line.Message), "ada@example.org")
		}
		a.answers = nil
	})
}
