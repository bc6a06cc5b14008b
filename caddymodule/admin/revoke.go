// SPDX-License-Identifier: MIT

package admin

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/meet-gateway/meet-gateway/caddymodule/admin/wire"
	"github.com/meet-gateway/meet-gateway/tokens"
)

const detailKeySigns = "This key signs tokens. Put another key first on every gateway, then withdraw it."

// revocation is the body of POST revocations: exactly one field, or application and user.
type revocation struct {
	Token       string `json:"token"`
	Application string `json:"application"`
	User        string `json:"user"`
	Key         string `json:"key"`
	Before      string `json:"before"`
	All         bool   `json:"all"`
}

// revoke answers POST revocations. It answers 204 only after Redis has acknowledged.
func (c *call) revoke() error {
	c.change("revoke")
	var in revocation
	if err := c.decode(maxBody, &in, "token", "application", "user", "key", "before", "all"); err != nil {
		return err
	}
	if err := c.revokeWhat(in); err != nil {
		return err
	}
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}

func (c *call) revokeWhat(in revocation) error {
	var given []string
	for name, there := range map[string]bool{
		"token": in.Token != "", "application": in.Application != "", "user": in.User != "",
		"key": in.Key != "", "before": in.Before != "", "all": in.All,
	} {
		if there {
			given = append(given, name)
		}
	}
	slices.Sort(given)
	switch what := strings.Join(given, "+"); what {
	case "token":
		return c.revokeToken(in.Token)
	case "application":
		return c.revokeFound(what, in.Application, c.applicationID, c.authority.RevokeApplication)
	case "user":
		return c.revokeFound(what, in.User, c.userID, c.authority.RevokeUser)
	case "application+user":
		return c.revokeGrant(in.Application, in.User)
	case "key":
		return c.revokeKey(in.Key)
	case "before":
		return c.revokeBefore(in.Before)
	case "all":
		c.change("revoke.all")
		return c.authority.RevokeAll(c.ctx)
	}
	return &wire.Problem{
		Status: http.StatusBadRequest,
		Detail: "Send one of token, application, user, key, before and all, or application and user together.",
	}
}

// revokeToken is stricter than revocation by a client (RFC 7009): a mistyped token is an
// error.
func (c *call) revokeToken(token string) error {
	c.change("revoke.token")
	known, err := c.authority.IsToken(c.ctx, token)
	if err != nil {
		return err
	}
	if !known {
		return badField("token", "It is neither the id of a token (its jti) nor a complete token of this installation. Nothing was revoked.")
	}
	return c.authority.RevokeToken(c.ctx, token)
}

// revokeFound ends the tokens of the application or user that find returns.
func (c *call) revokeFound(what, name string, find func(string) (string, error), revoke func(context.Context, string) error) error {
	c.change("revoke." + what)
	id, err := find(name)
	if err != nil {
		return err
	}
	return revoke(c.ctx, id)
}

func (c *call) revokeGrant(application, idOrMail string) error {
	c.change("revoke.grant")
	app, err := c.applicationID(application)
	if err != nil {
		return err
	}
	user, err := c.userID(idOrMail)
	if err != nil {
		return err
	}
	return c.authority.RevokeGrant(c.ctx, app, user)
}

func (c *call) revokeKey(id string) error {
	c.change("revoke.key")
	if err := c.authority.RevokeKey(c.ctx, id); err != nil {
		if errors.Is(err, tokens.ErrConflict) {
			return &wire.Problem{Status: http.StatusConflict, Detail: detailKeySigns}
		}
		return notFoundAs(err, "key", "There is no key with this id; meet status lists them.")
	}
	c.audit.details = []zap.Field{zap.String("key", id)} // a known key, not any text
	return nil
}

func (c *call) revokeBefore(text string) error {
	c.change("revoke.before")
	before, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return badField("before", "It must be a time such as 2006-01-02T15:04:05Z (RFC 3339).")
	}
	c.audit.details = []zap.Field{zap.Time("before", before)}
	return c.authority.RevokeBefore(c.ctx, before)
}

// applicationID returns the id of an application, by id or alias, and records it.
func (c *call) applicationID(idOrAlias string) (string, error) {
	app, err := c.authority.CurrentApplication(c.ctx, idOrAlias)
	if err != nil {
		return "", notFoundAs(err, "application", "There is no application with this id or alias.")
	}
	c.audit.application = app.ID
	return app.ID, nil
}

// userID returns the id of a user, by id or mail address, and records it.
func (c *call) userID(idOrMail string) (string, error) {
	user, err := c.authority.User(c.ctx, idOrMail)
	if err != nil {
		return "", notFoundAs(err, "user", "No application has ever acted for this user.")
	}
	c.audit.user = user.ID
	return user.ID, nil
}

// notFoundAs replaces the text of a 404 and names the field of the request.
func notFoundAs(err error, field, detail string) error {
	p := *problemOf(err)
	if p.Status == http.StatusNotFound {
		p.Field, p.Detail = field, detail
	}
	return &p
}
