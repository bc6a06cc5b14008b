// SPDX-License-Identifier: MIT

package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"unicode/utf8"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/meet-gateway/meet-gateway/caddymodule/admin/wire"
	"github.com/meet-gateway/meet-gateway/tokens"
	"github.com/meet-gateway/meet-gateway/tokens/django"
)

// importRun is a running import.
type importRun struct {
	ID     string `json:"id"`
	DryRun bool   `json:"dry_run"`
	Total  int    `json:"total"`

	done atomic.Int64
}

// importRuns holds the running imports of this process.
var importRuns sync.Map // of *importRun

// showImports answers GET applications/import: the progress of running imports.
func (c *call) showImports() error {
	type shownRun struct {
		*importRun
		Done int64 `json:"done"`
	}
	runs := []shownRun{}
	importRuns.Range(func(key, _ any) bool {
		run := key.(*importRun)
		runs = append(runs, shownRun{run, run.done.Load()})
		return true
	})
	return c.answer(http.StatusOK, map[string]any{"imports": runs})
}

// importApplications answers POST applications/import. The body is the output of Meet's
// manage.py dumpdata for core.application and core.applicationdomain.
func (c *call) importApplications() error {
	query, err := c.query("dry_run", "update", "any_domain", "gateway_credentials", "id")
	if err != nil {
		return err
	}
	im := importer{c: c, run: importRun{ID: wire.Printable(query.Get("id"), 64)}}
	for name, flag := range map[string]*bool{"dry_run": &im.run.DryRun, "update": &im.update, "any_domain": &im.anyDomain, "gateway_credentials": &im.gatewayCredentials} {
		if *flag, err = flagOf(query, name); err != nil {
			return err
		}
	}
	if !im.run.DryRun {
		c.change("application.import")
	}
	if err := c.wantJSON(); err != nil {
		return err
	}
	dump, err := django.ReadDump(http.MaxBytesReader(c.w, c.r.Body, maxImportBody))
	if err != nil {
		if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
			return bodyProblem(err)
		}
		return &wire.Problem{Status: http.StatusBadRequest, Detail: sentence("this is not what dumpdata writes: " + err.Error())}
	}
	// An import stops if its caller is gone, but only between applications.
	report, err := im.load(c.r.Context(), dump)
	if !im.run.DryRun {
		c.audit.details = []zap.Field{zap.Int("taken", report.Taken), zap.Int("changed", report.Changed), zap.Int("skipped", report.Skipped)}
	}
	if err != nil {
		p := *problemOf(err)
		p.Done = report
		return &p
	}
	return c.answer(http.StatusOK, report)
}

// importWorkers is how many applications are written at once. Most of the time is spent
// waiting for Redis.
const importWorkers = 8

// importer imports a dump.
type importer struct {
	c *call
	// update changes existing applications to match the dump.
	update bool
	// anyDomain accepts a dump without any domain.
	anyDomain bool
	// gatewayCredentials makes applications use the gateway's credentials at Meet instead
	// of their own imported ones.
	gatewayCredentials bool
	run                importRun
}

// load imports a dump. After an error the report tells what was done; importing again
// continues from there.
func (im *importer) load(ctx context.Context, dump *django.Dump) (*wire.ImportReport, error) {
	report := &wire.ImportReport{DryRun: im.run.DryRun, Records: dump.Records, Ignored: dump.Ignored, Applications: []wire.ImportedApplication{}}
	free := slices.ContainsFunc(dump.Applications, func(app django.Application) bool { return app.AnyDomain })
	if free && dump.DomainRecords == 0 {
		if !im.anyDomain && !im.run.DryRun {
			return report, &wire.Problem{
				Status: http.StatusUnprocessableEntity, Field: "any_domain",
				Detail: "The file has no core.applicationdomain at all, so every application in it may act for everybody. " +
					"If it was left out, dump it as well; if it is so at Meet, say any_domain=true.",
			}
		}
		report.Refused = !im.anyDomain
		report.Warnings = append(report.Warnings, "the file has no core.applicationdomain at all: every application in it may act for everybody")
	}

	im.run.Total = len(dump.Applications)
	importRuns.Store(&im.run, nil)
	defer importRuns.Delete(&im.run)
	results := make([]wire.ImportedApplication, len(dump.Applications))
	for i := range dump.Applications {
		results[i] = announced(&dump.Applications[i])
	}
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(importWorkers)
	for i := range results {
		group.Go(func() error {
			if groupCtx.Err() != nil {
				return nil // reported below
			}
			ctx, cancel := context.WithTimeout(context.WithoutCancel(groupCtx), changeTime)
			defer cancel()
			err := im.take(ctx, &dump.Applications[i], &results[i])
			if err == nil {
				im.run.done.Add(1)
			}
			return err
		})
	}
	err := cmp.Or(group.Wait(), context.Cause(ctx))
	fill(report, results, dump.Problems)
	return report, err //nolint:wrapcheck // a cause of ctx or our own error
}

func announced(app *django.Application) wire.ImportedApplication {
	return wire.ImportedApplication{
		Record: app.Record, ClientID: app.ClientID, Name: app.Name,
		Outcome: wire.OutcomeSkipped, Reason: "the import ended before it",
	}
}

// take registers an application, or reconciles the existing one.
func (im *importer) take(ctx context.Context, from *django.Application, result *wire.ImportedApplication) error {
	wanted, notes := convert(from)
	result.Notes = notes
	checked, err := wanted.Checked()
	if err != nil {
		field, reason := invalidField(err)
		result.Reason = fmt.Sprintf("%s: %s", field, reason)
		return nil
	}
	result.Name = checked.Name
	existing, err := im.c.authority.CurrentApplication(ctx, from.ClientID)
	switch {
	case errors.Is(err, tokens.ErrNotFound):
		return im.register(ctx, checked, im.secretOf(from), result)
	case err != nil:
		return err
	}
	return im.reconcile(ctx, existing, checked, im.secretOf(from), result)
}

func (im *importer) secretOf(from *django.Application) tokens.ImportedSecret {
	s := tokens.ImportedSecret{Hash: from.SecretHash}
	if !im.gatewayCredentials {
		s.ClientID = from.ClientID
	}
	return s
}

func (im *importer) register(ctx context.Context, app *tokens.Application, secret tokens.ImportedSecret, result *wire.ImportedApplication) error {
	result.Outcome, result.Reason = wire.OutcomeTaken, ""
	if im.run.DryRun {
		return nil
	}
	created, err := im.c.authority.ImportApplication(ctx, *app, secret)
	if errors.Is(err, tokens.ErrConflict) {
		result.Outcome, result.Reason = wire.OutcomeSkipped, "it is being registered elsewhere at the same time"
		return nil
	}
	if err != nil {
		result.Outcome, result.Reason = wire.OutcomeSkipped, "it could not be written"
		return err
	}
	result.ID = created.ID
	im.c.recordEntry(auditEntry{action: "application.create", application: created.ID}, "done", zap.String("by", "import"))
	return nil
}

// importedFields are the fields that a dump determines.
var importedFields = []string{"name", "active", "scopes", "domains"}

// reconcile compares an existing application with the dump. It changes it only on request, so
// that another import does not undo what an operator restricted here.
func (im *importer) reconcile(ctx context.Context, existing, wanted *tokens.Application, secret tokens.ImportedSecret, result *wire.ImportedApplication) error {
	result.ID = existing.ID
	result.Fields = slices.DeleteFunc(changedFields(existing, wanted), func(f string) bool { return !slices.Contains(importedFields, f) })
	newSecret := secret.Hash != "" && existing.TakesImported(secret.Hash)
	if newSecret {
		result.Fields = append(result.Fields, "secret")
	} else if secret.Hash != "" && !existing.HasImported(secret.Hash) {
		result.Notes = append(result.Notes, "its secret here differs from the one in the file and is kept")
	}
	switch {
	case len(result.Fields) == 0:
		result.Reason = "it exists already"
		return nil
	case !im.update:
		result.Reason = "it exists already and differs in " + strings.Join(result.Fields, ", ") + "; importing with update changes it"
		return nil
	}
	result.Outcome, result.Reason = wire.OutcomeChanged, ""
	if im.run.DryRun {
		return nil
	}
	_, err := im.c.authority.UpdateImported(ctx, existing.ID, existing.Version, secret, func(n *tokens.Application) error {
		n.Name, n.Active, n.Scopes, n.Domains = wanted.Name, wanted.Active, wanted.Scopes, wanted.Domains
		return nil
	})
	if errors.Is(err, tokens.ErrConflict) || errors.Is(err, tokens.ErrNotFound) {
		result.Outcome, result.Reason = wire.OutcomeSkipped, "it was changed elsewhere at the same time"
		return nil
	}
	if err != nil {
		result.Outcome, result.Reason = wire.OutcomeSkipped, "it could not be written"
		return err
	}
	im.c.recordEntry(auditEntry{action: "application.change", application: existing.ID, fields: result.Fields}, "done", zap.String("by", "import"))
	return nil
}

// convert converts an application of Meet and returns notes about what differs.
func convert(from *django.Application) (app tokens.Application, notes []string) {
	app = tokens.Application{
		Name: from.Name, Aliases: []string{from.ClientID}, Active: from.Active,
		Scopes: from.Scopes, Domains: from.Domains, Note: "Imported from Meet, where it is " + from.PK + ".",
	}
	const longest = 255 // bytes; Meet counts characters
	switch {
	case app.Name == "":
		app.Name = from.ClientID
		notes = append(notes, "it has no name; its client id is used")
	case len(app.Name) > longest:
		app.Name = truncate(app.Name, longest)
		notes = append(notes, "its name is shortened to 255 bytes")
	}
	switch {
	case from.AnyDomain:
		app.Domains = []string{"*"}
		notes = append(notes, `it has no domain, which at Meet means every domain; here it gets "*"`)
	case len(from.Domains) == 0:
		notes = append(notes, "none of its domains is usable, so it may act for no user")
	}
	if from.SecretHash == "" {
		notes = append(notes, "it has no usable secret; rotate it to create one")
	}
	if !from.Active {
		notes = append(notes, "it is disabled")
	}
	return app, notes
}

// truncate cuts at a character boundary.
func truncate(s string, longest int) string {
	for longest > 0 && !utf8.RuneStart(s[longest]) {
		longest--
	}
	return strings.TrimSpace(s[:longest])
}

// fill counts the results and adds the problems of the dump.
func fill(r *wire.ImportReport, results []wire.ImportedApplication, problems []django.Problem) {
	byRecord := make(map[int]int, len(results))
	for i := range results {
		byRecord[results[i].Record] = i
	}
	for _, p := range problems {
		text := p.Reason
		if p.Field != "" {
			text = p.Field + " " + p.Reason
		}
		i, known := byRecord[p.Record]
		switch {
		case known:
			results[i].Notes = append(results[i].Notes, text)
		case p.Model == "core.application":
			results = append(results, wire.ImportedApplication{Record: p.Record, Outcome: wire.OutcomeSkipped, Reason: text})
		default:
			r.Warnings = append(r.Warnings, p.String())
		}
	}
	slices.SortStableFunc(results, func(a, b wire.ImportedApplication) int { return a.Record - b.Record })
	for i := range results {
		switch results[i].Outcome {
		case wire.OutcomeTaken:
			r.Taken++
		case wire.OutcomeChanged:
			r.Changed++
		default:
			r.Skipped++
		}
	}
	r.Applications = append(r.Applications, results...)
}

// flagOf reads a boolean parameter; without a value it is true.
func flagOf(query url.Values, name string) (bool, error) {
	switch query.Get(name) {
	case "true":
		return true, nil
	case "false":
		return false, nil
	case "":
		return query.Has(name), nil
	}
	return false, badField(name, "It must be true or false.")
}
