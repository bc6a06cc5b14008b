// SPDX-License-Identifier: MIT

package command_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"
)

// jsonCommands returns the arguments and the standard input of each command.
func jsonCommands(t *testing.T) []struct{ name, args, stdin string } {
	file := filepath.Join(t.TempDir(), "apps.yaml")
	require.NoError(t, os.WriteFile(file, []byte("applications:\n  - name: Applied\n"), 0o600))
	dump := filepath.Join(t.TempDir(), "meet.json")
	require.NoError(t, os.WriteFile(dump, []byte("[]"), 0o600))
	trail := filepath.Join(t.TempDir(), "audit.log")
	require.NoError(t, os.WriteFile(trail, []byte("not a line\n"), 0o600))
	const token = "abcdefghijklmnopqrstuv"
	return []struct{ name, args, stdin string }{
		{"app create", "--name Chat", ""},
		{"app list", "", ""},
		{"app show", "Calendar", ""},
		{"app edit", "Calendar --note x", ""},
		{"app disable", "Calendar", ""},
		{"app enable", "Calendar", ""},
		{"app rotate", "Calendar --now", ""},
		{"app readopt", "removed-here", ""},
		{"app export", "", ""},
		{"app import", dump + " --dry-run", ""},
		{"app apply", file, ""},
		{"user show", "ada@example.org", ""},
		{"revoke token", token, ""},
		{"revoke app", "Calendar", ""},
		{"revoke user", "ada@example.org", ""},
		{"revoke grant", "Calendar ada@example.org", ""},
		{"revoke key", "no-such-key", ""},
		{"revoke before", "1h", ""},
		{"revoke all", "", ""},
		{"secret new", "", ""},
		{"secret rekey", "", ""},
		{"secret check", "", "mgs_nonsense\n"},
		{"status", "", ""},
		{"doctor", "", ""},
		{"routes", "", ""},
		{"audit verify", trail, ""},
		{"audit query", trail, ""},
		{"audit head", "", ""},
		{"conformance", "--backend http://127.0.0.1:1 --client-id x --client-secret-stdin --mail ada@example.org", "secret\n"},
		{"app delete", "Calendar", ""},
	}
}

// oneFailure decodes the error that a command writes with --json.
func oneFailure(t *testing.T, errOut string, err error, of string) (object struct {
	Error    string `json:"error"`
	ExitCode int    `json:"exit_code"`
	Hint     string `json:"hint"`
},
) {
	t.Helper()
	require.Error(t, err, of)
	require.Equal(t, 1, strings.Count(errOut, "\n"), "%s: %s", of, errOut)
	require.NoError(t, json.Unmarshal([]byte(errOut), &object), "%s: %s", of, errOut)
	require.NotEmpty(t, object.Error, of)
	if object.ExitCode != 1 {
		require.EqualError(t, err, fmt.Sprintf("exiting with status %d", object.ExitCode), of)
	}
	require.Positive(t, object.ExitCode, of)
	return object
}

// With --json, every command writes only JSON: results to standard output, and an error as one
// object to standard error.
func TestJSON_EveryCommand(t *testing.T) {
	s := newShell(t)
	s.run("app", "create", "--name", "Calendar", "--domain", "example.org")
	unreachable := &shell{t: t, address: "127.0.0.1:1"}
	needsNoGateway := map[string]bool{"secret new": true, "secret check": true, "audit verify": true, "audit query": true, "conformance": true}
	called := map[string]bool{}
	for _, c := range jsonCommands(t) {
		called[c.name] = true
		args := append(strings.Fields(c.name+" "+c.args), "--json")
		s.stdin, unreachable.stdin = c.stdin, c.stdin

		out, errOut, err := s.try(args...)
		require.NotEmpty(t, out+errOut, "%s writes nothing", c.name)
		dec := json.NewDecoder(strings.NewReader(out))
		for dec.More() {
			var value any
			require.NoError(t, dec.Decode(&value), "%s: %s", c.name, out)
		}
		if err != nil && errOut != "" {
			oneFailure(t, errOut, err, c.name)
		}

		for _, wrong := range [][]string{{"--nonsense", "--json"}, {"--json", "--nonsense"}} {
			out, errOut, err = unreachable.try(append(strings.Fields(c.name), wrong...)...)
			require.Empty(t, out, c.name)
			failure := oneFailure(t, errOut, err, c.name)
			require.Contains(t, failure.Error, "--nonsense", c.name)
			require.Contains(t, failure.Hint, c.name+" --help")
		}
		if needsNoGateway[c.name] {
			continue
		}
		out, errOut, err = unreachable.try(args...)
		require.Empty(t, out, c.name)
		failure := oneFailure(t, errOut, err, c.name)
		require.Equal(t, 3, failure.ExitCode, c.name)
		require.NotContains(t, failure.Error, "\n", c.name)
		require.Contains(t, failure.Hint, "--address", c.name)
	}

	// The list has every command.
	meet := &cobra.Command{Use: "meet"}
	caddycmd.Commands()["meet"].CobraFunc(meet)
	var walk func(cmd *cobra.Command, path string)
	walk = func(cmd *cobra.Command, path string) {
		for _, sub := range cmd.Commands() {
			walk(sub, strings.TrimSpace(path+" "+sub.Name()))
		}
		if !cmd.HasSubCommands() {
			require.True(t, called[path], "%q is not called here", path)
			return
		}
		_, errOut, err := unreachable.try(append(strings.Fields(path), "--json")...)
		require.Contains(t, oneFailure(t, errOut, err, path).Error, "needs a subcommand")
		_, errOut, err = unreachable.try(append(strings.Fields(path), "nonsense", "--json")...)
		require.Contains(t, oneFailure(t, errOut, err, path).Error, "unknown command")
	}
	walk(meet, "")
}

// Each kind of error has its exit status and an explanation.
func TestJSON_Errors(t *testing.T) {
	s := newShell(t)
	s.run("app", "create", "--name", "Calendar", "--alias", "taken")
	for _, tc := range []struct {
		args  string
		code  int
		error string
	}{
		{"app show nothing", 4, `no application has the id, alias or name "nothing"`},
		{"app create --name Chat --alias taken", 5, "belongs to another application"},
		{"app edit Calendar --network 10.0.0.0/33", 1, `"10.0.0.0/33"`},
		{"app show", 1, "takes one application"},
		{"app creat --name x", 1, "did you mean create"},
		{"app list --limit many", 1, "--limit"},
	} {
		out, errOut, err := s.try(append(strings.Fields(tc.args), "--json")...)
		require.Empty(t, out, tc.args)
		failure := oneFailure(t, errOut, err, tc.args)
		require.Equal(t, tc.code, failure.ExitCode, tc.args)
		require.Contains(t, failure.Error, tc.error)
	}
}
