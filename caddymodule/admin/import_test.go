// SPDX-License-Identifier: MIT

package admin

import (
	"bytes"
	"context"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/meet-gateway/meet-gateway/tests/redistest"
	"github.com/meet-gateway/meet-gateway/tokens"
	"github.com/meet-gateway/meet-gateway/tokens/django/djangotest"
)

// outcomes returns one line for each application in the report of an import.
func outcomes(report map[string]any) []string {
	var list []string
	for _, app := range report["applications"].([]any) {
		app := app.(map[string]any)
		line := app["client_id"].(string) + " " + app["outcome"].(string)
		if reason, ok := app["reason"]; ok {
			line += ": " + reason.(string)
		}
		list = append(list, line)
	}
	return list
}

func dumpOf(t *testing.T, o djangotest.Options) string {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, djangotest.WriteDump(&b, o))
	return b.String()
}

func TestImport_Dump(t *testing.T) {
	a := newTester(t)
	file, err := os.ReadFile("../../tokens/django/testdata/dumpdata.json")
	require.NoError(t, err)
	dump := string(file)
	const one, two, three = "client0xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", "client1xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", "client2xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"

	// A dry run has the same report and changes nothing.
	dry := a.object(http.StatusOK, http.MethodPost, "applications/import?dry_run=true", dump)
	require.Equal(t, []string{one + " taken", two + " taken", three + " taken"}, outcomes(dry))
	require.Empty(t, a.object(http.StatusOK, http.MethodGet, "applications", "")["applications"])
	require.Zero(t, a.logs.FilterLoggerName("meet_gateway.audit").Len())

	report := a.object(http.StatusOK, http.MethodPost, "applications/import", dump)
	require.Equal(t, outcomes(dry), outcomes(report))
	require.InDelta(t, 3, report["taken"], 0)
	require.Equal(t, 3, a.logs.FilterLoggerName("meet_gateway.audit").FilterField(zap.String("action", "application.create")).Len())

	app := a.object(http.StatusOK, http.MethodGet, "applications/"+one, "")
	require.Equal(t, "Platform of the Académie", app["name"])
	require.Equal(t, []any{"academie.example", "school.example"}, app["domains"])
	require.Equal(t, []any{one}, app["aliases"])
	require.Equal(t, "django", app["secrets"].([]any)[0].(map[string]any)["kind"])
	// No domain means every domain in Meet, and is imported as *.
	require.Equal(t, []any{"*"}, a.object(http.StatusOK, http.MethodGet, "applications/"+two, "")["domains"])
	require.Equal(t, false, a.object(http.StatusOK, http.MethodGet, "applications/"+three, "")["active"])

	again := a.object(http.StatusOK, http.MethodPost, "applications/import?update=true", dump)
	require.Equal(t, []string{
		one + " skipped: it exists already", two + " skipped: it exists already", three + " skipped: it exists already",
	}, outcomes(again))
	for _, answer := range a.answers {
		require.NotContains(t, answer, "pbkdf2")
	}
}

func TestImport_SecretsKeepWorking(t *testing.T) {
	a := newTester(t)
	a.object(http.StatusOK, http.MethodPost, "applications/import", dumpOf(t, djangotest.Options{Applications: 20, Domains: 1}))
	for i := range 20 {
		app, _, err := a.authority.Authenticate(context.Background(), djangotest.ClientID(i), djangotest.Secret(i))
		require.NoError(t, err)
		require.Equal(t, []string{djangotest.Domain(i, 0)}, app.Domains)
	}
}

func TestImport_Update(t *testing.T) {
	a := newTester(t)
	dump := dumpOf(t, djangotest.Options{Applications: 1, Domains: 1})
	client := djangotest.ClientID(0)
	a.object(http.StatusOK, http.MethodPost, "applications/import", dump)
	a.object(http.StatusOK, http.MethodPatch, "applications/"+client, `{"active":false,"scopes":["rooms:list"],"note":"ours"}`)

	report := a.object(http.StatusOK, http.MethodPost, "applications/import", dump)
	require.Equal(t, []string{client + " skipped: it exists already and differs in active, scopes; importing with update changes it"}, outcomes(report))
	require.Equal(t, false, a.object(http.StatusOK, http.MethodGet, "applications/"+client, "")["active"])

	report = a.object(http.StatusOK, http.MethodPost, "applications/import?update=true&dry_run=true", dump)
	require.Equal(t, []string{client + " changed"}, outcomes(report))
	require.Equal(t, false, a.object(http.StatusOK, http.MethodGet, "applications/"+client, "")["active"])

	a.object(http.StatusOK, http.MethodPost, "applications/import?update", dump)
	app := a.object(http.StatusOK, http.MethodGet, "applications/"+client, "")
	require.Equal(t, true, app["active"])
	require.Equal(t, "ours", app["note"])

	// An old dump does not replace a secret that was created here.
	secret := a.object(http.StatusOK, http.MethodPost, "applications/"+client+"/rotate", `{"now":true}`)["client_secret"].(string)
	report = a.object(http.StatusOK, http.MethodPost, "applications/import?update", dump)
	require.Equal(t, []string{client + " skipped: it exists already"}, outcomes(report))
	require.Contains(t, report["applications"].([]any)[0].(map[string]any)["notes"], "its secret here differs from the one in the file and is kept")
	_, _, err := a.authority.Authenticate(context.Background(), client, secret)
	require.NoError(t, err)
	_, _, err = a.authority.Authenticate(context.Background(), client, djangotest.Secret(0))
	require.ErrorIs(t, err, tokens.ErrInvalidClient)
}

func TestImport_Credentials(t *testing.T) {
	a := newTester(t)
	dump := dumpOf(t, djangotest.Options{Applications: 1, Domains: 1})
	path := "applications/" + djangotest.ClientID(0)
	a.object(http.StatusOK, http.MethodPost, "applications/import?gateway_credentials=true", dump)
	require.NotContains(t, a.object(http.StatusOK, http.MethodGet, path, ""), "learns_backend")
	a.call(http.MethodDelete, path, "")

	a.object(http.StatusOK, http.MethodPost, "applications/import", dump)
	require.Equal(t, djangotest.ClientID(0), a.object(http.StatusOK, http.MethodGet, path, "")["learns_backend"])
	same := `{"applications":[{"name":"Application 0","aliases":["` + djangotest.ClientID(0) + `"],"domains":["` + djangotest.Domain(0, 0) +
		`"],"scopes":["rooms:list","rooms:create"],"note":"Imported from Meet, where it is ` + djangotest.PK(0) + `."`
	require.Empty(t, a.apply(same+`}]}`))
	require.Equal(t, []string{"change Application 0 backend"}, a.apply(same+`,"backend":null}]}`))
	require.NotContains(t, a.object(http.StatusOK, http.MethodGet, path, ""), "learns_backend")

	// Importing a later dump does not bring it back either.
	later := strings.ReplaceAll(dump, "pbkdf2_sha256$1$salt0$", "pbkdf2_sha256$1$later$")
	require.InDelta(t, 1, a.object(http.StatusOK, http.MethodPost, "applications/import?update=true", later)["changed"], 0)
	require.NotContains(t, a.object(http.StatusOK, http.MethodGet, path, ""), "learns_backend")
}

func TestImport_DumpWithoutDomains(t *testing.T) {
	a := newTester(t)
	dump := dumpOf(t, djangotest.Options{Applications: 2})
	a.problem(http.StatusUnprocessableEntity, "any_domain", http.MethodPost, "applications/import", dump)
	require.Empty(t, a.object(http.StatusOK, http.MethodGet, "applications", "")["applications"])
	dry := a.object(http.StatusOK, http.MethodPost, "applications/import?dry_run=true", dump)
	require.Len(t, dry["warnings"], 1)
	require.Equal(t, true, dry["refused"], "the import would be refused")
	require.NotContains(t, a.object(http.StatusOK, http.MethodPost, "applications/import?dry_run=true&any_domain=true", dump), "refused")
	report := a.object(http.StatusOK, http.MethodPost, "applications/import?any_domain=true", dump)
	require.InDelta(t, 2, report["taken"], 0)
}

func TestImport_InvalidRecords(t *testing.T) {
	a := newTester(t)
	record := func(pk, fields string) string {
		return `{"model":"core.application","pk":"` + pk + `","fields":{` + fields + `}}`
	}
	dump := "[" + strings.Join([]string{
		record("1", `"name":"","is_active":true,"client_id":"nameless","client_secret":"pbkdf2_sha256$1$a$5sBtpiWTVH1kYhODB/4hfYwhaLb68fOJ55LZKlQA4zc=","scopes":"[]"`),
		record("2", `"name":"Long `+strings.Repeat("é", 200)+`","is_active":true,"client_id":"long","client_secret":"!unusable","scopes":"[\"rooms:list\"]"`),
		record("3", `"name":"No client id","is_active":true`),
		`{"model":"core.user","pk":"4","fields":{}}`,
		`{"model":"core.applicationdomain","pk":"5","fields":{"domain":"*","application":"1"}}`,
		`{"model":"core.applicationdomain","pk":"6","fields":{"domain":"example.org","application":"99"}}`,
	}, ",") + "]"
	report := a.object(http.StatusOK, http.MethodPost, "applications/import", dump)
	apps := report["applications"].([]any)
	require.Len(t, apps, 3)
	notes := func(i int) []any { n, _ := apps[i].(map[string]any)["notes"].([]any); return n }
	require.Contains(t, notes(0), "it has no name; its client id is used")
	require.Contains(t, notes(0), "none of its domains is usable, so it may act for no user")
	require.Contains(t, notes(1), "its name is shortened to 255 bytes")
	require.Contains(t, notes(1), "it has no usable secret; rotate it to create one")
	require.Contains(t, notes(1), "client_secret is an unusable password")
	require.Equal(t, "skipped", apps[2].(map[string]any)["outcome"])
	require.Equal(t, "client_id is missing or not 1 to 100 visible characters", apps[2].(map[string]any)["reason"])
	require.Len(t, report["warnings"], 2)
	require.Equal(t, map[string]any{"core.user": 1.0}, report["ignored"])
	require.Empty(t, a.object(http.StatusOK, http.MethodGet, "applications/nameless", "")["domains"])

	for name, body := range map[string]string{"not JSON": "x", "truncated": dump[:len(dump)-2], "empty": " ", "an object": "{}", "anything": `[{"a":1}]`} {
		t.Run(name, func(t *testing.T) {
			a.t = t
			a.problem(http.StatusBadRequest, "", http.MethodPost, "applications/import", body)
		})
	}
	a.t = t
	a.problem(http.StatusBadRequest, "dry_run", http.MethodPost, "applications/import?dry_run=maybe", dump)
	a.problem(http.StatusBadRequest, "dryrun", http.MethodPost, "applications/import?dryrun=true", dump)
	require.Equal(t, []any{}, a.object(http.StatusOK, http.MethodGet, "applications/import", "")["imports"])
}

func TestImport_StoreUnavailable(t *testing.T) {
	a := newTester(t)
	dump := dumpOf(t, djangotest.Options{Applications: 50, Domains: 1})
	a.redis.Close()
	p := a.problem(http.StatusServiceUnavailable, "", http.MethodPost, "applications/import", dump)
	require.InDelta(t, 0, p.Done.(map[string]any)["taken"], 0)
	require.Len(t, p.Done.(map[string]any)["applications"], 50)
}

// BenchmarkAdminImport imports 10,000 applications into an empty Redis server. The target is
// one minute.
func BenchmarkAdminImport(b *testing.B) {
	var dump bytes.Buffer
	require.NoError(b, djangotest.WriteDump(&dump, djangotest.Options{Applications: 10_000, Domains: 2}))
	for b.Loop() {
		b.StopTimer()
		store, err := tokens.OpenRedis(tokens.RedisOptions{URL: redistest.Standalone(b).URL()})
		require.NoError(b, err)
		a := newTesterOver(b, store)
		b.StartTimer()
		report := a.object(http.StatusOK, http.MethodPost, "applications/import", dump.String())
		require.InDelta(b, 10_000, report["taken"], 0)
	}
}
