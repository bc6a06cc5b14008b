// SPDX-License-Identifier: MIT

package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/meet-gateway/meet-gateway/caddymodule/admin/wire"
	"github.com/meet-gateway/meet-gateway/tokens"
)

func appCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "app <command>",
		Short: "Registers, shows and changes applications",
		Long: `Registers, shows and changes applications.

An application is named by its id, by an alias (the client id it has at Meet) or
by its name, if no other has the same.`,
	}
	cmd.AddCommand(
		appCreateCommand(), appListCommand(), appShowCommand(), appEditCommand(),
		appActiveCommand("disable", "Disables an application: none of its secrets and tokens is valid", false),
		appActiveCommand("enable", "Enables an application again", true),
		appDeleteCommand(), appRotateCommand(),
		appReadoptCommand(), appImportCommand(), appExportCommand(), appApplyCommand(),
	)
	return cmd
}

func appCreateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "create --name <name> --domain <domain>... --scope <scope>...",
		Short: "Registers an application and prints its secret, once",
		Example: `  meet-gateway meet app create --name Calendar --domain example.org \
      --scope rooms:list,rooms:retrieve,rooms:create`,
		Args: noArguments,
		RunE: online(func(c *console, _ []string) error {
			fields, err := c.applicationFlags(nil)
			if err != nil {
				return err
			}
			if fields["name"] == nil {
				return errors.New("give it a --name, for people")
			}
			body, _, err := c.admin.call(c.ctx, request{method: http.MethodPost, path: "applications", body: fields})
			if err != nil {
				return err
			}
			return c.printSecret(body, "The application is registered.", nil)
		}),
	}
	addApplicationFlags(cmd, false)
	return cmd
}

func appListCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list [--prefix <prefix>] [--limit <n>]",
		Short: "Lists applications by name",
		Args:  noArguments,
		RunE:  online(listCommand),
	}
	cmd.Flags().String("prefix", "", "Only those whose names begin so, whatever their case")
	cmd.Flags().Int("limit", 0, "At most so many (default: all)")
	return cmd
}

// listCommand prints page by page: there may be a million.
func listCommand(c *console, _ []string) error {
	limit, _ := c.cmd.Flags().GetInt("limit")
	prefix, _ := c.cmd.Flags().GetString("prefix")
	if limit < 0 {
		return errors.New("--limit must not be negative")
	}
	printed := 0
	err := c.pages(prefix, limit, func(apps []json.RawMessage) error {
		defer func() { printed += len(apps) }()
		if c.json {
			return c.printElements(apps, printed == 0)
		}
		return c.printRows(apps, printed == 0)
	})
	if err != nil {
		return err
	}
	switch {
	case c.json && printed == 0:
		return c.write("[]\n")
	case c.json:
		return c.write("\n]\n")
	case printed == 0 && prefix == "":
		fmt.Fprintln(c.errOut, "There is no application yet.")
	case printed == 0:
		fmt.Fprintln(c.errOut, "There is no such application.")
	}
	return nil
}

// pages reads the list page by page, limit applications at most (0: all).
func (c *console) pages(prefix string, limit int, each func([]json.RawMessage) error) error {
	query := url.Values{"prefix": {prefix}}
	for left := limit; ; {
		size := wire.MaxPage
		if limit > 0 {
			size = min(size, left)
		}
		query.Set("limit", strconv.Itoa(size))
		var page struct {
			Applications []json.RawMessage `json:"applications"`
			Next         string            `json:"next"`
		}
		if _, err := c.admin.get(c.ctx, "applications", query, &page); err != nil {
			return err
		}
		if len(page.Applications) > 0 {
			if err := each(page.Applications); err != nil {
				return err
			}
		}
		left -= len(page.Applications)
		if page.Next == "" || limit > 0 && left <= 0 {
			return nil
		}
		query.Set("after", page.Next)
	}
}

// printElements prints a part of a JSON array.
func (c *console) printElements(apps []json.RawMessage, first bool) error {
	var b strings.Builder
	for i, app := range apps {
		if first && i == 0 {
			b.WriteString("[\n")
		} else {
			b.WriteString(",\n")
		}
		b.Write(app)
	}
	return c.write(b.String())
}

func (c *console) printRows(apps []json.RawMessage, first bool) error {
	var rows [][]string
	if first {
		rows = append(rows, []string{"ID", "NAME", "ACTIVE", "DOMAINS", "SCOPES", "LAST USED"})
	}
	for _, raw := range apps {
		app, err := decodeApplication(raw)
		if err != nil {
			return err
		}
		rows = append(rows, []string{
			app.ID, app.Name, yesNo(app.Active), abridged(app.Domains), abridged(app.Scopes), instant(app.LastUsed),
		})
	}
	return c.table(rows)
}

// abridged shows the first of many.
func abridged(list []string) string {
	const most = 3
	switch {
	case len(list) == 0:
		return "(none)"
	case len(list) > most:
		return strings.Join(list[:most], ",") + fmt.Sprintf(",… (%d)", len(list))
	}
	return strings.Join(list, ",")
}

func decodeApplication(body []byte) (*wire.Application, error) {
	app := &wire.Application{Application: new(tokens.Application)}
	return app, decodeAnswer(body, app)
}

func appShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "show <application>",
		Short:             "Shows an application",
		Args:              oneApplication,
		ValidArgsFunction: completeApplications,
		RunE: online(func(c *console, args []string) error {
			_, body, err := c.find(args[0])
			if err != nil {
				return err
			}
			return c.printApplication(body)
		}),
	}
}

func appActiveCommand(word, short string, active bool) *cobra.Command {
	return &cobra.Command{
		Use:               word + " <application>",
		Short:             short,
		Args:              oneApplication,
		ValidArgsFunction: completeApplications,
		RunE: online(func(c *console, args []string) error {
			app, _, err := c.find(args[0])
			if err != nil {
				return err
			}
			return c.patch(app, map[string]any{"active": active}, "", word+"d")
		}),
	}
}

func appDeleteCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:               "delete <application>",
		Short:             "Deletes an application, its secrets and the validity of its tokens",
		Args:              oneApplication,
		ValidArgsFunction: completeApplications,
		RunE: online(func(c *console, args []string) error {
			app, _, err := c.find(args[0])
			if err != nil {
				return err
			}
			if err := c.confirm(fmt.Sprintf("Delete %q (%s)? This cannot be undone; disabling can.", app.Name, app.ID)); err != nil {
				return err
			}
			_, _, err = c.admin.call(c.ctx, request{method: http.MethodDelete, path: applicationPath(app.ID), ifMatch: wire.ETag(app.Application)})
			if err != nil {
				return err
			}
			return c.did(fmt.Sprintf("%s (%s) is deleted.", app.Name, app.ID), "deleted", app.ID)
		}),
	}
	addYes(cmd)
	return cmd
}

func appReadoptCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "readopt <client id>",
		Short: "Lets a client id that was removed here be adopted again",
		Long: `Lets a client id be adopted again whose application was deleted here, or from
which it was taken away, where "unknown_applications adopt" is on. Nothing happens
before its next token request.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("%s takes one client id", cmd.CommandPath())
			}
			return nil
		},
		RunE: online(func(c *console, args []string) error {
			in := request{method: http.MethodDelete, path: "removed/" + url.PathEscape(args[0])}
			if _, _, err := c.admin.call(c.ctx, in); err != nil {
				return err
			}
			return c.did(args[0]+" may be adopted again.", "adoptable", args[0])
		}),
	}
}

func addYes(cmd *cobra.Command) {
	cmd.Flags().BoolP("yes", "y", false, "Do not ask")
}

func appRotateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rotate <application> (--grace <duration> | --now)",
		Short: "Gives an application a new secret and prints it, once",
		Long: `Gives an application a new secret and prints it, once. The present secret goes
on working for --grace, or not at all with --now. Tokens that were issued stay
valid; "meet revoke app" ends them.`,
		Args:              oneApplication,
		ValidArgsFunction: completeApplications,
		RunE: online(func(c *console, args []string) error {
			in := map[string]any{}
			grace, _ := c.cmd.Flags().GetString("grace")
			now, _ := c.cmd.Flags().GetBool("now")
			switch {
			case now == (grace != ""):
				return errors.New("say either --grace and how long the present secret goes on working, such as --grace 24h, or --now to end it at once")
			case now:
				in["now"] = true
			default:
				in["grace"] = grace
			}
			app, _, err := c.find(args[0])
			if err != nil {
				return err
			}
			if now {
				if err := c.confirm(fmt.Sprintf("End the present secret of %q (%s) at once? This cannot be undone.", app.Name, app.ID)); err != nil {
					return err
				}
			}
			body, _, err := c.admin.call(c.ctx, request{
				method: http.MethodPost, path: applicationPath(app.ID) + "/rotate", body: in,
			})
			if err != nil {
				return err
			}
			return c.printSecret(body, "New secret created.", rotated(now))
		}),
	}
	cmd.Flags().String("grace", "", "How long the present secret goes on working, such as 24h or 7d")
	cmd.Flags().Bool("now", false, "The present secret ends at once")
	addYes(cmd)
	return cmd
}

// find looks an application up by id, alias or, if it is the only one of it, name.
func (c *console) find(arg string) (*wire.Application, []byte, error) {
	if strings.Trim(arg, ".") != "" { // dots alone would be a step in the path
		body, _, err := c.admin.call(c.ctx, request{method: http.MethodGet, path: applicationPath(arg)})
		if err == nil {
			app, err := decodeApplication(body)
			return app, body, err
		}
		if p, ok := errors.AsType[*wire.Problem](err); !ok || p.Status != http.StatusNotFound {
			return nil, nil, err
		}
	}
	var found []*wire.Application
	var body []byte
	err := c.pages(arg, wire.MaxPage, func(apps []json.RawMessage) error {
		for _, raw := range apps {
			app, err := decodeApplication(raw)
			if err != nil {
				return err
			}
			if strings.EqualFold(app.Name, arg) {
				found, body = append(found, app), raw
			}
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	switch len(found) {
	case 0:
		return nil, nil, &wire.Problem{Status: http.StatusNotFound, Detail: fmt.Sprintf("no application has the id, alias or name %q", arg)}
	case 1:
		return found[0], body, nil
	}
	ids := make([]string, len(found))
	for i, app := range found {
		ids[i] = app.ID
	}
	return nil, nil, fmt.Errorf("%d applications are called %q; say which by its id: %s", len(found), arg, strings.Join(ids, ", "))
}

func applicationPath(idOrAlias string) string { return "applications/" + url.PathEscape(idOrAlias) }

// patch changes an application that was read before and says so.
func (c *console) patch(app *wire.Application, fields map[string]any, ifMatch, did string) error {
	body, _, err := c.admin.call(c.ctx, request{method: http.MethodPatch, path: applicationPath(app.ID), body: fields, ifMatch: ifMatch})
	if err != nil {
		return err
	}
	if c.json {
		return c.printJSON(body)
	}
	changed, err := decodeApplication(body)
	if err != nil {
		return err
	}
	c.warn(changed.Warnings...)
	return c.write(oneLine(fmt.Sprintf("%s (%s) is %s.", changed.Name, changed.ID, did)) + "\n")
}

// rotated says what becomes of the secrets before the new one.
func rotated(now bool) func(*wire.Application) string {
	return func(app *wire.Application) string {
		until := time.Time{}
		for _, s := range app.Secrets {
			if s.Expires.After(until) {
				until = s.Expires
			}
		}
		switch {
		case now:
			return "The former secret does not work any more."
		case until.IsZero():
			return ""
		}
		return "The former secret works until " + instant(until) + "."
	}
}

// printSecret prints the one answer that holds a secret. more may say more below.
func (c *console) printSecret(body []byte, did string, more func(*wire.Application) string) error {
	if c.json {
		return c.printJSON(body)
	}
	app, err := decodeApplication(body)
	if err != nil {
		return err
	}
	c.warn(app.Warnings...)
	if err := c.write(did + "\n\n"); err != nil {
		return err
	}
	err = c.table([][]string{
		{"  name", app.Name},
		{"  client id", app.ClientID},
		{"  client secret", app.ClientSecret},
	})
	if err != nil {
		return err
	}
	if more != nil {
		if text := more(app); text != "" {
			if err := c.write("\n" + text + "\n"); err != nil {
				return err
			}
		}
	}
	return c.write("\nStore the secret now: it is shown this once and cannot be read again.\n")
}

// printApplication prints an application in full.
func (c *console) printApplication(body []byte) error {
	if c.json {
		return c.printJSON(body)
	}
	app, err := decodeApplication(body)
	if err != nil {
		return err
	}
	rows := [][]string{
		{"id", app.ID},
		{"name", app.Name},
		{"type", app.Type},
		{"active", yesNo(app.Active)},
	}
	add := func(name, value string) {
		if value != "" {
			rows = append(rows, []string{name, value})
		}
	}
	add("aliases", strings.Join(app.Aliases, ", "))
	add("scopes", orNone(strings.Join(app.Scopes, ", ")))
	add("domains", orNone(strings.Join(app.Domains, ", ")))
	for _, n := range app.NotGranted {
		add("not granted by Meet", fmt.Sprintf("%s (%s, since %s)", strings.Join(n.Scopes, ", "), n.Meet, instant(n.Since)))
	}
	add("denied mails", joinMails(app.DeniedMails))
	if app.TokenLifetime != 0 {
		add("token lifetime", text(app.TokenLifetime))
	}
	add("refresh tokens", yesNo(app.Refresh))
	add("networks", joinPrefixes(app.Networks))
	add("access level", app.RoomDefaults.AccessLevel)
	add("room configuration", string(app.RoomDefaults.Configuration))
	for _, name := range sortedKeys(app.Limits) {
		add("limit "+name, app.Limits[name])
	}
	if app.Backend != nil {
		add("client id at Meet", app.Backend.ClientID)
	} else if app.LearnsBackend != "" {
		add("client id at Meet", "the gateway's; "+app.LearnsBackend+" once it has used its imported secret, if Meet takes that")
	}
	add("note", app.Note)
	for _, s := range app.Secrets {
		ends := "no end"
		if !s.Expires.IsZero() {
			ends = "ends " + instant(s.Expires)
		}
		add("secret "+s.ID, fmt.Sprintf("made %s, last used %s, %s%s", instant(s.Created), instant(s.LastUsed), ends, imported(s.Kind)))
	}
	add("created", instant(app.Created))
	add("changed", instant(app.Updated)+fmt.Sprintf(" (version %d)", app.Version))
	add("last used", instant(app.LastUsed))
	c.warn(app.Warnings...)
	return c.table(rows)
}

func imported(kind tokens.SecretKind) string {
	if kind == tokens.SecretDjango {
		return ", imported and not used yet"
	}
	return ""
}

func orNone(s string) string {
	if s == "" {
		return "(none)"
	}
	return s
}

// completeApplications offers the names of the gateway's applications.
func completeApplications(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	admin, err := newClient(cmd)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
	defer cancel()
	var page struct {
		Applications []*tokens.Application `json:"applications"`
	}
	query := url.Values{"prefix": {toComplete}, "limit": {"100"}}
	if _, err := admin.get(ctx, "applications", query, &page); err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, app := range page.Applications {
		names = append(names, cobra.CompletionWithDesc(oneLine(app.Name), app.ID))
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
