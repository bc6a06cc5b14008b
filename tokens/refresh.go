// SPDX-License-Identifier: MIT

package tokens

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"time"

	"github.com/meet-gateway/meet-gateway/tokens/internal/family"
	"github.com/meet-gateway/meet-gateway/tokens/internal/feed"
	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
)

// RefreshPrefix begins refresh tokens, so that scanners find leaked ones.
const RefreshPrefix = family.Prefix

// Defaults of RefreshOptions.
const (
	DefaultRefreshIdle     = family.DefaultIdle
	DefaultRefreshAbsolute = family.DefaultAbsolute
	DefaultRefreshWindow   = family.DefaultWindow
)

// RefreshOptions are the lifetimes of refresh tokens.
type RefreshOptions = family.Options

// refreshes exchanges, inspects and revokes refresh tokens.
type refreshes struct {
	*core
	families *family.Store
	grants   *grants
	signer   *signer
	records  *records
	users    *users
}

// Refresh exchanges a refresh token for a new pair (RFC 6749 §6). The application must be the
// one that the token was issued to. Refresh checks again that the user's domain is allowed
// and that nothing was revoked. Before, the caller asks Meet whether the user still exists.
//
// A token that was exchanged before ends its family, except within the window: then it gets
// the same pair again.
//
// wanted are the scopes of the new access token, a subset of those granted. None means all.
// The new refresh token keeps all of them.
//
// Errors: ErrInvalidGrant, ErrScopeNotGranted, ErrInactiveApplication,
// ErrDomainNotAllowed, ErrUnavailable.
func (r *refreshes) Refresh(ctx context.Context, app *Application, raw string, wanted ...string) (*Token, error) {
	// A deposed primary may have missed the last rotation. The token would count as reused.
	if err := r.feed.Check(ctx); err != nil {
		return nil, err
	}
	var t *Token
	err := r.feed.Refuse(ctx, "refreshing a token", func(ctx context.Context) (err error) {
		t, err = r.refresh(ctx, app, raw, wanted)
		return err
	})
	return t, err
}

// refresh is one attempt of Refresh, on a server that may turn out to be deposed.
func (r *refreshes) refresh(ctx context.Context, app *Application, raw string, wanted Scopes) (*Token, error) {
	p, err := r.families.Read(ctx, raw)
	if err != nil {
		return nil, err
	}
	if !p.Current && !p.Last {
		// Its rotation may not have been restored yet, so this may be no reuse.
		if err := r.feed.Settled(ctx, "rotating a refresh token"); err != nil {
			return nil, err
		}
	}
	e, err := r.judge(ctx, p, app, wanted)
	if err != nil {
		return nil, err
	}
	t, err := r.signer.sign(e.grant, e.state)
	if err != nil {
		return nil, err
	}
	e.seen = r.feed.Snapshot()
	rotation, err := r.families.Rotate(ctx, p, raw, family.Pair{
		Access: t.value, AccessID: t.id, Record: t.record, Scopes: t.scopes, Lifetime: t.lifetime,
		Issued: e.at.UnixMilli(), Refresh: family.NewToken(p.ID),
	})
	if err != nil {
		return nil, err
	}
	if rotation.Reused {
		return nil, r.reused(ctx, e, rotation.Records)
	}
	return r.handOut(ctx, e, rotation.Pair)
}

// exchange is an exchange of a refresh token that judge has allowed.
type exchange struct {
	family string // its id
	grant  Grant
	state  grantState
	at     time.Time
	seen   feed.Snapshot // before the rotation
}

// judge decides whether an application may exchange a refresh token.
func (r *refreshes) judge(ctx context.Context, p *family.Presented, app *Application, wanted Scopes) (*exchange, error) {
	f := &p.Family
	if f.Application != app.ID {
		return nil, deny(ErrInvalidGrant, "other_application")
	}
	now := r.now()
	if !now.Before(p.Expires) {
		return nil, deny(ErrInvalidGrant, "expired")
	}
	s, err := r.grants.ofFamily(ctx, f)
	if errors.Is(err, ErrTokenInvalid) {
		return nil, deny(ErrInvalidGrant, Reason(err))
	}
	if err != nil {
		return nil, err
	}
	if !s.application.Refresh {
		return nil, deny(ErrInvalidGrant, "refresh_not_allowed")
	}
	scopes := f.Scopes
	if len(wanted) > 0 {
		if scopes = f.Scopes.Intersect(wanted); len(scopes) < len(wanted) {
			return nil, deny(ErrScopeNotGranted, "scope_not_granted")
		}
	}
	g := Grant{Application: s.application, Mail: s.user.Mail, BackendUserID: cmp.Or(s.user.BackendUserID, f.BackendUserID), Scopes: scopes}
	return &exchange{family: p.ID, grant: g, state: s, at: now}, nil
}

// handOut returns a pair. It records the access token first, so that no gateway returns a
// token without a record.
func (r *refreshes) handOut(ctx context.Context, e *exchange, pair *family.Pair) (*Token, error) {
	age := e.at.Sub(time.UnixMilli(pair.Issued))
	rest := pair.Lifetime - max(age, 0)
	if rest < time.Second {
		return nil, deny(ErrInvalidGrant, "expired")
	}
	if err := r.records.add(ctx, &signed{id: pair.AccessID, record: pair.Record, lifetime: rest}, e.state.user); err != nil {
		return nil, err
	}
	if r.feed.Replaced(e.seen) {
		// The rotation may be lost. On a retry the token is either still current on the new
		// primary, or gets the same pair again.
		return nil, feed.Unsteady("rotating a refresh token")
	}
	r.families.NoteGiven(ctx, e.family, pair)
	r.users.noteSeen(e.state.user, e.grant.Application.ID, "")
	return &Token{
		Value: pair.Access, ID: pair.AccessID, UserID: e.state.user.ID, Scopes: pair.Scopes,
		Lifetime: rest.Truncate(time.Second), Refresh: pair.Refresh,
	}, nil
}

// reused ends a family after one of its tokens was reused. A deposed primary can report
// reuse by mistake.
func (r *refreshes) reused(ctx context.Context, e *exchange, records []string) error {
	stands, err := r.feed.StillPrimary(ctx, e.seen)
	if err != nil {
		return err
	}
	if stands {
		if err := r.ended(ctx, e.family, e.at, records); err != nil {
			return err
		}
	}
	return deny(ErrInvalidGrant, "reused")
}

// inspect is Inspect for a refresh token.
func (r *refreshes) inspect(ctx context.Context, raw string) (*Identity, error) {
	if _, ok := family.IDOf(raw); !ok {
		return nil, deny(ErrTokenMalformed, "not_a_refresh_token")
	}
	if !ChecksumOK(raw) { // a typo or a guess: do not ask Redis
		return nil, deny(ErrTokenInvalid, "unknown_token")
	}
	var i *Identity
	err := r.feed.Refuse(ctx, "inspecting a refresh token", func(ctx context.Context) (err error) {
		i, err = r.identify(ctx, raw)
		return err
	})
	return i, err
}

// identify is one attempt of inspect, on a server that may turn out to be deposed.
func (r *refreshes) identify(ctx context.Context, raw string) (*Identity, error) {
	p, err := r.families.Read(ctx, raw)
	switch {
	case errors.Is(err, ErrInvalidGrant):
		return nil, deny(ErrTokenInvalid, Reason(err))
	case err != nil:
		return nil, err
	}
	f := &p.Family
	switch {
	case p.Ended:
		return nil, of(f.Application, deny(ErrTokenInvalid, "revoked"))
	case !p.Current:
		return nil, of(f.Application, deny(ErrTokenInvalid, "rotated"))
	case !r.now().Before(p.Expires):
		return nil, of(f.Application, deny(ErrTokenExpired, "expired"))
	}
	s, err := r.grants.ofFamily(ctx, f)
	if err != nil {
		return nil, of(f.Application, err)
	}
	if !s.application.Refresh {
		return nil, deny(ErrTokenInvalid, "refresh_not_allowed")
	}
	return &Identity{
		Credential: RefreshToken, Application: s.application, User: s.user, Scopes: f.Scopes.Intersect(s.application.Scopes),
		Issued: f.Since(), Expires: p.Expires,
	}, nil
}

// revoke ends the family of a refresh token and its access tokens. With an owner it ends
// only that application's families.
func (r *refreshes) revoke(ctx context.Context, raw, owner string) error {
	err := r.feed.Refuse(ctx, "revoking a refresh token", func(ctx context.Context) error {
		p, err := r.families.Read(ctx, raw)
		if err != nil {
			return err
		}
		if owner != "" && p.Family.Application != owner {
			return deny(ErrNotOwner, "other_application")
		}
		at := r.now()
		records, err := r.families.End(ctx, p.ID, raw, at)
		if err != nil {
			return err
		}
		return r.ended(ctx, p.ID, at, records)
	})
	if errors.Is(err, ErrInvalidGrant) || errors.Is(err, ErrNotFound) {
		return nil // not a token of the family
	}
	return err
}

// ended publishes that a family has ended, and revokes its access tokens, given the keys of
// their records.
func (r *refreshes) ended(ctx context.Context, familyID string, at time.Time, records []string) error {
	key := redisdb.KeyFamily(familyID)
	if r.records.wasPublished(key) {
		return nil
	}
	if err := r.families.Tell(ctx, familyID, at, r.now().Add(maxLifetime)); err != nil {
		return err
	}
	for _, record := range records {
		if err := r.records.revoke(ctx, record, [sha256.Size]byte{}, maxLifetime); err != nil {
			return err
		}
	}
	r.records.setPublished(key)
	return nil
}
