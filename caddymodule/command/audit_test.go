// SPDX-License-Identifier: MIT

package command_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tests/gatewaytest"
)

// Queries are answered from the files, and a changed line is found.
func TestAudit(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "audit.log")
	secret := filepath.Join(dir, "secret")
	require.NoError(t, os.WriteFile(secret, []byte("0123456789-0123456789-0123456789\n"), 0o600))
	g := gatewaytest.Start(t, gatewaytest.Config{Global: "store embedded\nsecret {file." + secret + "}\naudit {\n output file " + path + "\n gateway gw1\n}"})
	s := &shell{t: t, gateway: g, address: g.Admin}
	app := g.AddApplication(nil)
	token := g.Token(app, "ada@example.org")
	room := g.Do(http.MethodPost, "/external-api/v1.0/rooms", "{}", "Authorization", gatewaytest.Bearer(token), "Content-Type", "application/json", "X-Request-Id", "the-request")
	require.Equal(t, http.StatusCreated, room.Status, room.Body)
	id, _ := room.JSON(t)["id"].(string)

	out := s.run("audit", "query", "--room", id)
	for _, want := range []string{"room.created", "allowed", "scope rooms:create", app.ID, "the-request", "127.0.0.1"} {
		require.Contains(t, out, want)
	}
	require.NotContains(t, out, "ada@")
	out = s.run("audit", "query", path, "--user", "ada@example.org", "--secret-file", secret)
	require.Contains(t, out, "token.issued")
	require.Contains(t, out, "domain *")
	require.Contains(t, s.run("audit", "query", path, "--user", "bob@example.org"), "No event found.")
	require.Contains(t, s.run("audit", "query", path, "--application", app.ID, "--since", "1h", "--event", "room", "--json"), id)

	require.Contains(t, s.run("audit", "verify", "--secret-file", secret), "nothing is wrong")
	var head struct{ Hash string }
	require.NoError(t, json.Unmarshal([]byte(s.run("audit", "head", "--json")), &head))
	require.Contains(t, s.run("audit", "verify", path, "--head", head.Hash), "nothing is wrong")
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, []byte(strings.Replace(string(content), app.ID, strings.Repeat("0", len(app.ID)), 1)), 0o600))
	for findings, args := range map[string][]string{
		"1 finding": {"audit", "verify", path}, "2 findings": {"audit", "verify", path, "--head", strings.Repeat("0", 64)},
	} {
		out, errOut, err := s.try(args...)
		require.Error(t, err)
		require.Contains(t, errOut, findings)
		require.Contains(t, out, path+":2: changed: line 2")
	}
}
