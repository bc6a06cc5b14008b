// SPDX-License-Identifier: MIT

package caddymodule

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/meet-gateway/meet-gateway/backendclient"
	"github.com/meet-gateway/meet-gateway/tokens"
)

// tokenResponse is the published TokenResponse (RFC 6749 §5.1).
type tokenResponse struct {
	AccessToken string `json:"access_token"`
	TokenType   string `json:"token_type"`
	ExpiresIn   int64  `json:"expires_in"`
	// Scope is omitted if nothing was granted, as at Meet.
	Scope        string `json:"scope,omitempty"`
	RefreshToken string `json:"refresh_token,omitempty"`
}

// serve exchanges an application's credentials and a user's mail address for an access
// token. The gateway checks what it can before the exchange, which costs Meet a second
// of CPU and may create a user.
func (c tokenCall) serve() error {
	body, err := c.readClientBody()
	if err != nil {
		return err
	}
	req, err := parseTokenRequest(c.r.Header, body)
	if err != nil {
		return err
	}
	c.entry.grantType = req.grantType
	if err := c.authenticateOrAdopt(req); err != nil {
		return err
	}
	if req.grantType == grantRefreshToken {
		return c.serveRefresh(req)
	}
	mail, err := tokens.ParseMail(req.scope)
	if err != nil {
		return err
	}
	c.entry.mail = mail
	if err := c.recheckIfCached(req.clientSecret, func() error { return c.application.MayDelegate(mail) }); err != nil {
		return err
	}
	c.entry.rule = "domain " + c.application.DomainFor(mail)
	if err := c.checkRateLimit(string(mail)); err != nil {
		return err
	}
	var seen bool
	if c.generations, seen, err = c.h.app.Authority().Generations(c.ctx, c.application, mail); err != nil {
		return err
	}
	admission, err := c.admit(mail)
	if err != nil {
		return err
	}
	meet, err := c.exchange(req, mail)
	if err != nil {
		if isDefiniteRefusal(err) {
			c.refundQuota(admission)
		}
		return err
	}
	granted := knownScopes(meet.Scopes())
	if !meet.Received().Before(c.began.Truncate(time.Millisecond)) { // a cached token may be out of date
		c.h.app.Authority().NoteGranted(c.application, c.h.host, c.application.Scopes.Intersect(c.h.scopes), granted)
	}
	token, err := c.h.app.Authority().Issue(c.ctx, tokens.Grant{
		Application: c.application, Mail: mail, BackendUserID: meet.UserID(), Scopes: granted, Unseen: !seen,
	})
	if err != nil {
		return err
	}
	return c.writeToken(token)
}

// exchange gets Meet's token. For an imported application it first presents the
// application's own credentials, so that Meet sees the client that it knows, and falls
// back to the gateway's credentials if Meet does not know them. It does not fall back
// if Meet has disabled the application.
func (c tokenCall) exchange(req clientRequest, mail tokens.Mail) (*backendclient.Token, error) {
	if c.meetClientID == "" || c.meetClientID != c.application.LearnsBackend() {
		return c.meetToken(c.caller(mail))
	}
	own := c.caller(mail)
	own.Credentials = backendclient.Credentials{ClientID: c.meetClientID, ClientSecret: req.clientSecret}
	c.presentsOwn = true
	token, err := c.meetToken(own)
	unknown := errors.Is(err, backendclient.ErrBackendCredentials)
	if err != nil && (!unknown || c.h.fallback.ClientID == "") {
		return nil, err
	}
	learned := tokens.BackendCredentials{ClientID: c.meetClientID, ClientSecret: req.clientSecret}
	if err := c.h.app.Authority().LearnBackend(c.ctx, c.application.ID, learned, !unknown); err != nil {
		if errors.Is(err, tokens.ErrNotFound) { // deleted during the exchange
			return nil, tokens.ErrInvalidClient
		}
		return nil, err
	}
	if unknown {
		c.h.logger.Warn("Meet does not know the credentials of an imported application; the gateway's own are used",
			zap.String("client_id", c.application.ID), zap.String("request_id", c.requestID))
		c.presentsOwn = false
		return c.meetToken(c.caller(mail))
	}
	return token, nil
}

// meetToken returns Meet's token for a caller, from the cache or by an exchange.
func (c *call) meetToken(caller backendclient.Caller) (*backendclient.Token, error) {
	return c.measureExchange(c.ctx, func(ctx context.Context) (*backendclient.Token, error) {
		return c.h.client.Token(ctx, caller)
	})
}

// measureExchange runs an exchange in a span and counts its time as waiting for Meet.
func (c *call) measureExchange(ctx context.Context, exchange func(context.Context) (*backendclient.Token, error)) (*backendclient.Token, error) {
	defer c.addMeetTime(time.Now())
	ctx, span := startSpan(ctx, "meet_gateway.exchange")
	token, err := exchange(ctx)
	c.endSpan(span, err)
	return token, err
}

// knownScopes returns the scopes that Meet granted. Names that are no scopes are
// ignored.
func knownScopes(names []string) tokens.Scopes {
	var granted tokens.Scopes
	for _, name := range names {
		if s, err := tokens.NewScopes(name); err == nil {
			granted = append(granted, s...)
		}
	}
	return granted
}

func (c tokenCall) writeToken(t *tokens.Token) error {
	c.entry.userID, c.entry.tokenID, c.entry.scopes = t.UserID, t.ID, t.Scopes.String()
	if err := c.entry.record(c.call, nil); err != nil {
		return err
	}
	body, err := json.Marshal(tokenResponse{
		AccessToken: t.Value, TokenType: "Bearer", ExpiresIn: int64(t.Lifetime / time.Second),
		Scope: t.Scopes.String(), RefreshToken: t.Refresh,
	})
	if err != nil {
		return err
	}
	c.w.Header()["Pragma"] = headerNoCache
	return writeJSON(c.w, http.StatusOK, body)
}
