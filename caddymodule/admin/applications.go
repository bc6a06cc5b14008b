// SPDX-License-Identifier: MIT

package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/meet-gateway/meet-gateway/caddymodule/admin/wire"
	"github.com/meet-gateway/meet-gateway/caddymodule/option"
	"github.com/meet-gateway/meet-gateway/tokens"
)

func (c *call) shown(app *tokens.Application) *wire.Application {
	s := &wire.Application{Application: app, Scopes: app.Scopes, Domains: app.Domains, LearnsBackend: app.LearnsBackend(), Warnings: c.warnings(app)}
	if s.Scopes == nil {
		s.Scopes = tokens.Scopes{}
	}
	if s.Domains == nil {
		s.Domains = []string{}
	}
	return s
}

// warnings returns what an operator should know about the settings. Whether a scope is of
// use depends on the routes.
func (c *call) warnings(app *tokens.Application) []string {
	list := app.Warnings()
	known := c.knownScopes()
	for _, scope := range app.Scopes {
		if !slices.Contains(known, scope) {
			list = append(list, fmt.Sprintf("scope %q: neither Meet nor a route here knows it%s", scope, option.Meant(scope, known)))
		}
	}
	return list
}

// knownScopes returns Meet's scopes and those that routes of any handler require.
func (c *call) knownScopes() []string {
	list := slices.Clone(tokens.MeetScopes())
	for _, gate := range c.gateway.Routes() {
		for _, r := range gate.Routes {
			if r.Scope != "" && !slices.Contains(list, r.Scope) {
				list = append(list, r.Scope)
			}
		}
	}
	return list
}

// sameName warns if another application has the same name, which is then ambiguous.
func (c *call) sameName(app *tokens.Application) []string {
	page, err := c.authority.Applications(c.ctx, tokens.ListOptions{Prefix: app.Name, Limit: 10})
	if err != nil {
		return nil // only a hint
	}
	for _, other := range page.Applications {
		if other.ID != app.ID && strings.EqualFold(other.Name, app.Name) {
			return []string{fmt.Sprintf("name %q: %s has the same; use ids to tell them apart", app.Name, other.ID)}
		}
	}
	return nil
}

func (c *call) withSecret(app *tokens.Application, secret string) *wire.Application {
	s := c.shown(app)
	s.ClientID, s.ClientSecret = app.ID, secret
	return s
}

func (c *call) answerApplication(status int, s *wire.Application) error {
	c.w.Header().Set("Etag", wire.ETag(s.Application))
	return c.answer(status, s)
}

// listApplications answers GET applications?prefix=&after=&limit=.
func (c *call) listApplications() error {
	query, err := c.query("prefix", "after", "limit")
	if err != nil {
		return err
	}
	o := tokens.ListOptions{Prefix: query.Get("prefix"), After: query.Get("after")}
	if query.Has("limit") {
		o.Limit, err = strconv.Atoi(query.Get("limit"))
		if err != nil || o.Limit < 1 || o.Limit > wire.MaxPage {
			return badField("limit", "It must be a number from 1 to %d.", wire.MaxPage)
		}
	}
	page, err := c.authority.Applications(c.ctx, o)
	if err != nil {
		return err
	}
	list := struct {
		Applications []*wire.Application `json:"applications"`
		Next         string              `json:"next,omitempty"`
	}{Applications: []*wire.Application{}, Next: page.Next}
	for _, app := range page.Applications {
		list.Applications = append(list.Applications, c.shown(app))
	}
	return c.answer(http.StatusOK, list)
}

// query returns the query and refuses unknown and repeated parameters.
func (c *call) query(known ...string) (url.Values, error) {
	query, err := url.ParseQuery(c.r.URL.RawQuery)
	if err != nil {
		return nil, &wire.Problem{Status: http.StatusBadRequest, Detail: "The query cannot be read."}
	}
	for _, name := range slices.Sorted(maps.Keys(query)) {
		if !slices.Contains(known, name) {
			return nil, badField(name, "Unknown parameter.")
		}
		if len(query[name]) > 1 {
			return nil, badField(name, "Duplicate parameter.")
		}
	}
	return query, nil
}

// createApplication answers POST applications.
func (c *call) createApplication() error {
	c.change("application.create")
	given, err := c.object(applicationFieldNames())
	if err != nil {
		return err
	}
	app := tokens.Application{Active: true}
	if err := setFields(&app, given); err != nil {
		return err
	}
	created, secret, err := c.authority.CreateApplication(c.ctx, app)
	if err != nil {
		return err
	}
	c.audit.application, c.audit.fields = created.ID, slices.Sorted(maps.Keys(given))
	c.w.Header().Set("Location", wire.Base+"applications/"+created.ID)
	s := c.withSecret(created, secret)
	s.Warnings = append(s.Warnings, c.sameName(created)...)
	return c.answerApplication(http.StatusCreated, s)
}

// showApplication answers GET applications/{id}.
func (c *call) showApplication() error {
	app, err := c.authority.CurrentApplication(c.ctx, c.argument)
	if err != nil {
		return err
	}
	return c.answerApplication(http.StatusOK, c.shown(app))
}

var errUnchanged = errors.New("nothing to change")

// patchApplication answers PATCH applications/{id}, a JSON merge patch (RFC 7396). Lists
// and objects are replaced as a whole.
func (c *call) patchApplication() error {
	c.change("application.change")
	given, err := c.object(applicationFieldNames())
	if err != nil {
		return err
	}
	id, version, err := c.target()
	if err != nil {
		return err
	}
	changed, err := c.authority.UpdateApplication(c.ctx, id, version, c.merge(given))
	if errors.Is(err, errUnchanged) {
		changed, err = c.authority.ConfirmApplication(c.ctx, id)
	}
	if err != nil {
		return changedMeanwhile(err, version)
	}
	s := c.shown(changed)
	if _, renamed := given["name"]; renamed {
		s.Warnings = append(s.Warnings, c.sameName(changed)...)
	}
	return c.answerApplication(http.StatusOK, s)
}

// merge sets the given fields and records which of them changed.
func (c *call) merge(given map[string]json.RawMessage) func(*tokens.Application) error {
	return func(app *tokens.Application) error {
		before := *app
		if err := setFields(app, given); err != nil {
			return err
		}
		c.audit.fields = changedFields(&before, app)
		if len(c.audit.fields) == 0 {
			return errUnchanged
		}
		return nil
	}
}

// deleteApplication answers DELETE applications/{id}.
func (c *call) deleteApplication() error {
	c.change("application.delete")
	id, version, err := c.target()
	if err != nil {
		return err
	}
	if err := c.authority.DeleteApplication(c.ctx, id, version); err != nil {
		return changedMeanwhile(err, version)
	}
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}

// allowAdoption answers DELETE removed/{id}: a removed client id may be adopted again.
func (c *call) allowAdoption() error {
	c.change("application.readopt")
	if err := c.authority.AllowAdoption(c.ctx, c.argument); err != nil {
		return notFoundAs(err, "", "This client id was not removed here.")
	}
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}

// maxGrace bounds how long a replaced secret stays valid.
const maxGrace = 366 * 24 * time.Hour

// rotateSecret answers POST applications/{id}/rotate with {"grace": "24h"} or
// {"now": true}.
func (c *call) rotateSecret() error {
	c.change("application.rotate")
	var in struct {
		Grace *string `json:"grace"`
		Now   bool    `json:"now"`
	}
	if err := c.decode(maxBody, &in, "grace", "now"); err != nil {
		return err
	}
	var grace time.Duration
	switch {
	case in.Now == (in.Grace != nil):
		return badField("grace", `Say either {"grace": "24h"}, how long the present secret goes on working, or {"now": true}.`)
	case in.Grace != nil:
		var err error
		grace, err = caddy.ParseDuration(*in.Grace)
		if err != nil || grace <= 0 || grace > maxGrace {
			return badField("grace", `It must be a duration such as "24h" or "7d", at most 366d.`)
		}
	}
	id, version, err := c.target()
	if err != nil {
		return err
	}
	app, secret, err := c.authority.RotateSecret(c.ctx, id, version, grace)
	if err != nil {
		return changedMeanwhile(err, version)
	}
	c.audit.fields = []string{"secrets"}
	return c.answerApplication(http.StatusOK, c.withSecret(app, secret))
}

// target returns the application of the path, and the version that If-Match requires, 0
// for any.
func (c *call) target() (id string, version int64, err error) {
	app, err := c.authority.CurrentApplication(c.ctx, c.argument)
	if err != nil {
		return "", 0, err
	}
	c.audit.application = app.ID
	header := strings.TrimSpace(strings.Join(c.r.Header.Values("If-Match"), ","))
	if header == "" || header == "*" {
		return app.ID, 0, nil
	}
	for tag := range strings.SplitSeq(header, ",") {
		if strings.TrimSpace(tag) == wire.ETag(app) {
			return app.ID, app.Version, nil
		}
	}
	c.w.Header().Set("Etag", wire.ETag(app))
	return "", 0, &wire.Problem{Status: http.StatusPreconditionFailed, Detail: "The application has changed; its version is now " + wire.ETag(app) + "."}
}

// changedMeanwhile tells a version conflict from a conflict about an alias.
func changedMeanwhile(err error, version int64) error {
	if version != 0 && errors.Is(err, tokens.ErrConflict) && !strings.Contains(err.Error(), "alias") {
		return &wire.Problem{Status: http.StatusPreconditionFailed, Detail: "The application has changed."}
	}
	return err
}
