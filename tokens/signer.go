// SPDX-License-Identifier: MIT

package tokens

import (
	"cmp"
	"crypto/sha256"
	"time"

	"github.com/meet-gateway/meet-gateway/tokens/grammar"
	"github.com/meet-gateway/meet-gateway/tokens/internal/knowntokens"
	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
	"github.com/meet-gateway/meet-gateway/tokens/internal/vault"
	"github.com/meet-gateway/meet-gateway/tokens/signing"
)

// MaxToken is the longest token accepted, in bytes. Those issued here have about 500.
const MaxToken = signing.MaxToken

// Claims are those of an access token.
type Claims = signing.Claims

// clockSkew is how far in the future "iat" may be: the clocks of two gateways may differ.
const clockSkew = 5 * time.Second

// signer signs access tokens, and checks their signatures.
type signer struct {
	*core
	issuer   string
	audience string
	lifetime time.Duration
}

// Issuer returns the "iss" claim of access tokens (RFC 7519 §4.1.1).
func (s *signer) Issuer() string { return s.issuer }

// Audience returns the "aud" claim of access tokens (RFC 7519 §4.1.3).
func (s *signer) Audience() string { return s.audience }

// Algorithm returns the JWS algorithm that access tokens are signed with.
func (s *signer) Algorithm() string { return s.signing.Algorithm() }

// signed is a token that was signed and not yet recorded.
type signed struct {
	value       string
	id          string
	scopes      Scopes
	lifetime    time.Duration
	record      []byte
	issuedUnder generations
}

func (s *signer) sign(g Grant, on grantState) (*signed, error) {
	app, u := on.application, on.user
	t := &signed{
		id: vault.RandomID(vault.TokenID), scopes: g.Scopes.Intersect(app.Scopes), lifetime: s.lifetime,
		issuedUnder: on.generations(),
	}
	if app.TokenLifetime != 0 {
		t.lifetime = time.Duration(app.TokenLifetime)
	}
	t.lifetime = t.lifetime.Truncate(time.Second)
	now := s.now()
	c := &Claims{
		Issuer: s.issuer, Audience: s.audience, IssuedAt: now.Unix(), ExpiresAt: now.Add(t.lifetime).Unix(),
		ID: t.id, Subject: u.ID, ClientID: app.ID, Scope: t.scopes.String(),
		UserID: cmp.Or(g.BackendUserID, u.ID), Delegated: true,
	}
	value, err := s.signing.Sign(c)
	if err != nil {
		return nil, err
	}
	t.value = value
	t.record = encodeRecord(sha256.Sum256([]byte(value)), t.issuedUnder)
	return t, nil
}

// userID is the public id of a user.
type userID [vault.UserID]byte

// userIDOf converts an id. A text of another length becomes the zero id, which no user has.
func userIDOf(text string) (id userID) {
	if len(text) == len(id) {
		copy(id[:], text)
	}
	return id
}

// accessToken is a token with a good signature. Once Read is set, its record was live.
type accessToken struct{ knowntokens.Token }

func (t *accessToken) key() string                { return redisdb.KeyToken(string(t.ID[:])) }
func (t *accessToken) userID() string             { return string(t.User[:]) }
func (t *accessToken) issuedAt() time.Time        { return time.Unix(t.Issued, 0) }
func (t *accessToken) expiresAt() time.Time       { return time.Unix(t.Expires, 0) }
func (t *accessToken) readAt() time.Time          { return time.Unix(t.Read, 0) }
func (t *accessToken) expired(now time.Time) bool { return now.Unix() >= t.Expires }
func (t *accessToken) issuedUnder() generations   { return t.Generations }

// scopes returns the scopes that the token was issued with and the application still has.
func (t *accessToken) scopes(app *Application) Scopes {
	all := t.Scopes
	if all == nil {
		all, _ = ParseScopes(t.Scope) // checked when the token was parsed
	}
	return all.Intersect(app.Scopes)
}

// inTime checks "exp" and "iat". Errors: ErrTokenInvalid, ErrTokenExpired.
func (t *accessToken) inTime(now time.Time) error {
	switch {
	case t.expired(now):
		return of(t.Application, deny(ErrTokenExpired, "expired"))
	case t.issuedAt().After(now.Add(clockSkew)):
		return deny(ErrTokenInvalid, "issued_in_the_future")
	}
	return nil
}

// parse checks the form, the signature and the claims of an access token, but not its time.
// Errors: ErrTokenMalformed, ErrTokenForeign, ErrTokenInvalid.
func (s *signer) parse(raw string) (*accessToken, error) {
	c, kid, err := s.signing.Parse(raw, s.issuer, s.audience)
	if err != nil {
		return nil, err
	}
	if c.ExpiresAt-c.IssuedAt > int64(maxLifetime/time.Second) {
		return nil, deny(ErrTokenInvalid, "lives_too_long") // we never issued it
	}
	if !grammar.AreScopes(c.Scope) {
		return nil, deny(ErrTokenInvalid, "bad_claims")
	}
	return &accessToken{knowntokens.Token{
		ID: [vault.TokenID]byte([]byte(c.ID)), User: [vault.UserID]byte([]byte(c.Subject)),
		Application: c.ClientID, KeyID: kid, Scope: c.Scope, Issued: c.IssuedAt, Expires: c.ExpiresAt,
	}}, nil
}
