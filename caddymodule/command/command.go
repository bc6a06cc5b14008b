// SPDX-License-Identifier: MIT

// Package command is the command line of the gateway: everything below `meet`. It
// talks to the admin API of a gateway that is running and needs nothing of it but
// what goes over the wire.
package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

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
		Short: "Administers the Meet gateway that is running",
		Long: `
Administers the gateway that is running, through Caddy's admin endpoint:
applications and their secrets, users, revocation and status.

The endpoint is found as Caddy's own commands find it: --address, else the one
in --config, else $CADDY_ADMIN, else localhost:2019. A Unix socket is written
unix//run/caddy/admin.sock.

Every command takes --json for scripts; an error is then an object with error,
exit_code and mostly hint on standard error. Exit status: 0 done; 1 refused or
failed; 2 what was compared differs (app apply --exit-code); 3 the
gateway, or Redis behind it, cannot be reached or is not ready, and trying again
may help; 4 there is no such thing; 5 it conflicts with what is there.`,
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

// addMeetCommands adds all there is below the meet command.
func addMeetCommands(cmd *cobra.Command) {
	flags := cmd.PersistentFlags()
	flags.String("address", "", "The address of the admin endpoint (default: as configured, or "+caddy.DefaultAdminListen+")")
	flags.StringP("config", "c", "", "A configuration file to read the address from, if --address is not given")
	flags.StringP("adapter", "a", "", "The adapter for --config")
	flags.Bool("json", false, "Write JSON")
	cmd.AddCommand(appCommand(), userCommand(), revokeCommand(), secretCommand(), statusCommand(), doctorCommand(), routesCommand(), auditCommand(), conformanceCommand())
	// In the place of Caddy's, which leads to the commands of Caddy.
	cmd.SetHelpTemplate(cmd.HelpTemplate() + "\nAll commands: docs/cli.md, https://github.com/meet-gateway/meet-gateway/blob/main/docs/cli.md\n")
	explainMisuse(cmd)
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return misused(cmd, wrongFlag(cmd, err)) })
}

// knownCommand refuses a word that is no command here, and says what may have been
// meant.
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

// wrongFlag says what a flag wants. The words of package strconv are for
// programmers. A flag after a misspelt command is not what is wrong.
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

// console is one run of a command: where it reads and writes, and the gateway
// it talks to.
type console struct {
	ctx    context.Context
	cmd    *cobra.Command
	in     io.Reader
	out    io.Writer // results
	errOut io.Writer // everything else
	json   bool
	admin  *client
}

// online makes a command that talks to the gateway.
func online(run func(*console, []string) error) func(*cobra.Command, []string) error {
	return command(func(c *console, args []string) error {
		var err error
		if c.admin, err = newClient(c.cmd); err != nil {
			return err
		}
		return run(c, args)
	})
}

// command makes a cobra RunE: it prints an error on standard
// error and turns it into an exit status. Caddy's own way, through the structured
// log, is for daemons.
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
		// The only way to an exit status of one's own.
		return caddycmd.WrapCommandFuncForCobra(func(caddycmd.Flags) (int, error) { return code, nil })(cmd, args)
	}
}

// errDiffers is no failure: what was compared is not the same.
var errDiffers = errors.New("there are differences")

// errNotReady means that the gateway answers, and would answer new requests with 503.
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

// noArguments explains what a value without its flag may have been meant for.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("%s takes no argument, got %q; repeat a flag for each of its values", cmd.CommandPath(), args[0])
	}
	return nil
}

// oneApplication wants the argument that find takes.
func oneApplication(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("%s takes one application: its id, an alias or its name in quotes", cmd.CommandPath())
	}
	return nil
}
