// SPDX-License-Identifier: MIT

package tokens

import (
	"context"
	"time"

	"github.com/meet-gateway/meet-gateway/tokens/internal/family"
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
	// Unseen is true if [Authority.Generations] did not find the address a moment ago, so
	// that it is not looked up once more before a user is made for it.
	Unseen bool
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
	// A token that is born under a generation which somebody else has just counted up,
	// and this gateway has not heard of yet, is revoked at birth: that is the safe side.
	u, in, err := i.circumstances.userFor(ctx, g)
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
