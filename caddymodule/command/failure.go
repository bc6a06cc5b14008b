// SPDX-License-Identifier: MIT

package command

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/meet-gateway/meet-gateway/caddymodule/admin/wire"
)

// failure is an error with --json, one line on standard error.
type failure struct {
	Error    string `json:"error"`
	ExitCode int    `json:"exit_code"`
	Hint     string `json:"hint,omitempty"`
	Field    string `json:"field,omitempty"`
}

// advised is an error with advice.
type advised struct {
	error
	hint string
}

// Error returns both.
func (a *advised) Error() string { return a.error.Error() + ".\n" + a.hint }

// Unwrap returns the error without the advice.
func (a *advised) Unwrap() error { return a.error }

func newFailure(err error) failure {
	f := failure{Error: err.Error(), ExitCode: exitCode(err), Hint: map[int]string{
		exitUnreachable: "trying again may help",
		exitConflict:    "look at the current state, then try again",
	}[exitCode(err)]}
	if a, ok := errors.AsType[*advised](err); ok {
		f.Error, f.Hint = a.error.Error(), a.hint
	}
	if p, ok := errors.AsType[*wire.Problem](err); ok {
		f.Field = p.Field
	}
	return f
}

// report prints an error, with --json as an object.
func report(w io.Writer, err error, asJSON bool) {
	if !asJSON {
		fmt.Fprintln(w, "Error:", err)
		return
	}
	body, _ := json.Marshal(newFailure(err)) // cannot fail
	fmt.Fprintln(w, string(body))
}

// misused reports a usage error as JSON with --json. Otherwise cobra prints it.
func misused(cmd *cobra.Command, err error) error {
	if err == nil || !wantsJSON(cmd) {
		return err
	}
	report(cmd.ErrOrStderr(), &advised{err, "see " + cmd.CommandPath() + " --help"}, true)
	cmd.SilenceErrors = true
	return err
}

// wantsJSON also finds a --json after a flag that cannot be parsed.
func wantsJSON(cmd *cobra.Command) bool {
	if set, _ := cmd.Flags().GetBool("json"); set {
		return true
	}
	for _, arg := range os.Args {
		if arg == "--json" || arg == "--json=true" {
			return true
		}
	}
	return false
}

// explainMisuse makes all commands report wrong arguments as JSON with --json. A command
// that only groups others refuses an unknown subcommand instead of printing help.
func explainMisuse(cmd *cobra.Command) {
	if cmd.HasSubCommands() && cmd.RunE == nil {
		cmd.Args = knownCommand
		cmd.SuggestionsMinimumDistance = 2
		cmd.RunE = func(cmd *cobra.Command, _ []string) error {
			if wantsJSON(cmd) {
				return misused(cmd, fmt.Errorf("%s needs a subcommand", cmd.CommandPath()))
			}
			return cmd.Help()
		}
	}
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error { return misused(cmd, check(cmd, args)) }
	}
	for _, sub := range cmd.Commands() {
		explainMisuse(sub)
	}
}

// warn prints warnings on standard error.
func (c *console) warn(texts ...string) {
	for _, text := range texts {
		if c.json {
			body, _ := json.Marshal(map[string]string{"warning": text})
			fmt.Fprintln(c.errOut, string(body))
			continue
		}
		fmt.Fprintln(c.errOut, "Warning:", oneLine(text))
	}
}

// did prints the result of a change: a sentence, or with --json an object.
func (c *console) did(sentence, what, to string) error {
	if !c.json {
		return c.write(oneLine(sentence) + "\n")
	}
	return c.marshal(map[string]string{what: to})
}

// inOneSentence rewords a problem: it names the flag that sets the field. Something that
// was not found needs no field.
func (c *console) inOneSentence(err error) error {
	p, ok := err.(*wire.Problem) //nolint:errorlint // a wrapped one has other words around it
	if !ok || p.Field == "" {
		return err
	}
	if p.Status == http.StatusNotFound {
		return errors.New(p.Detail)
	}
	must, ok := strings.CutPrefix(p.Detail, "It must ")
	if !ok {
		return err
	}
	name := strings.ReplaceAll(p.Field, "_", "-")
	for _, l := range listFlags {
		if l.field == p.Field {
			name = l.flag
		}
	}
	if c.cmd.Flags().Lookup(name) != nil {
		return fmt.Errorf("--%s must %s", name, must)
	}
	return fmt.Errorf("%s must %s", p.Field, must)
}

// failed prints an error and returns the exit status. Differences and findings have been
// printed already.
func (c *console) failed(err error) int {
	if !errors.Is(err, errDiffers) && !errors.Is(err, errFound) {
		shown := err
		if !c.json {
			shown = c.inOneSentence(err)
		}
		report(c.errOut, shown, c.json)
	}
	return exitCode(err)
}
