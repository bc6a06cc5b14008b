// SPDX-License-Identifier: MIT

package tokens

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/meet-gateway/meet-gateway/tokens/internal/journal"
	"github.com/meet-gateway/meet-gateway/tokens/internal/mailindex"
	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
)

// editAgain returns the journal entries that repeat an edit. They also recreate an
// application that is lost within a minute of its creation, so that a client that was just
// given its secret is not refused. The fallback outlives the edit in the journal.
func editAgain(n *Application, version int64, doc string) []journal.Entry {
	key := redisdb.KeyApplication(n.ID)
	return []journal.Entry{
		{
			Rank: journal.Edits, Name: key, Version: version, Key: key, Script: editAgainScript, Args: []any{version, doc},
			Expires: n.Created.Add(journal.Memory), Stays: true,
		},
		{Rank: journal.Fallbacks, Name: key, Version: version, Key: key, Script: closeAgainScript, Args: []any{version, map[bool]int{true: 1}[!n.Active]}},
	}
}

// editAgainScript replaces an older record of an application, or creates the record if
// the application is new and was not deleted lately. It also answers 1 if it finds a new
// record unchanged, because the index entries may be lost. ARGV: for how long it may be
// created, in ms; version, document.
var editAgainScript = journal.NewScript(`
local have, want = tonumber(redis.call('HGET', KEYS[1], 'v') or '0'), tonumber(ARGV[2])
local new = ARGV[1] ~= '0'
if have == want and new then return 1 end
if have >= want or have == 0 and (not new or redis.call('HEXISTS', KEYS[1], 'gone') == 1) then return 0 end
redis.call('HSET', KEYS[1], 'v', ARGV[2], 'd', ARGV[3])
redis.call('PERSIST', KEYS[1])
return 1`)

// closeApplication defines close, which ends the tokens of an application, and
// disables it if asked to.
const closeApplication = luaUp + `
local function close(off)
  up('g')
  if off then
    local document = string.gsub(redis.call('HGET', KEYS[1], 'd'), '"active":%a+', '"active":false', 1)
    redis.call('HSET', KEYS[1], 'd', document)
  end
end`

// closeAgainScript is the fallback for a lost edit that the journal has dropped: it ends
// the tokens that the edit may have ended, and disables the application if the edit did.
// ARGV: version, "1" if the edit disabled it.
var closeAgainScript = journal.NewScript(closeApplication + `
local have = tonumber(redis.call('HGET', KEYS[1], 'v') or '0')
if have == 0 or have >= tonumber(ARGV[1]) then return 0 end
close(ARGV[2] == '1')
redis.call('HSET', KEYS[1], 'v', ARGV[1])
return 1`)

// deleteAgainScript disables an application whose deletion was lost, once, and ends
// its tokens.
var deleteAgainScript = journal.NewScript(closeApplication + `
if redis.call('HEXISTS', KEYS[1], 'v') == 0 or redis.call('HSETNX', KEYS[1], 'gone', 1) == 0 then return 0 end
close(true)
redis.call('HINCRBY', KEYS[1], 'v', 1)
return 1`)

// deleteAgain replaces the entries of an application's edits.
func deleteAgain(id string) journal.Entry {
	key := redisdb.KeyApplication(id)
	return journal.Entry{Rank: journal.Edits, Name: key, Version: math.MaxInt64, Key: key, Script: deleteAgainScript}
}

// feedDomain implements [feed.Domain] for an Authority.
type feedDomain struct{ *Authority }

// Forget drops a key from memory.
func (d feedDomain) Forget(key string) {
	d.cache.forget(key)
	if key == redisdb.KeyInstallation {
		d.installations.Forget()
	}
}

// ForgetAll drops everything from memory.
func (d feedDomain) ForgetAll() {
	d.cache.dropAll()
	d.installations.Forget()
}

// Restored repairs the index entries of an application that was restored, and links two users
// of one address.
func (d feedDomain) Restored(ctx context.Context, e journal.Entry) error {
	switch e.Script {
	case mailindex.ClaimAgainScript:
		return d.users.contested(ctx, e.Key, fmt.Sprint(e.Args[0]))
	case editAgainScript:
		return d.registry.restored(ctx, e.Key)
	}
	return nil
}

func (r *registry) restored(ctx context.Context, key string) error {
	m, err := r.findHash(ctx, "reading an application", key)
	if err != nil {
		return err
	}
	app, err := r.applications.codec.decode(strings.TrimPrefix(key, redisdb.KeyApplication("")), m)
	if err != nil {
		return nil //nolint:nilerr // unreadable, so it cannot be used
	}
	if err := r.meetClients.record(ctx, app); err != nil {
		return err
	}
	if err := r.applications.addToIndex(ctx, indexMember(app.Name, app.ID)); err != nil {
		return err
	}
	// A client id stays with another application that has taken it meanwhile.
	if err := r.clientIDs.Repair(ctx, app.ID, app.Aliases); err != nil && !errors.Is(err, ErrConflict) {
		return err
	}
	return nil
}
