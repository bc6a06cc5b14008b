// SPDX-License-Identifier: MIT

package caddymodule

import (
	"context"
	"errors"

	"go.uber.org/zap"

	"github.com/meet-gateway/meet-gateway/backendclient"
	"github.com/meet-gateway/meet-gateway/caddymodule/audit"
	"github.com/meet-gateway/meet-gateway/tokens"
)

// adopt tries unknown credentials at Meet and registers the application if Meet accepts
// them, so that an installation can move behind the gateway without changes to its
// clients. Attempts are limited per network, and refused credentials are not tried
// again for a while.
func (c tokenCall) adopt(req clientRequest) error {
	if req.clientID == c.h.fallback.ClientID { // the gateway's own application
		return tokens.ErrInvalidClient
	}
	mail, mailErr := tokens.ParseMail(req.scope)
	if mailErr != nil {
		mail = noMail
	}
	var refused error // an error from Meet that proves the credentials
	source, err := sourceOf(c.r)
	if err != nil {
		return err
	}
	app, err := c.h.app.Authority().Adopt(c.ctx, req.clientID, req.clientSecret, func(ctx context.Context) (tokens.Application, error) {
		// Only requests to Meet are counted, not callers who wait for another's.
		if err := c.applyDecision(c.h.app.authority.limiter.Adopt(ctx, source)); err != nil {
			return tokens.Application{}, err
		}
		token, err := c.tryAtMeet(ctx, req, mail)
		if provesCredentials(err) {
			// The scopes that Meet grants are not known yet. Its tokens never get more
			// than these.
			refused = err
			return tokens.Application{Scopes: tokens.MeetScopes()}, nil
		}
		if err != nil {
			return tokens.Application{}, err
		}
		return tokens.Application{Scopes: knownScopes(token.Scopes())}, nil
	})
	if err != nil {
		r := refusalOf(err, c.endpoint)
		c.entry.recordMore(c.call, audit.AdoptRefused, audit.Refused, r.reason, nil)
		return err
	}
	c.application = app
	c.entry.recordMore(c.call, audit.Adopted, audit.Allowed, "accepted_by_meet", func(e *audit.Event) {
		e.Target = &audit.Party{Type: "application", ID: app.ID}
	})
	c.h.logger.Info("application adopted, or found adopted", zap.String("client_id", app.ID), zap.String("request_id", c.requestID))
	if err := c.checkSource(); err != nil {
		return err
	}
	if mailErr != nil {
		return mailErr
	}
	return refused
}

// noMail replaces an invalid mail address. Meet checks the secret first, and then
// refuses it.
const noMail = "none"

// provesCredentials reports whether an error shows that Meet accepted the secret. Only
// Meet's own sentences count, since proxies send the same statuses.
func provesCredentials(err error) bool {
	be, ok := errors.AsType[*backendclient.Error](err)
	if !ok {
		return false
	}
	switch be.Detail {
	case textBadMail, textDomain, textUserNotFound, textProvisioning:
		return true
	}
	return false
}

// tryAtMeet exchanges the credentials at Meet.
func (c tokenCall) tryAtMeet(ctx context.Context, req clientRequest, mail tokens.Mail) (*backendclient.Token, error) {
	// The generations that later requests of the application use.
	generations, _, err := c.h.app.Authority().Generations(ctx, &tokens.Application{}, mail)
	if err != nil {
		return nil, err
	}
	token, err := c.measureExchange(ctx, func(ctx context.Context) (*backendclient.Token, error) {
		return c.h.client.Exchange(ctx, backendclient.Caller{
			Credentials: backendclient.Credentials{ClientID: req.clientID, ClientSecret: req.clientSecret},
			Mail:        string(mail), RequestID: c.requestID, Generations: generations,
			Application: "?", // one queue for all unknown applications
		})
	})
	switch {
	case errors.Is(err, backendclient.ErrBackendCredentials):
		return nil, tokens.ErrInvalidClient // the caller's credentials, not ours
	case errors.Is(err, backendclient.ErrApplicationInactive):
		return nil, tokens.ErrInactiveApplication
	}
	return token, err
}
