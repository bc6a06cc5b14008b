// SPDX-License-Identifier: MIT

package command

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/caddymodule/admin/wire"
)

func TestExitCode(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want int
	}{
		{errors.New("anything"), 1},
		{fmt.Errorf("%w at x", errUnreachable), 3},
		{&wire.Problem{Status: http.StatusServiceUnavailable}, 3},
		{fmt.Errorf("wrapped: %w", &wire.Problem{Status: http.StatusNotFound}), 4},
		{&wire.Problem{Status: http.StatusPreconditionFailed}, 5},
		{&wire.Problem{Status: http.StatusConflict}, 5},
		{&wire.Problem{Status: http.StatusUnprocessableEntity}, 1},
	} {
		require.Equal(t, tc.want, exitCode(tc.err), tc.err)
	}
}

func TestProgressBar(t *testing.T) {
	require.Equal(t, "[........................................]   0% 0/10000", progressBar(0, 10000))
	require.Equal(t, "[####################....................]  50% 5000/10000", progressBar(5000, 10000))
	require.Equal(t, "[########################################] 100% 3/3", progressBar(4, 3))
	require.Empty(t, progressBar(0, 0))
}

func TestInstantBefore(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"15m":                  now.Add(-15 * time.Minute),
		"1d":                   now.AddDate(0, 0, -1),
		"2026-02-01T00:00:00Z": time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC),
	} {
		got, err := instantBefore(text, now)
		require.NoError(t, err)
		require.True(t, want.Equal(got), text)
	}
	for _, text := range []string{"", "yesterday", "-15m", "2026-02-01"} {
		_, err := instantBefore(text, now)
		require.Error(t, err, text)
	}
}

func TestOneLine(t *testing.T) {
	require.Equal(t, "a b c d [31me", oneLine("a\tb\nc\u0085d\x1b[31me"))
	require.Equal(t, "é €", oneLine("é €"))
}

func TestCommands_AreDocumented(t *testing.T) {
	cli, err := os.ReadFile("../../docs/cli.md")
	require.NoError(t, err)
	meet := &cobra.Command{Use: "meet"}
	addMeetCommands(meet)
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
		if !cmd.HasSubCommands() {
			require.Contains(t, string(cli), "`"+cmd.CommandPath())
		}
	}
	walk(meet)
	create, _, err := meet.Find([]string{"app", "create"})
	require.NoError(t, err)
	create.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
		if f.Name != "help" {
			require.Contains(t, string(cli), "--"+f.Name)
		}
	})
}
