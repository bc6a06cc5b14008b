// SPDX-License-Identifier: MIT

package caddymodule

import "net/http"

// serveRevoke ends a token for the application that holds it (RFC 7009): an
// access token, or a refresh token with all that came from it. A token that is
// not valid needs no revoking, so it is answered like one that was (section 2.2).
// There is no answer 200 before Redis has acknowledged.
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
