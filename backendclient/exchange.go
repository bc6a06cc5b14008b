// SPDX-License-Identifier: MIT

package backendclient

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	opExchange = "exchange"
	tokenPath  = "/application/token/"
)

// Exchange always asks Meet for a token: one POST to application/token/ with the
// client credentials and the mail address as scope. It costs Meet a second of CPU and
// may provision the user. A new token replaces the kept one and clears remembered
// refusals; a failure is not remembered.
//
// Use [Client.Token] unless the answer must be a new one.
func (c *Client) Exchange(ctx context.Context, caller Caller) (*Token, error) {
	if e := caller.check(); e != nil {
		return nil, e
	}
	t, e := c.exchange(ctx, caller)
	if e != nil {
		return nil, e
	}
	c.replace(ctx, caller.identity(), t)
	return t, nil
}

// replace keeps a new token instead of the one that is kept for the caller.
func (c *Client) replace(ctx context.Context, id identity, t *Token) {
	c.refusedCallers.drop(id)
	c.refusedApplications.drop(id.credentials())
	c.accept(id, t)
	if c.options.Store != nil {
		c.save(ctx, c.storeKey(id), t)
	}
}

// exchange waits for a slot and exchanges.
func (c *Client) exchange(ctx context.Context, caller Caller) (*Token, *Error) {
	return c.observeExchange(func() (*Token, *Error) { return c.exchangeInTurn(ctx, caller) })
}

// observeExchange records what an exchange shows of Meet, and calls OnExchange.
func (c *Client) observeExchange(exchange func() (*Token, *Error)) (*Token, *Error) {
	started := time.Now()
	t, e := exchange()
	if e != nil {
		c.observations.exchangeFailed(e, c.options.Now())
	} else {
		c.observations.tokenIssued(t)
	}
	if c.options.OnExchange != nil {
		outcome := "ok"
		if e != nil {
			outcome = Reason(e)
		}
		c.options.OnExchange(outcome, time.Since(started))
	}
	return t, e
}

func (c *Client) exchangeInTurn(ctx context.Context, caller Caller) (*Token, *Error) {
	wait := time.NewTimer(c.options.ExchangeTimeout)
	defer wait.Stop()

	turn := c.turns.ask(cmp.Or(caller.Application, caller.Credentials.ClientID))
	if turn == nil {
		return nil, &Error{Kind: ErrBusy, Op: opExchange, RetryAfter: retryBusy}
	}
	defer c.turns.leave(turn)
	select {
	case <-turn.granted:
	case <-wait.C:
		return nil, &Error{Kind: ErrBusy, Op: opExchange, RetryAfter: retryBusy}
	case <-ctx.Done():
		return nil, failed(opExchange, false, ctx.Err())
	}
	return c.postExchange(ctx, caller)
}

// postExchange sends the exchange of a caller who holds a slot.
func (c *Client) postExchange(ctx context.Context, caller Caller) (*Token, *Error) {
	body, err := json.Marshal(map[string]string{
		"client_id":     caller.Credentials.ClientID,
		"client_secret": caller.Credentials.ClientSecret,
		"grant_type":    "client_credentials",
		"scope":         caller.Mail,
	})
	if err != nil {
		return nil, &Error{Kind: ErrInvalidRequest, Op: opExchange, Err: err}
	}
	request := wireRequest{
		op:          opExchange,
		method:      http.MethodPost,
		path:        c.options.BasePath + tokenPath,
		contentType: contentTypeJSON,
		body:        body,
		requestID:   caller.RequestID,
	}
	a, e := c.doWithTimeout(c.waiters.withSource(ctx, caller), request, c.options.ExchangeTimeout)
	if e != nil {
		return nil, e
	}
	if a.status == http.StatusBadRequest && !a.json {
		return nil, c.explainHTML(ctx, request)
	}
	if e := judgeExchange(&a, request.path); e != nil {
		e.Detail = printable(e.Detail, caller)
		return nil, e
	}
	t, err := readToken(a.body, c.options.Now())
	if err != nil {
		bad := &Error{Kind: ErrBadAnswer, Op: opExchange, Status: a.status, Err: err}
		if errors.Is(err, errUnusableToken) {
			bad.Hint = hintTokenUnusable
		}
		return nil, bad
	}
	return t, nil
}

// explainHTML tells apart the two causes of a 400 in HTML at the token endpoint: Meet
// does not serve this Host, or several users share the mail address. It sends a request
// without fields, which Meet answers in JSON if it serves the Host. This hashes no
// secret, so it is cheap.
func (c *Client) explainHTML(ctx context.Context, r wireRequest) *Error {
	r.body = []byte("{}")
	a, e := c.doWithTimeout(ctx, r, c.options.ExchangeTimeout)
	switch {
	case e != nil:
		return e
	case a.json:
		return &Error{Kind: ErrDuplicateUser, Op: opExchange, Status: http.StatusBadRequest, Hint: hintDuplicate}
	case a.status == http.StatusBadRequest:
		return &Error{Kind: ErrMisconfigured, Op: opExchange, Status: http.StatusBadRequest, Hint: hintHost}
	}
	return &Error{Kind: ErrBadAnswer, Op: opExchange, Status: a.status, Hint: hintNotJSON}
}

// judgeExchange is the table of the token endpoint's answers; nil means a token. Where
// two answers share a status it compares Meet's own sentences, which are not translated.
func judgeExchange(a *reply, path string) *Error {
	e := &Error{Op: opExchange, Status: a.status}
	if a.json {
		e.Detail = detail(a.body)
	}
	switch status := a.status; {
	case status == http.StatusOK && a.json:
		return nil
	case status == http.StatusBadRequest && a.json:
		e.Hint, e.Kind = judgeFields(a.body)
	case status == http.StatusUnauthorized && e.Detail == "Invalid credentials":
		e.Kind, e.Hint = ErrBackendCredentials, hintCredentials
	case status == http.StatusUnauthorized && e.Detail == "Application is inactive":
		e.Kind, e.Hint = ErrApplicationInactive, hintInactive
	case status == http.StatusForbidden && a.json && has(a.body, "error"):
		e.Kind = ErrDomainRefused
	case status == http.StatusNotFound && e.Detail == "User not found.":
		e.Kind = ErrUserNotFound
	case status == http.StatusNotFound && a.json:
		e.Kind, e.Hint = ErrAPIDisabled, hintApplications
	case status == http.StatusConflict && a.json:
		e.Kind = ErrProvisioningConflict
	case status == http.StatusMethodNotAllowed, status == http.StatusNotAcceptable, status == http.StatusUnsupportedMediaType:
		e.Kind, e.Hint = ErrMisconfigured, hintBody
	default:
		judgeCommon(e, a, path)
	}
	return e
}

// judgeFields reads a 400 of the token endpoint: {"error": …} for the mail address,
// {"detail": …} for the body, or a list of faults for each field.
func judgeFields(body []byte) (hint string, kind error) {
	switch {
	case has(body, "error"), has(body, "scope") && !has(body, "grant_type"):
		return "", ErrInvalidMail
	case has(body, "client_id") && has(body, "grant_type"):
		return hintBody, ErrMisconfigured
	case has(body, "client_id"), has(body, "client_secret"):
		return hintCredentials, ErrBackendCredentials
	}
	return hintBody, ErrMisconfigured
}

const (
	retryBusy        = 2 * time.Second
	retryUnavailable = 5 * time.Second
	maxRetryAfter    = time.Hour
)

// judgeCommon is the table of the answers that mean the same on every path.
func judgeCommon(e *Error, a *reply, path string) {
	switch status := a.status; {
	case status >= 300 && status < 400:
		e.Kind, e.Hint = ErrMisconfigured, redirectHint(path, a.location)
		e.Effect = false
	case status == http.StatusTooManyRequests:
		e.Kind, e.RetryAfter = ErrBusy, retryAfter(a.retryAfter, retryBusy)
		e.Effect = false
	case status == http.StatusNotFound && !a.json:
		e.Kind, e.Hint = ErrAPIDisabled, hintAPIDisabled
		e.Effect = false
	case status == http.StatusUnauthorized, status == http.StatusProxyAuthRequired:
		e.Kind, e.Hint = ErrMisconfigured, hintChallenge
		e.Effect = false
	case status == http.StatusForbidden:
		e.Kind, e.Hint = ErrBadAnswer, hintForbidden
		e.Effect = false
	case status == http.StatusRequestHeaderFieldsTooLarge:
		e.Kind, e.Hint = ErrBadAnswer, hintHeaderTooLarge
		e.Effect = false
	case status == http.StatusBadGateway, status == http.StatusServiceUnavailable:
		e.Kind, e.RetryAfter = ErrUnavailable, retryAfter(a.retryAfter, retryUnavailable)
	case status == http.StatusGatewayTimeout:
		e.Kind = ErrTimeout
	case status >= 500:
		e.Kind, e.Hint = ErrBadAnswer, hintServerError
	default:
		e.Kind, e.Hint = ErrBadAnswer, hintNotJSON
	}
}

// retryAfter reads Retry-After in seconds (RFC 9110 §10.2.3). Dates are not supported.
func retryAfter(value string, fallback time.Duration) time.Duration {
	s, err := strconv.Atoi(strings.TrimSpace(value))
	if err != nil || s < 0 {
		return fallback
	}
	return min(time.Duration(s)*time.Second, maxRetryAfter)
}
