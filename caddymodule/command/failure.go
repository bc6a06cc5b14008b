// SPDX-License-Identifier: MIT

package command

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/meet-gateway/meet-gateway/caddymodule/admin/wire"
)

// failure is an error as --json writes it on standard error: one object on one line.
type failure struct {
	Error    string `json:"error"`
	ExitCode int    `json:"exit_code"`
	Hint     string `json:"hint,omitempty"`
	Field    string `json:"field,omitempty"`
}

// advised is an error with what to do about it.
type advised struct {
	error
	hint string
}

// Error is both, for people.
func (a *advised) Error() string { return a.error.Error() + ".\n" + a.hint }

// Unwrap returns the error alone.
func (a *advised) Unwrap() error { return a.error }

func newFailure(err error) failure {
	f := failure{Error: err.Error(), ExitCode: exitCode(err), Hint: map[int]string{
		exitUnreachable: "trying again may help",
		exitConflict:    "look at what is there now, and then try again",
	}[exitCode(err)]}
	if a, ok := errors.AsType[*advised](err); ok {
		f.Error, f.Hint = a.error.Error(), a.hint
	}
	if p, ok := errors.AsType[*wire.Problem](err); ok {
		f.Field = p.Field
	}
	return f
}

// report prints an error: as one sentence, or with --json as an object.
func report(w io.Writer, err error, asJSON bool) {
	if !asJSON {
		fmt.Fprintln(w, "Error:", err)
		return
	}
	body, _ := json.Marshal(newFailure(err)) // texts and a number
	fmt.Fprintln(w, string(body))
}

// misused reports an error in how a command was called, which cobra would print as
// text, if JSON is asked for.
func misused(cmd *cobra.Command, err error) error {
	if err == nil || !wantsJSON(cmd) {
		return err
	}
	report(cmd.ErrOrStderr(), &advised{err, "see " + cmd.CommandPath() + " --help"}, true)
	cmd.SilenceErrors = true
	return err
}

// wantsJSON also finds a --json behind a flag that could not be read.
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

// explainMisuse makes commands report in JSON, if that is asked for, what is wrong
// with their arguments; those that only group others say what is wrong with an
// unknown word, instead of printing help and succeeding.
func explainMisuse(cmd *cobra.Command) {
	if cmd.HasSubCommands() && cmd.RunE == nil {
		cmd.Args = knownCommand
		cmd.SuggestionsMinimumDistance = 2
		cmd.RunE = func(cmd *cobra.Command, _ []string) error {
			if wantsJSON(cmd) {
				return misused(cmd, fmt.Errorf("%s does nothing by itself: say which command", cmd.CommandPath()))
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

// warn prints what the operator should know, apart from results.
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

// did ends a command whose result is that something was done: with a sentence, or as
// JSON with what it was done to.
func (c *console) did(sentence, what, to string) error {
	if !c.json {
		return c.write(oneLine(sentence) + "\n")
	}
	body, err := json.Marshal(map[string]string{what: to})
	if err != nil {
		return fmt.Errorf("encoding: %w", err)
	}
	return c.printJSON(body)
}

// failed prints an error of a run and returns its exit status. That something differs
// or was found is a result, which was printed.
func (c *console) failed(err error) int {
	if !errors.Is(err, errDiffers) && !errors.Is(err, errFound) {
		report(c.errOut, err, c.json)
	}
	return exitCode(err)
}
