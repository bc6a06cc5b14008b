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

// adopt tries credentials that the gateway does not know at Meet, and registers
// the application if Meet accepts them: a live installation moves behind the
// gateway without its integrators noticing. Strangers cannot make Meet work:
// trials are limited by source, and what Meet has refused is not tried again for
// a while.
func (c tokenCall) adopt(req clientRequest) error {
	if req.clientID == c.h.fallback.ClientID { // the gateway's own application is nobody's to adopt
		return tokens.ErrInvalidClient
	}
	mail, mailErr := tokens.ParseMail(req.scope)
	if mailErr != nil {
		mail = noMail
	}
	var refused error // what Meet says to right credentials
	source, err := sourceOf(c.r)
	if err != nil {
		return err
	}
	app, err := c.h.app.Authority().Adopt(c.ctx, req.clientID, req.clientSecret, func(ctx context.Context) (tokens.Application, error) {
		// Counted are questions to Meet. Who waits for the answer to another's asks none.
		if err := c.applyDecision(c.h.app.authority.limiter.Adopt(ctx, source)); err != nil {
			return tokens.Application{}, err
		}
		token, err := c.tryAtMeet(ctx, req, mail)
		if provesCredentials(err) {
			// What Meet grants is not known yet. Its tokens never get more than that.
			refused = err
			return tokens.Application{Scopes: tokens.MeetScopes()}, nil
		}
		if err != nil {
			return tokens.Application{}, err
		}
		return tokens.Application{Scopes: knownScopes(token.Scopes)}, nil
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

// noMail stands in for a mail address that is not sent on. Meet checks the secret
// first, and refuses it then.
const noMail = "none"

// provesCredentials reports whether Meet refused something that it looks at only
// when the client's secret was right. Meet's own sentence has to say so: what stands
// between may answer with the same status.
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

// tryAtMeet presents the credentials to Meet.
func (c tokenCall) tryAtMeet(ctx context.Context, req clientRequest, mail tokens.Mail) (*backendclient.Token, error) {
	// Under which its token is asked for once it is registered.
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
		return nil, tokens.ErrInvalidClient // they are the caller's here, not ours
	case errors.Is(err, backendclient.ErrApplicationInactive):
		return nil, tokens.ErrInactiveApplication
	}
	return token, err
}
