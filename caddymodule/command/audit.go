// SPDX-License-Identifier: MIT

package command

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/dustin/go-humanize/english"
	"github.com/spf13/cobra"

	"github.com/meet-gateway/meet-gateway/caddymodule/audit"
)

func auditCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "audit <command>", Short: "Checks and searches the audit trail"}
	cmd.AddCommand(auditVerifyCommand(), auditQueryCommand(), auditHeadCommand())
	return cmd
}

// secretFilesFlag adds the flag for the gateway's secrets.
func secretFilesFlag(cmd *cobra.Command, what string) {
	cmd.Flags().StringArray("secret-file", nil, "A file with a secret of the gateway, "+what+"; may be repeated")
}

// auditKeys reads the secrets in the files of --secret-file.
func auditKeys(cmd *cobra.Command) ([]*audit.Key, error) {
	files, err := cmd.Flags().GetStringArray("secret-file")
	if err != nil {
		return nil, err //nolint:wrapcheck // names the flag
	}
	var keys []*audit.Key
	for _, file := range files {
		secret, err := os.ReadFile(file)
		if err != nil {
			return nil, err //nolint:wrapcheck // names the file
		}
		// As the placeholder {file.…} reads it: without the newline at the end.
		key, err := audit.NewKey([]byte(strings.TrimSuffix(strings.TrimSuffix(string(secret), "\n"), "\r")))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// auditFiles returns the files that were named, or else those that the gateway writes
// on this machine.
func (c *console) auditFiles(args []string) ([]string, error) {
	if len(args) > 0 {
		return args, nil
	}
	admin, err := newClient(c.cmd)
	if err != nil {
		return nil, err
	}
	c.admin = admin
	var state audit.State
	if _, err := c.admin.get(c.ctx, "audit", nil, &state); err != nil {
		return nil, fmt.Errorf("no file was named, and asking the gateway for its own: %w", err)
	}
	if state.File == "" {
		return nil, errors.New("the gateway writes its audit trail to no file; name the files that it ends up in")
	}
	files, err := audit.Files(state.File)
	if err != nil {
		return nil, err
	}
	return files, nil
}

func auditVerifyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "verify [<file>…]",
		Short: "Finds lines of an audit trail that were changed, removed, swapped or cut off",
		Long: `Checks the chain of lines in the files, the rotated ones too, in any order, and
names each line that was changed, removed, swapped or cut off. Without files, those
that the gateway writes on this machine.

That lines were cut off the end shows only against a hash that was noted elsewhere
(--head; meet audit head prints it). That somebody has computed the whole chain anew
shows only with the gateway's secret (--secret-file). Exit status 1: something is
wrong with the files.`,
		RunE: command(func(c *console, args []string) error {
			o := audit.VerifyOptions{}
			o.Head, _ = c.cmd.Flags().GetString("head")
			var err error
			if o.Keys, err = auditKeys(c.cmd); err != nil {
				return err
			}
			files, err := c.auditFiles(args)
			if err != nil {
				return err
			}
			report, err := audit.Verify(files, o)
			if err != nil {
				return err
			}
			if err := c.printVerification(report, len(o.Keys) > 0); err != nil {
				return err
			}
			if !report.OK() {
				return fmt.Errorf("%s: the trail is not as it was written", english.Plural(len(report.Findings), "finding", ""))
			}
			return nil
		}),
	}
	cmd.Flags().String("head", "", "The hash of a line that must be there")
	secretFilesFlag(cmd, "to check the keyed heads with")
	return cmd
}

func (c *console) printVerification(r *audit.Report, keyed bool) error {
	if c.json {
		body, err := json.Marshal(r)
		if err != nil {
			return fmt.Errorf("encoding: %w", err)
		}
		return c.printJSON(body)
	}
	var b strings.Builder
	for _, f := range r.Findings {
		fmt.Fprintln(&b, oneLine(f.String()))
	}
	for _, note := range r.Notes {
		fmt.Fprintln(&b, "note:", oneLine(note))
	}
	for _, chain := range r.Chains {
		fmt.Fprintf(&b, "chain %s: lines %d to %d, head %s\n", oneLine(chain.ID), chain.First, chain.Last, oneLine(chain.Head))
	}
	if r.OK() {
		fmt.Fprintf(&b, "%s, nothing is wrong.\n", english.Plural(r.Lines, "line", ""))
		if !keyed {
			b.WriteString("note: the keyed heads were not checked; give --secret-file for that\n")
		}
	}
	return c.write(b.String())
}

func auditQueryCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "query [<file>…]",
		Short: "Finds events in an audit trail: who made a room, for whom, by which rule",
		Long: `Finds events in the files, the rotated ones too. Without files, those that the
gateway writes on this machine. --json writes the lines as they are in the files.

--user takes a public id, or a mail address: where the trail holds keyed hashes of
mail addresses, that needs the gateway's secret (--secret-file).`,
		RunE: command(func(c *console, args []string) error {
			f, err := auditFilter(c.cmd)
			if err != nil {
				return err
			}
			files, err := c.auditFiles(args)
			if err != nil {
				return err
			}
			return c.printEvents(files, f)
		}),
	}
	flags := cmd.Flags()
	flags.String("room", "", "The id or the slug of a room")
	flags.String("user", "", "The public id or the mail address of a user")
	flags.String("application", "", "The id or the name of an application")
	flags.String("event", "", "The type of events, such as room.created, or room for all about rooms")
	flags.String("decision", "", "allowed, refused or failed")
	flags.String("request-id", "", "The id of a request")
	flags.String("since", "", "Events since then: 2006-01-02, 2006-01-02T15:04:05Z, or a time ago such as 24h")
	flags.String("until", "", "Events until then")
	secretFilesFlag(cmd, "to find users by mail address with")
	return cmd
}

func auditFilter(cmd *cobra.Command) (audit.Filter, error) {
	text := func(name string) string {
		value, _ := cmd.Flags().GetString(name)
		return value
	}
	f := audit.Filter{
		Room: text("room"), User: text("user"), Application: text("application"),
		Type: text("event"), Decision: text("decision"), RequestID: text("request-id"),
	}
	var err error
	if f.Since, err = parseMoment("since", text("since")); err != nil {
		return f, err
	}
	if f.Until, err = parseMoment("until", text("until")); err != nil {
		return f, err
	}
	f.Keys, err = auditKeys(cmd)
	return f, err
}

// parseMoment reads a time, a day, or how long ago it was.
func parseMoment(flag, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	if t, err := time.ParseInLocation(time.DateOnly, text, time.Local); err == nil {
		return t, nil
	}
	if ago, err := caddy.ParseDuration(text); err == nil {
		return time.Now().Add(-ago), nil
	}
	return time.Time{}, fmt.Errorf("--%s %q: it must be a time such as 2006-01-02T15:04:05Z, a day such as 2006-01-02, or a time ago such as 24h", flag, text)
}

func (c *console) printEvents(files []string, f audit.Filter) error {
	rows := [][]string{{"TIME", "EVENT", "DECISION", "RULE", "APPLICATION", "USER", "ROOM", "SOURCE", "REQUEST"}}
	unreadable, err := audit.Query(files, f, func(l audit.Line) error {
		if c.json {
			return c.write(string(l.Raw) + "\n")
		}
		rows = append(rows, eventRow(&l.Event))
		return nil
	})
	if err != nil {
		return err
	}
	if unreadable > 0 {
		c.warn(english.Plural(unreadable, "line", "") + " could not be read; see meet audit verify")
	}
	if c.json {
		return nil
	}
	if len(rows) == 1 {
		return c.write("No such event.\n")
	}
	return c.table(rows)
}

func eventRow(e *audit.Event) []string {
	application, room, user := "-", "-", e.User
	if a := e.Application; a != nil {
		if application = a.ID; a.Name != "" {
			application = a.Name + " (" + a.ID + ")"
		}
	}
	if r := e.Room; r != nil {
		room = strings.TrimSpace(r.ID + " " + r.Slug)
	}
	if e.Mail != "" {
		user = strings.TrimSpace(user + " " + e.Mail)
	}
	orDash := func(s string) string {
		if s == "" {
			return "-"
		}
		return s
	}
	return []string{
		e.Time.Format(time.RFC3339), e.Type, e.Decision, orDash(e.Rule), application, orDash(user), room, orDash(e.SourceIP), orDash(e.RequestID),
	}
}

func auditHeadCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "head",
		Short: "Prints where the gateway's audit trail is: note it elsewhere, for verify --head",
		Args:  noArguments,
		RunE: online(func(c *console, _ []string) error {
			var s audit.State
			body, err := c.admin.get(c.ctx, "audit", nil, &s)
			if err != nil {
				return err
			}
			if c.json {
				return c.printJSON(body)
			}
			rows := [][]string{{"chain", s.Chain}, {"line", fmt.Sprint(s.Seq)}, {"head", s.Hash}, {"file", s.File}}
			if s.Failing {
				rows = append(rows, []string{"FAILING", "lines cannot be written"})
			}
			if s.Lost > 0 {
				rows = append(rows, []string{"lost events", fmt.Sprint(s.Lost)})
			}
			return c.table(rows)
		}),
	}
}
