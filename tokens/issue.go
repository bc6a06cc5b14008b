// SPDX-License-Identifier: MIT

package tokens

import (
	"context"
	"errors"
	"time"

	"github.com/meet-gateway/meet-gateway/tokens/internal/family"
	"github.com/meet-gateway/meet-gateway/tokens/internal/installation"
)

// Grant is a request to issue a token.
type Grant struct {
	// Application is the authenticated application.
	Application *Application
	// Mail is the user it acts for, as allowed by [Application.MayDelegate].
	Mail Mail
	// BackendUserID is Meet's id of the user, for the "user_id" claim. Default:
	// the user's public id.
	BackendUserID string
	// Scopes are what Meet granted. The token gets those the application has too.
	Scopes Scopes
	// Unseen is true if [Authority.Generations] did not find the address a moment ago. It
	// saves a search before the user is created.
	Unseen bool
}

// Token is an access token that was just issued.
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

// issuer issues access tokens.
type issuer struct {
	*core
	grants   *grants
	signer   *signer
	records  *records
	families *family.Store
	users    *users
}

// Issue signs an access token and records it. The token is valid once Redis has acknowledged
// the record. The error is ErrUnavailable.
func (i *issuer) Issue(ctx context.Context, g Grant) (*Token, error) {
	// If another gateway revokes the grant meanwhile, the token is revoked from the start.
	in, u, err := i.userFor(ctx, g)
	if err != nil {
		return nil, err
	}
	t, err := i.signer.sign(g, grantState{in, g.Application, u})
	if err != nil {
		return nil, err
	}
	if err := i.records.add(ctx, t, u); err != nil {
		return nil, err
	}
	i.users.noteSeen(u, g.Application.ID, g.BackendUserID)
	token := &Token{Value: t.value, ID: t.id, UserID: u.ID, Scopes: t.scopes, Lifetime: t.lifetime}
	if g.Application.Refresh {
		token.Refresh, err = i.families.Begin(ctx, family.Family{
			Application: g.Application.ID, User: u.ID, BackendUserID: g.BackendUserID, Scopes: g.Scopes,
			IssuedUnder: t.issuedUnder,
		}, t.id)
		if err != nil {
			return nil, err
		}
	}
	return token, nil
}

// userFor returns the user that a token is for, and the installation, from memory while that
// is current. It creates the user if the address is new.
func (i *issuer) userFor(ctx context.Context, g Grant) (*installation.State, *User, error) {
	if err := i.feed.Believable(ctx); err != nil {
		return nil, nil, err
	}
	if in, u := i.grants.rememberedUser(g.Mail); u != nil {
		return in, u, nil
	}
	if id, ok := i.cache.mails.Load(g.Mail); ok {
		in, u, err := i.grants.readUser(ctx, id)
		if !errors.Is(err, ErrNotFound) {
			return in, u, err
		}
		i.cache.mails.Delete(g.Mail)
	}
	created, id, err := i.users.findOrCreate(ctx, g)
	if err != nil {
		return nil, nil, err
	}
	if created != nil {
		i.cache.mails.Store(created.Mail, created.ID)
		in, err := i.grants.installation(ctx)
		return in, created, err
	}
	in, u, err := i.grants.readUser(ctx, id)
	if errors.Is(err, ErrNotFound) {
		// Redis has the index entry and not the user, as after restoring an old snapshot.
		if _, err := i.users.write(ctx, id, g.Mail, g.Application.ID); err != nil && !errors.Is(err, ErrConflict) {
			return nil, nil, err
		}
		in, u, err = i.grants.readUser(ctx, id)
	}
	if err == nil {
		i.cache.mails.Store(u.Mail, u.ID)
	}
	return in, u, err
}
