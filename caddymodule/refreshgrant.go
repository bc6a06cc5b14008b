package caddymodule

import (
	"errors"

	"github.com/meet-gateway/meet-gateway/tokens"
)

// grantRefreshToken is the grant of applications that may have refresh tokens
// (RFC 6749 section 6).
const grantRefreshToken = "refresh_token"

var (
	errGrantNotAllowed = errors.New("application has no refresh tokens")
	errOtherUser       = errors.New("scope names another user")
)

// serveRefresh gives a new pair of tokens for a refresh token. The application
// was authenticated; its domains and the user are judged again.
func (c *call) serveRefresh(req tokenRequest) error {
	if !c.application.Refresh {
		return errGrantNotAllowed
	}
	if err := c.judgeRefresh(req); err != nil {
		return err
	}
	token, err := c.h.app.Authority().Refresh(c.ctx, c.application, req.refreshToken)
	if err != nil {
		return err
	}
	return c.writeToken(token)
}

// judgeRefresh asks Meet about the user while the refresh token is still
// unspent: a Meet that does not answer costs nobody a token.
func (c *call) judgeRefresh(req tokenRequest) error {
	ctx := c.ctx
	id, err := c.h.app.Authority().Inspect(ctx, req.refreshToken)
	switch {
	case errors.Is(err, tokens.ErrUnavailable):
		return err
	case err != nil, id.Credential != tokens.RefreshToken, id.Application.ID != c.application.ID:
		// Spent, or not good for this. Which it is, and whether a spent one was
		// stolen, is decided where it is exchanged, in one step.
		return c.mayAsk("")
	}
	if err := c.mayAsk(string(id.User.Mail)); err != nil {
		return err
	}
	if req.scope != "" {
		// In the published API the scope of a token request is a mail address. It
		// cannot widen a grant (RFC 6749 section 6).
		if mail, err := tokens.ParseMail(req.scope); err != nil || mail != id.User.Mail {
			return errOtherUser
		}
	}
	_, err = c.h.client.Token(ctx, c.caller(id.User.Mail))
	return err
}
