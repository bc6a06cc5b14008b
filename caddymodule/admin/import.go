// SPDX-License-Identifier: MIT

package admin

import (
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

	"github.com/meet-gateway/meet-gateway/caddymodule/admin/wire"
	"github.com/meet-gateway/meet-gateway/tokens"
	"github.com/meet-gateway/meet-gateway/tokens/django"
)

// importRun is an import that is going on.
type importRun struct {
	ID     string `json:"id"`
	DryRun bool   `json:"dry_run"`
	Total  int    `json:"total"`

	done atomic.Int64
}

// importRuns are all that are going on in this process.
var importRuns sync.Map // *importRun to nothing

// showImports answers GET applications/import: how far the running imports are.
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

// importApplications answers POST applications/import: the body is what Meet's
// manage.py dumpdata writes of core.application and core.applicationdomain.
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
	// An import ends when its caller goes away, but never in the midst of an
	// application.
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

// importWorkers is how many applications are written at once: waiting for Redis
// is most of the work.
const importWorkers = 8

// importer takes a dump over.
type importer struct {
	c *call
	// update changes applications that are here already to what the dump says.
	update bool
	// anyDomain believes a dump without any domain.
	anyDomain bool
	// gatewayCredentials makes the applications go on with the gateway's own
	// credentials at Meet, instead of with theirs as soon as they have used them.
	gatewayCredentials bool
	run                importRun
}

// load takes over what is in the dump. With an error the report tells how far
// it came; doing it again goes on from there.
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
	err := im.each(ctx, len(results), func(ctx context.Context, i int) error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), changeTime)
		defer cancel()
		return im.take(ctx, &dump.Applications[i], &results[i])
	})
	fill(report, results, dump.Problems)
	return report, err
}

// each calls f for every index, several at a time, until one fails.
func (im *importer) each(ctx context.Context, n int, f func(context.Context, int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(importWorkers, n) {
		workers.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := f(ctx, i); err != nil {
					cancel(err)
					return
				}
				im.run.done.Add(1)
			}
		})
	}
	workers.Wait()
	return context.Cause(ctx) //nolint:wrapcheck // what f returned, or why the request ended
}

func announced(app *django.Application) wire.ImportedApplication {
	return wire.ImportedApplication{
		Record: app.Record, ClientID: app.ClientID, Name: app.Name,
		Outcome: wire.OutcomeSkipped, Reason: "the import ended before it",
	}
}

// take registers one application, or changes the one that is here already.
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

// importedFields are what a dump decides; the rest of an application is the
// gateway's own.
var importedFields = []string{"name", "active", "scopes", "domains"}

// reconcile compares an application that is here with what the dump says. It is
// changed only if that was asked for: what an operator narrowed here must not come
// back by importing once more.
func (im *importer) reconcile(ctx context.Context, existing, wanted *tokens.Application, secret tokens.ImportedSecret, result *wire.ImportedApplication) error {
	result.ID = existing.ID
	result.Fields = slices.DeleteFunc(changedFields(existing, wanted), func(f string) bool { return !slices.Contains(importedFields, f) })
	newSecret := secret.Hash != "" && existing.TakesImported(secret.Hash)
	if newSecret {
		result.Fields = append(result.Fields, "secret")
	} else if secret.Hash != "" && !existing.HasImported(secret.Hash) {
		result.Notes = append(result.Notes, "its secret here is another one than in the file, and stays")
	}
	switch {
	case len(result.Fields) == 0:
		result.Reason = "it is here already"
		return nil
	case !im.update:
		result.Reason = "it is here already and differs in " + strings.Join(result.Fields, ", ") + "; importing with update changes it"
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

// convert makes an application of ours from one of Meet's, and tells what is not
// the same.
func convert(from *django.Application) (app tokens.Application, notes []string) {
	app = tokens.Application{
		Name: from.Name, Aliases: []string{from.ClientID}, Active: from.Active,
		Scopes: from.Scopes, Domains: from.Domains, Note: "Imported from Meet, where it is " + from.PK + ".",
	}
	const longest = 255 // bytes here, characters at Meet
	switch {
	case app.Name == "":
		app.Name = from.ClientID
		notes = append(notes, "it has no name; its client id is taken")
	case len(app.Name) > longest:
		app.Name = truncate(app.Name, longest)
		notes = append(notes, "its name is shortened to 255 bytes")
	}
	switch {
	case from.AnyDomain:
		app.Domains = []string{"*"}
		notes = append(notes, `it has no domain, which at Meet means every domain; here it gets "*"`)
	case len(from.Domains) == 0:
		notes = append(notes, "none of its domains can be used: it may act for no user")
	}
	if from.SecretHash == "" {
		notes = append(notes, "it has no secret that can be used: rotate one in")
	}
	if !from.Active {
		notes = append(notes, "it is disabled")
	}
	return app, notes
}

// truncate cuts at the end of a character.
func truncate(s string, longest int) string {
	for longest > 0 && !utf8.RuneStart(s[longest]) {
		longest--
	}
	return strings.TrimSpace(s[:longest])
}

// fill counts the results and adds what the reader of the dump found wrong.
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

// flagOf reads a parameter that is true or false; alone it is true.
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
