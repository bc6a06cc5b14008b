// SPDX-License-Identifier: MIT

package caddymodule

import (
	"context"
	"errors"

	"github.com/meet-gateway/meet-gateway/caddymodule/parse"
	"github.com/meet-gateway/meet-gateway/tokens"
)

// readHeldTokenRequest reads such a request and finds out who makes it.
func (c *call) readHeldTokenRequest() (token string, err error) {
	body, err := c.readClientBody()
	if err != nil {
		return "", err
	}
	req, err := parseHeldTokenRequest(c.r.Header, body)
	if err != nil {
		return "", err
	}
	if err := c.authenticate(req.clientID, req.clientSecret); err != nil {
		return "", err
	}
	return req.token, c.checkRateLimit("")
}

// readClientBody reads the body of a request that an application makes for itself. What
// its headers decide is answered without it.
func (c *call) readClientBody() ([]byte, error) {
	if err := checkLength(c.r, c.h.MaxTokenBody); err != nil {
		return nil, err
	}
	if _, err := clientMediaType(c.r.Header, announcesContent(c.r)); err != nil {
		return nil, err
	}
	auth, err := basicOfClient(c.r.Header)
	if err != nil {
		return nil, err
	}
	// A client that waits for leave is told of a wrong secret now. It authenticates again
	// with the body, which may come much later. An application that may have to be
	// adopted is known by its body.
	if auth.Scheme == parse.SchemeBasic && waitsForLeave(c.r) && c.h.UnknownApplications != unknownAdopt {
		c.detach()
		if err := c.authenticate(auth.ID, auth.Secret); err != nil {
			return nil, err
		}
	}
	body, err := readBody(c.w, c.r, c.h.MaxTokenBody)
	if err != nil {
		return nil, err
	}
	c.detach()
	return body, nil
}

// authenticate finds out which application is calling, and that it may from
// where it does.
func (c *call) authenticate(clientID, secret string) error {
	info, err := c.login(clientID, secret, c.h.app.Authority().CheckSecret)
	if err != nil {
		return err
	}
	c.meetClientID = info.MeetClientID
	return c.unlessCurrent(secret, c.checkSource)
}

// unlessCurrent runs a check that may turn the application away. What that is for may
// be remembered, and changed since where this gateway has not heard of it yet: then
// Redis is asked, and the check decides again.
func (c *call) unlessCurrent(secret string, check func() error) error {
	err := check()
	if err == nil || c.client == nil || !c.client.Remembered() {
		return err
	}
	app, _, problem := c.h.app.Authority().CheckSecretNow(c.ctx, c.client, secret)
	if problem != nil {
		return problem
	}
	c.application = app
	return check()
}

// authenticateOrAdopt finds out which application is calling. One that is not
// registered may be tried at Meet, if the operator wants that.
func (c tokenCall) authenticateOrAdopt(req clientRequest) error {
	err := c.authenticate(req.clientID, req.clientSecret)
	if c.h.UnknownApplications != unknownAdopt || req.grantType == grantRefreshToken || !errors.Is(err, tokens.ErrInvalidClient) {
		return err
	}
	return c.adopt(req)
}

// checkSecret is [tokens.Authority.CheckSecret] or CheckSecretNow.
type checkSecret func(ctx context.Context, client *tokens.Client, secret string) (*tokens.Application, *tokens.SecretInfo, error)

// login authenticates an application by its credentials: it finds the client, takes a
// place in the limit of failures, and checks the secret. Failures slow the application
// down where they come from, and nowhere else.
func (c *call) login(clientID, secret string, check checkSecret) (*tokens.SecretInfo, error) {
	source, err := sourceOf(c.r)
	if err != nil {
		return nil, err
	}
	client, err := c.h.app.Authority().FindClient(c.ctx, clientID)
	if err != nil {
		return nil, err
	}
	c.clientID = client.Known()
	attempt, decision := c.h.app.authority.limiter.Attempt(c.ctx, client.ID(), source, client.Rates())
	defer func() { // whatever happens: a place that is not given back is lost
		if attempt != nil {
			attempt.End()
		}
	}()
	if !decision.Allowed {
		return nil, c.applyDecision(decision)
	}
	app, info, err := check(c.ctx, client, secret)
	if attempt != nil && errors.Is(err, tokens.ErrInvalidClient) {
		attempt.Fail()
	}
	if err != nil {
		return nil, err
	}
	c.application, c.client = app, client
	return info, nil
}
