// SPDX-License-Identifier: MIT

package command_test

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/backendclient/sandbox"
)

// conformanceArguments returns the arguments for a sandbox with the fixtures.
func conformanceArguments(t *testing.T, s sandbox.Settings) []string {
	t.Helper()
	m := sandbox.New(s)
	m.LoadFixtures()
	server := httptest.NewServer(m)
	t.Cleanup(server.Close)
	file := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(file, []byte("test-secret-full-0001\n"), 0o600))
	return []string{
		"conformance", "--backend", server.URL, "--host", "meet.example.org", "--client-id", "app-full", "--client-secret-file", file,
		"--mail", "alice@example.com", "--second-mail", "bob@example.com",
	}
}

// code returns the exit status of a command's error.
func code(t *testing.T, err error) int {
	t.Helper()
	if err == nil {
		return 0
	}
	status := 1
	_, _ = fmt.Sscanf(err.Error(), "exiting with status %d", &status)
	return status
}

func TestConformance(t *testing.T) {
	s := &shell{t: t, address: "127.0.0.1:1"} // it needs no gateway
	args := conformanceArguments(t, sandbox.Production())
	out := s.run(args...)
	require.Contains(t, out, "answers are as recorded")
	require.Contains(t, out, "token-domain-refused: needs --refused-mail")
	require.NotContains(t, out, "@")

	junit := filepath.Join(t.TempDir(), "report.xml")
	out = s.run(append(args, "--write", "--junit", junit)...)
	require.Contains(t, out, "Created rooms\n")
	b, err := os.ReadFile(junit)
	require.NoError(t, err)
	var suites struct {
		XMLName  xml.Name `xml:"testsuites"`
		Tests    int      `xml:"tests,attr"`
		Failures int      `xml:"failures,attr"`
	}
	require.NoError(t, xml.Unmarshal(b, &suites))
	require.Greater(t, suites.Tests, 50)
	require.Zero(t, suites.Failures)

	var report struct {
		Same   int              `json:"same"`
		Differ []map[string]any `json:"differ"`
		Groups []map[string]any `json:"groups"`
		Left   []map[string]any `json:"left_out"`
	}
	require.NoError(t, json.Unmarshal([]byte(s.run(append(args, "--json")...)), &report))
	require.Greater(t, report.Same, 35)
	require.Empty(t, report.Differ)
}

func TestConformance_Differs(t *testing.T) {
	settings := sandbox.Production()
	settings.JWTSecretKey = "" // Meet answers 500 for rooms
	s := &shell{t: t}
	args := conformanceArguments(t, settings)
	out, errOut, err := s.try(args...)
	require.Equal(t, 1, code(t, err))
	require.Contains(t, out, "The gateway would answer 502, 503 or 504 (")
	require.Contains(t, out, "APPLICATION_JWT_SECRET_KEY")
	require.NotContains(t, errOut, "Error:", "a difference is not an error")
}

func TestConformance_Secrets(t *testing.T) {
	s := &shell{t: t, stdin: "test-secret-full-0001\n"}
	args := conformanceArguments(t, sandbox.Production())
	without := append([]string{}, args[:7]...)
	without = append(without, args[9:]...)
	s.run(append(without, "--client-secret-stdin")...)
	t.Setenv("MEET_SECRET", "test-secret-full-0001")
	s.run(append(without, "--client-secret-env", "MEET_SECRET")...)
	t.Setenv("MEET_SECRET", "wrong-secret")
	stderr := s.fail(append(without, "--client-secret-env", "MEET_SECRET")...)
	require.Contains(t, stderr, "the fixtures are not right")
	require.NotContains(t, stderr, "wrong-secret")
	require.NotContains(t, stderr, "@")
}

func TestConformance_InvalidArguments(t *testing.T) {
	s := &shell{t: t}
	args := conformanceArguments(t, sandbox.Production())
	for _, tc := range []struct {
		args []string
		want string
	}{
		{args[:1], "--backend is missing"},
		{append(args, "--backend", "meet.internal"), "--backend must be an address"},
		{append(args, "--backend", "http://user:password@meet.internal"), "--backend must be an address"},
		{append(args, "--base-path", "external"), "--base-path must be a path"},
		{append(args, "--host", "a b"), "--host must be a name"},
		{append(args, "--client-secret-stdin"), "give one of"},
		{append(args, "--client-secret-file", "/nonexistent/secret"), "no such file"},
		{append(args, "--junit", "/nonexistent/report.xml"), "--junit"},
		{append(args, "--timeout", "soon"), "it must be a duration"},
		{append(args, "--mail", ""), "--mail is missing"},
		{append(args, "more"), "takes no argument"},
	} {
		out, errOut, err := s.try(tc.args...)
		require.Equal(t, 1, code(t, err), tc.want)
		require.Contains(t, out+errOut+err.Error(), tc.want)
		require.NotContains(t, out+errOut, "user:password")
	}
}

func TestConformance_Unreachable(t *testing.T) {
	s := &shell{t: t}
	args := append(conformanceArguments(t, sandbox.Production()), "--backend", "http://127.0.0.1:1")
	out, errOut, err := s.try(args...)
	require.Empty(t, out)
	require.Equal(t, 3, code(t, err))
	require.Contains(t, errOut, "nothing can be compared at 127.0.0.1:1")
	require.NotContains(t, errOut, "@")
	_, _, err = s.try(append(args, "--timeout", "1ms")...)
	require.Equal(t, 3, code(t, err))

	// The error replaces an older JUnit report, so that a build server sees it.
	junit := filepath.Join(t.TempDir(), "report.xml")
	for _, more := range [][]string{nil, {"--timeout", "1ms"}} {
		require.NoError(t, os.WriteFile(junit, []byte("<testsuites/>"), 0o600))
		_, _, err = s.try(append(append(args, "--junit", junit), more...)...)
		require.Equal(t, 3, code(t, err))
		b, err := os.ReadFile(junit)
		require.NoError(t, err)
		var suites struct {
			Tests  int `xml:"tests,attr"`
			Errors int `xml:"errors,attr"`
			Suites []struct {
				Cases []struct {
					Error struct {
						Message string `xml:"message,attr"`
					} `xml:"error"`
				} `xml:"testcase"`
			} `xml:"testsuite"`
		}
		require.NoError(t, xml.Unmarshal(b, &suites))
		require.Equal(t, 1, suites.Tests)
		require.Equal(t, 1, suites.Errors)
		require.Contains(t, suites.Suites[0].Cases[0].Error.Message, "nothing can be compared at 127.0.0.1:1")
	}
}
