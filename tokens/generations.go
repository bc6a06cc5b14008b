// SPDX-License-Identifier: MIT

package tokens

import (
	"context"
	"errors"
	"reflect"

	"github.com/meet-gateway/meet-gateway/tokens/internal/installation"
	"github.com/meet-gateway/meet-gateway/tokens/internal/journal"
	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
)

// generations are those that a token was issued under. If one of them was counted up
// since, the token is revoked.
type generations struct{ installation, application, user, grant uint64 }

// list is how they are stored with a family of refresh tokens.
func (g generations) list() [4]uint64 {
	return [4]uint64{g.installation, g.application, g.user, g.grant}
}

func generationsFrom(l [4]uint64) generations { return generations{l[0], l[1], l[2], l[3]} }

// after reports whether any of them is later than in o, which is then out of date.
func (g generations) after(o generations) bool {
	return g.installation > o.installation || g.application > o.application || g.user > o.user || g.grant > o.grant
}

// Generations identify the state of a grant. Whatever is kept for the grant may be used
// until they change, which each revocation of the grant and each edit of the application
// does.
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
// be current, and whether the address is that of a user. An application that is not
// registered yet has none of its own. Errors: ErrUnavailable.
func (c *circumstances) Generations(ctx context.Context, app *Application, m Mail) (g Generations, seen bool, err error) {
	in, u := c.remembered(m)
	if u != nil {
		return generationsOf(in, app, u), true, nil
	}
	id, known := c.cache.mails.GetIfPresent(m)
	if !known {
		if id, err = c.users.index.Find(ctx, m); err != nil {
			return Generations{}, false, err
		}
	}
	if id != "" {
		in, u, err = c.readUser(ctx, id)
	}
	if id == "" || errors.Is(err, ErrNotFound) {
		in, err = c.installation(ctx)
	}
	if err != nil {
		return Generations{}, false, err
	}
	if u != nil {
		c.cache.mails.Set(m, id)
	}
	return generationsOf(in, app, u), id != "", nil
}

// counted makes a change of an application count for its [Generations]. A change of
// limits alone does not count: it relieves an overloaded Meet, and must not make the
// gateways fetch every token from Meet again.
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

// countUp defines up, which counts a generation up, at least to the current second. Even a
// generation that Redis has lost then never returns to a value that tokens were issued
// under.
const countUp = `
local function up(field)
  local value = math.max(tonumber(redis.call('HGET', KEYS[1], field) or '0') + 1, tonumber(redis.call('TIME')[1]))
  redis.call('HSET', KEYS[1], field, string.format('%.0f', value))
  return value
end`

// bumpScript counts a generation up if the hash (still) has the first given
// field, and answers the new value, or 0.
var bumpScript = redisdb.NewScript(countUp + `
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end
return up(ARGV[2])`)

// countScript counts a field of a hash up.
var countScript = redisdb.NewScript(countUp + `
return up(ARGV[1])`)

// laterIfScript is [installation.Raise] for a record that must (still) have a field.
var laterIfScript = journal.NewScript(`
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end
local have = tonumber(redis.call('HGET', KEYS[1], ARGV[2]) or '0')
if have >= tonumber(ARGV[3]) then return 0 end
redis.call('HSET', KEYS[1], ARGV[2], ARGV[3])
return 1`)
