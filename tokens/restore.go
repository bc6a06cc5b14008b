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

// editAgain writes an edit again where it was lost, and an application that is lost
// as a whole within a minute of its creation: whoever was just given its secret must
// not be refused. Where the edit is remembered no more, its fallback stays.
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

// editAgainScript writes an application's record if an older one is there, or none and
// none was deleted lately. One that is as it should be, and new, is answered as well:
// what it is found by may be lost. ARGV: for how long from now it may be made, in ms;
// version, document.
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
const closeApplication = countUp + `
local function close(off)
  up('g')
  if off then
    local document = string.gsub(redis.call('HGET', KEYS[1], 'd'), '"active":%a+', '"active":false', 1)
    redis.call('HSET', KEYS[1], 'd', document)
  end
end`

// closeAgainScript is for an edit that is lost and remembered no more: it ends the
// tokens that the edit could have ended, and disables the application if the edit did.
// ARGV: version, "1" if it was disabled.
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

// deleteAgain takes the place of the edits of an application.
func deleteAgain(id string) journal.Entry {
	key := redisdb.KeyApplication(id)
	return journal.Entry{Rank: journal.Edits, Name: key, Version: math.MaxInt64, Key: key, Script: deleteAgainScript}
}

// feedDomain is what the feed sees of an Authority.
type feedDomain struct{ *Authority }

// Forget implements [feed.Domain], as the following do.
func (d feedDomain) Forget(key string) {
	d.cache.forget(key)
	if key == redisdb.KeyInstallation {
		d.installations.Forget()
	}
}

func (d feedDomain) ForgetAll() {
	d.cache.dropAll()
	d.installations.Forget()
}

// Restored mends what an application is found by, and what belongs to an address that
// has two ids.
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
		return nil //nolint:nilerr // it cannot be read, and so not be used either
	}
	if err := r.meetClients.note(ctx, app); err != nil {
		return err
	}
	if err := r.db.AddSorted(ctx, redisdb.KeyIndex, indexMember(app.Name, app.ID)); err != nil {
		return unavailable("writing the index of applications", err)
	}
	// What another application has taken meanwhile stays with it.
	if err := r.clientIDs.repair(ctx, app); err != nil && !errors.Is(err, ErrConflict) {
		return err
	}
	return nil
}
