// SPDX-License-Identifier: MIT

package tokens

import (
	"cmp"
	"context"
	"crypto/sha256"
	"time"

	"github.com/meet-gateway/meet-gateway/tokens/internal/family"
	"github.com/meet-gateway/meet-gateway/tokens/internal/installation"
	"github.com/meet-gateway/meet-gateway/tokens/internal/journal"
	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
	"github.com/meet-gateway/meet-gateway/tokens/internal/vault"
)

// Grant is what an application is to be given a token for.
type Grant struct {
	// Application was authenticated before.
	Application *Application
	// Mail is whom it acts for; [Application.MayDelegate] was asked before.
	Mail Mail
	// BackendUserID is Meet's id of the user, for the "user_id" claim. Default:
	// the user's public id.
	BackendUserID string
	// Scopes are what Meet granted. The token gets those the application has too.
	Scopes Scopes
}

// Token is an access token just issued.
type Token struct {
	// Value is the JWT.
	Value string
	// ID is its "jti".
	ID string
	// UserID is the public id of the user.
	UserID string
	// Scopes are what it may do.
	Scopes Scopes
	// Lifetime is how long it is valid from now on.
	Lifetime time.Duration
	// Refresh is a refresh token, if the application is allowed them; else "".
	Refresh string
}

// String hides the token.
func (t *Token) String() string { return "token " + t.ID }

// GoString is String.
func (t *Token) GoString() string { return t.String() }

// issuer gives out access tokens.
type issuer struct {
	circumstances *circumstances
	signer        *signer
	records       *records
	families      *family.Store
	users         *users
}

// Issue signs an access token and records it. The token is not valid before
// Redis has acknowledged the record. Errors: ErrUnavailable.
func (i *issuer) Issue(ctx context.Context, g Grant) (*Token, error) {
	// Read now, not remembered: a token born under a generation that somebody
	// else has just counted up would be revoked at birth.
	u, in, err := i.circumstances.userFor(ctx, g.Mail, g.Application.ID)
	if err != nil {
		return nil, err
	}
	t, err := i.signer.sign(g, u, in)
	if err != nil {
		return nil, err
	}
	if err := i.records.add(ctx, t, u); err != nil {
		return nil, err
	}
	i.users.noteSeen(u, g.Application.ID, g.BackendUserID)
	token := &Token{Value: t.value, ID: t.id, UserID: u.ID, Scopes: t.scopes, Lifetime: t.lifetime}
	if g.Application.Refresh {
		if token.Refresh, err = i.families.Begin(ctx, family.Family{
			Application: g.Application.ID, User: u.ID, BackendUserID: g.BackendUserID, Scopes: g.Scopes, Births: t.births.list(),
		}, t.id); err != nil {
			return nil, err
		}
	}
	return token, nil
}

// signed is a token that was signed and not yet recorded.
type signed struct {
	value    string
	id       string
	scopes   Scopes
	lifetime time.Duration
	record   []byte
	births   generations
}

// signer signs access tokens, and checks their signatures.
type signer struct {
	*core
	issuer   string
	audience string
	lifetime time.Duration
}

func (s *signer) sign(g Grant, u *User, in *installation.State) (*signed, error) {
	app := g.Application
	t := &signed{
		id: vault.RandomID(vault.TokenID), scopes: g.Scopes.Intersect(app.Scopes), lifetime: s.lifetime,
		births: generations{in.Generation, app.generation, u.generation, u.grantCount},
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
	t.record = encodeRecord(sha256.Sum256([]byte(value)), t.births)
	return t, nil
}

// records keeps the records of access tokens.
type records struct {
	*core
	users  *users
	keyUse *installation.KeyUse
}

// add makes a signed token valid. Doing it again changes nothing: neither
// does it bring a revoked token back.
func (r *records) add(ctx context.Context, t *signed, u *User) error {
	if err := r.keyUse.NoteSigned(ctx, t.lifetime); err != nil {
		return err
	}
	const doing = "recording a token"
	key := redisdb.KeyToken(t.id)
	if _, err := r.db.SetNew(ctx, key, t.record, t.lifetime); err != nil {
		return unavailable(doing, err)
	}
	r.users.remember(u)
	return r.feed.Keep(ctx, doing, journal.Entry{
		Rank: journal.Records, Key: key, Script: recordAgainScript, Args: []any{string(t.record)}, Expires: r.now().Add(t.lifetime),
	})
}

// recordAgainScript records a token unless it is on record, revoked or not. ARGV: life
// in ms, record.
var recordAgainScript = redisdb.NewScript(`
return redis.call('SET', KEYS[1], ARGV[2], 'NX', 'PX', ARGV[1]) and 1 or 0`)
