// SPDX-License-Identifier: MIT

package command

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/spf13/cobra"

	"github.com/meet-gateway/meet-gateway/caddymodule/admin/wire"
)

func revokeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "revoke <what>",
		Short: "Ends tokens before their time, on every gateway",
		Long: `Ends tokens before their time, on every gateway. It says so only after Redis has
acknowledged; if it fails, doing it again is safe.`,
	}
	cmd.AddCommand(withYes(revokeTokenCommand(), revokeApplicationCommand(), revokeUserCommand(), revokeGrantCommand(), revokeKeyCommand())...)
	cmd.AddCommand(revokeBeforeCommand(), revokeAllCommand())
	return cmd
}

func revokeTokenCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "token [<id>]",
		Short: "Ends one token: by its id (the jti claim), or whole, from standard input",
		Long: `Ends one token: by its id (the jti claim), or whole, from standard input, so that
it stays out of the shell's history and the list of processes. A refresh token
ends with its whole family. A token that has ended already is no error; what is
no token of this installation is one.`,
		Args: cobra.MaximumNArgs(1),
		RunE: online(func(c *console, args []string) error {
			var token string
			if len(args) == 1 && args[0] != "-" {
				token = args[0]
			} else {
				var err error
				if token, err = c.readSecret("Token"); err != nil {
					return err
				}
			}
			return c.revokeAfterAsking("End this token?", map[string]any{"token": token}, "Token revoked.")
		}),
	}
}

func revokeApplicationCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "app <application>",
		Short:             "Ends all tokens an application has so far; its secrets go on working",
		Args:              oneApplication,
		ValidArgsFunction: completeApplications,
		RunE: online(func(c *console, args []string) error {
			app, _, err := c.find(args[0])
			if err != nil {
				return err
			}
			return c.revokeAfterAsking(fmt.Sprintf("End all tokens of %q (%s)?", app.Name, app.ID), map[string]any{"application": app.ID}, fmt.Sprintf("All tokens of %s (%s) revoked.", app.Name, app.ID))
		}),
	}
}

func revokeUserCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "user <mail or id>",
		Short: "Ends all tokens for a user, whichever application has them",
		Args:  oneUser,
		RunE: online(func(c *console, args []string) error {
			return c.revokeAfterAsking("End all tokens for "+args[0]+", whichever application has them?", map[string]any{"user": args[0]}, "All tokens for the user revoked.")
		}),
	}
}

func revokeGrantCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "grant <application> <mail or id>",
		Short: "Ends all tokens that one application has for one user",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 2 {
				return fmt.Errorf("%s takes an application and a user", cmd.CommandPath())
			}
			return nil
		},
		ValidArgsFunction: completeApplications,
		RunE: online(func(c *console, args []string) error {
			app, _, err := c.find(args[0])
			if err != nil {
				return err
			}
			return c.revokeAfterAsking(fmt.Sprintf("End all tokens that %q (%s) has for %s?", app.Name, app.ID, args[1]), map[string]any{"application": app.ID, "user": args[1]},
				fmt.Sprintf("All tokens that %s (%s) has for the user revoked.", app.Name, app.ID))
		}),
	}
}

func revokeKeyCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "key <key id>",
		Short:             "Ends all tokens signed with a key that does not sign any more",
		ValidArgsFunction: completeKeys,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("%s takes the id of a key, as meet status shows it", cmd.CommandPath())
			}
			return nil
		},
		RunE: online(func(c *console, args []string) error {
			return c.revokeAfterAsking("End all tokens signed with the key "+args[0]+"?", map[string]any{"key": args[0]}, "All tokens signed with the key revoked.")
		}),
	}
}

// withYes lets commands be run without a question.
func withYes(cmds ...*cobra.Command) []*cobra.Command {
	for _, cmd := range cmds {
		addYes(cmd)
	}
	return cmds
}

// completeKeys offers the ids of the keys that meet status shows.
func completeKeys(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	admin, err := newClient(cmd)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
	defer cancel()
	var s wire.Status
	if _, err := admin.get(ctx, "status", nil, &s); err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var ids []string
	for _, k := range s.Keys {
		ids = append(ids, cobra.CompletionWithDesc(k.ID, keyText(k)))
	}
	for _, id := range s.MissingKeys {
		ids = append(ids, cobra.CompletionWithDesc(id, "missing here"))
	}
	return ids, cobra.ShellCompDirectiveNoFileComp
}

// revokeAfterAsking is revoke, after the question on a terminal.
func (c *console) revokeAfterAsking(question string, what map[string]any, did string) error {
	if err := c.confirm(question + " This cannot be undone."); err != nil {
		return err
	}
	return c.revoke(what, did)
}

func oneUser(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("%s takes one user: a mail address, or an id of 8 characters", cmd.CommandPath())
	}
	return nil
}

func revokeBeforeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "before <time>",
		Short: "Ends all tokens issued before a time, or longer ago than a duration",
		Long: `Ends all tokens issued before a time, or longer ago than a duration.

Tokens say in whole seconds when they were issued, and so does the instant: what
was issued within its second stays. "meet revoke all" leaves nothing.`,
		Example: `  meet-gateway meet revoke before 2026-03-01T12:00:00Z
  meet-gateway meet revoke before 15m`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("%s takes a time (RFC 3339), or a duration such as 15m", cmd.CommandPath())
			}
			return nil
		},
		RunE: online(func(c *console, args []string) error {
			before, err := instantBefore(args[0], time.Now())
			if err != nil {
				return err
			}
			if err := c.confirm("End all tokens issued before " + before.Format(time.RFC3339) + "?"); err != nil {
				return err
			}
			return c.revoke(map[string]any{"before": before.Format(time.RFC3339)}, "All tokens issued before "+before.Format(time.RFC3339)+" revoked.")
		}),
	}
	addYes(cmd)
	return cmd
}

// instantBefore reads an instant, or how long ago it was.
func instantBefore(text string, now time.Time) (time.Time, error) {
	if d, err := caddy.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, fmt.Errorf("%q is neither a time such as 2006-01-02T15:04:05Z nor a duration such as 15m", text)
	}
	return t, nil
}

func revokeAllCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "all",
		Short: "Ends all tokens there are",
		Args:  noArguments,
		RunE: online(func(c *console, _ []string) error {
			if err := c.confirm("End all tokens of all applications?"); err != nil {
				return err
			}
			return c.revoke(map[string]any{"all": true}, "All tokens revoked.")
		}),
	}
	addYes(cmd)
	return cmd
}

func (c *console) revoke(what map[string]any, did string) error {
	if _, _, err := c.admin.call(c.ctx, request{method: http.MethodPost, path: "revocations", body: what}); err != nil {
		return err
	}
	kind := slices.Sorted(maps.Keys(what))[0]
	if len(what) > 1 { // an application and a user
		kind = "grant"
	}
	return c.did(did, "revoked", kind)
}
