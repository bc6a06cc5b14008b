// SPDX-License-Identifier: MIT

package tokens

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/meet-gateway/meet-gateway/tokens/internal/installation"
	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
)

// Generations tell whether what is kept for a grant may still be used: it may while
// they are what they were. They change with each revocation that concerns the grant,
// and with each edit of the application.
type Generations [6]uint64

// generationsOf returns the generations of a grant. u is nil for a user who was never
// seen: the result is then the same as for a user who was never revoked.
func generationsOf(in *installation.State, app *Application, u *User) Generations {
	g := Generations{in.Generation, uint64(in.NotBefore.UnixMilli()), app.generation, app.edits}
	if u == nil {
		return g
	}
	if u.generation != uint64(u.FirstSeen.Unix()) {
		g[4] = u.generation
	}
	g[5] = u.revokedUpTo(app.ID)
	return g
}

// Generations returns the generations of a grant, from memory while that is known to
// be current. An application that is not registered yet has none of its own. Errors:
// ErrUnavailable.
func (c *circumstances) Generations(ctx context.Context, app *Application, m Mail) (Generations, error) {
	id, known := c.cache.mails.GetIfPresent(m)
	if known && c.feed.Fresh() {
		now := c.now()
		in := c.installations.Remembered()
		u, _ := c.cache.users.GetIfPresent(id)
		if in != nil && u != nil && !outdated(in.Read, now) && !outdated(u.read, now) {
			return generationsOf(in, app, u), nil
		}
	}
	var err error
	if !known {
		if id, err = c.users.findID(ctx, m); err != nil {
			return Generations{}, err
		}
	}
	var in *installation.State
	var u *User
	if id != "" {
		in, u, err = c.readUser(ctx, id)
	}
	if id == "" || errors.Is(err, ErrNotFound) {
		in, err = c.installations.Load(ctx)
	}
	if err != nil {
		return Generations{}, err
	}
	if u != nil {
		c.cache.mails.Set(m, id)
	}
	return generationsOf(in, app, u), nil
}

// counted makes a change of an application one that its generations tell of. A
// change of limits alone is not: it is how Meet is relieved, and must not have
// everything that is kept fetched from Meet again.
func counted(change func(*Application) error) func(*Application) error {
	return func(n *Application) error {
		before := n.clone()
		if err := change(n); err != nil {
			return err
		}
		before.Limits = n.Limits
		if !reflect.DeepEqual(before, n) {
			n.edits++
		}
		return nil
	}
}

// NotGranted are scopes of an application that a Meet did not grant it when it was
// last asked for a token: the tokens of the application lack them.
type NotGranted struct {
	// Meet is the host of that Meet.
	Meet   string    `json:"meet"`
	Scopes Scopes    `json:"scopes"`
	Since  time.Time `json:"since"`
}

// prefixNotGranted + host, in applications: unix milliseconds and scopes, as
// notGrantedScript writes them.
const prefixNotGranted = "m:"

// notGrantedScript keeps what was not granted, and since when. ARGV: field, now, scopes.
var notGrantedScript = redisdb.NewScript(`
if redis.call('HEXISTS', KEYS[1], 'd') == 0 then return 0 end
if ARGV[3] == '' then return redis.call('HDEL', KEYS[1], ARGV[1]) end
local have = redis.call('HGET', KEYS[1], ARGV[1])
if have and string.match(have, '^%d+ (.*)$') == ARGV[3] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ' ' .. ARGV[3])
return 1`)

// NoteGranted notes what a Meet has just granted of the scopes that an application
// was to have there, so that operators see what is missing. It does so in the
// background, and only if that has changed.
func (r *registry) NoteGranted(app *Application, meet string, wanted, granted Scopes) {
	missing := slices.DeleteFunc(slices.Clone(wanted), granted.Has)
	known := slices.IndexFunc(app.NotGranted, func(n NotGranted) bool { return n.Meet == meet })
	if known < 0 && len(missing) == 0 || known >= 0 && slices.Equal(app.NotGranted[known].Scopes, missing) {
		return
	}
	r.background.Go(func(ctx context.Context) {
		done, err := r.db.Eval(ctx, notGrantedScript, redisdb.KeyApplication(app.ID),
			prefixNotGranted+meet, r.now().UnixMilli(), missing.String()).Int64()
		switch {
		case err != nil: // the next exchange tries again
		case done > 0:
			_ = r.feed.Forget(ctx, redisdb.KeyApplication(app.ID)) // it is done later if it fails
		default:
			r.cache.forget(redisdb.KeyApplication(app.ID)) // another gateway has written it
		}
	})
}

// notGranted reads what NoteGranted wrote, of the scopes that the application has.
func notGranted(m map[string]string, has Scopes) []NotGranted {
	var list []NotGranted
	for field, value := range m {
		meet, ok := strings.CutPrefix(field, prefixNotGranted)
		if !ok {
			continue
		}
		since, names, _ := strings.Cut(value, " ")
		scopes, err := NewScopes(strings.Fields(names)...)
		if missing := scopes.Intersect(has); err == nil && len(missing) > 0 {
			list = append(list, NotGranted{Meet: meet, Scopes: missing, Since: parseInstant(since)})
		}
	}
	slices.SortFunc(list, func(a, b NotGranted) int { return strings.Compare(a.Meet, b.Meet) })
	return list
}

// field is how it is stored.
func (n NotGranted) field() (name, value string) {
	return prefixNotGranted + n.Meet, strconv.FormatInt(n.Since.UnixMilli(), 10) + " " + n.Scopes.String()
}

// warning says what an operator can do about it.
func (n NotGranted) warning() string {
	return fmt.Sprintf("Meet at %s has not granted %s since %s: tokens lack it; tick it in Meet's admin for the application that is presented there, then edit this application or revoke its tokens",
		n.Meet, n.Scopes, n.Since.Format(time.RFC3339))
}
