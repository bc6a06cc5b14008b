// SPDX-License-Identifier: MIT

package tokens

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
	"github.com/meet-gateway/meet-gateway/tokens/internal/vault"
)

// An application's record lists its client ids, and that list decides. The index
// mg1:c:<client id> finds the record: an entry names an application, and counts only if
// the record of that application lists the client id.
//
// A client id is taken in three steps. Each touches one key, so they work on a Cluster,
// and a gateway may die after any of them:
//
//  1. the record wants the client id, for wantTime;
//  2. the entry is set to the application, by compare-and-set. Only an entry may be
//     replaced whose application neither lists nor wants the client id;
//  3. the record lists the client id, if it still wants it and is of the version
//     that was read.
//
// So no other application can take the entry after step 1. Every entry has a unique
// value, so compare-and-set notices an entry that was taken again.
//
// A client id is given up by writing the record without it. Then the entry is removed by
// compare-and-delete. An entry that stays does not count, and the next application that
// wants the client id takes it over.

// wantTime is how long a record wants a client id, by the clock of Redis. It is longer
// than taking the entries needs.
const wantTime = 30 * time.Second

// A wanted client id is the field "w:" + client id. Its value is the end of the wish (unix
// milliseconds) and the id of the attempt.

// wantScript adds wanted client ids to a record of the expected version. A record that
// holds nothing else expires with them. ARGV: version, life in ms, attempt, client ids.
var wantScript = redisdb.NewScript(redisNow + `
local version = tonumber(redis.call('HGET', KEYS[1], 'v') or '0')
if version ~= tonumber(ARGV[1]) then return -1 end
for i = 4, #ARGV do redis.call('HSET', KEYS[1], 'w:' .. ARGV[i], string.format('%.0f', now() + tonumber(ARGV[2])) .. ' ' .. ARGV[3]) end
if version == 0 then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 1`)

// unwantScript undoes wantScript. ARGV: attempt, client ids.
var unwantScript = redisdb.NewScript(`
for i = 2, #ARGV do
  local want = redis.call('HGET', KEYS[1], 'w:' .. ARGV[i])
  if want and string.match(want, ' (.*)$') == ARGV[1] then redis.call('HDEL', KEYS[1], 'w:' .. ARGV[i]) end
end
return 1`)

// holdsScript answers a record, and whether it wants a client id.
var holdsScript = redisdb.NewScript(redisNow + `
local have = redis.call('HMGET', KEYS[1], 'd', 'w:' .. ARGV[1])
return {have[1] or '', have[2] and tonumber(string.match(have[2], '^%d+')) > now() and 1 or 0}`)

// takeScript sets an entry that is still as it was found (” if there was none).
// ARGV: that, what it becomes.
var takeScript = redisdb.NewScript(`
local have = redis.call('GET', KEYS[1]) or ''
if have == ARGV[2] then return 1 end
if have ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1`)

// giveBackScript removes an entry that has not changed. ARGV: its value.
var giveBackScript = redisdb.NewScript(`
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])`)

// redisNow defines now, the clock of Redis in unix milliseconds.
const redisNow = `
local function now()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end`

// entryOwner is the application that an entry of the index names, "" for none.
func entryOwner(entry string) string {
	owner, _, _ := strings.Cut(entry, " ")
	return owner
}

// want is one attempt to take client ids for an application.
type want struct {
	ids     *clientIDs
	id      string // of the application
	version int64  // of the record to replace; 0 for a new one
	try     string
	aliases []string
}

// clientIDs keeps the index of client ids.
type clientIDs struct {
	*core
	applications *applications
}

func (c *clientIDs) newWant(id string, version int64, aliases []string) *want {
	return &want{ids: c, id: id, version: version, try: vault.RandomID(vault.TokenID), aliases: aliases}
}

// take takes all the client ids, or none. They are reserved for wantTime, and permanent
// once the record lists them. Errors: ErrConflict, ErrUnavailable.
func (w *want) take(ctx context.Context) error {
	if len(w.aliases) == 0 {
		return nil
	}
	args := []any{w.version, wantTime.Milliseconds(), w.try}
	for _, alias := range w.aliases {
		args = append(args, alias)
	}
	cmd, err := w.ids.feed.Write(ctx, wantScript, redisdb.KeyApplication(w.id), args...)
	if err != nil {
		return unavailable("noting wanted client ids", err)
	}
	if n, _ := cmd.Int64(); n < 0 {
		return fmt.Errorf("application %s: %w", w.id, ErrConflict)
	}
	for _, alias := range w.aliases {
		if err := w.ids.take(ctx, w.id, alias); err != nil {
			w.drop(ctx)
			return err
		}
	}
	return nil
}

// drop gives up client ids that were taken but not listed. If it fails, the next
// application that wants them takes them over.
func (w *want) drop(ctx context.Context) {
	if len(w.aliases) == 0 {
		return
	}
	args := []any{w.try}
	for _, alias := range w.aliases {
		args = append(args, alias)
	}
	if _, err := w.ids.feed.Write(ctx, unwantScript, redisdb.KeyApplication(w.id), args...); err == nil {
		w.ids.release(ctx, w.id, w.aliases)
	}
}

// take points the entry of a client id at an application whose record wants or lists it.
// Errors: ErrConflict, ErrUnavailable.
func (c *clientIDs) take(ctx context.Context, id, alias string) error {
	if vault.IsID(alias, vault.ApplicationID) && alias != id {
		// It could shadow another application's id.
		if _, err := c.applications.read(ctx, alias); err == nil {
			return aliasTaken(alias)
		} else if !errors.Is(err, ErrNotFound) {
			return err
		}
	}
	entry := id + " " + vault.RandomID(vault.TokenID)
	const tries = 10
	for range tries {
		have, err := c.entry(ctx, alias)
		if err != nil {
			return err
		}
		if owner := entryOwner(have); owner != "" && owner != id {
			switch err := c.holds(ctx, owner, alias); {
			case err == nil:
				return aliasTaken(alias)
			case !errors.Is(err, ErrNotFound):
				return err
			}
		}
		cmd, err := c.feed.Write(ctx, takeScript, redisdb.KeyAlias(alias), have, entry)
		if err != nil {
			return unavailable("writing an alias", err)
		}
		if n, _ := cmd.Int64(); n == 1 {
			return nil
		}
	}
	return aliasTaken(alias)
}

func aliasTaken(alias string) error {
	return fmt.Errorf("alias %q belongs to another application: %w", alias, ErrConflict)
}

// holds returns nil if the application's record lists or wants the client id.
// Errors: ErrNotFound, ErrUnavailable.
func (c *clientIDs) holds(ctx context.Context, id, alias string) error {
	const doing = "looking whose an alias is"
	return c.feed.Refuse(ctx, doing, func(ctx context.Context) error {
		have, err := c.db.Eval(ctx, holdsScript, redisdb.KeyApplication(id), alias).Slice()
		if err != nil || len(have) != 2 {
			return unavailable(doing, err)
		}
		if wants, _ := have[1].(int64); wants == 1 {
			return nil
		}
		document, _ := have[0].(string)
		if document == "" {
			return ErrNotFound
		}
		app, err := c.applications.codec.decodeSealed(id, map[string]string{fieldDocument: document})
		if err != nil {
			return err
		}
		if !slices.Contains(app.Aliases, alias) {
			return ErrNotFound
		}
		return nil
	})
}

// release removes the entries of client ids that the application's record neither lists
// nor wants. It reads the entry before the record, so an entry that is taken again in
// between has another value and stays. A left-over entry does not count.
func (c *clientIDs) release(ctx context.Context, id string, aliases []string) {
	for _, alias := range aliases {
		have, err := c.entry(ctx, alias)
		if err != nil || entryOwner(have) != id {
			continue
		}
		if errors.Is(c.holds(ctx, id, alias), ErrNotFound) {
			_ = c.db.Eval(ctx, giveBackScript, redisdb.KeyAlias(alias), have).Err()
		}
	}
}

// repair restores the entries of the client ids that the record lists. Errors: ErrConflict
// if another application has taken one, ErrUnavailable.
func (c *clientIDs) repair(ctx context.Context, app *Application) error {
	for _, alias := range app.Aliases {
		if err := c.take(ctx, app.ID, alias); err != nil {
			return err
		}
	}
	return nil
}

// entry is the entry of a client id, "" if there is none. The error is
// ErrUnavailable.
func (c *clientIDs) entry(ctx context.Context, alias string) (string, error) {
	entry, err := c.db.Get(ctx, redisdb.KeyAlias(alias))
	if err != nil {
		return "", unavailable("reading an alias", err)
	}
	return entry, nil
}
