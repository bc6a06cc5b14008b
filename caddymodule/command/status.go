// SPDX-License-Identifier: MIT

package command

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize/english"
	"github.com/spf13/cobra"

	"github.com/meet-gateway/meet-gateway/caddymodule/admin/wire"
	"github.com/meet-gateway/meet-gateway/tokens"
)

func statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Shows the state of the gateway and of its installation",
		Long: `Shows the state of the gateway (store, feed, cache, keys, backends) and lists the
gateways of the installation with versions, keys and lag. Exit status 3 means that
the gateway is not ready, so new requests are answered with 503.`,
		Args: noArguments,
		RunE: online(func(c *console, _ []string) error {
			s, err := show(c, "status", c.printStatus)
			if err == nil && !s.Ready {
				err = fmt.Errorf("%w: %s", errNotReady, s.Reason)
			}
			return err
		}),
	}
}

func (c *console) printStatus(s *wire.Status) error {
	ready := yesNo(s.Ready)
	if s.Reason != "" {
		ready += ": " + s.Reason
	}
	store := s.Store.Mode + ", "
	if s.Store.Available {
		store += "answers in " + lifetime(s.Store.Latency)
	} else {
		store += s.Store.Error
	}
	feed := "not heard yet"
	if s.Feed.Age > 0 {
		feed = "complete " + lifetime(s.Feed.Age) + " ago"
	}
	feed += fmt.Sprintf(" (bound %s), change %d", lifetime(s.Feed.Staleness), s.Feed.Changes)
	if !s.Feed.Fresh {
		feed = "stale, redis is asked per request; " + feed
	}
	cache := strings.Join([]string{
		english.Plural(s.Cache.Tokens, "token", ""), english.Plural(s.Cache.Applications, "application", ""), english.Plural(s.Cache.Users, "user", ""),
	}, ", ")
	if all := s.Cache.Hits + s.Cache.Misses; all > 0 {
		cache += fmt.Sprintf("; %.1f%% of %s hit", 100*float64(s.Cache.Hits)/float64(all), english.Plural(int(all), "lookup", ""))
	}
	rows := [][]string{
		{"version", s.Version}, {"ready", ready}, {"store", store}, {"feed", feed}, {"cache", cache},
	}
	for _, k := range s.Keys {
		rows = append(rows, []string{"key " + k.ID, keyText(k)})
	}
	for _, id := range s.MissingKeys {
		rows = append(rows, []string{"key " + id, "MISSING HERE, but used by other gateways; their tokens get 503"})
	}
	for _, b := range s.Backends {
		rows = append(rows, backendRows(b)...)
	}
	for _, w := range s.Store.Warnings {
		rows = append(rows, []string{"warning", w})
	}
	if err := c.table(rows); err != nil {
		return err
	}
	return c.printGateways(s.Gateways)
}

// printGateways lists all gateways of the installation.
func (c *console) printGateways(gateways []tokens.Gateway) error {
	if len(gateways) == 0 {
		return nil
	}
	rows := [][]string{{"GATEWAY", "HOST", "VERSION", "STARTED", "KEYS (FIRST: USED)", "LAG", "STATE"}}
	for _, g := range gateways {
		lag, state := "hears nothing", "up"
		if g.LagSeconds != nil {
			lag = fmt.Sprintf("%.3fs", *g.LagSeconds)
		}
		switch {
		case g.Self:
			state = "this one"
		case g.Silent:
			state = "silent since " + instant(g.Heard)
		}
		if ahead := time.Duration(g.ClockAheadSeconds * float64(time.Second)); ahead.Abs() >= time.Second {
			state += fmt.Sprintf(", its clock is off by %s", ahead.Round(time.Millisecond))
		}
		keys := slices.Clone(g.Uses)
		for _, k := range g.Keys {
			if !slices.Contains(keys, k) {
				keys = append(keys, k)
			}
		}
		rows = append(rows, []string{g.ID, g.Host, orNone(g.Version), instant(g.Started), strings.Join(keys, " "), lag, state})
	}
	if err := c.write("\n"); err != nil {
		return err
	}
	return c.table(rows)
}

func keyText(k tokens.KeyStatus) string {
	parts := []string{k.Algorithm}
	switch {
	case k.Signs:
		parts = append(parts, "signs")
	case k.Withdrawn:
		parts = append(parts, "withdrawn")
	default:
		parts = append(parts, "verifies")
	}
	if !k.LiveUntil.IsZero() {
		parts = append(parts, "in use until "+instant(k.LiveUntil))
	}
	switch {
	case k.Needed != "" && k.LiveUntil.IsZero():
		parts = append(parts, k.Needed)
	case k.Needed != "":
		parts = append(parts, "not known to be safe to remove: "+k.Needed)
	}
	if k.SafeToRemove {
		parts = append(parts, "safe to remove")
	}
	return strings.Join(parts, ", ")
}

func backendRows(b wire.Backend) [][]string {
	state := b.Kind
	if !b.Healthy {
		state += ", no upstream is available"
	}
	rows := [][]string{{"backend " + b.Host, state}}
	for _, u := range b.Upstreams {
		text := fmt.Sprintf("available, %s running, %s", english.Plural(u.Requests, "request", ""), english.Plural(u.Fails, "failure", ""))
		switch {
		case !u.Available:
			text = "not " + text
		case !b.Checked:
			text = "no health check is configured"
		}
		rows = append(rows, []string{"  " + u.Address, text})
	}
	return rows
}

func routesCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "routes",
		Short: "Shows the open paths and the scope that each requires",
		Args:  noArguments,
		RunE: online(func(c *console, _ []string) error {
			_, err := show(c, "routes", c.printRoutes)
			return err
		}),
	}
}

func (c *console) printRoutes(answer *struct{ Gates []wire.Routes }) error {
	rows := [][]string{}
	for _, gate := range answer.Gates {
		rows = append(rows, []string{"BELOW " + strings.Join(gate.BasePaths, ", "), "METHOD", "SCOPE", "POLICY"})
		for _, r := range gate.Routes {
			rows = append(rows, []string{"  " + r.Path, r.Method, r.Scope, r.Policy})
		}
	}
	return c.table(rows)
}

func userCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "user <command>", Short: "Shows users"}
	cmd.AddCommand(&cobra.Command{
		Use:   "show <mail or id>",
		Short: "Shows a user: ids, and when and by which application first and last seen",
		Args:  oneUser,
		RunE:  online(showUserCommand),
	})
	return cmd
}

// showUserCommand sends a mail address in the body, because paths are logged.
func showUserCommand(c *console, args []string) error {
	in := request{method: http.MethodGet, path: "users/" + url.PathEscape(args[0])}
	if strings.Contains(args[0], "@") {
		in = request{method: http.MethodPost, path: "users/lookup", body: map[string]string{"mail": args[0]}}
	}
	body, _, err := c.admin.call(c.ctx, in)
	if err != nil {
		return err
	}
	return printAnswer(c, body, c.printUser)
}

func (c *console) printUser(u *tokens.User) error {
	by := func(t time.Time, id string) string {
		if id == "" {
			return instant(t)
		}
		return instant(t) + " by " + id
	}
	return c.table([][]string{
		{"id", u.ID},
		{"mail", string(u.Mail)}, // String hides the address
		{"id at Meet", orNone(u.BackendUserID)},
		{"first seen", by(u.FirstSeen, u.FirstSeenBy)},
		{"last seen", by(u.LastSeen, u.LastSeenBy)},
	})
}

func secretCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "secret <command>", Short: "Creates and checks secrets, and re-encrypts with a new one"}
	cmd.AddCommand(rekeyCommand())
	cmd.AddCommand(&cobra.Command{
		Use:   "new",
		Short: "Creates a client secret for \"app apply\", without the gateway",
		Args:  noArguments,
		RunE: command(func(c *console, _ []string) error {
			secret := tokens.NewClientSecret()
			if c.json {
				return c.write("{\"client_secret\": \"" + secret + "\"}\n")
			}
			return c.write(secret + "\n")
		}),
	})
	cmd.AddCommand(&cobra.Command{
		Use:   "check",
		Short: "Checks a secret from standard input for typos, without the gateway",
		Long: `Checks the checksum of a client secret (mgs_…) or refresh token (mgr_…) from standard
input. Nothing is sent anywhere, so it does not tell whether the secret is valid.
Exit status 1 means a typo, or another kind of text.`,
		Args: noArguments,
		RunE: command(func(c *console, _ []string) error {
			secret, err := c.readSecret("Secret")
			if err != nil {
				return err
			}
			if !tokens.ChecksumOK(secret) {
				return errors.New("this is not a secret made by a gateway, or it has a typo")
			}
			if c.json {
				return c.write("{\"well_formed\": true}\n")
			}
			return c.write("The secret is well-formed: its checksum is correct.\n")
		}),
	})
	return cmd
}
