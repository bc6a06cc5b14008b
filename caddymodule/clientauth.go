// SPDX-License-Identifier: MIT

package caddymodule

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/meet-gateway/meet-gateway/caddymodule/parse"
	"github.com/meet-gateway/meet-gateway/tokens"
)

// clientFields are the fields of a request that an application makes for itself:
// for a token, to revoke one, to ask about one. It collects what is wrong with
// them, so that all of it can be told at once.
type clientFields struct {
	values map[string]*string // nil value: null
	// basic holds the credential if the application authenticated by HTTP Basic.
	basic parse.Credential
	wrong parse.FieldErrors
}

// parseClientFields reads the body of such a request, JSON or form, and joins it
// with HTTP Basic client authentication (RFC 6749 §2.3.1). known names the
// parameters that the endpoint reads beside the credentials. Errors are
// parse.FieldErrors, *parse.RequestError or errTwoCredentials.
func parseClientFields(h http.Header, body []byte, known ...string) (*clientFields, error) {
	f := &clientFields{wrong: parse.FieldErrors{}}
	mt, err := clientMediaType(h, len(body) > 0)
	if err != nil {
		return nil, err
	}
	switch mt {
	case mediaTypeJSON:
		f.values, err = parse.JSONFields(body)
	case mediaTypeForm:
		f.values, err = parse.FormFields(string(body), append(known, "client_id", "client_secret"))
	}
	if err != nil {
		return nil, err
	}
	auth, err := basicOfClient(h)
	if err != nil {
		return nil, err
	}
	if auth.Scheme != parse.SchemeBasic {
		return f, nil
	}
	// JSON keeps what is empty, to be told about it in Meet's words. Beside Basic it
	// counts as left out, as in a form.
	if secret, sent := f.values["client_secret"]; sent && !isEmptyText(secret) {
		return nil, errTwoCredentials
	}
	if other := f.values["client_id"]; other != nil && !isEmptyText(other) && *other != auth.ID {
		return nil, errTwoCredentials
	}
	f.basic = auth
	return f, nil
}

const (
	mediaTypeJSON = "application/json"
	mediaTypeForm = "application/x-www-form-urlencoded"
)

// clientMediaType is the media type of such a request, "" for one without a body. The
// error is a *parse.RequestError.
func clientMediaType(h http.Header, hasContent bool) (string, error) {
	mt, err := parse.MediaType(h)
	if err != nil {
		return "", err
	}
	if mt == mediaTypeJSON || mt == mediaTypeForm || mt == "" && !hasContent {
		return mt, nil
	}
	return "", parse.UnsupportedMediaType(h.Get("Content-Type"))
}

// basicOfClient is the credential of HTTP Basic client authentication, if the scheme of
// what it returns is that. Any other scheme is ignored here, as at Meet: some clients
// send their last Bearer token with everything. The error is a *parse.RequestError.
func basicOfClient(h http.Header) (parse.Credential, error) {
	auth, err := parse.Authorization(h)
	if err != nil && (auth.Scheme == parse.SchemeBasic || errors.Is(err, parse.ErrAuthorizationRepeated)) {
		return parse.Credential{}, &parse.RequestError{Status: http.StatusBadRequest, Text: "Malformed Authorization header."}
	}
	auth.ID, auth.Secret = parse.FormDecoded(auth.ID), parse.FormDecoded(auth.Secret)
	return auth, nil
}

// isEmptyText reports whether a field was sent as "".
func isEmptyText(value *string) bool { return value != nil && value != &parse.NotText && *value == "" }

// takeCredentials reads who the application says it is.
func (f *clientFields) takeCredentials(id, secret *string) {
	if f.basic.Scheme == parse.SchemeBasic {
		*id, *secret = f.basic.ID, f.basic.Secret
		return
	}
	f.take("client_id", id)
	f.take("client_secret", secret)
}

// take reads a field that must be there, in Meet's words if it is not.
func (f *clientFields) take(name string, dst *string) {
	value, sent := f.values[name]
	switch {
	case !sent:
		f.wrong.Add(name, fieldRequired)
	case value == nil:
		f.wrong.Add(name, "This field may not be null.")
	case value == &parse.NotText:
		f.wrong.Add(name, "Not a valid string.")
	case strings.Contains(*value, "\x00"):
		f.wrong.Add(name, "Null characters are not allowed.")
	case strings.TrimSpace(*value) == "":
		f.wrong.Add(name, "This field may not be blank.")
	default:
		*dst = strings.TrimSpace(*value)
	}
}

// takeOptional reads a field that need not be there. A parameter without a value
// counts as left out (RFC 6749 §3.2).
func (f *clientFields) takeOptional(name string, dst *string) {
	if value := f.values[name]; value != nil && (*value != "" || value == &parse.NotText) {
		f.take(name, dst)
	}
}

// err is what is wrong with the fields, or nil.
func (f *clientFields) err() error {
	if len(f.wrong) == 0 {
		return nil
	}
	return f.wrong
}

// heldTokenRequest is an application's request about a token that it holds: to
// revoke it (RFC 7009 §2.1) or to be told about it (RFC 7662 section
// 2.1). It prints without credentials.
type heldTokenRequest struct{ clientID, clientSecret, token string }

// String shows nothing that was sent.
func (heldTokenRequest) String() string { return "request about a token" }

// GoString is String.
func (r heldTokenRequest) GoString() string { return r.String() }

// parseHeldTokenRequest reads such a request. The token_type_hint is not looked
// at: the forms of our tokens differ.
func parseHeldTokenRequest(h http.Header, body []byte) (heldTokenRequest, error) {
	f, err := parseClientFields(h, body, "token", "token_type_hint")
	if err != nil {
		return heldTokenRequest{}, err
	}
	var req heldTokenRequest
	f.takeCredentials(&req.clientID, &req.clientSecret)
	f.take("token", &req.token)
	return req, f.err()
}

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
func (c tokenCall) authenticateOrAdopt(req tokenRequest) error {
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
