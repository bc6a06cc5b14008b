// SPDX-License-Identifier: MIT

package command_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tests/gatewaytest"
	"github.com/meet-gateway/meet-gateway/tokens"
	"github.com/meet-gateway/meet-gateway/tokens/django/djangotest"
)

// shell runs commands against a gateway.
type shell struct {
	t       *testing.T
	gateway *gatewaytest.Gateway
	address string
	stdin   string
}

func newShell(t *testing.T) *shell {
	t.Helper()
	g := gatewaytest.Start(t, gatewaytest.Config{})
	return &shell{t: t, gateway: g, address: g.Admin}
}

// try runs "meet args…".
func (s *shell) try(args ...string) (stdout, stderr string, err error) {
	s.t.Helper()
	root := &cobra.Command{Use: "meet-gateway", SilenceUsage: true}
	root.SetHelpTemplate(root.HelpTemplate() + "https://caddyserver.com/docs/command-line") // as Caddy does
	meet := &cobra.Command{Use: "meet"}
	caddycmd.Commands()["meet"].CobraFunc(meet)
	root.AddCommand(meet)
	var out, errOut bytes.Buffer
	root.SetOut(&out)
	root.SetErr(&errOut)
	root.SetIn(strings.NewReader(s.stdin))
	args = append([]string{"meet", "--address", s.address}, args...)
	root.SetArgs(args)
	defer func(before []string) { os.Args = before }(os.Args)
	os.Args = append([]string{"meet-gateway"}, args...)
	err = root.Execute()
	return out.String(), errOut.String(), err
}

// run runs a command that must succeed and returns its standard output.
func (s *shell) run(args ...string) string {
	s.t.Helper()
	out, errOut, err := s.try(args...)
	require.NoError(s.t, err, errOut)
	return out
}

// fail runs a command that must fail and returns its standard error.
func (s *shell) fail(args ...string) string {
	s.t.Helper()
	out, errOut, err := s.try(args...)
	require.Error(s.t, err, out)
	require.Empty(s.t, out)
	return errOut
}

// object runs a command with --json and returns its decoded output.
func (s *shell) object(args ...string) map[string]any {
	s.t.Helper()
	var object map[string]any
	out := s.run(append(args, "--json")...)
	require.NoError(s.t, json.Unmarshal([]byte(out), &object), out)
	return object
}

// valid reports whether a token opens the list of rooms.
func (s *shell) valid(token string) bool {
	s.t.Helper()
	return s.gateway.Do("GET", "/external-api/v1.0/rooms/", "", "Authorization", gatewaytest.Bearer(token)).Status == 200
}

func TestApplicationLifeCycle(t *testing.T) {
	s := newShell(t)
	s.stdin = "secret-at-meet\n"
	out := s.run("app", "create", "--name", "Calendar", "--domain", "example.org,example.net", "--domain", ".example.com",
		"--scope", "rooms:list rooms:create", "--backend-client-id", "meet-gateway", "--backend-client-secret-stdin",
		"--alias", "calendar-at-meet", "--deny", "root@example.org", "--network", "127.0.0.0/8", "--token-lifetime", "30m", "--refresh",
		"--note", "Ours.", "--access-level", "restricted", "--room-configuration", `{"a":1}`, "--type", "calendar")
	require.Contains(t, out, "cannot be shown again")
	require.NotContains(t, out, "secret-at-meet")
	app := s.object("app", "show", "calendar")
	require.Contains(t, out, app["id"].(string))
	require.Equal(t, []any{"example.org", "example.net", ".example.com"}, app["domains"])
	require.Equal(t, []any{"rooms:list", "rooms:create"}, app["scopes"])
	require.Equal(t, []any{"calendar-at-meet"}, app["aliases"])
	require.Equal(t, []any{"root@example.org"}, app["denied_mails"])
	require.Equal(t, []any{"127.0.0.0/8"}, app["networks"])
	require.Equal(t, "30m0s", app["token_lifetime"])
	require.Equal(t, true, app["refresh"])
	require.Equal(t, "calendar", app["type"])
	require.Equal(t, map[string]any{"access_level": "restricted", "configuration": map[string]any{"a": 1.0}}, app["room_defaults"])
	require.Equal(t, map[string]any{"client_id": "meet-gateway"}, app["backend"])

	text := s.run("app", "show", "calendar-at-meet")
	for _, part := range []string{"Calendar", "root@example.org", "30m0s", "Ours.", "never", "127.0.0.0/8"} {
		require.Contains(t, text, part)
	}
	require.Contains(t, s.run("app", "list"), "example.org,example.net,.example.com")

	known, err := s.gateway.Authority().Application(t.Context(), app["id"].(string))
	require.NoError(t, err)
	s.gateway.Authority().NoteGranted(known, "meet.example.org", known.Scopes, tokens.Scopes{"rooms:list"})
	require.Eventually(t, func() bool { return strings.Contains(s.run("app", "show", "calendar"), "not granted by Meet") }, 10*time.Second, 10*time.Millisecond)
	require.Contains(t, s.run("app", "show", "calendar"), "rooms:create (meet.example.org, since 2")
	cut := s.object("app", "show", "calendar")["not_granted"].([]any)[0].(map[string]any)
	require.Equal(t, []any{"rooms:create"}, cut["scopes"])
	_, warned, _ := s.try("app", "show", "calendar")
	require.Contains(t, warned, "Meet at meet.example.org has not granted rooms:create")

	require.Contains(t, s.run("app", "disable", "Calendar"), "disabled")
	require.Equal(t, false, s.object("app", "show", "Calendar")["active"])
	require.Equal(t, true, s.object("app", "enable", "Calendar")["active"])

	first := s.object("app", "rotate", "Calendar", "--grace", "24h")
	require.Len(t, first["secrets"], 2)
	second := s.object("app", "rotate", "Calendar", "--now")
	require.Len(t, second["secrets"], 1)
	require.NotEqual(t, first["client_secret"], second["client_secret"])

	require.Regexp(t, `The former secret is valid until \d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d\d:\d\d\.`, s.run("app", "rotate", "Calendar", "--grace", "24h"))
	require.Contains(t, s.run("app", "rotate", "Calendar", "--now"), "The former secret is no longer valid.")

	second = s.object("app", "rotate", "Calendar", "--now")
	s.stdin = second["client_secret"].(string)
	require.Contains(t, s.run("secret", "check"), "well-formed")

	require.Contains(t, s.run("app", "delete", "Calendar"), "deleted")
	require.Contains(t, s.fail("app", "show", "Calendar"), "no application")
}

func TestCreatedApplicationWorks(t *testing.T) {
	s := newShell(t)
	app := s.object("app", "create", "--name", "Calendar", "--domain", "example.org", "--scope", "rooms:list")
	client := &gatewaytest.Client{Application: &tokens.Application{ID: app["client_id"].(string)}, Secret: app["client_secret"].(string)}
	token := s.gateway.Token(client, "ada@example.org")
	require.True(t, s.valid(token))

	user := s.object("user", "show", "ada@example.org")
	require.Equal(t, app["id"], user["first_seen_by"])
	text := s.run("user", "show", user["id"].(string))
	require.Contains(t, text, "ada@example.org")
	require.Contains(t, s.fail("user", "show", "bob@example.org"), "No application has ever acted")

	for _, revoke := range [][]string{
		{"user", "ada@example.org"},
		{"app", "Calendar"},
		{"grant", "Calendar", "ada@example.org"},
		{"all"},
		{"before", "0s"},
	} {
		token = s.gateway.Token(client, "ada@example.org")
		require.True(t, s.valid(token))
		out := s.run(append([]string{"revoke"}, revoke...)...)
		if revoke[0] != "before" { // it has a resolution of one second
			require.Contains(t, out, "Revoked: ")
			require.False(t, s.valid(token), revoke)
		}
	}
	token = s.gateway.Token(client, "ada@example.org")
	s.stdin = token + "\n"
	s.run("revoke", "token")
	require.False(t, s.valid(token))
	require.Contains(t, s.fail("revoke", "key", "nothing"), "key")
	require.Contains(t, s.fail("revoke", "before", "yesterday"), "neither a time")

	require.NotContains(t, s.gateway.Logs(), "ada@")
	require.NotContains(t, s.gateway.Logs(), token)
	require.NotContains(t, s.gateway.Logs(), client.Secret)
}

func TestEdit(t *testing.T) {
	s := newShell(t)
	s.run("app", "create", "--name", "Calendar", "--domain", "example.org", "--scope", "rooms:list")
	s.run("app", "edit", "Calendar", "--add-domain", "Example.NET,example.org", "--add-scope", "rooms:create", "--note", "n")
	require.Equal(t, "24h0m0s", s.object("app", "edit", "Calendar", "--token-lifetime", "1d")["token_lifetime"], "as in a Caddyfile")
	require.NotContains(t, s.object("app", "edit", "Calendar", "--token-lifetime", "0s"), "token_lifetime", "the gateway's default applies")
	for line := range strings.SplitSeq(s.run("app", "show", "Calendar"), "\n") {
		if strings.HasPrefix(line, "created") {
			require.Regexp(t, `^created +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d\d:\d\d$`, line, "times have a zone")
		}
	}
	s.run("app", "edit", "Calendar", "--remove-domain", "EXAMPLE.org", "--token-lifetime", "1h", "--limit", "token=10/m")
	app := s.object("app", "edit", "Calendar", "--access-level", "public")
	require.Equal(t, []any{"example.net"}, app["domains"])
	require.Equal(t, []any{"rooms:list", "rooms:create"}, app["scopes"])
	require.Equal(t, "n", app["note"])
	require.Equal(t, map[string]any{"token": "10/m"}, app["limits"])
	app = s.object("app", "edit", "Calendar", "--room-configuration", "{}", "--name", "Renamed", "--domain", "")
	require.Equal(t, "public", app["room_defaults"].(map[string]any)["access_level"])
	require.Equal(t, []any{}, app["domains"])

	version := fmt.Sprint(app["version"])
	s.run("app", "edit", "Renamed", "--if-version", version, "--note", "second")
	require.Contains(t, s.fail("app", "edit", "Renamed", "--if-version", version, "--note", "third"), "version")
	require.Contains(t, s.fail("app", "edit", "Renamed"), "no flag says what to change")
	require.Contains(t, s.fail("app", "edit", "Renamed", "--domain", "a", "--add-domain", "b"), "domain")
	app = s.object("app", "edit", "Renamed", "--domain", "a.example b.example", "--domain", "c.example,d.example")
	require.Equal(t, []any{"a.example", "b.example", "c.example", "d.example"}, app["domains"])
	require.Contains(t, s.fail("app", "edit", "Renamed", "--domain", "a"), "domains")
}

func TestNames(t *testing.T) {
	s := newShell(t)
	_, message, err := s.try("app", "list")
	require.NoError(t, err)
	require.Equal(t, "There is no application yet.\n", message)
	s.run("app", "create", "--name", "Two words / and ümlaut?")
	s.run("app", "create", "--name", "Twin")
	s.run("app", "create", "--name", "twin")
	s.run("app", "create", "--name", "..")
	require.Equal(t, "Two words / and ümlaut?", s.object("app", "show", "two words / and ümlaut?")["name"])
	require.Equal(t, "..", s.object("app", "show", "..")["name"])
	require.Contains(t, s.fail("app", "show", "Twin"), "2 applications are called")
	_, message, err = s.try("app", "list", "--prefix", "none")
	require.NoError(t, err)
	require.Equal(t, "There is no such application.\n", message)

	out, _, err := s.try("app", "list", "--json", "--limit", "3")
	require.NoError(t, err)
	var list []map[string]any
	require.NoError(t, json.Unmarshal([]byte(out), &list))
	require.Len(t, list, 3)
	require.NoError(t, json.Unmarshal([]byte(s.run("app", "list", "--json", "--prefix", "none")), &list))
	require.Empty(t, list)

	root := &cobra.Command{Use: "meet-gateway"}
	meet := &cobra.Command{Use: "meet"}
	caddycmd.Commands()["meet"].CobraFunc(meet)
	root.AddCommand(meet)
	var offered bytes.Buffer
	root.SetOut(&offered)
	root.SetErr(&offered)
	root.SetArgs([]string{cobra.ShellCompRequestCmd, "meet", "--address", s.address, "app", "show", "tw"})
	require.NoError(t, root.Execute())
	require.Contains(t, offered.String(), "Two words / and ümlaut?\t")
	require.Contains(t, offered.String(), "Twin\t")
	require.NotContains(t, offered.String(), "..")
}

func TestMistakes_AreExplained(t *testing.T) {
	s := newShell(t)
	s.run("app", "create", "--name", "Misspelt")
	for _, tc := range []struct {
		want string
		args []string
	}{
		{`unknown command "impotr" for "meet-gateway meet app"; did you mean import?`, []string{"app", "impotr"}},
		{`unknown command "aap" for "meet-gateway meet"; did you mean app?`, []string{"aap"}},
		{`unknown command "zzzzzz" for "meet-gateway meet"`, []string{"zzzzzz"}},
		{`--limit "x": it must be a number`, []string{"app", "list", "--limit", "x"}},
		{`--limit "x": it must be name=limit`, []string{"app", "create", "--name", "x", "--limit", "x"}},
		{`--token-lifetime "x": it must be a duration such as 30m or 7d`, []string{"app", "create", "--name", "x", "--token-lifetime", "x"}},
		{`Error: No application has ever acted for this user.`, []string{"revoke", "user", "nobody@example.org", "--yes"}},
		{`Error: --grace must be a duration such as "24h" or "7d", at most 366d.`, []string{"app", "rotate", "Misspelt", "--grace", "24"}},
		{`no application has the id, alias or name "none"`, []string{"revoke", "app", "none"}},
		{`There is no key with this id`, []string{"revoke", "key", "none"}},
		{`This client id was not removed here.`, []string{"app", "readopt", "none"}},
	} {
		_, stderr, err := s.try(tc.args...)
		require.Error(t, err)
		require.Contains(t, stderr, tc.want)
		require.NotContains(t, stderr, "strconv")
	}
	_, _, err := s.try("revoke", "user", "nobody@example.org", "--yes")
	require.EqualError(t, err, "exiting with status 4", "not found")
}

func TestImport(t *testing.T) {
	s := newShell(t)
	file := filepath.Join(t.TempDir(), "meet.json")
	var dump bytes.Buffer
	require.NoError(t, djangotest.WriteDump(&dump, djangotest.Options{Applications: 3, Domains: 1}))
	require.NoError(t, os.WriteFile(file, dump.Bytes(), 0o600))

	require.Contains(t, s.run("app", "import", "--dry-run", file), "3 would be taken")
	require.Equal(t, "[]\n", s.run("app", "list", "--json"))
	require.Contains(t, s.run("app", "import", file), "3 taken, 0 changed, 0 skipped.")
	s.stdin = dump.String()
	require.InDelta(t, 3, s.object("app", "import", "-")["skipped"], 0)
	require.Contains(t, s.run("app", "show", djangotest.ClientID(1)), "imported and not yet used")

	client := &gatewaytest.Client{Application: &tokens.Application{ID: djangotest.ClientID(2)}, Secret: djangotest.Secret(2)}
	require.Equal(t, 200, s.gateway.TokenRequest(client, "ada@"+djangotest.Domain(2, 0)).Status)

	dump.Reset()
	require.NoError(t, djangotest.WriteDump(&dump, djangotest.Options{Applications: 1}))
	s.stdin = dump.String()
	require.Contains(t, s.fail("app", "import", "-"), "--any-domain")
	require.Contains(t, s.run("app", "import", "--dry-run", "-"), "without --any-domain it would be refused")
	for _, s.stdin = range []string{"x", "{}"} {
		require.Contains(t, s.fail("app", "import", "-"), "dumpdata")
	}
	require.Contains(t, s.fail("app", "import", file+".missing"), file+".missing")
	require.NotContains(t, s.gateway.Logs(), "pbkdf2")
}

func TestApply(t *testing.T) {
	s := newShell(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "apps.yaml")
	write := func(text string) { require.NoError(t, os.WriteFile(file, []byte(text), 0o600)) }
	require.NoError(t, os.WriteFile(filepath.Join(dir, "secret"), []byte("at-meet\n"), 0o600))
	t.Setenv("CHAT_SECRET", "at-meet-too")
	write(`applications:
  - name: Calendar
    domains: [example.org]
    scopes: [rooms:list]
    token_lifetime: 30m
    backend: {client_id: calendar, client_secret_file: ` + filepath.Join(dir, "secret") + `}
  - name: Chat
    active: false
    backend: {client_id: chat, client_secret_env: CHAT_SECRET}
`)
	require.Contains(t, s.run("app", "apply", "--dry-run", file), "2 created, 0 changed, 0 deleted, 0 unchanged. Dry run")
	out := s.run("app", "apply", file)
	require.Contains(t, out, "+ Calendar")
	require.Contains(t, out, "active: false\n")
	require.Equal(t, 2, strings.Count(out, "client secret: mgs_"))
	require.NotContains(t, out, "at-meet")
	require.Contains(t, s.run("app", "apply", file), "0 created, 0 changed, 0 deleted, 2 unchanged.")

	exported := s.run("app", "export")
	require.NotContains(t, exported, "at-meet")
	write(exported)
	require.Contains(t, s.run("app", "apply", "--prune", file), "0 created, 0 changed, 0 deleted, 2 unchanged.")
	require.Len(t, s.object("app", "export")["applications"], 2)

	write("applications:\n  - name: Calendar\n    domains: [example.net]\n")
	out = s.run("app", "apply", "--prune", "--dry-run", file)
	require.Contains(t, out, `domains: ["example.org"] -> ["example.net"]`)
	require.Contains(t, out, "- Chat")
	require.Contains(t, s.run("app", "apply", "--prune", file), "0 created, 1 changed, 1 deleted")
	write("applications:\n  - name: Calendar\n    domains: [example.net]\n    refresh: true\n    active: false\n    token_lifetime: 1d\n")
	out = s.run("app", "apply", file)
	for _, line := range []string{"active: true -> false\n", "refresh: false -> true\n", `token_lifetime: "0s" -> "24h0m0s"`} {
		require.Contains(t, out, line)
	}

	for name, tc := range map[string]struct{ text, want string }{
		"bad value":         {"applications:\n  - name: x\n    domains: [a b]\n", "apps.yaml:3: domains: "},
		"unknown field":     {"applications:\n  - name: x\n    nmae: y\n", "apps.yaml:3: nmae: "},
		"no name":           {"applications:\n  - {}\n", "apps.yaml:2: name: "},
		"unknown key":       {"apps: []\n", `apps.yaml:1: unknown key "apps"`},
		"a list":            {"- name: x\n", "apps.yaml: it must have the key applications"},
		"nothing":           {"", "apps.yaml: it must have the key applications"},
		"the key twice":     {"applications: []\napplications: []\n", "apps.yaml:2: duplicate key applications"},
		"a number as key":   {"applications:\n  - name: x\n    room_defaults: {configuration: {1: x}}\n", "apps.yaml:2: a key is not a text"},
		"no list":           {"applications: 7\n", "must have the key applications"},
		"not YAML":          {"applications: [\n", "apps.yaml: "},
		"not a mapping":     {"applications:\n  - x\n", "apps.yaml:2: "},
		"a key twice":       {"applications:\n  - name: x\n    name: y\n", "apps.yaml:2: "},
		"two secrets":       {"applications:\n  - name: x\n    backend: {client_id: c, client_secret: s, client_secret_env: E}\n", "give one of"},
		"variable not set":  {"applications:\n  - name: x\n    backend: {client_id: c, client_secret_env: NOT_SET_HERE}\n", "NOT_SET_HERE is not set"},
		"no secret file":    {"applications:\n  - name: x\n    backend: {client_id: c, client_secret_file: /nowhere}\n", "/nowhere"},
		"the same id twice": {"applications:\n  - name: Calendar\n  - name: Calendar\n", "apps.yaml:3: "},
	} {
		t.Run(name, func(t *testing.T) {
			s.t = t
			write(tc.text)
			require.Contains(t, s.fail("app", "apply", file), tc.want)
		})
	}
}

func TestStatusAndRoutes(t *testing.T) {
	s := newShell(t)
	status := s.run("status")
	for _, part := range []string{"embedded", "HS256, signs", "sandbox", "ready"} {
		require.Contains(t, status, part)
	}
	require.Equal(t, true, s.object("status")["ready"])
	require.Contains(t, s.run("routes"), "rooms:retrieve")
	require.Len(t, s.object("routes")["gates"], 1)
}

func TestSecretRekey(t *testing.T) {
	s := newShell(t)
	s.run("app", "create", "--name", "Calendar")
	done := s.run("secret", "rekey")
	require.Contains(t, done, "1 records checked")
	require.Contains(t, done, "HS256, signs")
	require.Equal(t, 1.0, s.object("secret", "rekey")["records"])
}

func TestSecretCheck(t *testing.T) {
	s := &shell{t: t, address: "127.0.0.1:1"} // the command needs no gateway
	const start = "mgs_0000000000000000000000000000000000000000000"
	for _, bad := range []string{"", "nonsense", start, start + "000000"} {
		s.stdin = bad + "\n"
		s.fail("secret", "check")
	}
}

func TestGatewayUnreachable(t *testing.T) {
	s := &shell{t: t, address: "127.0.0.1:1"}
	message := s.fail("app", "list")
	require.Contains(t, message, "127.0.0.1:1")
	require.Contains(t, message, "--address")
	s.address = "unix//nowhere/admin.sock"
	require.Contains(t, s.fail("status"), "unix//nowhere/admin.sock")
	s.address = "127.0.0.1:1-9"
	require.Contains(t, s.fail("status"), "not an admin address")
}

func TestInvalidArguments(t *testing.T) {
	s := &shell{t: t, address: "127.0.0.1:1"}
	for _, tc := range []struct{ args, want string }{
		{"foo", `unknown command "foo"`},
		{"app foo", `unknown command "foo"`},
		{"app create", "name"},
		{"app create --name x y", "repeat a flag"},
		{"app show", "takes one application"},
		{"app rotate x", "grace"},
		{"app rotate x --now --grace 1h", "grace"},
		{"app edit x --backend-client-id y", "backend-client-secret-stdin"},
		{"app list --limit -1", "negative"},
		{"revoke grant x", "an application and a user"},
	} {
		require.Contains(t, s.fail(strings.Fields(tc.args)...), tc.want, tc.args)
	}
}

func TestUnixSocket(t *testing.T) {
	s := newShell(t)
	dir, err := os.MkdirTemp("", "mg") //nolint:usetesting // the path of a socket must be short
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := "unix/" + filepath.Join(dir, "admin.sock") + "|0600"
	caddyfile := strings.Replace(s.gateway.Caddyfile(gatewaytest.Config{}), "admin "+s.gateway.Admin, "admin "+socket, 1)
	require.NoError(t, s.gateway.Load(caddyfile))
	s.address = socket
	s.run("app", "create", "--name", "Calendar")
	require.Contains(t, s.run("app", "list"), "Calendar")

	// The address can be read from the configuration instead.
	file := filepath.Join(dir, "Caddyfile")
	require.NoError(t, os.WriteFile(file, []byte(caddyfile), 0o600))
	s.address = ""
	require.Contains(t, s.run("app", "list", "--config", file), "Calendar")
}

// Commands accept what a first-time operator expects, and explain refusals.
func TestUsability(t *testing.T) {
	s := newShell(t)
	create := s.object("app", "create", "--name", "Calendar", "--domain", "example.org,example.net", "--scope", "rooms:list,rooms:create",
		"--limit", "read=10/1m", "--limit", "create=5/1m", "--alias", "taken")
	id := create["id"].(string)

	s.run("app", "edit", "Calendar", "--limit", "read=20/1m")
	require.Equal(t, map[string]any{"read": "20/1m", "create": "5/1m"}, s.object("app", "show", id)["limits"])
	s.run("app", "edit", "Calendar", "--no-limit", "read")
	require.Equal(t, map[string]any{"create": "5/1m"}, s.object("app", "show", id)["limits"])
	require.Contains(t, s.fail("app", "edit", "Calendar", "--no-limit", "read"), "it has: create")

	// Contradictory flags are refused and change nothing.
	s.run("app", "edit", "Calendar", "--network", "192.0.2.1,2001:db8::/32")
	before := s.run("app", "show", id, "--json")
	for _, c := range []struct{ want, flags string }{
		{"--limit and --no-limit are both given with create", "--limit create=1/1m --no-limit create"},
		{"create is given twice, as 1/1m and as 2/1m", "--limit create=1/1m --limit create=2/1m"},
		{"create is given twice", "--limit create=1/1m,create=2/1m"},
		{"--no-limit typo: it has no limit of this name", "--no-limit typo --limit read=1/1m"},
		{"--add-domain and --remove-domain are both given with example.org", "--add-domain example.org --remove-domain EXAMPLE.org"},
		{"--add-scope and --remove-scope are both given with rooms:list", "--add-scope rooms:list,rooms:create --remove-scope rooms:list"},
		{"--add-alias and --remove-alias are both given with x", "--add-alias x --remove-alias x"},
		{"--add-deny and --remove-deny are both given", "--add-deny a@example.org --remove-deny A@example.org"},
		{"--add-network and --remove-network are both given", "--add-network 198.51.100.7 --remove-network 198.51.100.7/32"},
		{"--add-network and --remove-network are both given", "--add-network 2001:db8:0::1/64 --remove-network 2001:db8::/64"},
		{"--domain sets the whole list", "--domain a.example --add-domain b.example"},
	} {
		require.Contains(t, s.fail(append([]string{"app", "edit", "Calendar"}, strings.Fields(c.flags)...)...), c.want, c.flags)
	}
	require.Equal(t, before, s.run("app", "show", id, "--json"))
	// Different spellings of a network are the same network.
	s.run("app", "edit", "Calendar", "--remove-network", "192.0.2.1", "--add-network", "2001:0db8::/32", "--no-backend=false")
	require.Equal(t, []any{"2001:db8::/32"}, s.object("app", "show", id)["networks"])

	require.Contains(t, s.fail("app", "edit", "Calendar", "--remove-domain", "example.com"), "it is not in the list (example.org, example.net)")
	require.Contains(t, s.fail("app", "edit", "Calendar", "--domain", "x.org", "--add-domain", "y.org"), "sets the whole list")
	require.Contains(t, s.fail("app", "edit", "Calendar", "--network", "10.0.0.0/33"), `"10.0.0.0/33"`)
	require.Contains(t, s.fail("app", "creat", "--name", "Z"), "did you mean create?")
	taken := s.fail("app", "create", "--name", "Chat", "--alias", "taken")
	require.Contains(t, taken, "belongs to another application")
	require.NotContains(t, taken, "somebody")

	help := s.run("app", "edit", "--help")
	own, _, _ := strings.Cut(help, "Global Flags:")
	require.NotContains(t, own, "(default")
	require.NotContains(t, help, "--if-version meet")
	for _, page := range []string{help, s.run(), s.run("app"), s.run("revoke", "key", "--help")} {
		require.Contains(t, page, "docs/cli.md")
		require.NotContains(t, page, "caddyserver.com")
	}

	// The port of the API is not an admin endpoint.
	admin := s.address
	s.address = strings.TrimPrefix(s.gateway.URL, "http://")
	require.Contains(t, s.fail("status"), "is not the admin endpoint of a gateway")
	s.address = admin

	key := s.object("status")["keys"].([]any)[0].(map[string]any)["id"].(string)
	root := &cobra.Command{Use: "meet-gateway"}
	meet := &cobra.Command{Use: "meet"}
	caddycmd.Commands()["meet"].CobraFunc(meet)
	root.AddCommand(meet)
	var out bytes.Buffer
	root.SetOut(&out)
	root.SetArgs([]string{"__complete", "meet", "--address", s.address, "revoke", "key", ""})
	require.NoError(t, root.Execute())
	require.Contains(t, out.String(), key)
}

func TestApply_SecretsAndDrift(t *testing.T) {
	s := newShell(t)
	file, secrets := filepath.Join(t.TempDir(), "apps.yaml"), filepath.Join(t.TempDir(), "secrets.json")
	own := strings.TrimSpace(s.run("secret", "new"))
	t.Setenv("OWN_SECRET", own)
	text := "applications:\n  - name: Calendar\n    domains: [example.org]\n    scopes: [rooms:list, rooms:create]\n" +
		"  - name: Chat\n    domains: [example.org]\n    scopes: [rooms:list]\n    client_secret_env: OWN_SECRET\n"
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))

	out, _, err := s.try("app", "apply", "--dry-run", "--exit-code", file)
	require.EqualError(t, err, "exiting with status 2", out)
	out = s.run("app", "apply", "--secrets", secrets, file)
	require.NotContains(t, out, "mgs_")
	info, err := os.Stat(secrets)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	var kept []map[string]string
	text2, err := os.ReadFile(secrets)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text2, &kept))
	require.Len(t, kept, 1, "a secret from the file is not written")
	require.Equal(t, "Calendar", kept[0]["name"])
	require.Contains(t, s.fail("app", "apply", "--secrets", secrets, file), "exists")
	chat := &gatewaytest.Client{Application: &tokens.Application{ID: s.object("app", "show", "Chat")["id"].(string)}, Secret: own}
	require.True(t, s.valid(s.gateway.Token(chat, "ada@example.org")))

	// Another order of scopes is not a change.
	text = strings.Replace(text, "[rooms:list, rooms:create]", "[rooms:create, rooms:list]", 1)
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	require.Contains(t, s.run("app", "apply", "--dry-run", "--exit-code", file), "2 unchanged")
	require.NoError(t, os.WriteFile(file, []byte("applications:\n  - nam: x\n"), 0o600))
	require.Contains(t, s.fail("app", "apply", file), "The fields are: id, client_secret, name, type")
}

func TestDoctor(t *testing.T) {
	s := newShell(t)
	out, _, err := s.try("doctor")
	require.NoError(t, err, out)
	require.Contains(t, out, "Nothing is wrong")
	s.run("app", "create", "--name", "Demo", "--domain", "*", "--scope", "rooms:list")
	require.Contains(t, s.run("doctor"), "Nothing is wrong", "a demo may act for every user")
	s.run("app", "create", "--name", "Idle", "--domain", "example.org")
	var errOut string
	out, errOut, err = s.try("doctor")
	require.Error(t, err)
	require.Empty(t, errOut)
	require.Contains(t, out, "application_powerless, Idle")
	require.Contains(t, out, "fix: meet-gateway meet app edit")
	s.address = "127.0.0.1:1"
	_, _, err = s.try("doctor")
	require.EqualError(t, err, "exiting with status 3")
}
