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
func (c *circumstances) of(ctx context.Context, t *accessToken, now time.Time) (in *installation.State, app *Application, u *User, err error) {
	in, app, u = c.kept(t, now)
	if in != nil && !t.issuedUnder().after(generations{in.Generation, app.generation, u.generation, u.grantCount}) {
		return in, app, u, nil
	}
	return c.read(ctx, t.Application, t.userID(), t.issuedUnder())
}

// kept are those remembered, nil unless all are and none is outdated.
func (c *circumstances) kept(t *accessToken, now time.Time) (in *installation.State, app *Application, u *User) {
	in = c.installations.Remembered()
	app, _ = c.cache.applications.GetIfPresent(t.Application)
	u, _ = c.cache.users.GetIfPresent(t.User)
	if in == nil || app == nil || u == nil || outdated(in.Read, now) || outdated(app.read, now) || outdated(u.read, now) {
		return nil, nil, nil
	}
	return in, app, u
}

// known reports whether what a token depends on is remembered.
func (c *circumstances) known(t *accessToken, now time.Time) bool {
	in, _, _ := c.kept(t, now)
	return in != nil
}

// dependencies are the records that a token depends on: of the installation, its
// application and its user.
type dependencies struct {
	appID, userID string
	keys          [3]string
	since         [3]memory.Epoch
	hashes        []map[string]string
}

// before notes what is about to be read.
func (c *circumstances) before(appID, userID string) dependencies {
	d := dependencies{appID: appID, userID: userID, keys: [3]string{redisdb.KeyInstallation, redisdb.KeyApplication(appID), redisdb.KeyUser(userID)}}
	for i, key := range d.keys {
		d.since[i] = c.cache.epochs.Now(key)
	}
	return d
}

// complete reports whether all is there, and knows of the generations that the token
// was born under: a revocation that is older than the token may not be written again yet.
func (d *dependencies) complete(issuedUnder generations) bool {
	in, app, user := d.hashes[0], d.hashes[1], d.hashes[2]
	return len(app) > 0 && len(user) > 0 && !issuedUnder.after(generations{
		redisdb.ParseUint(in[fieldGeneration]), redisdb.ParseUint(app[fieldGeneration]),
		redisdb.ParseUint(user[fieldGeneration]), redisdb.ParseUint(user[fieldGrantCount]),
	})
}

// read reads all three in one go. A server that has not heard of the
// generations that the token was born under is not believed without proof.
func (c *circumstances) read(ctx context.Context, appID, userID string, issuedUnder generations) (in *installation.State, app *Application, u *User, err error) {
	var d dependencies
	err = c.feed.Read(ctx, "reading what a token depends on", func(ctx context.Context, r feed.Reader) (found bool, err error) {
		d = c.before(appID, userID)
		if d.hashes, err = redisdb.Hashes(ctx, r, d.keys[:]...); err != nil {
			return false, err
		}
		return d.complete(issuedUnder), nil
	})
	if err != nil {
		return nil, nil, nil, err
	}
	return c.keep(&d)
}

// keep decodes what was read into the cache.
func (c *circumstances) keep(d *dependencies) (in *installation.State, app *Application, u *User, err error) {
	if in, err = c.installations.Keep(d.hashes[0], d.since[0]); err != nil {
		return nil, nil, nil, err
	}
	if app, err = c.applications.keep(d.appID, d.hashes[1], d.since[1]); err != nil {
		return nil, nil, nil, goneIsInvalid(err, "application_deleted")
	}
	if u, err = c.users.keep(d.userID, d.hashes[2], d.since[2]); err != nil {
		return nil, nil, nil, goneIsInvalid(err, "user_deleted")
	}
	return in, app, u, nil
}

// ofFamily are the circumstances of a refresh token, which must not overrule it.
func (c *circumstances) ofFamily(ctx context.Context, f *family.Family) (*installation.State, *Application, *User, error) {
	issuedUnder := generationsFrom(f.IssuedUnder)
	in, app, u, err := c.read(ctx, f.Application, f.User, issuedUnder)
	if err == nil {
		err = overruled(in, app, u, issuedUnder, f.Since(), "")
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

// remembered returns the installation and the user with an address if they are
// remembered and that is known to be current; else nil.
func (c *circumstances) remembered(m Mail) (*installation.State, *User) {
	in := c.rememberedInstallation()
	if in == nil {
		return nil, nil
	}
	id, _ := c.cache.mails.GetIfPresent(m)
	u, _ := c.cache.users.GetIfPresent(userIDOf(id))
	if u == nil || outdated(u.read, c.now()) {
		return nil, nil
	}
	return in, u
}

// rememberedInstallation is remembered for the installation alone.
func (c *circumstances) rememberedInstallation() *installation.State {
	if !c.feed.Fresh() {
		return nil
	}
	in := c.installations.Remembered()
	if in == nil || outdated(in.Read, c.now()) {
		return nil
	}
	return in
}

// installation returns the installation, from memory while that is known to be current.
func (c *circumstances) installation(ctx context.Context) (*installation.State, error) {
	if in := c.rememberedInstallation(); in != nil {
		return in, nil
	}
	return c.installations.Load(ctx)
}

// userFor returns the user that a token is for, and the installation with it, from
// memory while that is known to be current. It makes the user if need be.
func (c *circumstances) userFor(ctx context.Context, g Grant) (*User, *installation.State, error) {
	if err := c.feed.Believable(ctx); err != nil {
		return nil, nil, err
	}
	if in, u := c.remembered(g.Mail); u != nil {
		return u, in, nil
	}
	m, by := g.Mail, g.Application.ID
	id, remembered := c.cache.mails.GetIfPresent(m)
	for {
		if !remembered {
			made, found, err := c.users.findOrCreate(ctx, g)
			if err != nil {
				return nil, nil, err
			}
			if id = found; made != nil {
				c.cache.mails.Set(m, id)
				in, err := c.installation(ctx)
				return made, in, err
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
			if _, err := c.users.write(ctx, id, m, by); err != nil && !errors.Is(err, ErrConflict) {
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
