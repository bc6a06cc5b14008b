// SPDX-License-Identifier: MIT

package backendclient

import (
	"context"
	"net/http"
)

// Forward sends a request with a token that the caller brought, such as one of Meet's
// resource-server mode or of its add-ons. It keeps, replaces and repeats nothing. A
// refused token is an ErrTokenRefused; every other answer is judged as in [Client.Send].
func (c *Client) Forward(ctx context.Context, token, requestID string, r Request) (*Response, error) {
	w, e := c.wireRequest(requestID, r)
	if e != nil {
		return nil, e
	}
	if !sendable(token) {
		return nil, &Error{Kind: ErrTokenRefused, Op: w.operation()}
	}
	w.authorization = "Bearer " + token
	a, e := c.doRooms(ctx, w)
	if e != nil {
		return nil, e
	}
	switch {
	case a.status == http.StatusUnauthorized, a.status == http.StatusBadRequest && !a.json:
		// Meet answers in HTML if its identity provider does not know the token.
		return nil, &Error{Kind: ErrTokenRefused, Op: w.operation(), Status: a.status}
	case a.understood():
		if e := otherRoom(&a, w); e != nil {
			return nil, e
		}
		return a.answer(), nil
	}
	return nil, judgeFailure(&a, w)
}
