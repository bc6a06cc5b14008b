// SPDX-License-Identifier: MIT

// Package clientids keeps the index that finds an application by a client id.
//
// Before an application is written with new client ids, [Index.Want] and [Want.Take] take
// them. [Want.Drop] gives them up if it is not written. [Index.Release] gives up those that
// an application does not list any more.
//
// An application's record lists its client ids, and that list decides. The index
// mg1:c:<client id> finds the record: an entry names an application, and counts only if
// the record of that application lists the client id.
//
// A client id is taken in three steps. Each touches one key, so they work on a Cluster,
// and a gateway may die after any of them:
//
//  1. The record wants the client id, for [WantTime].
//  2. The entry is set to the application, by compare-and-set. An entry of another
//     application is replaced only if that one neither lists nor wants the client id.
//  3. The record lists the client id, if it still wants it and has the version that was
//     read.
//
// So no other application can take the entry after step 1. Every entry has a unique
// value, so compare-and-set notices an entry that was taken again.
//
// To give up a client id, the record is written without it, and then the entry is removed by
// compare-and-delete. An entry that is left over does not count, and the next application
// that wants the client id takes it over.
package clientids

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/meet-gateway/meet-gateway/tokens/internal/failure"
	"github.com/meet-gateway/meet-gateway/tokens/internal/feed"
	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
	"github.com/meet-gateway/meet-gateway/tokens/internal/vault"
)

// WantTime is how long a record wants a client id, by the clock of Redis. It is longer
// than taking the entries needs.
const WantTime = 30 * time.Second

// A wanted client id is the field "w:" + client id. Its value is when the want ends (unix
// milliseconds), and the id of the attempt.

// wantScript adds wanted client ids to a record of the expected version. A record that
// holds nothing else expires with them. ARGV: version, life in ms, attempt, client ids.
var wantScript = redisdb.NewScript(RedisNow + `
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
var holdsScript = redisdb.NewScript(RedisNow + `
local have = redis.call('HMGET', KEYS[1], 'd', 'w:' .. ARGV[1])
return {have[1] or '', have[2] and tonumber(string.match(have[2], '^%d+')) > now() and 1 or 0}`)

// TakeScript replaces an entry that has not changed. It is exported for tests. ARGV: its
// value, "" if there was none; the new value.
var TakeScript = redisdb.NewScript(`
local have = redis.call('GET', KEYS[1]) or ''
if have == ARGV[2] then return 1 end
if have ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1`)

// GiveBackScript removes an entry that has not changed. It is exported for tests. ARGV: its
// value.
var GiveBackScript = redisdb.NewScript(`
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])`)

// RedisNow is Lua that defines now, the clock of Redis in unix milliseconds.
const RedisNow = `
local function now()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end`

// Owner returns the application that an entry of the index names, "" for none.
func Owner(entry string) string {
	owner, _, _ := strings.Cut(entry, " ")
	return owner
}

// Index is the index of client ids.
type Index struct {
	db     *redisdb.DB
	feed   *feed.Feed
	exists func(ctx context.Context, id string) error
	lists  func(id, document, clientID string) (bool, error)
}

// New makes an index. exists returns ErrNotFound if no application has an id. lists reports
// whether the document of an application lists a client id.
func New(db *redisdb.DB, f *feed.Feed, exists func(ctx context.Context, id string) error, lists func(id, document, clientID string) (bool, error)) *Index {
	return &Index{db: db, feed: f, exists: exists, lists: lists}
}

// Want is one attempt to take client ids for an application.
type Want struct {
	index     *Index
	id        string // of the application
	version   int64  // of the record to replace; 0 for a new one
	attempt   string
	clientIDs []string
}

// Want prepares to take client ids for an application. version is that of the record to
// replace, 0 for a new one.
func (x *Index) Want(id string, version int64, clientIDs []string) *Want {
	return &Want{index: x, id: id, version: version, attempt: vault.RandomID(vault.TokenID), clientIDs: clientIDs}
}

// Args appends the client ids to arguments of a script.
func (w *Want) Args(args ...any) []any {
	for _, id := range w.clientIDs {
		args = append(args, id)
	}
	return args
}

// Take takes all the client ids, or none. They are reserved for WantTime, and permanent
// once the record lists them. Errors: ErrConflict, ErrUnavailable.
func (w *Want) Take(ctx context.Context) error {
	if len(w.clientIDs) == 0 {
		return nil
	}
	args := w.Args(w.version, WantTime.Milliseconds(), w.attempt)
	cmd, err := w.index.feed.Write(ctx, wantScript, redisdb.KeyApplication(w.id), args...)
	if err != nil {
		return failure.Unavailable("noting wanted client ids", err)
	}
	if n, _ := cmd.Int64(); n < 0 {
		return fmt.Errorf("application %s: %w", w.id, failure.ErrConflict)
	}
	for _, clientID := range w.clientIDs {
		if err := w.index.take(ctx, w.id, clientID); err != nil {
			w.Drop(ctx)
			return err
		}
	}
	return nil
}

// Drop gives up client ids that were taken but not listed. If it fails, the next
// application that wants them takes them over.
func (w *Want) Drop(ctx context.Context) {
	if len(w.clientIDs) == 0 {
		return
	}
	if _, err := w.index.feed.Write(ctx, unwantScript, redisdb.KeyApplication(w.id), w.Args(w.attempt)...); err == nil {
		w.index.Release(ctx, w.id, w.clientIDs)
	}
}

// take points the entry of a client id at an application whose record wants or lists it.
// Errors: ErrConflict, ErrUnavailable.
func (x *Index) take(ctx context.Context, id, clientID string) error {
	if vault.IsID(clientID, vault.ApplicationID) && clientID != id {
		// It would hide the application that has it as its id.
		if err := x.exists(ctx, clientID); err == nil {
			return taken(clientID)
		} else if !errors.Is(err, failure.ErrNotFound) {
			return err
		}
	}
	entry := id + " " + vault.RandomID(vault.TokenID)
	const tries = 10
	for range tries {
		have, err := x.Entry(ctx, clientID)
		if err != nil {
			return err
		}
		if owner := Owner(have); owner != "" && owner != id {
			switch err := x.holds(ctx, owner, clientID); {
			case err == nil:
				return taken(clientID)
			case !errors.Is(err, failure.ErrNotFound):
				return err
			}
		}
		cmd, err := x.feed.Write(ctx, TakeScript, redisdb.KeyAlias(clientID), have, entry)
		if err != nil {
			return failure.Unavailable("writing an alias", err)
		}
		if n, _ := cmd.Int64(); n == 1 {
			return nil
		}
	}
	return taken(clientID)
}

func taken(clientID string) error {
	return fmt.Errorf("alias %q belongs to another application: %w", clientID, failure.ErrConflict)
}

// holds returns nil if the application's record lists or wants the client id.
// Errors: ErrNotFound, ErrUnavailable.
func (x *Index) holds(ctx context.Context, id, clientID string) error {
	const doing = "looking whose an alias is"
	return x.feed.Refuse(ctx, doing, func(ctx context.Context) error {
		have, err := x.db.Eval(ctx, holdsScript, redisdb.KeyApplication(id), clientID).Slice()
		if err != nil || len(have) != 2 {
			return failure.Unavailable(doing, err)
		}
		if wants, _ := have[1].(int64); wants == 1 {
			return nil
		}
		document, _ := have[0].(string)
		if document == "" {
			return failure.ErrNotFound
		}
		lists, err := x.lists(id, document, clientID)
		if err == nil && !lists {
			err = failure.ErrNotFound
		}
		return err
	})
}

// Release removes the entries of client ids that the application's record neither lists nor
// wants. It reads the entry before the record: an entry that is taken again in between has
// another value and stays.
func (x *Index) Release(ctx context.Context, id string, clientIDs []string) {
	for _, clientID := range clientIDs {
		have, err := x.Entry(ctx, clientID)
		if err != nil || Owner(have) != id {
			continue
		}
		if errors.Is(x.holds(ctx, id, clientID), failure.ErrNotFound) {
			_ = x.db.Eval(ctx, GiveBackScript, redisdb.KeyAlias(clientID), have).Err()
		}
	}
}

// Repair restores the entries of the client ids that an application lists. Errors: ErrConflict
// if another application has taken one, ErrUnavailable.
func (x *Index) Repair(ctx context.Context, id string, clientIDs []string) error {
	for _, clientID := range clientIDs {
		if err := x.take(ctx, id, clientID); err != nil {
			return err
		}
	}
	return nil
}

// Entry returns the entry of a client id, "" if there is none. The error is ErrUnavailable.
func (x *Index) Entry(ctx context.Context, clientID string) (string, error) {
	entry, err := x.db.Get(ctx, redisdb.KeyAlias(clientID))
	if err != nil {
		return "", failure.Unavailable("reading an alias", err)
	}
	return entry, nil
}
