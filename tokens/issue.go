// SPDX-License-Identifier: MIT

package tokens

import (
	"context"
	"time"

	"github.com/meet-gateway/meet-gateway/tokens/internal/family"
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
	// saves looking it up again before a user is made.
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

// issuer issues access tokens.
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
	// A token issued under a generation that another gateway has just counted up is revoked
	// from the start, which is the safe side.
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
			Application: g.Application.ID, User: u.ID, BackendUserID: g.BackendUserID, Scopes: g.Scopes, IssuedUnder: t.issuedUnder.list(),
		}, t.id); err != nil {
			return nil, err
		}
	}
	return token, nil
}
