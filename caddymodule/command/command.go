// SPDX-License-Identifier: MIT

// Package command is the command line of the gateway, the commands below `meet`. It is a
// client of the admin API of a running gateway.
package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/meet-gateway/meet-gateway/caddymodule/admin/wire"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "meet",
		Usage: "<command>",
		Short: "Administers the running Meet gateway",
		Long: `
Administers the running gateway through Caddy's admin endpoint: applications and
their secrets, users, revocation and status.

The endpoint is found as Caddy's own commands find it: --address, else the one
in --config, else $CADDY_ADMIN, else localhost:2019. A Unix socket is written
unix//run/caddy/admin.sock.

Every command takes --json for scripts. An error is then an object with error,
exit_code and usually hint on standard error. Exit status: 0 success; 1 refused or
failed; 2 there are differences (app apply --exit-code); 3 the gateway or its Redis
cannot be reached or is not ready, so trying again may help; 4 not found; 5
conflict.`,
		CobraFunc: addMeetCommands,
	})
}

// Exit codes beyond caddy.ExitCodeSuccess and caddy.ExitCodeFailedStartup, for scripts.
const (
	exitDiffers     = 2
	exitUnreachable = 3
	exitNotFound    = 4
	exitConflict    = 5
)

// addMeetCommands adds the subcommands and flags of meet.
func addMeetCommands(cmd *cobra.Command) {
	flags := cmd.PersistentFlags()
	flags.String("address", "", "The address of the admin endpoint (default: as configured, or "+caddy.DefaultAdminListen+")")
	flags.StringP("config", "c", "", "A configuration file to read the address from, if --address is not given")
	flags.StringP("adapter", "a", "", "The adapter for --config")
	flags.Bool("json", false, "Write JSON")
	cmd.AddCommand(appCommand(), userCommand(), revokeCommand(), secretCommand(), statusCommand(), doctorCommand(), routesCommand(), auditCommand(), conformanceCommand())
	// Replaces Caddy's, which refers to Caddy's own commands.
	cmd.SetHelpTemplate(cmd.HelpTemplate() + "\nAll commands: docs/cli.md, https://github.com/meet-gateway/meet-gateway/blob/main/docs/cli.md\n")
	explainMisuse(cmd)
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return misused(cmd, wrongFlag(cmd, err)) })
}

// knownCommand refuses an unknown command and suggests similar ones.
func knownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	meant := ""
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		meant = "; did you mean " + strings.Join(near, " or ") + "?"
	}
	return fmt.Errorf("unknown command %q for %q%s", args[0], cmd.CommandPath(), meant)
}

// wrongFlag explains a flag error in plain words. After a misspelt command it names the
// command instead.
func wrongFlag(cmd *cobra.Command, err error) error {
	if cmd.HasSubCommands() {
		if unknown := knownCommand(cmd, cmd.Flags().Args()); unknown != nil {
			return unknown
		}
	}
	invalid, ok := errors.AsType[*pflag.InvalidValueError](err)
	if !ok {
		return err
	}
	want := map[string]string{
		"int": "it must be a number", "int64": "it must be a number", "bool": "it must be true or false",
		"duration": "it must be a duration such as 30m or 7d",
	}[invalid.GetFlag().Value.Type()]
	if _, ok := invalid.GetFlag().Value.(limits); ok {
		want = invalid.Unwrap().Error()
	}
	if want == "" {
		return err
	}
	return fmt.Errorf("--%s %q: %s", invalid.GetFlag().Name, invalid.GetValue(), want)
}

// console is one run of a command, with its streams and the gateway that it talks to.
type console struct {
	ctx    context.Context
	cmd    *cobra.Command
	in     io.Reader
	out    io.Writer // results
	errOut io.Writer // everything else
	json   bool
	admin  *client
}

// text returns the value of a flag.
func (c *console) text(name string) string {
	value, _ := c.cmd.Flags().GetString(name) // "" for an undefined flag
	return value
}

// isSet returns the value of a boolean flag.
func (c *console) isSet(name string) bool {
	value, _ := c.cmd.Flags().GetBool(name) // false for an undefined flag
	return value
}

// online returns the RunE of a command that talks to the gateway.
func online(run func(*console, []string) error) func(*cobra.Command, []string) error {
	return command(func(c *console, args []string) error {
		var err error
		if c.admin, err = newClient(c.cmd); err != nil {
			return err
		}
		return run(c, args)
	})
}

// command returns a cobra RunE that prints an error on standard error and sets the exit
// status. Caddy would write the error to its structured log.
func command(run func(*console, []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		asJSON, _ := cmd.Flags().GetBool("json")
		c := &console{
			ctx: cmd.Context(), cmd: cmd, json: asJSON,
			in: cmd.InOrStdin(), out: cmd.OutOrStdout(), errOut: cmd.ErrOrStderr(),
		}
		err := run(c, args)
		if err == nil {
			return nil
		}
		cmd.SilenceErrors = true
		code := c.failed(err)
		if code == caddy.ExitCodeFailedStartup {
			return err
		}
		// The only way to set another exit status.
		return caddycmd.WrapCommandFuncForCobra(func(caddycmd.Flags) (int, error) { return code, nil })(cmd, args)
	}
}

// errDiffers sets the exit status of a comparison that found differences.
var errDiffers = errors.New("there are differences")

// errNotReady means that the gateway answers, but serves new requests with 503.
var errNotReady = errors.New("the gateway is not ready")

func exitCode(err error) int {
	switch {
	case errors.Is(err, errUnreachable), errors.Is(err, errNotReady), errors.Is(err, errUnanswered):
		return exitUnreachable
	case errors.Is(err, errDiffers):
		return exitDiffers
	}
	if p, ok := errors.AsType[*wire.Problem](err); ok {
		switch p.Status {
		case http.StatusServiceUnavailable:
			return exitUnreachable
		case http.StatusNotFound:
			return exitNotFound
		case http.StatusPreconditionFailed, http.StatusConflict:
			return exitConflict
		}
	}
	return caddy.ExitCodeFailedStartup
}

// noArguments suggests that an argument may belong to a flag.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("%s takes no argument, got %q; repeat a flag for each of its values", cmd.CommandPath(), args[0])
	}
	return nil
}

// takes requires n arguments, which what describes.
func takes(n int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != n {
			return fmt.Errorf("%s takes %s", cmd.CommandPath(), what)
		}
		return nil
	}
}

var (
	oneApplication = takes(1, "one application: its id, an alias or its name in quotes")
	oneFile        = takes(1, "one file, or - for standard input")
	oneUser        = takes(1, "one user: a mail address, or an id of 8 characters")
)

// completionTimeout bounds what a shell waits for.
const completionTimeout = 2 * time.Second

// complete offers what the gateway lists for the first argument.
func complete(list func(ctx context.Context, admin *client, prefix string) []string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, prefix string) (found []string, _ cobra.ShellCompDirective) {
		if admin, err := newClient(cmd); err == nil && len(args) == 0 {
			ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
			defer cancel()
			found = list(ctx, admin, prefix)
		}
		return found, cobra.ShellCompDirectiveNoFileComp
	}
}
