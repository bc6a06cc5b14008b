// SPDX-License-Identifier: MIT

package command

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize/english"
	"github.com/spf13/cobra"

	"github.com/meet-gateway/meet-gateway/caddymodule/admin/wire"
)

func appImportCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "import <file>",
		Short: "Imports applications from a dump of Meet's database",
		Long: `Imports applications from a dump of Meet's database:

  python manage.py dumpdata core.application core.applicationdomain > meet.json

Their client ids and secrets stay valid. Importing again imports only new
applications; --update changes existing ones to match the file. The dump holds
password hashes, so protect it like the database. "-" reads standard input.`,
		Args: oneFile,
		RunE: online(importCommand),
	}
	cmd.Flags().Bool("dry-run", false, "Only show what would be done")
	cmd.Flags().Bool("update", false, "Change existing applications to match the file")
	cmd.Flags().Bool("any-domain", false, "Accept a dump without any domain: its applications may act for all users")
	cmd.Flags().Bool("gateway-credentials", false, "Use the gateway's own credentials at Meet instead of those of the applications")
	return cmd
}

// open opens a file, or standard input.
func (c *console) open(name string) (io.ReadCloser, error) {
	if name == "-" {
		return io.NopCloser(c.in), nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err //nolint:wrapcheck // it names the file
	}
	return f, nil
}

func importCommand(c *console, args []string) error {
	file, err := c.open(args[0])
	if err != nil {
		return err
	}
	defer file.Close()
	query := url.Values{"id": {rand.Text()}}
	for flag, parameter := range map[string]string{"dry-run": "dry_run", "update": "update", "any-domain": "any_domain", "gateway-credentials": "gateway_credentials"} {
		if c.isSet(flag) {
			query.Set(parameter, "true")
		}
	}
	stop := c.poll(func(ctx context.Context) string {
		if done, total, ok := c.importProgress(ctx, query.Get("id")); ok {
			return progressBar(done, total)
		}
		return ""
	})
	body, _, err := c.admin.call(c.ctx, request{
		method: http.MethodPost, path: "applications/import", query: query, body: io.Reader(file), slow: true,
	})
	stop()
	if err != nil {
		return importFailed(err)
	}
	return printAnswer(c, body, c.printReport)
}

// importFailed adds what to do to an error.
func importFailed(err error) error {
	p, ok := errors.AsType[*wire.Problem](err)
	if !ok {
		return err
	}
	if p.Field == "any_domain" {
		return errors.New("the file has no core.applicationdomain, so every application in it may act for all users. " +
			"If the model was omitted, dump it too; if Meet has no domains, add --any-domain")
	}
	if done, ok := p.Done.(map[string]any); ok {
		return fmt.Errorf("%w\ntaken before: %v, changed: %v; importing again continues from there", p, done["taken"], done["changed"])
	}
	return err
}

// printReport prints the result for each application, and the totals.
func (c *console) printReport(r *wire.ImportReport) error {
	c.warn(r.Warnings...)
	rows := [][]string{{"RECORD", "CLIENT ID", "NAME", "OUTCOME", "WHY AND WHAT"}}
	for _, app := range r.Applications {
		var remarks []string
		if app.Reason != "" {
			remarks = append(remarks, app.Reason)
		}
		if app.Outcome == wire.OutcomeChanged {
			remarks = append(remarks, strings.Join(app.Fields, ", "))
		}
		remarks = append(remarks, app.Notes...)
		rows = append(rows, []string{
			strconv.Itoa(app.Record), app.ClientID, app.Name, app.Outcome, strings.Join(remarks, "; "),
		})
	}
	if err := c.table(rows); err != nil {
		return err
	}
	summary := fmt.Sprintf("\n%d taken, %d changed, %d skipped.", r.Taken, r.Changed, r.Skipped)
	if r.DryRun {
		summary = fmt.Sprintf("\nDry run, nothing was done: %d would be taken, %d changed, %d skipped.", r.Taken, r.Changed, r.Skipped)
	}
	if r.Refused {
		summary = fmt.Sprintf("\nDry run, nothing was done: without --any-domain it would be refused; with it %d would be taken, %d changed, %d skipped.", r.Taken, r.Changed, r.Skipped)
	}
	for _, model := range sortedKeys(r.Ignored) {
		summary += fmt.Sprintf(" %s of %s %s ignored.", english.Plural(r.Ignored[model], "record", ""), oneLine(model), english.PluralWord(r.Ignored[model], "was", "were"))
	}
	return c.write(summary + "\n")
}

// progressPeriod is how often the gateway is asked for its progress.
const progressPeriod = 500 * time.Millisecond

// poll shows progress on standard error, if that is a terminal, until the returned function
// is called.
func (c *console) poll(progress func(context.Context) string) (stop func()) {
	out, ok := terminal(c.errOut)
	if !ok {
		return func() {}
	}
	ctx, cancel := context.WithCancel(c.ctx)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		ticker := time.NewTicker(progressPeriod)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				fmt.Fprint(out, "\r\x1b[K") // erase the line
				return
			case <-ticker.C:
				if text := progress(ctx); text != "" {
					fmt.Fprint(out, "\r"+text)
				}
			}
		}
	}()
	return func() {
		cancel()
		<-stopped
	}
}

func (c *console) importProgress(ctx context.Context, id string) (done, total int, ok bool) {
	var answer struct {
		Imports []struct {
			ID    string `json:"id"`
			Done  int    `json:"done"`
			Total int    `json:"total"`
		} `json:"imports"`
	}
	if _, err := c.admin.get(ctx, "applications/import", nil, &answer); err != nil {
		return 0, 0, false
	}
	for _, run := range answer.Imports {
		if run.ID == id {
			return run.Done, run.Total, true
		}
	}
	return 0, 0, false
}

// progressBar is [#####.....] 50% 5000/10000.
func progressBar(done, total int) string {
	const width = 40
	if total <= 0 {
		return ""
	}
	done = min(done, total)
	full := width * done / total
	return fmt.Sprintf("[%s%s] %3d%% %d/%d", strings.Repeat("#", full), strings.Repeat(".", width-full), 100*done/total, done, total)
}
