// SPDX-License-Identifier: MIT

package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/meet-gateway/meet-gateway/caddymodule/admin/wire"
	"github.com/meet-gateway/meet-gateway/tokens"
)

// step is a planned change.
type step struct {
	*wire.Change
	entry    int // index in the file, -1 for none
	existing *tokens.Application
	given    map[string]json.RawMessage
	secret   string // that the entry brings for a new application
}

// applyApplications answers PUT applications/apply: it creates and changes applications until
// they match the body; with prune it deletes all others. It changes nothing unless the
// whole body is valid.
func (c *call) applyApplications() error {
	var in struct {
		Applications []json.RawMessage `json:"applications"`
		Prune        bool              `json:"prune"`
		DryRun       bool              `json:"dry_run"`
	}
	if err := c.decode(wire.MaxApplyBody, &in, "applications", "prune", "dry_run"); err != nil {
		return err
	}
	if in.Applications == nil {
		return badField("applications", "It must be a list of applications.")
	}
	if !in.DryRun {
		c.change("application.apply")
	}
	p := plan{c: c, matched: map[string]int{}, named: map[string]int{}, aliased: map[string]int{}}
	for i, raw := range in.Applications {
		if err := p.add(i, raw); err != nil {
			return inEntry(i, err)
		}
	}
	if in.Prune {
		if err := p.prune(); err != nil {
			return err
		}
	}
	answer := wire.Applied{DryRun: in.DryRun, Changes: []*wire.Change{}, Unchanged: p.unchanged}
	if in.DryRun {
		for _, s := range p.steps {
			answer.Changes = append(answer.Changes, s.Change)
		}
		return c.answer(http.StatusOK, answer)
	}
	fail := func(entry int, err error) error {
		failed := *problemOf(inEntry(entry, err))
		failed.Done = answer // contains secrets that are not shown again
		return &failed
	}
	for _, s := range p.steps {
		// It stops if the caller is gone, but only between applications.
		if err := c.r.Context().Err(); err != nil {
			return fail(s.entry, err)
		}
		if err := c.apply(s); err != nil {
			return fail(s.entry, err)
		}
		answer.Changes = append(answer.Changes, s.Change)
	}
	for _, s := range p.confirm {
		_, err := c.authority.ConfirmApplication(c.ctx, s.existing.ID)
		if err != nil {
			return fail(s.entry, err)
		}
	}
	return c.answer(http.StatusOK, answer)
}

// confirmed is for how long after its last edit an unchanged application is confirmed: an
// earlier attempt to apply the file may have made that edit and then failed. Older edits
// are not confirmed, because publishing all applications of a large file would displace
// more important entries of the journals.
const confirmed = 24 * time.Hour

// inEntry adds the index of the entry to the field of a problem.
func inEntry(i int, err error) error {
	if i < 0 {
		return err
	}
	p := *problemOf(err)
	at := fmt.Sprintf("applications[%d]", i)
	if p.Field != "" {
		at += "." + p.Field
	}
	p.Field = at
	return &p
}

// plan collects the changes before any is made.
type plan struct {
	c         *call
	steps     []*step
	unchanged int
	confirm   []*step        // unchanged ones that are confirmed
	matched   map[string]int // application id to entry
	named     map[string]int // name of a new application to entry
	aliased   map[string]int // alias to entry
}

// add compares an entry with the application that it describes.
func (p *plan) add(i int, raw json.RawMessage) error {
	given, err := readObject(raw, append([]string{"id", "client_secret"}, applicationFieldNames()...))
	if err != nil {
		return err
	}
	existing, err := p.find(given)
	if err != nil {
		return err
	}
	secret, err := readClientSecret(given)
	if err != nil {
		return err
	}
	delete(given, "id")
	delete(given, "client_secret")
	fillDefaults(given)
	wanted := tokens.Application{Active: true}
	if existing != nil {
		if at, twice := p.matched[existing.ID]; twice {
			return &wire.Problem{Status: http.StatusUnprocessableEntity, Detail: fmt.Sprintf("applications[%d] means the same application.", at)}
		}
		p.matched[existing.ID] = i
		wanted = *existing
	}
	if err := setFields(&wanted, given); err != nil {
		return err
	}
	checked, err := wanted.Checked()
	if err != nil {
		return err
	}
	if err := p.noteAliases(i, checked.Aliases); err != nil {
		return err
	}
	change := &wire.Change{Action: wire.ActionChange, Name: checked.Name, Warnings: p.c.warnings(checked)}
	before := existing
	if existing == nil {
		if at, twice := p.named[checked.Name]; twice {
			return &wire.Problem{Status: http.StatusUnprocessableEntity, Field: "name", Detail: fmt.Sprintf("applications[%d] has the same name; tell them apart by aliases.", at)}
		}
		p.named[checked.Name] = i
		change.Action, before = wire.ActionCreate, &tokens.Application{Active: true, Type: checked.Type}
	} else {
		change.ID = existing.ID
	}
	if change.Fields = fieldChanges(before, checked); len(change.Fields) == 0 && existing != nil {
		p.unchanged++
		if time.Since(existing.Updated) < confirmed {
			p.confirm = append(p.confirm, &step{entry: i, existing: existing})
		}
		return nil
	}
	p.steps = append(p.steps, &step{Change: change, entry: i, existing: existing, given: given, secret: secret})
	return nil
}

// readClientSecret returns the secret of an entry, "" for none.
func readClientSecret(given map[string]json.RawMessage) (string, error) {
	var secret string
	if raw, ok := given["client_secret"]; ok && decodeStrict(raw, &secret) != nil {
		return "", badField("client_secret", "It must be a text.")
	}
	if secret != "" && !tokens.ChecksumOK(secret) {
		return "", &wire.Problem{Status: http.StatusUnprocessableEntity, Field: "client_secret", Detail: "It must be one that \"meet secret new\" made, without a typo."}
	}
	return secret, nil
}

// fillDefaults sets omitted fields to their defaults, with two exceptions. Credentials at
// Meet stay, because no export contains them. Active stays, so that applying a file does
// not enable an application that was disabled in an emergency.
func fillDefaults(given map[string]json.RawMessage) {
	for _, f := range applicationFields {
		if _, ok := given[f.name]; !ok && f.name != "backend" && f.name != "active" {
			given[f.name] = json.RawMessage("null")
		}
	}
}

// noteAliases refuses an alias of an earlier entry.
func (p *plan) noteAliases(i int, aliases []string) error {
	for _, alias := range aliases {
		if at, twice := p.aliased[alias]; twice {
			return &wire.Problem{Status: http.StatusUnprocessableEntity, Field: "aliases", Detail: fmt.Sprintf("%q is an alias of applications[%d] as well.", alias, at)}
		}
		p.aliased[alias] = i
	}
	return nil
}

// find returns the application of an entry, by id, else alias, else name; nil if there is
// none.
func (p *plan) find(given map[string]json.RawMessage) (*tokens.Application, error) {
	var key struct {
		ID      string
		Name    string
		Aliases []string
	}
	for _, k := range []struct {
		name, want string
		into       any
	}{{"id", "a text", &key.ID}, {"aliases", "a list of client ids (texts)", &key.Aliases}, {"name", "a text", &key.Name}} {
		if raw, ok := given[k.name]; ok && decodeStrict(raw, k.into) != nil {
			return nil, badField(k.name, "It must be %s.", k.want)
		}
	}
	if key.ID != "" {
		app, err := p.c.authority.CurrentApplication(p.c.ctx, key.ID)
		if errors.Is(err, tokens.ErrNotFound) {
			return nil, &wire.Problem{Status: http.StatusUnprocessableEntity, Field: "id", Detail: "There is no such application; leave the id out to create one."}
		}
		return app, err
	}
	var found *tokens.Application
	for _, alias := range key.Aliases {
		app, err := p.c.authority.CurrentApplication(p.c.ctx, alias)
		if errors.Is(err, tokens.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if found != nil && found.ID != app.ID {
			return nil, &wire.Problem{Status: http.StatusUnprocessableEntity, Field: "aliases", Detail: "They belong to different applications."}
		}
		found = app
	}
	if found != nil || key.Name == "" {
		return found, nil
	}
	return p.findByName(key.Name)
}

// findByName stops at the first other name: an exact match comes before names that only
// start with it.
func (p *plan) findByName(name string) (*tokens.Application, error) {
	var found *tokens.Application
	enough := errors.New("enough")
	err := p.c.eachApplication(name, func(app *tokens.Application) error {
		if !strings.EqualFold(app.Name, name) {
			return enough
		}
		if app.Name != name {
			return nil
		}
		if found != nil {
			return &wire.Problem{Status: http.StatusUnprocessableEntity, Field: "name", Detail: "Several applications have this name; say which by its id."}
		}
		found = app
		return nil
	})
	if errors.Is(err, enough) {
		err = nil
	}
	return found, err
}

// prune plans to delete applications without an entry.
func (p *plan) prune() error {
	return p.c.eachApplication("", func(app *tokens.Application) error {
		if _, wanted := p.matched[app.ID]; !wanted {
			p.steps = append(p.steps, &step{Change: &wire.Change{Action: wire.ActionDelete, ID: app.ID, Name: app.Name}, entry: -1, existing: app})
		}
		return nil
	})
}

// eachApplication calls f for every application whose name starts with prefix.
func (c *call) eachApplication(prefix string, f func(*tokens.Application) error) error {
	o := tokens.ListOptions{Prefix: prefix, Limit: wire.MaxPage}
	for {
		page, err := c.authority.Applications(c.ctx, o)
		if err != nil {
			return err
		}
		for _, app := range page.Applications {
			if err := f(app); err != nil {
				return err
			}
		}
		if page.Next == "" {
			return nil
		}
		o.After = page.Next
	}
}

// fieldChanges lists the fields that differ, with values that may be shown.
func fieldChanges(from, to *tokens.Application) []wire.FieldChange {
	var changes []wire.FieldChange
	changed := changedFields(from, to)
	for _, f := range applicationFields {
		if !slices.Contains(changed, f.name) {
			continue
		}
		change := wire.FieldChange{Field: f.name, From: f.get(from), To: f.get(to)}
		if f.name == "backend" {
			change.From, change.To = shownBackends(from, to)
		}
		changes = append(changes, change)
	}
	return changes
}

// shownBackends distinguishes credentials whose difference is not shown.
func shownBackends(from, to *tokens.Application) (before, after any) {
	before, after = getBackend(from), getBackend(to)
	if from.BackendUnreadable() {
		before = "(cannot be decrypted)"
	}
	if id := from.LearnsBackend(); id != "" {
		before = "(those of " + id + ", once it has used its secret)"
	}
	if to.Backend != nil && reflect.DeepEqual(before, after) {
		after = map[string]string{"client_id": to.Backend.ClientID, "client_secret": "(another one)"}
	}
	return before, after
}

// apply makes one change.
func (c *call) apply(change *step) error {
	ctx := c.ctx
	entry := auditEntry{action: "application." + change.Action, application: change.ID}
	for _, f := range change.Fields {
		entry.fields = append(entry.fields, f.Field)
	}
	var err error
	switch change.Action {
	case wire.ActionCreate:
		app := tokens.Application{Active: true}
		var created *tokens.Application
		if err = setFields(&app, change.given); err == nil {
			if change.secret != "" {
				created, _, err = c.authority.CreateApplicationWithSecret(ctx, app, change.secret)
			} else {
				created, change.ClientSecret, err = c.authority.CreateApplication(ctx, app)
			}
		}
		if err == nil {
			change.ID, entry.application = created.ID, created.ID
		}
	case wire.ActionChange:
		_, err = c.authority.UpdateApplication(ctx, change.ID, change.existing.Version, func(n *tokens.Application) error {
			return setFields(n, change.given)
		})
	case wire.ActionDelete:
		err = c.authority.DeleteApplication(ctx, change.ID, change.existing.Version)
	}
	if err != nil {
		return err
	}
	c.recordEntry(entry, "done", zap.String("by", "apply"))
	return nil
}

// exportApplications answers GET applications/export, in the form of PUT applications/apply
// and without secrets.
func (c *call) exportApplications() error {
	query, err := c.query("prefix")
	if err != nil {
		return err
	}
	began := false
	write := func(s string) {
		if !began {
			c.w.Header().Set("Content-Type", "application/json")
			began = true
		}
		_, _ = c.w.Write([]byte(s)) // the client may be gone
	}
	separator := `{"applications":[` + "\n"
	err = c.eachApplication(query.Get("prefix"), func(app *tokens.Application) error {
		element, err := exported(app)
		if err != nil {
			return err
		}
		write(separator)
		write(element)
		separator = ",\n"
		return nil
	})
	if err != nil && began {
		// The status is sent; only a broken connection tells that the list is incomplete.
		panic(http.ErrAbortHandler)
	}
	if err != nil {
		return err
	}
	if !began {
		write(separator)
	}
	write("\n]}\n")
	return nil
}

// exported returns an application in the form of apply, in a fixed order and without unset
// fields. "active": true is omitted: otherwise applying the export would enable an
// application that was disabled since.
func exported(app *tokens.Application) (string, error) {
	always := []string{"name", "scopes", "domains"}
	if !app.Active {
		always = append(always, "active")
	}
	var out strings.Builder
	out.WriteString(`{"id":"` + app.ID + `"`)
	for _, f := range applicationFields {
		value := f.get(app)
		if f.name == "active" && app.Active {
			continue
		}
		if wire.IsEmpty(value) && !slices.Contains(always, f.name) {
			continue
		}
		if wire.IsEmpty(value) && (f.name == "scopes" || f.name == "domains") {
			value = []string{}
		}
		b, err := json.Marshal(value)
		if err != nil {
			return "", fmt.Errorf("encoding application %s: %w", app.ID, err)
		}
		out.WriteString(`,"` + f.name + `":`)
		out.Write(b)
	}
	out.WriteByte('}')
	return out.String(), nil
}
