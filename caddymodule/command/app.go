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

An application is given by its id, an alias (such as its client id at Meet), or its
name if that is unique.`,
	}
	cmd.AddCommand(
		appCreateCommand(), appListCommand(), appShowCommand(), appEditCommand(),
		appActiveCommand("disable", "Disables an application, so that its secrets and tokens are not valid", false),
		appActiveCommand("enable", "Enables an application", true),
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
				return errors.New("--name is missing")
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
	cmd.Flags().String("prefix", "", "Only applications whose names start with this, in any case")
	cmd.Flags().Int("limit", 0, "The maximum number of applications (default: all)")
	return cmd
}

// listCommand prints page by page, because there may be a million applications.
func listCommand(c *console, _ []string) error {
	limit, _ := c.cmd.Flags().GetInt("limit")
	prefix := c.text("prefix")
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

// pages reads the list page by page, at most limit applications (0: all).
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

// printElements prints a part of a JSON array, without its end.
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

// abridged shows the first elements of a list.
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

// onApplication completes a command about one application.
func onApplication(cmd *cobra.Command, run func(c *console, app *wire.Application, body []byte) error) *cobra.Command {
	cmd.Args, cmd.ValidArgsFunction = oneApplication, completeApplications
	cmd.RunE = online(func(c *console, args []string) error {
		app, body, err := c.find(args[0])
		if err != nil {
			return err
		}
		return run(c, app, body)
	})
	return cmd
}

func appShowCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "show <application>", Short: "Shows an application"}
	return onApplication(cmd, func(c *console, _ *wire.Application, body []byte) error {
		return c.printApplication(body)
	})
}

func appActiveCommand(word, short string, active bool) *cobra.Command {
	cmd := &cobra.Command{Use: word + " <application>", Short: short}
	return onApplication(cmd, func(c *console, app *wire.Application, _ []byte) error {
		return c.patch(app, map[string]any{"active": active}, "", word+"d")
	})
}

func appDeleteCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "delete <application>", Short: "Deletes an application and its secrets, and ends its tokens"}
	addYes(cmd)
	return onApplication(cmd, func(c *console, app *wire.Application, _ []byte) error {
		if err := c.confirm(fmt.Sprintf("Delete %q (%s)? This cannot be undone; disabling can.", app.Name, app.ID)); err != nil {
			return err
		}
		_, _, err := c.admin.call(c.ctx, request{method: http.MethodDelete, path: applicationPath(app.ID), ifMatch: wire.ETag(app.Application)})
		if err != nil {
			return err
		}
		return c.did(fmt.Sprintf("%s (%s) is deleted.", app.Name, app.ID), "deleted", app.ID)
	})
}

func appReadoptCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "readopt <client id>",
		Short: "Allows a removed client id to be adopted again",
		Long: `With "unknown_applications adopt", a client id is not adopted again after its
application was deleted, or after the client id was removed from it. This allows it
again; the adoption happens at its next token request.`,
		Args: takes(1, "one client id"),
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
		Long: `Gives an application a new secret and prints it, once. The present secret stays
valid for --grace, or ends at once with --now. Issued tokens stay valid; "meet
revoke app" ends them.`,
		Args:              oneApplication,
		ValidArgsFunction: completeApplications,
		RunE: online(func(c *console, args []string) error {
			in := map[string]any{}
			grace, now := c.text("grace"), c.isSet("now")
			switch {
			case now == (grace != ""):
				return errors.New("give either --grace with how long the present secret stays valid, such as --grace 24h, or --now to end it at once")
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
	cmd.Flags().String("grace", "", "How long the present secret stays valid, such as 24h or 7d")
	cmd.Flags().Bool("now", false, "End the present secret at once")
	addYes(cmd)
	return cmd
}

// find returns an application by id, alias or unique name, and its JSON.
func (c *console) find(arg string) (*wire.Application, []byte, error) {
	if strings.Trim(arg, ".") != "" { // dots alone would change the path
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
	return nil, nil, fmt.Errorf("%d applications are called %q; give an id: %s", len(found), arg, strings.Join(ids, ", "))
}

func applicationPath(idOrAlias string) string { return "applications/" + url.PathEscape(idOrAlias) }

// patch changes an application that was read before.
func (c *console) patch(app *wire.Application, fields map[string]any, ifMatch, did string) error {
	body, _, err := c.admin.call(c.ctx, request{method: http.MethodPatch, path: applicationPath(app.ID), body: fields, ifMatch: ifMatch})
	if err != nil {
		return err
	}
	return printAnswer(c, body, func(changed *wire.Application) error {
		c.warn(changed.Warnings...)
		return c.write(oneLine(fmt.Sprintf("%s (%s) is %s.", changed.Name, changed.ID, did)) + "\n")
	})
}

// rotated tells when the former secret ends.
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
			return "\nThe former secret is no longer valid.\n"
		case until.IsZero():
			return ""
		}
		return "\nThe former secret is valid until " + instant(until) + ".\n"
	}
}

// printSecret prints an answer with a new secret, and the text of more below it.
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
		if err := c.write(more(app)); err != nil {
			return err
		}
	}
	return c.write("\nStore the secret now. It cannot be shown again.\n")
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
		add("token lifetime", lifetime(app.TokenLifetime))
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
		add("client id at Meet", "the gateway's; "+app.LearnsBackend+" after the first use of its imported secret, if Meet accepts it")
	}
	add("note", app.Note)
	for _, s := range app.Secrets {
		ends := "no end"
		if !s.Expires.IsZero() {
			ends = "ends " + instant(s.Expires)
		}
		add("secret "+s.ID, fmt.Sprintf("created %s, last used %s, %s%s", instant(s.Created), instant(s.LastUsed), ends, imported(s.Kind)))
	}
	add("created", instant(app.Created))
	add("changed", instant(app.Updated)+fmt.Sprintf(" (version %d)", app.Version))
	add("last used", instant(app.LastUsed))
	c.warn(app.Warnings...)
	return c.table(rows)
}

func imported(kind tokens.SecretKind) string {
	if kind == tokens.SecretDjango {
		return ", imported and not yet used"
	}
	return ""
}

func orNone(s string) string {
	if s == "" {
		return "(none)"
	}
	return s
}

// completeApplications offers the names of applications.
var completeApplications = complete(func(ctx context.Context, admin *client, prefix string) (names []string) {
	var page struct {
		Applications []*tokens.Application `json:"applications"`
	}
	query := url.Values{"prefix": {prefix}, "limit": {"100"}}
	if _, err := admin.get(ctx, "applications", query, &page); err != nil {
		return nil
	}
	for _, app := range page.Applications {
		names = append(names, cobra.CompletionWithDesc(oneLine(app.Name), app.ID))
	}
	return names
})
