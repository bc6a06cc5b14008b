// SPDX-License-Identifier: MIT

package caddymodule

import "net/http"

// serveRevoke revokes an access token, or a refresh token with its family, for the
// application that holds it (RFC 7009). As RFC 7009 §2.2 asks, the answer for an
// invalid token is the same. It answers only after Redis has acknowledged.
func (c *call) serveRevoke() error {
	token, err := c.readHeldTokenRequest()
	if err != nil {
		return err
	}
	if err := c.h.app.Authority().RevokeOwnToken(c.ctx, c.application, token); err != nil {
		return err
	}
	c.entry.rule = "own token"
	revocationsTotal.WithLabelValues("own_token").Inc()
	if err := c.entry.record(c, nil); err != nil {
		return err
	}
	c.w.Header()["Pragma"] = headerNoCache
	return writeJSON(c.w, http.StatusOK, []byte("{}"))
}
