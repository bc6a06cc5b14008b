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

// grantState is everything that the validity of a token depends on, apart from the token
// and its record.
type grantState struct {
	installation *installation.State
	application  *Application
	user         *User
}

// generations are those that a token gets if it is issued now.
func (s grantState) generations() generations {
	return generations{s.installation.Generation, s.application.generation, s.user.generation, s.user.grantCount}
}

// check returns why a token of the grant is not valid, or nil. A refresh token has no kid.
// Errors: ErrTokenInvalid, ErrInactiveApplication.
func (s grantState) check(issuedUnder generations, issued time.Time, kid string) error {
	in, app, u := s.installation, s.application, s.user
	switch {
	case issuedUnder[ofInstallation] != in.Generation:
		return deny(ErrTokenInvalid, "installation_revoked")
	case issued.Before(in.NotBefore):
		return deny(ErrTokenInvalid, "issued_too_early")
	case in.Withdrawn[kid]:
		return deny(ErrTokenInvalid, "key_withdrawn")
	case issuedUnder[ofApplication] != app.generation:
		return deny(ErrTokenInvalid, "application_revoked")
	case issuedUnder[ofUser] != u.generation:
		return deny(ErrTokenInvalid, "user_revoked")
	case issuedUnder[ofGrant] < u.revokedUpTo(app.ID):
		return deny(ErrTokenInvalid, "grant_revoked")
	case !app.Active:
		return deny(ErrInactiveApplication, "application_inactive")
	}
	if err := app.MayDelegate(u.Mail); err != nil {
		return deny(ErrTokenInvalid, Reason(err))
	}
	return nil
}

// isReversible reports whether an operator can undo what makes a token invalid, by
// enabling the application or allowing the domain. Revocations are final.
func isReversible(err error) bool {
	switch Reason(err) {
	case "application_inactive", "mail_denied", "domain_not_allowed":
		return true
	}
	return false
}

// grants reads the state of grants, from memory or from Redis.
type grants struct {
	*core
	installations *installation.Store
	applications  *applications
	users         *users
}

// of returns the state of a token's grant. It uses memory unless memory is older than the
// token. The token is invalid if its application or user was deleted.
func (g *grants) of(ctx context.Context, t *accessToken, now time.Time) (grantState, error) {
	if s, ok := g.remembered(t, now); ok && !t.issuedUnder().after(s.generations()) {
		return s, nil
	}
	return g.read(ctx, t.Application, t.userID(), t.issuedUnder())
}

// remembered returns the state of a token's grant if all of it is in memory.
func (g *grants) remembered(t *accessToken, now time.Time) (s grantState, ok bool) {
	in := g.installations.Remembered()
	app, _ := g.cache.applications.Load(t.Application)
	u := g.cache.user(t.User)
	if in == nil || app == nil || u == nil || outdated(in.Read, now) || outdated(app.read, now) || outdated(u.read, now) {
		return grantState{}, false
	}
	return grantState{in, app, u}, true
}

// grantRecords are the three records of a grantState in Redis.
type grantRecords struct {
	application, user string // ids
	keys              [3]string
	since             [3]memory.Epoch // taken before the records are read
	hashes            []map[string]string
}

// records prepares for reading the records of a grant.
func (g *grants) records(application, user string) grantRecords {
	r := grantRecords{application: application, user: user, keys: [3]string{
		redisdb.KeyInstallation, redisdb.KeyApplication(application), redisdb.KeyUser(user),
	}}
	for i, key := range r.keys {
		r.since[i] = g.cache.epochs.Now(key)
	}
	return r
}

// complete reports whether all records exist and none is older than the token. An older
// one has lost a revocation that may still be restored.
func (r *grantRecords) complete(issuedUnder generations) bool {
	in, app, user := r.hashes[0], r.hashes[1], r.hashes[2]
	return len(app) > 0 && len(user) > 0 && !issuedUnder.after(generations{
		redisdb.ParseUint(in[fieldGeneration]), redisdb.ParseUint(app[fieldGeneration]),
		redisdb.ParseUint(user[fieldGeneration]), redisdb.ParseUint(user[fieldGrantCount]),
	})
}

// read reads the state of a grant from Redis in one round trip. It does not accept records older
// than issuedUnder without proof that the server is the primary.
func (g *grants) read(ctx context.Context, application, user string, issuedUnder generations) (grantState, error) {
	var records grantRecords
	err := g.feed.Read(ctx, "reading what a token depends on", func(ctx context.Context, r feed.Reader) (found bool, err error) {
		records = g.records(application, user)
		if records.hashes, err = redisdb.Hashes(ctx, r, records.keys[:]...); err != nil {
			return false, err
		}
		return records.complete(issuedUnder), nil
	})
	if err != nil {
		return grantState{}, err
	}
	return g.keep(&records)
}

// keep decodes records and puts them into the cache.
func (g *grants) keep(r *grantRecords) (s grantState, err error) {
	if s.installation, err = g.installations.Keep(r.hashes[0], r.since[0]); err != nil {
		return grantState{}, err
	}
	if s.application, err = g.applications.keep(r.application, r.hashes[1], r.since[1]); err != nil {
		return grantState{}, invalidIfGone(err, "application_deleted")
	}
	if s.user, err = g.users.keep(r.user, r.hashes[2], r.since[2]); err != nil {
		return grantState{}, invalidIfGone(err, "user_deleted")
	}
	return s, nil
}

// invalidIfGone makes a token invalid whose application or user does not exist any more.
func invalidIfGone(err error, reason string) error {
	if errors.Is(err, ErrNotFound) {
		return deny(ErrTokenInvalid, reason)
	}
	return err
}

// ofFamily reads the state of a refresh token's grant and checks it. The state is complete
// if only the check fails.
func (g *grants) ofFamily(ctx context.Context, f *family.Family) (grantState, error) {
	s, err := g.read(ctx, f.Application, f.User, f.IssuedUnder)
	if err == nil {
		err = s.check(f.IssuedUnder, f.Since(), "")
	}
	return s, err
}

// readUser reads a user, and the installation in the same round trip.
func (g *grants) readUser(ctx context.Context, id string) (*installation.State, *User, error) {
	keys := [2]string{redisdb.KeyInstallation, redisdb.KeyUser(id)}
	var since [2]memory.Epoch
	var hashes []map[string]string
	err := g.feed.Read(ctx, "reading a user", func(ctx context.Context, r feed.Reader) (found bool, err error) {
		since = [2]memory.Epoch{g.cache.epochs.Now(keys[0]), g.cache.epochs.Now(keys[1])}
		if hashes, err = redisdb.Hashes(ctx, r, keys[:]...); err != nil {
			return false, err
		}
		return len(hashes[1]) > 0, nil
	})
	if err != nil {
		return nil, nil, err
	}
	in, err := g.installations.Keep(hashes[0], since[0])
	if err != nil {
		return nil, nil, err
	}
	u, err := g.users.keep(id, hashes[1], since[1])
	return in, u, err
}

// rememberedUser returns the user with an address, and the installation, if memory has
// both and is current; else nil.
func (g *grants) rememberedUser(m Mail) (*installation.State, *User) {
	in := g.rememberedInstallation()
	if in == nil {
		return nil, nil
	}
	id, _ := g.cache.mails.Load(m)
	u := g.cache.user(userIDOf(id))
	if u == nil || outdated(u.read, g.now()) {
		return nil, nil
	}
	return in, u
}

// rememberedInstallation returns the installation from memory, nil if memory is not current.
func (g *grants) rememberedInstallation() *installation.State {
	in := g.installations.Remembered()
	if in == nil || !g.feed.Fresh() || outdated(in.Read, g.now()) {
		return nil
	}
	return in
}

// installation returns the installation, from memory while that is current.
func (g *grants) installation(ctx context.Context) (*installation.State, error) {
	if in := g.rememberedInstallation(); in != nil {
		return in, nil
	}
	return g.installations.Load(ctx)
}

// Generations identify the state of a grant. Whatever is kept for the grant may be used
// until they change. Each revocation of the grant and each edit of the application changes
// them.
type Generations [6]uint64

// cacheKey returns the Generations of the grant. A user who was never seen (nil) has the
// same as a user who was never revoked.
func (s grantState) cacheKey() Generations {
	g := Generations{s.installation.Generation, uint64(s.installation.NotBefore.UnixMilli()), s.application.generation, s.application.edits}
	if s.user == nil {
		return g
	}
	if s.user.generation != uint64(s.user.FirstSeen.Unix()) {
		g[4] = s.user.generation
	}
	g[5] = s.user.revokedUpTo(s.application.ID)
	return g
}

// Generations returns the generations of a grant, from memory while that is current, and
// whether the address is that of a user. An application that is not registered yet has none
// of its own. The error is ErrUnavailable.
func (g *grants) Generations(ctx context.Context, app *Application, m Mail) (found Generations, seen bool, err error) {
	if in, u := g.rememberedUser(m); u != nil {
		return grantState{in, app, u}.cacheKey(), true, nil
	}
	id, known := g.cache.mails.Load(m)
	if !known {
		if id, err = g.users.index.Find(ctx, m); err != nil {
			return Generations{}, false, err
		}
	}
	s := grantState{application: app}
	if id != "" {
		s.installation, s.user, err = g.readUser(ctx, id)
	}
	if id == "" || errors.Is(err, ErrNotFound) {
		s.installation, err = g.installation(ctx)
	}
	if err != nil {
		return Generations{}, false, err
	}
	if s.user != nil {
		g.cache.mails.Store(s.user.Mail, s.user.ID)
	}
	return s.cacheKey(), id != "", nil
}
