// SPDX-License-Identifier: MIT

package caddymodule

import (
	"context"
	"errors"

	"github.com/meet-gateway/meet-gateway/caddymodule/parse"
	"github.com/meet-gateway/meet-gateway/tokens"
)

// readHeldTokenRequest reads the request, authenticates the application and returns the
// token.
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

// readClientBody reads the body of a client request. Errors in the headers are answered
// before the body is read.
func (c *call) readClientBody() ([]byte, error) {
	if err := checkLength(c.r, c.h.MaxTokenBody); err != nil {
		return nil, err
	}
	if _, err := clientMediaType(c.r.Header, announcesBody(c.r)); err != nil {
		return nil, err
	}
	auth, err := basicOfClient(c.r.Header)
	if err != nil {
		return nil, err
	}
	// A client that waits for 100 Continue is told about a wrong secret now. It is
	// authenticated again with the body, which may arrive much later. An application to
	// be adopted is only known from its body.
	if auth.Scheme == parse.SchemeBasic && expectsContinue(c.r) && c.h.UnknownApplications != unknownAdopt {
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

// authenticate identifies the application and checks its address.
func (c *call) authenticate(clientID, secret string) error {
	info, err := c.login(clientID, secret, c.h.app.Authority().CheckSecret)
	if err != nil {
		return err
	}
	c.meetClientID = info.MeetClientID
	return c.recheckIfCached(secret, c.checkSource)
}

// recheckIfCached runs a check that may refuse the application. If it fails on cached
// data, which may be out of date, the application is read from Redis and the check runs
// again.
func (c *call) recheckIfCached(secret string, check func() error) error {
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

// authenticateOrAdopt identifies the application. With unknown_applications adopt, an
// unknown one is tried at Meet.
func (c tokenCall) authenticateOrAdopt(req clientRequest) error {
	err := c.authenticate(req.clientID, req.clientSecret)
	if c.h.UnknownApplications != unknownAdopt || req.grantType == grantRefreshToken || !errors.Is(err, tokens.ErrInvalidClient) {
		return err
	}
	return c.adopt(req)
}

// checkSecret is [tokens.Authority.CheckSecret] or CheckSecretNow.
type checkSecret func(ctx context.Context, client *tokens.Client, secret string) (*tokens.Application, *tokens.SecretInfo, error)

// login checks an application's credentials. Failed attempts are limited per client id
// and source network.
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
	defer func() { // a reservation that is not ended is lost
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
