// SPDX-License-Identifier: MIT

package command

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/spf13/cobra"

	"github.com/meet-gateway/meet-gateway/caddymodule/admin/wire"
)

// revocation is what a subcommand of revoke is about to do.
type revocation struct {
	kind string // "token", "grant" and so on, for --json
	what string // ends the question and the answer, such as "all tokens of Calendar"
	body map[string]any
}

func revokeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "revoke <what>",
		Short: "Ends tokens before they expire, on every gateway",
		Long: `Ends tokens before they expire, on every gateway. It reports success only after
Redis has acknowledged. If it fails, repeating it is safe.`,
	}
	cmd.AddCommand(
		revoking(&cobra.Command{
			Use:   "token [<id>]",
			Short: "Ends one token, by its id (the jti claim) or as a whole from standard input",
			Long: `Ends one token, by its id (the jti claim) or as a whole from standard input, which
keeps it out of the shell's history and the list of processes. A refresh token
ends with its whole family. A token that has already ended is no error; anything
that is not a token of this installation is one.`,
			Args: cobra.MaximumNArgs(1),
		}, revokeToken),
		revoking(&cobra.Command{
			Use:               "app <application>",
			Short:             "Ends all tokens of an application; its secrets stay valid",
			Args:              oneApplication,
			ValidArgsFunction: completeApplications,
		}, revokeApplication),
		revoking(&cobra.Command{
			Use:   "user <mail or id>",
			Short: "Ends all tokens for a user, of every application",
			Args:  oneUser,
		}, func(_ *console, args []string) (revocation, error) {
			return revocation{"user", "all tokens for " + args[0] + ", of every application", map[string]any{"user": args[0]}}, nil
		}),
		revoking(&cobra.Command{
			Use:               "grant <application> <mail or id>",
			Short:             "Ends all tokens of one application for one user",
			Args:              takes(2, "an application and a user"),
			ValidArgsFunction: completeApplications,
		}, revokeGrant),
		revoking(&cobra.Command{
			Use:               "key <key id>",
			Short:             "Ends all tokens signed with a key that no longer signs",
			Args:              takes(1, "the id of a key, as meet status shows it"),
			ValidArgsFunction: complete(keyIDs),
		}, func(_ *console, args []string) (revocation, error) {
			return revocation{"key", "all tokens signed with the key " + args[0], map[string]any{"key": args[0]}}, nil
		}),
		revoking(&cobra.Command{
			Use:   "before <time>",
			Short: "Ends all tokens issued before a time, or longer ago than a duration",
			Long: `Ends all tokens issued before a time, or longer ago than a duration.

Issue times have whole seconds, so a token issued in the same second as the given
time stays valid. "meet revoke all" leaves none.`,
			Example: `  meet-gateway meet revoke before 2026-03-01T12:00:00Z
  meet-gateway meet revoke before 15m`,
			Args: takes(1, "a time (RFC 3339), or a duration such as 15m"),
		}, revokeBefore),
		revoking(&cobra.Command{
			Use:   "all",
			Short: "Ends all tokens",
			Args:  noArguments,
		}, func(*console, []string) (revocation, error) {
			return revocation{"all", "all tokens of all applications", map[string]any{"all": true}}, nil
		}),
	)
	return cmd
}

// revoking completes a subcommand of revoke, which asks first.
func revoking(cmd *cobra.Command, prepare func(*console, []string) (revocation, error)) *cobra.Command {
	addYes(cmd)
	cmd.RunE = online(func(c *console, args []string) error {
		r, err := prepare(c, args)
		if err != nil {
			return err
		}
		if err := c.confirm("End " + r.what + "? This cannot be undone."); err != nil {
			return err
		}
		if _, _, err := c.admin.call(c.ctx, request{method: http.MethodPost, path: "revocations", body: r.body}); err != nil {
			return err
		}
		return c.did("Revoked: "+r.what+".", "revoked", r.kind)
	})
	return cmd
}

func revokeToken(c *console, args []string) (r revocation, err error) {
	var token string
	if len(args) == 1 && args[0] != "-" {
		token = args[0]
	} else if token, err = c.readSecret("Token"); err != nil {
		return r, err
	}
	return revocation{"token", "this token", map[string]any{"token": token}}, nil
}

func revokeApplication(c *console, args []string) (revocation, error) {
	app, _, err := c.find(args[0])
	if err != nil {
		return revocation{}, err
	}
	return revocation{"application", fmt.Sprintf("all tokens of %q (%s)", app.Name, app.ID), map[string]any{"application": app.ID}}, nil
}

func revokeGrant(c *console, args []string) (revocation, error) {
	app, _, err := c.find(args[0])
	if err != nil {
		return revocation{}, err
	}
	what := fmt.Sprintf("all tokens of %q (%s) for %s", app.Name, app.ID, args[1])
	return revocation{"grant", what, map[string]any{"application": app.ID, "user": args[1]}}, nil
}

func revokeBefore(_ *console, args []string) (revocation, error) {
	before, err := instantBefore(args[0], time.Now())
	text := before.Format(time.RFC3339)
	return revocation{"before", "all tokens issued before " + text, map[string]any{"before": text}}, err
}

// instantBefore reads a time, or how long ago it was.
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

// keyIDs lists the keys for shell completion.
func keyIDs(ctx context.Context, admin *client, _ string) (ids []string) {
	var s wire.Status
	if _, err := admin.get(ctx, "status", nil, &s); err != nil {
		return nil
	}
	for _, k := range s.Keys {
		ids = append(ids, cobra.CompletionWithDesc(k.ID, keyText(k)))
	}
	for _, id := range s.MissingKeys {
		ids = append(ids, cobra.CompletionWithDesc(id, "missing here"))
	}
	return ids
}
