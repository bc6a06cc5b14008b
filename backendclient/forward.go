// SPDX-License-Identifier: MIT

package backendclient

import (
	"context"
	"net/http"
)

// Forward makes a request with a token that the caller brought, as Meet's
// resource-server mode and its add-ons issue them. Nothing is kept, renewed or sent
// again. A token that Meet does not take is an ErrTokenRefused; everything else is
// judged as in [Client.Send].
func (c *Client) Forward(ctx context.Context, token, requestID string, r Request) (*Response, error) {
	w, e := c.wireRequest(requestID, r)
	if e != nil {
		return nil, e
	}
	if !sendable(token) {
		return nil, &Error{Kind: ErrTokenRefused, Op: w.operation()}
	}
	w.authorization = "Bearer " + token
	a, e := c.roundTripForRooms(ctx, w)
	if e != nil {
		return nil, e
	}
	switch {
	case a.status == http.StatusUnauthorized, a.status == http.StatusBadRequest && !a.json:
		// Meet answers with a page in HTML where its identity provider does not know a token.
		return nil, &Error{Kind: ErrTokenRefused, Op: w.operation(), Status: a.status}
	case a.understood():
		if e := otherRoom(&a, w); e != nil {
			return nil, e
		}
		return a.answer(), nil
	}
	return nil, judgeFailure(&a, w)
}
