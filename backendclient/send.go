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

// Request is one request for Meet's rooms.
type Request struct {
	Method string

	// Path is below the base path and starts and ends with a slash, "/rooms/":
	// rebuilt from parsed values, made of letters, digits, "-", ".", "_" and "~".
	Path string

	Query url.Values

	// ContentType goes with a Body, default "application/json".
	ContentType string

	// Body is sent with its length, and nil or empty without a Content-Type.
	Body []byte

	// Room is the id of the room that a successful answer must be about, or "" where
	// there is none. HTTP/1.1 tells answers apart by their order alone, so what
	// answers once too often, or too late, gives a caller what was meant for another
	// (docs/decisions.md). Another room is an ErrBadAnswer.
	Room string

	// Sensitive keeps the words of the answer out of errors.
	Sensitive bool

	// MayHaveEffect marks a request that changes something. It is taken for
	// granted for every method but GET, HEAD and OPTIONS.
	MayHaveEffect bool
}

func (r Request) effect() bool {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return r.MayHaveEffect
	}
	return true
}

// SendBound is the longest that [Client.Send] takes: two tokens, and two requests.
func (c *Client) SendBound() time.Duration { return 2 * (c.TokenBound() + c.requestTimeout) }

// verdict is what an answer to a request for rooms asks for.
type verdict uint8

const (
	relay   verdict = iota // an answer for the caller
	renew                  // the token is refused: get a new one, send once more
	suspect                // a server error: the token may be why
	fail                   // an error
)

// Send makes a request with Meet's token for the caller.
//
// If Meet refuses the token, it is replaced and the request is sent once more:
// authentication comes before any effect, so that holds for POST too. After a
// server error the token is replaced, and only a request without effect is sent
// once more. A request that may have had an effect is never repeated.
//
// What Meet says to a request that it understood is an [Response], whatever the
// status. Everything else is an [*Error].
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
			// The next request finds out whether it was the token.
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
		// The token stays: as soon as Meet takes it again all is well. Until then
		// requests ask Meet, which is cheap, but do not exchange.
		c.seen.refused(e, c.now())
		refusal := *e
		refusal.Op = opExchange
		c.refusals.put(caller.identity(), &refusal, c.now().Add(keepBroken))
	}
	return nil, e
}

func (c *Client) wireRequest(requestID string, r Request) (wireRequest, *Error) {
	path := c.base + r.Path
	w := wireRequest{
		method:      r.Method,
		path:        path,
		below:       path[len(c.base):],
		query:       r.Query.Encode(),
		contentType: r.ContentType,
		body:        r.Body,
		room:        r.Room,
		sensitive:   r.Sensitive,
		requestID:   requestID,
		effect:      r.effect(),
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
	w.authorization = t.authorization
	a, e := c.roundTripForRooms(ctx, w)
	if e != nil {
		return nil, fail, e
	}
	v, e := judgeRooms(&a, w)
	switch {
	case v == relay:
		return a.answer(), relay, nil
	case errors.Is(e.Kind, ErrApplicationInactive):
		// No exchange will help. Tokens stay: they work again when the application does.
		c.remember(caller.identity(), e)
		t.lastUse.Store(nil)
	case errors.Is(e.Kind, ErrUserDisabled):
		t.lastUse.Store(nil) // Meet goes on giving tokens for them
		if caller.Session != "" {
			c.disabled.put(caller.Session, e, c.now().Add(keepUserDisabled))
		}
	}
	if e.Detail = printable(e.Detail, caller); w.sensitive {
		e.Detail = ""
	}
	return nil, v, e
}

// judgeRooms is the table of the answers to a request with a token. The error
// goes with every verdict but relay; with renew it is the one to return when a
// new token is refused as well.
func judgeRooms(a *reply, w wireRequest) (verdict, *Error) {
	switch status := a.status; {
	case status == http.StatusUnauthorized && a.json:
		return judgeUnauthorized(a, w)
	case status == http.StatusBadRequest && !a.json:
		// How Meet refuses a token when it asks an identity provider about it.
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

// understood reports whether an answer is Meet's to a request that it understood.
func (a *reply) understood() bool {
	switch status := a.status; {
	case status >= 200 && status < 300, status >= 400 && status < 500 && status != http.StatusTooManyRequests:
		return a.json || status == http.StatusNoContent
	}
	return false
}

// judgeFailure makes an error of an answer that is none for the caller.
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

// judgeUnauthorized reads a 401, which is about Meet's token and so never the
// caller's business, unless the user or the application is switched off.
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
		// A new token would be lost on the same way.
		e.Hint = hintAuthorization
		return fail, e
	case "User not found.":
		e.Kind, e.Hint = ErrUserNotFound, ""
	case "Token expired.":
		e.Hint = hintTokenExpired
	}
	return renew, e
}

// published says whether a request is one that every Meet with an external API
// has a path for: the rooms, or one of them.
func published(w wireRequest) bool {
	return strings.HasPrefix(w.below, roomsPath) && strings.Count(w.below, "/") <= 3
}
