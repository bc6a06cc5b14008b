// SPDX-License-Identifier: MIT

package command

import (
	"cmp"
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

// secretFilesFlag adds --secret-file.
func secretFilesFlag(cmd *cobra.Command, what string) {
	cmd.Flags().StringArray("secret-file", nil, "A file with a secret of the gateway, "+what+" (can be repeated)")
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
		// Without the final newline, like the placeholder {file.…}.
		key, err := audit.NewKey([]byte(strings.TrimSuffix(strings.TrimSuffix(string(secret), "\n"), "\r")))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// auditFiles returns the files in args, by default those that the gateway writes on this
// machine.
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
		return nil, fmt.Errorf("no file is given, and the gateway does not tell its own: %w", err)
	}
	if state.File == "" {
		return nil, errors.New("the gateway does not write its audit trail to a file; give the files that contain it")
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
		Short: "Finds changed, removed and swapped lines in an audit trail",
		Long: `Checks the chain of lines in the files, in any order and including rotated ones, and
reports each line that was changed, removed or swapped. Default: the files that the
gateway writes on this machine.

Lines that are missing at the end are detected only with a hash that was stored
elsewhere (--head; meet audit head prints it). A chain that was recomputed as a whole
is detected only with the gateway's secret (--secret-file). Exit status 1: the files
are damaged.`,
		RunE: command(func(c *console, args []string) error {
			keys, err := auditKeys(c.cmd)
			if err != nil {
				return err
			}
			files, err := c.auditFiles(args)
			if err != nil {
				return err
			}
			report, err := audit.Verify(files, audit.VerifyOptions{Head: c.text("head"), Keys: keys})
			if err != nil {
				return err
			}
			if err := c.printVerification(report, len(keys) > 0); err != nil {
				return err
			}
			if !report.OK() {
				return fmt.Errorf("%s: the trail was changed", english.Plural(len(report.Findings), "finding", ""))
			}
			return nil
		}),
	}
	cmd.Flags().String("head", "", "The hash of a line that must exist")
	secretFilesFlag(cmd, "to check the keyed heads")
	return cmd
}

func (c *console) printVerification(r *audit.Report, keyed bool) error {
	if c.json {
		return c.marshal(r)
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
			b.WriteString("note: the keyed heads were not checked, which needs --secret-file\n")
		}
	}
	return c.write(b.String())
}

func auditQueryCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "query [<file>…]",
		Short: "Finds events in an audit trail, such as who created a room for whom",
		Long: `Finds events in the files, including rotated ones. Default: the files that the gateway
writes on this machine. --json prints the lines as they are in the files.

--user takes a public id or a mail address. If the trail has keyed hashes instead of
mail addresses, an address needs the gateway's secret (--secret-file).`,
		RunE: command(func(c *console, args []string) error {
			f, err := c.auditFilter()
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
	flags.String("event", "", "The type of events, such as room.created, or room for all room events")
	flags.String("decision", "", "allowed, refused or failed")
	flags.String("request-id", "", "The id of a request")
	flags.String("since", "", "Events since a time: 2006-01-02, 2006-01-02T15:04:05Z, or a duration ago such as 24h")
	flags.String("until", "", "Events until a time")
	secretFilesFlag(cmd, "to find users by mail address")
	return cmd
}

func (c *console) auditFilter() (audit.Filter, error) {
	f := audit.Filter{
		Room: c.text("room"), User: c.text("user"), Application: c.text("application"),
		Type: c.text("event"), Decision: c.text("decision"), RequestID: c.text("request-id"),
	}
	var err error
	if f.Since, err = parseMoment("since", c.text("since")); err != nil {
		return f, err
	}
	if f.Until, err = parseMoment("until", c.text("until")); err != nil {
		return f, err
	}
	f.Keys, err = auditKeys(c.cmd)
	return f, err
}

// parseMoment reads a time, a day, or a duration ago.
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
	return time.Time{}, fmt.Errorf("--%s %q: it must be a time such as 2006-01-02T15:04:05Z, a day such as 2006-01-02, or a duration ago such as 24h", flag, text)
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
		return c.write("No event found.\n")
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
	return []string{
		e.Time.Format(time.RFC3339), e.Type, e.Decision, cmp.Or(e.Rule, "-"), application, cmp.Or(user, "-"), room, cmp.Or(e.SourceIP, "-"), cmp.Or(e.RequestID, "-"),
	}
}

func auditHeadCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "head",
		Short: "Prints the head of the gateway's audit trail, to store elsewhere for verify --head",
		Args:  noArguments,
		RunE: online(func(c *console, _ []string) error {
			_, err := show(c, "audit", c.printAuditState)
			return err
		}),
	}
}

func (c *console) printAuditState(s *audit.State) error {
	rows := [][]string{{"chain", s.Chain}, {"line", fmt.Sprint(s.Seq)}, {"head", s.Hash}, {"file", s.File}}
	if s.Failing {
		rows = append(rows, []string{"FAILING", "lines cannot be written"})
	}
	if s.Lost > 0 {
		rows = append(rows, []string{"lost events", fmt.Sprint(s.Lost)})
	}
	return c.table(rows)
}
