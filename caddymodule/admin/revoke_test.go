// SPDX-License-Identifier: MIT

package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/meet-gateway/meet-gateway/tokens"
)

// issue returns an access token for a user.
func (a *tester) issue(application, mail string) *tokens.Token {
	a.t.Helper()
	ctx := context.Background()
	app, err := a.authority.Application(ctx, application)
	require.NoError(a.t, err)
	m, err := tokens.ParseMail(mail)
	require.NoError(a.t, err)
	token, err := a.authority.Issue(ctx, tokens.Grant{Application: app, Mail: m, BackendUserID: "at-meet", Scopes: app.Scopes})
	require.NoError(a.t, err)
	return token
}

func (a *tester) valid(token *tokens.Token) bool {
	a.t.Helper()
	_, err := a.authority.Verify(context.Background(), token.Value)
	if err != nil {
		require.ErrorIs(a.t, err, tokens.ErrTokenInvalid)
	}
	return err == nil
}

func TestRevoke(t *testing.T) {
	a := newTester(t)
	calendar, _ := a.create(calendar)
	chat, _ := a.create(`{"name":"Chat","domains":["example.org"],"scopes":["rooms:list"],"aliases":["chat-at-meet"]}`)
	const ada, bob = "ada@example.org", "bob@example.org"
	for name, tc := range map[string]struct {
		body   func(token *tokens.Token) string
		action string
		// ended says which tokens end: of calendar for ada and bob, and of chat for ada and bob.
		ended [4]bool
	}{
		"a token":                 {func(t *tokens.Token) string { return fmt.Sprintf(`{"token":%q}`, t.Value) }, "revoke.token", [4]bool{true, false, false, false}},
		"a token by id":           {func(t *tokens.Token) string { return fmt.Sprintf(`{"token":%q}`, t.ID) }, "revoke.token", [4]bool{true, false, false, false}},
		"an application":          {func(*tokens.Token) string { return fmt.Sprintf(`{"application":%q}`, calendar) }, "revoke.application", [4]bool{true, true, false, false}},
		"an application by alias": {func(*tokens.Token) string { return `{"application":"chat-at-meet"}` }, "revoke.application", [4]bool{false, false, true, true}},
		"a user":                  {func(*tokens.Token) string { return `{"user":"Ada@example.org"}` }, "revoke.user", [4]bool{true, false, true, false}},
		"a grant":                 {func(*tokens.Token) string { return fmt.Sprintf(`{"application":%q,"user":%q}`, chat, bob) }, "revoke.grant", [4]bool{false, false, false, true}},
		"all":                     {func(*tokens.Token) string { return `{"all":true}` }, "revoke.all", [4]bool{true, true, true, true}},
		"before an hour ago": {func(*tokens.Token) string {
			return fmt.Sprintf(`{"before":%q}`, time.Now().Add(-time.Hour).Format(time.RFC3339))
		}, "revoke.before", [4]bool{}},
	} {
		t.Run(name, func(t *testing.T) {
			a.t = t
			issued := []*tokens.Token{a.issue(calendar, ada), a.issue(calendar, bob), a.issue(chat, ada), a.issue(chat, bob)}
			for _, token := range issued {
				require.True(t, a.valid(token))
			}
			w := a.call(http.MethodPost, "revocations", tc.body(issued[0]))
			require.Equal(t, http.StatusNoContent, w.Code, w.Body.String())
			for i, token := range issued {
				require.NotEqual(t, tc.ended[i], a.valid(token), "token %d", i)
			}
			lines := a.logs.FilterLoggerName("meet_gateway.audit").All()
			require.Equal(t, tc.action, lines[len(lines)-1].ContextMap()["action"])
		})
	}
	a.t = t
}

func TestRevoke_Refusals(t *testing.T) {
	a := newTester(t)
	id, _ := a.create(calendar)
	a.issue(id, "ada@example.org")
	signing := a.authority.Status(context.Background()).Keys[0].ID
	for name, tc := range map[string]struct {
		status      int
		field, body string
	}{
		"nothing":             {400, "", `{}`},
		"two targets":         {400, "", `{"token":"x","all":true}`},
		"not all":             {400, "", `{"all":false}`},
		"unknown field":       {400, "mail", `{"mail":"ada@example.org"}`},
		"wrong type":          {400, "all", `{"all":"yes"}`},
		"unknown application": {404, "application", `{"application":"nobody"}`},
		"unknown user":        {404, "user", `{"user":"nobody@example.org"}`},
		"an invalid user":     {404, "user", `{"user":"nobody"}`},
		"unknown key":         {404, "key", `{"key":"nothing"}`},
		"the signing key":     {409, "", `{"key":"` + signing + `"}`},
		"not a time":          {400, "before", `{"before":"yesterday"}`},
		"the future":          {422, "", `{"before":"2999-01-01T00:00:00Z"}`},
	} {
		t.Run(name, func(t *testing.T) {
			a.t = t
			a.problem(tc.status, tc.field, http.MethodPost, "revocations", tc.body)
		})
	}
	a.t = t
	p := a.problem(409, "", http.MethodPost, "revocations", `{"key":"`+signing+`"}`)
	require.Equal(t, detailKeySigns, p.Detail, "the refusal is not about a concurrent change")
	// An operator who mistypes a leaked token must not believe that it is revoked.
	for _, typo := range []string{"nonsense", "eyJhbGciOiJIUzI1NiJ9.e30.", "0123456789", "mgr_" + strings.Repeat("a", 60)} {
		require.Equal(t, http.StatusBadRequest, a.call(http.MethodPost, "revocations", `{"token":"`+typo+`"}`).Code, typo)
	}
	require.Equal(t, http.StatusNoContent, a.call(http.MethodPost, "revocations", `{"token":"0123456789012345678901"}`).Code, "the id of a token that has expired")

	a.redis.Close()
	w := a.call(http.MethodPost, "revocations", `{"all":true}`)
	require.Equal(t, http.StatusServiceUnavailable, w.Code)
	require.NotEmpty(t, w.Header().Get("Retry-After"))
}

func TestUsers_Lookup(t *testing.T) {
	a := newTester(t)
	id, _ := a.create(calendar)
	a.issue(id, "ada@example.org")

	user := a.object(http.StatusOK, http.MethodPost, "users/lookup", `{"mail":"Ada@Example.org"}`)
	require.Equal(t, "ada@example.org", user["mail"])
	require.Equal(t, id, user["first_seen_by"])
	require.Len(t, user["id"], 8)
	require.Equal(t, user["id"], a.object(http.StatusOK, http.MethodGet, "users/"+user["id"].(string), "")["id"])

	a.problem(http.StatusNotFound, "", http.MethodPost, "users/lookup", `{"mail":"bob@example.org"}`)
	a.problem(http.StatusUnprocessableEntity, "mail", http.MethodPost, "users/lookup", `{"mail":"bob"}`)
	a.problem(http.StatusNotFound, "", http.MethodGet, "users/00000000", "")
	a.problem(http.StatusNotFound, "", http.MethodGet, "users/lookup2", "")
	// Caddy logs paths.
	a.problem(http.StatusBadRequest, "", http.MethodGet, "users/ada@example.org", "")
}

// The test uses recognisable secrets in all requests and looks for them in all answers and log
// lines.
func TestSecrets_AreNeverShown(t *testing.T) {
	a := newTester(t)
	const (
		atMeet = "CANARY-secret-at-meet"
		hash   = "pbkdf2_sha256$1$canarysalt$5sBtpiWTVH1kYhODB/4hfYwhaLb68fOJ55LZKlQA4zc="
		mail   = "canary@example.org"
		denied = "denied.canary@example.org"
	)
	canaries := []string{atMeet, "canarysalt"}
	mails := []string{"canary@"}

	created := a.object(http.StatusCreated, http.MethodPost, "applications",
		`{"name":"Calendar","domains":["example.org"],"scopes":["rooms:list"],"denied_mails":["`+denied+`"],"backend":{"client_id":"c","client_secret":"`+atMeet+`"}}`)
	id := created["id"].(string)
	canaries = append(canaries, created["client_secret"].(string))
	rotated := a.object(http.StatusOK, http.MethodPost, "applications/"+id+"/rotate", `{"grace":"1h"}`)
	canaries = append(canaries, rotated["client_secret"].(string))
	applied := a.object(http.StatusOK, http.MethodPut, "applications/apply", `{"applications":[{"name":"Applied","backend":{"client_id":"c","client_secret":"`+atMeet+`2"}}]}`)
	canaries = append(canaries, applied["changes"].([]any)[0].(map[string]any)["client_secret"].(string))
	once := len(a.answers) // each answer so far may show one new secret
	for i, answer := range a.answers {
		require.NotContains(t, answer, atMeet, i)
	}

	token := a.issue(id, mail)
	canaries = append(canaries, token.Value)
	dump := `[{"model":"core.application","pk":"1","fields":{"name":"Imported","is_active":true,"client_id":"imported","client_secret":"` + hash + `","scopes":"[]"}},
		{"model":"core.application","pk":"2","fields":{"name":"Plain","is_active":true,"client_id":"plain","client_secret":"` + atMeet + `","scopes":"[]"}},
		{"model":"core.applicationdomain","pk":"3","fields":{"domain":"example.org","application":"1"}}]`
	for _, call := range [][3]string{
		{http.MethodGet, "applications", ""},
		{http.MethodGet, "applications/" + id, ""},
		{http.MethodPatch, "applications/" + id, `{"note":"n","backend":{"client_id":"d","client_secret":"` + atMeet + `3"}}`},
		{http.MethodPatch, "applications/" + id, `{"backend":{"client_id":"","client_secret":"` + atMeet + `3"}}`},
		{http.MethodPatch, "applications/" + id, `{"backend":"` + atMeet + `"}`},
		{http.MethodPatch, "applications/" + id, `{"` + strings.ToLower(atMeet) + `":1}`},
		{http.MethodPatch, "applications/" + id, atMeet},
		{http.MethodPost, "applications/import?dry_run", dump},
		{http.MethodPost, "applications/import", dump},
		{http.MethodPost, "applications/import?update", dump},
		{http.MethodPost, "applications/import", atMeet},
		{http.MethodGet, "applications/export", ""},
		{http.MethodPut, "applications/apply", `{"dry_run":true,"applications":[{"name":"Applied","backend":{"client_id":"c","client_secret":"` + atMeet + `4"}}]}`},
		{http.MethodPost, "revocations", `{"token":"` + token.Value + `"}`},
		{http.MethodPost, "revocations", `{"key":"` + token.Value + `"}`},
		{http.MethodPost, "revocations", `{"user":"` + mail + `"}`},
		{http.MethodPost, "revocations", `{"user":"other.` + mail + `"}`},
		{http.MethodPost, "revocations", `{"user":"` + mail + `","application":"` + token.Value[:90] + `"}`},
		{http.MethodGet, "status", ""},
		{http.MethodGet, "routes", ""},
		{http.MethodPost, "users/lookup", `{"mail":"` + mail + `"}`},
		{http.MethodDelete, "applications/" + id, ""},
	} {
		a.call(call[0], call[1], call[2])
	}
	for i, answer := range a.answers[once:] {
		for _, canary := range canaries {
			require.NotContains(t, answer, canary, "answer %d", i)
		}
	}

	encoder := zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig())
	lines := a.logs.All()
	require.NotEmpty(t, lines)
	for _, line := range lines {
		b, err := encoder.EncodeEntry(line.Entry, line.Context)
		require.NoError(t, err)
		require.True(t, json.Valid(b.Bytes()))
		for _, canary := range append(canaries, mails...) {
			require.NotContains(t, strings.ToLower(b.String()), strings.ToLower(canary))
		}
	}
}
