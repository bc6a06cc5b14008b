// SPDX-License-Identifier: MIT

package tokens

import (
	"context"
	"errors"
	"time"

	"github.com/meet-gateway/meet-gateway/tokens/internal/family"
	"github.com/meet-gateway/meet-gateway/tokens/internal/feed"
	"github.com/meet-gateway/meet-gateway/tokens/internal/installation"
	"github.com/meet-gateway/meet-gateway/tokens/internal/memory"
	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
)

// circumstances finds what a token depends on: the installation, its application and
// its user.
type circumstances struct {
	*core
	installations *installation.Store
	applications  *applications
	users         *users
}

// of are what overrules a token: the installation, its application
// and its user. An application or user that is gone makes the token invalid.
// Those remembered do if they are not older than the token.
func (c *circumstances) of(ctx context.Context, t *accessToken, now time.Time, live bool) (in *installation.State, app *Application, u *User, err error) {
	if !live {
		in = c.installations.Remembered()
		app, _ = c.cache.applications.GetIfPresent(t.appID())
		u, _ = c.cache.users.GetIfPresent(t.userID())
		if in != nil && app != nil && u != nil && !outdated(in.Read, now) && !outdated(app.read, now) && !outdated(u.read, now) &&
			!t.births.after(generations{in.Generation, app.generation, u.generation, u.grantCount}) {
			return in, app, u, nil
		}
	}
	return c.read(ctx, t.appID(), t.userID(), t.births)
}

// read reads all three in one go. A server that has not heard of the
// generations that the token was born under is not believed without proof.
func (c *circumstances) read(ctx context.Context, appID, userID string, births generations) (in *installation.State, app *Application, u *User, err error) {
	var inSince, appSince, userSince memory.Epoch
	var read []map[string]string
	err = c.feed.Read(ctx, "reading what a token depends on", func(ctx context.Context, r feed.Reader) (found bool, err error) {
		inSince, appSince, userSince = c.cache.epochs.Now(redisdb.KeyInstallation), c.cache.epochs.Now(redisdb.KeyApplication(appID)), c.cache.epochs.Now(redisdb.KeyUser(userID))
		if read, err = redisdb.Hashes(ctx, r, redisdb.KeyInstallation, redisdb.KeyApplication(appID), redisdb.KeyUser(userID)); err != nil {
			return false, err
		}
		// A revocation that is older than the token may not be written again yet.
		in, app, user := read[0], read[1], read[2]
		return len(app) > 0 && len(user) > 0 && !births.after(generations{
			redisdb.ParseUint(in[fieldGeneration]), redisdb.ParseUint(app[fieldGeneration]),
			redisdb.ParseUint(user[fieldGeneration]), redisdb.ParseUint(user[fieldGrantCount]),
		}), nil
	})
	if err != nil {
		return nil, nil, nil, err
	}
	if in, err = c.installations.Keep(read[0], inSince); err != nil {
		return nil, nil, nil, err
	}
	if app, err = c.applications.keep(appID, read[1], appSince); err != nil {
		return nil, nil, nil, goneIsInvalid(err, "application_deleted")
	}
	if u, err = c.users.keep(userID, read[2], userSince); err != nil {
		return nil, nil, nil, goneIsInvalid(err, "user_deleted")
	}
	return in, app, u, nil
}

// ofFamily are the circumstances of a refresh token, which must not overrule it.
func (c *circumstances) ofFamily(ctx context.Context, f *family.Family) (*installation.State, *Application, *User, error) {
	births := birthsOf(f.Births)
	in, app, u, err := c.read(ctx, f.Application, f.User, births)
	if err == nil {
		err = overruled(in, app, u, births, f.Since(), "")
	}
	return in, app, u, err
}

// readUser reads what a new token is born under.
func (c *circumstances) readUser(ctx context.Context, userID string) (*installation.State, *User, error) {
	var inSince, userSince memory.Epoch
	var read []map[string]string
	// A user whose record some gateway is about to write again is not made anew.
	err := c.feed.Read(ctx, "reading what a token is born under", func(ctx context.Context, r feed.Reader) (found bool, err error) {
		inSince, userSince = c.cache.epochs.Now(redisdb.KeyInstallation), c.cache.epochs.Now(redisdb.KeyUser(userID))
		if read, err = redisdb.Hashes(ctx, r, redisdb.KeyInstallation, redisdb.KeyUser(userID)); err != nil {
			return false, err
		}
		return len(read[1]) > 0, nil
	})
	if err != nil {
		return nil, nil, err
	}
	in, err := c.installations.Keep(read[0], inSince)
	if err != nil {
		return nil, nil, err
	}
	u, err := c.users.keep(userID, read[1], userSince)
	return in, u, err
}

// userFor returns the user with the address as Redis has it now, and the
// installation with it. It makes the user if need be.
func (c *circumstances) userFor(ctx context.Context, m Mail, by string) (*User, *installation.State, error) {
	id, remembered := c.cache.mails.GetIfPresent(m)
	for {
		if !remembered {
			var err error
			if id, err = c.users.index.Find(ctx, m); err != nil {
				return nil, nil, err
			}
			if id == "" {
				if id, err = c.users.create(ctx, m, by); err != nil {
					return nil, nil, err
				}
			}
		}
		in, u, err := c.readUser(ctx, id)
		if errors.Is(err, ErrNotFound) {
			if remembered {
				c.cache.mails.Invalidate(m)
				remembered = false
				continue
			}
			// The index outlived the record (an old snapshot): bring the record back.
			if err := c.users.write(ctx, id, m, by); err != nil && !errors.Is(err, ErrConflict) {
				return nil, nil, err
			}
			in, u, err = c.readUser(ctx, id)
		}
		if err != nil {
			return nil, nil, err
		}
		if !remembered {
			c.cache.mails.Set(m, id)
		}
		return u, in, nil
	}
}

// goneIsInvalid makes a token invalid whose application or user is gone for good.
func goneIsInvalid(err error, reason string) error {
	if errors.Is(err, ErrNotFound) {
		return deny(ErrTokenInvalid, reason)
	}
	return err
}

// overruled tells whether something revoked or forbids a token born under the
// given generations. The same rules hold for refresh tokens.
func overruled(in *installation.State, app *Application, u *User, born generations, issued time.Time, kid string) error {
	switch {
	case born.installation != in.Generation:
		return deny(ErrTokenInvalid, "installation_revoked")
	case issued.Before(in.NotBefore):
		return deny(ErrTokenInvalid, "issued_too_early")
	case in.Withdrawn[kid]:
		return deny(ErrTokenInvalid, "key_withdrawn")
	case born.application != app.generation:
		return deny(ErrTokenInvalid, "application_revoked")
	case born.user != u.generation:
		return deny(ErrTokenInvalid, "user_revoked")
	case born.grant < u.revokedUpTo(app.ID):
		return deny(ErrTokenInvalid, "grant_revoked")
	case !app.Active:
		return deny(ErrInactiveApplication, "application_inactive")
	}
	if err := app.MayDelegate(u.Mail); err != nil {
		return deny(ErrTokenInvalid, Reason(err))
	}
	return nil
}
