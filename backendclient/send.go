// SPDX-License-Identifier: MIT

package backendclient

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Request is a request about Meet's rooms.
type Request struct {
	Method string

	// Path is below the base path and starts and ends with a slash, such as "/rooms/". It
	// is built from parsed values, of letters, digits, "-", ".", "_" and "~".
	Path string

	Query url.Values

	// ContentType is that of Body; default "application/json".
	ContentType string

	// Body is sent with its length. If it is empty, no Content-Type is sent.
	Body []byte

	// Room is the id of the room that a successful answer must be about, or "". HTTP/1.1
	// matches answers to requests by order alone, so a server that answers once too often
	// could give one caller the answer for another (docs/decisions.md). An answer about
	// another room is an ErrBadAnswer.
	Room string

	// Sensitive keeps Meet's text out of errors.
	Sensitive bool

	// MayHaveEffect marks a GET, HEAD or OPTIONS that changes something. Other methods
	// always count as changes.
	MayHaveEffect bool

	// parse reads a body of Meet and reports whether it is valid JSON; default validJSON.
	parse func(body []byte) bool
}

func (r Request) effect() bool {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return r.MayHaveEffect
	}
	return true
}

// SendBound is the longest that [Client.Send] takes: two tokens and two requests.
func (c *Client) SendBound() time.Duration { return 2 * (c.TokenBound() + c.options.RequestTimeout) }

// verdict is what to do after an answer.
type verdict uint8

const (
	relay   verdict = iota // return the answer to the caller
	renew                  // the token is refused: replace it and send once more
	suspect                // a server error: the token may be the cause
	fail                   // return the error
)

// Send makes a request with Meet's token for the caller.
//
// If Meet refuses the token, the token is replaced and the request is sent once more. This
// holds for POST too, because Meet authenticates before anything takes effect. After a
// server error the token is replaced as well, but only a request without effect is sent
// again. A request that may have had an effect is never repeated.
//
// Meet's answer to a request that it understood is a [Response] of any status. Everything
// else is an [*Error].
func (c *Client) Send(ctx context.Context, caller Caller, r Request) (*Response, error) {
	w, e := c.wireRequest(caller.RequestID, r)
	if e != nil {
		return nil, e
	}
	if err := c.UserDisabled(caller.Session); err != nil {
		return nil, err
	}
	t, err := c.Token(ctx, caller)
	if err != nil {
		return nil, err
	}
	a, v, e := c.try(ctx, caller, w, t)
	switch v {
	case relay:
		return a, nil
	case renew:
		t, e = c.renew(ctx, caller, t)
	case suspect:
		if w.effect {
			// The next request finds out whether the token was the cause.
			c.suspect(caller.identity(), t)
			return nil, e
		}
		t, e = c.renewOnSuspicion(ctx, caller, t)
	case fail:
		return nil, e
	}
	if e != nil {
		return nil, e
	}

	a, v, e = c.try(ctx, caller, w, t)
	if v == relay {
		return a, nil
	}
	if v == renew {
		// The token is kept, so that all is well once Meet takes it again. Until then requests
		// reach Meet, which is cheap, but do not exchange.
		c.observations.tokenRefused(e, c.options.Now())
		refusal := *e
		refusal.Op = opExchange
		c.refusedCallers.put(caller.identity(), &refusal, c.options.Now().Add(keepBroken))
	}
	return nil, e
}

func (c *Client) wireRequest(requestID string, r Request) (wireRequest, *Error) {
	path := c.options.BasePath + r.Path
	w := wireRequest{
		method:      r.Method,
		path:        path,
		below:       path[len(c.options.BasePath):],
		query:       r.Query.Encode(),
		contentType: r.ContentType,
		body:        r.Body,
		room:        r.Room,
		sensitive:   r.Sensitive,
		requestID:   requestID,
		effect:      r.effect(),
		parse:       r.parse,
	}
	if w.contentType == "" {
		w.contentType = contentTypeJSON
	}
	if !canonical(r.Path) || len(w.path)+len(w.query) > maxRequestLine {
		return w, &Error{Kind: ErrInvalidRequest, Op: r.Method}
	}
	return w, nil
}

// try sends the request once.
func (c *Client) try(ctx context.Context, caller Caller, w wireRequest, t *Token) (*Response, verdict, *Error) {
	w.authorization = t.authorization()
	a, e := c.doRooms(ctx, w)
	if e != nil {
		return nil, fail, e
	}
	v, e := judgeRooms(&a, w)
	switch {
	case v == relay:
		return a.answer(), relay, nil
	case errors.Is(e.Kind, ErrApplicationInactive):
		// An exchange would not help. Tokens are kept: they work again when the application does.
		c.remember(caller.identity(), e)
		c.tokens.setUse(caller.identity(), t, use{})
	case errors.Is(e.Kind, ErrUserDisabled):
		c.tokens.setUse(caller.identity(), t, use{}) // do not renew it, although Meet would issue one
		if caller.Session != "" {
			c.disabledSessions.put(caller.Session, e, c.options.Now().Add(keepUserDisabled))
		}
	}
	if e.Detail = printable(e.Detail, caller); w.sensitive {
		e.Detail = ""
	}
	return nil, v, e
}

// judgeRooms is the table of the answers to a request with a token. The error belongs to
// every verdict but relay; with renew it is returned if a new token is refused too.
func judgeRooms(a *reply, w wireRequest) (verdict, *Error) {
	switch status := a.status; {
	case status == http.StatusUnauthorized && a.json:
		return judgeUnauthorized(a, w)
	case status == http.StatusBadRequest && !a.json:
		// This is how Meet refuses a token that its identity provider does not know.
		return renew, &Error{Kind: ErrMisconfigured, Op: w.operation(), Status: status, Hint: hintTokenRefused}
	case a.understood():
		if e := otherRoom(a, w); e != nil {
			return fail, e
		}
		return relay, nil
	}
	e := judgeFailure(a, w)
	if a.status == http.StatusInternalServerError {
		return suspect, e
	}
	return fail, e
}

// understood reports whether Meet answered and had understood the request.
func (a *reply) understood() bool {
	switch status := a.status; {
	case status >= 200 && status < 300, status >= 400 && status < 500 && status != http.StatusTooManyRequests:
		return a.json || status == http.StatusNoContent
	}
	return false
}

// judgeFailure returns the error for an answer that is not for the caller.
func judgeFailure(a *reply, w wireRequest) *Error {
	e := &Error{Op: w.operation(), Status: a.status, Effect: w.effect}
	if a.json {
		e.Detail = detail(a.body)
	}
	judgeCommon(e, a, w.path)
	if errors.Is(e.Kind, ErrAPIDisabled) && !published(w) {
		e.Hint = hintNoSuchPath
	}
	return e
}

// judgeUnauthorized reads a 401. It is about Meet's token and hence not for the caller,
// unless the user or the application is disabled.
func judgeUnauthorized(a *reply, w wireRequest) (verdict, *Error) {
	e := &Error{Kind: ErrMisconfigured, Op: w.operation(), Status: a.status, Hint: hintTokenRefused}
	e.Detail = detail(a.body)
	switch e.Detail {
	case "User account is disabled.":
		e.Kind, e.Hint = ErrUserDisabled, ""
		return fail, e
	case "Application is disabled.", "Application not found.":
		e.Kind, e.Hint = ErrApplicationInactive, hintInactive
		return fail, e
	case "Authentication credentials were not provided.", "Invalid token header.":
		// A new token would be lost in the same way.
		e.Hint = hintAuthorization
		return fail, e
	case "User not found.":
		e.Kind, e.Hint = ErrUserNotFound, ""
	case "Token expired.":
		e.Hint = hintTokenExpired
	}
	return renew, e
}

// published reports whether every Meet with an external API has the request's path: the
// rooms, or one room.
func published(w wireRequest) bool {
	return strings.HasPrefix(w.below, roomsPath) && strings.Count(w.below, "/") <= 3
}
