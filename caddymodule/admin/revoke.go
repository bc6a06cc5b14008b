// SPDX-License-Identifier: MIT

package admin

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/meet-gateway/meet-gateway/caddymodule/admin/wire"
	"github.com/meet-gateway/meet-gateway/tokens"
)

const detailKeySigns = "It is the key that signs here: put another one first on every gateway, then withdraw it."

// revocation is the body of POST revocations. Exactly one thing is revoked, or
// what one application has for one user.
type revocation struct {
	Token       string `json:"token"`
	Application string `json:"application"`
	User        string `json:"user"`
	Key         string `json:"key"`
	Before      string `json:"before"`
	All         bool   `json:"all"`
}

// revoke answers POST revocations, with 204 only after Redis has acknowledged.
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
	ctx := c.ctx
	switch strings.Join(given, "+") {
	case "token":
		c.change("revoke.token")
		// Not as leniently as with its holder (RFC 7009): who mistypes the token that
		// leaked must not think that it has ended.
		known, err := c.authority.IsToken(ctx, in.Token)
		if err != nil {
			return err
		}
		if !known {
			return badField("token", "It is neither the id of a token (its jti) nor a token of this installation, whole. Nothing was revoked.")
		}
		return c.authority.RevokeToken(ctx, in.Token)
	case "application":
		c.change("revoke.application")
		id, err := c.applicationID(in.Application)
		if err != nil {
			return err
		}
		return c.authority.RevokeApplication(ctx, id)
	case "user":
		c.change("revoke.user")
		id, err := c.userID(in.User)
		if err != nil {
			return err
		}
		return c.authority.RevokeUser(ctx, id)
	case "application+user":
		c.change("revoke.grant")
		app, err := c.applicationID(in.Application)
		if err != nil {
			return err
		}
		user, err := c.userID(in.User)
		if err != nil {
			return err
		}
		return c.authority.RevokeGrant(ctx, app, user)
	case "key":
		c.change("revoke.key")
		if err := c.authority.RevokeKey(ctx, in.Key); err != nil {
			if errors.Is(err, tokens.ErrConflict) {
				return &wire.Problem{Status: http.StatusConflict, Detail: detailKeySigns}
			}
			return notFoundAs(err, "key", "There is no key with this id; meet status lists them.")
		}
		c.audit.details = []zap.Field{zap.String("key", in.Key)} // known to be one
		return nil
	case "before":
		c.change("revoke.before")
		before, err := time.Parse(time.RFC3339, in.Before)
		if err != nil {
			return badField("before", "It must be a time such as 2006-01-02T15:04:05Z (RFC 3339).")
		}
		c.audit.details = []zap.Field{zap.Time("before", before)}
		return c.authority.RevokeBefore(ctx, before)
	case "all":
		c.change("revoke.all")
		return c.authority.RevokeAll(ctx)
	}
	return &wire.Problem{
		Status: http.StatusBadRequest,
		Detail: "Say one of token, application, user, key, before and all, or application and user together.",
	}
}

// applicationID finds an application by id or alias, and notes it for the audit log.
func (c *call) applicationID(idOrAlias string) (string, error) {
	app, err := c.authority.CurrentApplication(c.ctx, idOrAlias)
	if err != nil {
		return "", notFoundAs(err, "application", "There is no application with this id or alias.")
	}
	c.audit.application = app.ID
	return app.ID, nil
}

// userID finds a user by id or mail address, and notes the id for the audit log.
func (c *call) userID(idOrMail string) (string, error) {
	user, err := c.authority.User(c.ctx, idOrMail)
	if err != nil {
		return "", notFoundAs(err, "user", "No application has ever acted for this user.")
	}
	c.audit.user = user.ID
	return user.ID, nil
}

// notFoundAs says what there is not, and in which field of the request it was named.
func notFoundAs(err error, field, detail string) error {
	p := *problemOf(err)
	if p.Status == http.StatusNotFound {
		p.Field, p.Detail = field, detail
	}
	return &p
}
