// SPDX-License-Identifier: MIT

package tests

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/caddymodule/audit"
	"github.com/meet-gateway/meet-gateway/tests/gatewaytest"
	"github.com/meet-gateway/meet-gateway/tokens"
)

const auditSecret = "audit-test-0123456789-0123456789"

// auditTypes returns the types of the events in a trail, except those about the trail
// itself.
func auditTypes(t *testing.T, path string) (types []string) {
	t.Helper()
	_, err := audit.Query([]string{path}, audit.Filter{}, func(l audit.Line) error {
		if !strings.HasPrefix(l.Type, "audit.") {
			types = append(types, l.Type)
		}
		return nil
	})
	require.NoError(t, err)
	return types
}

// Every decision about API requests and administration is one line. The chain continues
// over reloads, and no line contains a credential or a mail address.
func TestAudit_Trail(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	config := gatewaytest.Config{
		Global: "store embedded\nsecret " + auditSecret + "\naudit {\noutput file " + path + "\n}\nlimit users 1/1d\nquota_dry_run",
		Gate:   "backend sandbox\nroute DELETE /rooms/{id} rooms:delete",
	}
	g := gatewaytest.Start(t, config)
	app := g.AddApplication(func(a *tokens.Application) { a.Refresh, a.Domains = true, []string{"example.org"} })
	issued := g.TokenRequest(app, "canary.user@example.org").JSON(t)
	token, _ := issued["access_token"].(string)
	refresh, _ := issued["refresh_token"].(string)
	require.NotEmpty(t, refresh)
	g.TokenRequest(app, "canary.user@elsewhere.example")
	g.TokenRequest(&gatewaytest.Client{Application: app.Application, Secret: "wrong-canary-secret"}, "canary.user@example.org")
	refreshed := g.Do(http.MethodPost, "/external-api/v1.0/application/token",
		`{"grant_type":"refresh_token","client_id":"`+app.ID+`","client_secret":"`+app.Secret+`","refresh_token":"`+refresh+`"}`, "Content-Type", "application/json")
	require.Equal(t, http.StatusOK, refreshed.Status, refreshed.Body)

	g.Reload(config)
	room := g.Do(http.MethodPost, "/external-api/v1.0/rooms", "{}", "Authorization", gatewaytest.Bearer(token), "Content-Type", "application/json")
	require.Equal(t, http.StatusCreated, room.Status, room.Body)
	id, _ := room.JSON(t)["id"].(string)
	// The sandbox has no such path, like most Meets.
	g.Do(http.MethodDelete, "/external-api/v1.0/rooms/"+id, "", "Authorization", gatewaytest.Bearer(token))
	g.Do(http.MethodGet, "/external-api/v1.0/rooms", "", "Authorization", gatewaytest.Bearer(token))
	require.Equal(t, http.StatusOK, g.Do(http.MethodPost, "/external-api/v1.0/application/revoke",
		`{"client_id":"`+app.ID+`","client_secret":"`+app.Secret+`","token":"`+token+`"}`, "Content-Type", "application/json").Status)
	res, err := http.Post("http://"+g.Admin+"/meet-gateway/revocations", "application/json", strings.NewReader(`{"user":"canary.user@example.org"}`))
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	require.Equal(t, http.StatusNoContent, res.StatusCode)

	types := auditTypes(t, path)
	require.Equal(t, []string{
		"quota.warning", "token.issued", "token.refused", "token.refused", "token.refreshed", "room.created", "route.refused", "token.revoked", "revoke.user",
	}, types)
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	for _, canary := range []string{
		"canary.user", "wrong-canary-secret", app.Secret, token, refresh, strings.Split(token, ".")[2], auditSecret,
	} {
		require.NotContains(t, string(content), canary)
	}
	require.Contains(t, string(content), id)
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	key, err := audit.NewKey([]byte(auditSecret))
	require.NoError(t, err)
	report, err := audit.Verify([]string{path}, audit.VerifyOptions{Keys: []*audit.Key{key}})
	require.NoError(t, err)
	require.Empty(t, report.Findings)
	require.Len(t, report.Chains, 1)
	require.NotContains(t, g.Logs(), "wrong-canary-secret")
}

// With on_failure refuse, a full disk makes requests that must be recorded fail with 503,
// administration included. Rooms can still be read.
func TestAudit_FullDisk(t *testing.T) {
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("there is no /dev/full here")
	}
	for i, option := range []string{"refuse", "continue"} {
		t.Run(option, func(t *testing.T) {
			want := []int{http.StatusServiceUnavailable, http.StatusOK}[i]
			g := gatewaytest.Start(t, gatewaytest.Config{
				Global: "store embedded\naudit {\noutput file /dev/full {\nmode 0666\nroll_disabled\n}\non_failure " + option + "\n}",
			})
			app := g.AddApplication(nil)
			answer := g.TokenRequest(app, "ada@example.org")
			require.Equal(t, want, answer.Status, answer.Body)
			if option == "refuse" {
				require.NotEmpty(t, answer.Header.Get("Retry-After"))
			}
			res, err := http.Post("http://"+g.Admin+"/meet-gateway/applications", "application/json", strings.NewReader(`{"name":"Another","domains":["*"]}`))
			require.NoError(t, err)
			require.NoError(t, res.Body.Close())
			require.Equal(t, option == "refuse", res.StatusCode == http.StatusServiceUnavailable, res.Status)
			require.Equal(t, http.StatusUnauthorized, g.Do(http.MethodGet, "/external-api/v1.0/rooms", "").Status)
			if i == 0 { // the failure of the shared trail is logged once
				require.Contains(t, g.Logs(), "the audit trail cannot be written")
			}
			require.Contains(t, g.Metrics(), "caddy_meet_gateway_audit_failing 1")
		})
	}
}

// With mail clear, lines contain mail addresses. The fields are those of Meet's own
// audit log.
func TestAudit_Line(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	g := gatewaytest.Start(t, gatewaytest.Config{Global: "store embedded\naudit {\noutput file " + path + "\nmail clear\ngateway gw-7\n}"})
	app := g.AddApplication(nil)
	g.Token(app, "ada@example.org")
	var line map[string]any
	_, err := audit.Query([]string{path}, audit.Filter{Type: audit.TokenIssued}, func(l audit.Line) error { return json.Unmarshal(l.Raw, &line) })
	require.NoError(t, err)
	require.Equal(t, "audit", line["log_type"])
	require.Equal(t, "token.issued", line["event_type"])
	require.Equal(t, map[string]any{"type": "application", "id": app.ID}, line["actor"])
	require.Equal(t, "127.0.0.1", line["source_ip"])
	require.Equal(t, "ada@example.org", line["mail"])
	require.Equal(t, "gw-7", line["gateway"])
	require.Equal(t, "domain *", line["rule"])
	for _, name := range []string{"time", "request_id", "user", "target", "seq", "prev", "hash"} {
		require.NotEmpty(t, line[name], name)
	}
}
