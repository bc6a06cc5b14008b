package caddymodule

import (
	"context"
	"errors"

	"go.uber.org/zap"

	"github.com/meet-gateway/meet-gateway/backendclient"
	"github.com/meet-gateway/meet-gateway/tokens"
)

// adopt tries credentials that the gateway does not know at Meet, and registers
// the application if Meet accepts them: a live installation moves behind the
// gateway without its integrators noticing. Strangers cannot make Meet work:
// trials are limited by source, and what Meet has refused is not tried again for
// a while.
func (c *call) adopt(req tokenRequest) error {
	mail, err := tokens.ParseMail(req.scope)
	if err != nil || req.clientID == c.h.fallback.ClientID { // the gateway's own application is nobody's to adopt
		return tokens.ErrInvalidClient // Meet would check the secret first, and so it is not told
	}
	app, err := c.h.app.Authority().Adopt(c.r.Context(), req.clientID, req.clientSecret, func(ctx context.Context) (tokens.Application, error) {
		// Counted are questions to Meet. Who waits for the answer to another's asks none.
		if err := c.within(c.h.app.authority.limiter.Adopt(ctx, c.source())); err != nil {
			return tokens.Application{}, err
		}
		return c.askForApplication(ctx, req, mail)
	})
	if err != nil {
		return err
	}
	c.application = app
	c.h.logger.Info("application adopted, or found adopted", zap.String("client_id", app.ID), zap.String("request_id", c.requestID))
	return c.checkSource()
}

// askForApplication presents the credentials to Meet. What Meet grants is what
// the application is registered with.
func (c *call) askForApplication(ctx context.Context, req tokenRequest, mail tokens.Mail) (tokens.Application, error) {
	token, err := c.h.client.Exchange(ctx, backendclient.Caller{
		Credentials: backendclient.Credentials{ClientID: req.clientID, ClientSecret: req.clientSecret},
		Mail:        string(mail), RequestID: c.requestID,
		Application: "?", // strangers wait as one, whatever they call themselves
	})
	switch {
	case errors.Is(err, backendclient.ErrBackendCredentials):
		return tokens.Application{}, tokens.ErrInvalidClient // they are the caller's here, not ours
	case errors.Is(err, backendclient.ErrApplicationInactive):
		return tokens.Application{}, tokens.ErrInactiveApplication
	case err != nil:
		return tokens.Application{}, err
	}
	return tokens.Application{Scopes: knownScopes(token.Scopes)}, nil
}
