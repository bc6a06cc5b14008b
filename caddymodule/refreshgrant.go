// SPDX-License-Identifier: MIT

package caddymodule

import (
	"errors"
	"slices"
	"strings"

	"github.com/meet-gateway/meet-gateway/tokens"
)

// grantRefreshToken is the grant for applications with refresh tokens (RFC 6749 §6).
const grantRefreshToken = "refresh_token"

var (
	errGrantNotAllowed = errors.New("application has no refresh tokens")
	errOtherUser       = errors.New("scope names another user")
)

// serveRefresh exchanges a refresh token for new tokens. It checks the application's
// domains and the user again.
func (c tokenCall) serveRefresh(req clientRequest) error {
	if !c.application.Refresh {
		return errGrantNotAllowed
	}
	wish, err := parseRefreshScope(req.scope)
	if err != nil {
		return err
	}
	if err := c.checkRefresh(req, wish); err != nil {
		return err
	}
	token, err := c.h.app.Authority().Refresh(c.ctx, c.application, req.refreshToken, wish.scopes...)
	if err != nil {
		return err
	}
	return c.writeToken(token)
}

// checkRefresh checks the user at Meet before the refresh token is used, so that a
// failure of Meet costs no token.
func (c tokenCall) checkRefresh(req clientRequest, wish refreshScope) error {
	ctx := c.ctx
	id, err := c.h.app.Authority().Inspect(ctx, req.refreshToken)
	switch {
	case errors.Is(err, tokens.ErrUnavailable):
		return err
	case err != nil, id.Credential != tokens.RefreshToken, id.Application.ID != c.application.ID:
		// The token is used, revoked or another application's. Refresh distinguishes
		// these, and theft, in one step.
		return c.checkRateLimit("")
	}
	c.entry.mail, c.entry.userID, c.entry.rule = id.User.Mail, id.User.ID, "refresh_token"
	if err := c.checkRateLimit(string(id.User.Mail)); err != nil {
		return err
	}
	if slices.ContainsFunc(wish.mails, func(mail tokens.Mail) bool { return mail != id.User.Mail }) {
		return errOtherUser
	}
	if c.generations, _, err = c.h.app.Authority().Generations(ctx, c.application, id.User.Mail); err != nil {
		return err
	}
	_, err = c.meetToken(c.caller(id.User.Mail))
	return err
}

// refreshScope is the scope of a refresh request: the scopes to grant, and the user's
// mail address, which the published API sends as scope.
type refreshScope struct {
	scopes tokens.Scopes
	mails  []tokens.Mail
}

// parseRefreshScope parses the scope of a refresh request (RFC 6749 §6). Words with an
// @ are mail addresses. It returns tokens.ErrScopeNotGranted for words that are no
// scopes.
func parseRefreshScope(text string) (refreshScope, error) {
	var wish refreshScope
	var names []string
	for word := range strings.FieldsSeq(text) {
		if !strings.Contains(word, "@") {
			names = append(names, word)
			continue
		}
		mail, err := tokens.ParseMail(word)
		if err != nil {
			return refreshScope{}, errOtherUser
		}
		wish.mails = append(wish.mails, mail)
	}
	var err error
	if wish.scopes, err = tokens.NewScopes(names...); err != nil {
		return refreshScope{}, tokens.ErrScopeNotGranted
	}
	return wish, nil
}
