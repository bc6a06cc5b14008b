// SPDX-License-Identifier: MIT

package tokens

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Redis can lose what it acknowledged: by a failover to a replica that lagged,
// by a restart with a file that lagged, by being restored from an old snapshot,
// by being emptied. Two signs tell:
//
//   - a server is another one than before: it was restarted, or promoted.
//     Whatever this gateway still remembers is then written again, since a few
//     new changes may already have taken the numbers of the lost ones;
//   - the number of changes went back. If this gateway does not remember all of
//     what is missing, it revokes everything issued so far.
//
// Writing again changes nothing where nothing was lost, and it is what every
// gateway does, so one that remembers is enough. A gateway that knows its duty
// and cannot do it does not prove its feed.

// repeatPatience bounds one attempt at writing everything again.
const repeatPatience = 30 * time.Second

// checkServers writes again what servers may have lost that were no primaries
// when this was last asked: they may have been before, and not since.
func (f *feed) checkServers(ctx context.Context) error {
	ids, err := f.a.store.db.Servers(ctx)
	if err != nil {
		return unavailable("finding the primary", err)
	}
	known := func(id string) bool { return slices.Contains(f.servers, id) }
	if len(ids) == 0 || !slices.ContainsFunc(ids, func(id string) bool { return !known(id) }) {
		return nil
	}
	// A gateway that has just started may have heard of a few changes already, which
	// are made sure of. That is no sign that anything is lost.
	if first := len(f.servers) == 0 && f.a.mints.empty(); !first {
		// Noted before the changes are looked at: who adds one later sees it, and makes
		// sure of that change alone.
		f.noteReplaced()
		// Again when all is written: the other gateways begin no later than at their
		// next heartbeat, and need about as long.
		defer f.noteReplaced()
	}
	f.mu.Lock()
	changes := f.recent.all()
	f.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.WithValue(context.WithoutCancel(ctx), restoring{}, true), repeatPatience)
	defer cancel()
	if err := f.repeatAll(ctx, changes); err != nil {
		return err
	}
	if len(f.servers) > 0 {
		f.replacements.Add(1)
	}
	f.servers = ids
	return nil
}

func (f *feed) noteReplaced() {
	f.replaced.Store(int64(time.Since(f.born)))
	f.a.cache.told.InvalidateAll()
}

// repeatAll makes sure of what was just issued and changed, in an order in which
// each finds what it needs: users and families of refresh tokens, then the changes
// to them, and records of tokens last, so that none of a token that was revoked
// meanwhile is live even for a moment. The context is a restoring one.
func (f *feed) repeatAll(ctx context.Context, changes []change) error {
	if err := f.a.bornAgain(ctx); err != nil {
		return err
	}
	if err := f.a.replayJournal(ctx); err != nil {
		return err
	}
	for _, c := range changes {
		if err := f.a.repeat(ctx, c); err != nil {
			return err
		}
	}
	return f.a.recordAgain(ctx)
}

// writeAgain restores what Redis lost that knows no number above number. It reports
// whether that was acknowledged.
func (f *feed) writeAgain(ctx context.Context, number, known uint64) bool {
	f.mu.Lock()
	// All, since new changes have taken the first of the numbers that were lost.
	lost, complete := f.recent.all(), f.recent.complete(number, known)
	f.mu.Unlock()
	// The server is the same: it was emptied, or set back, by somebody. What is not
	// there any more is not made again.
	lost = slices.DeleteFunc(lost, func(c change) bool { return c.version() == createdVersion })
	f.a.cache.dropAll()
	f.noteReplaced()
	defer f.noteReplaced()
	ctx, cancel := context.WithTimeout(context.WithValue(ctx, restoring{}, true), repeatPatience)
	defer cancel()
	if err := f.repeatAll(ctx, lost); err != nil {
		return false
	}
	if !complete {
		if err := f.a.revokeEverything(ctx); err != nil {
			return false
		}
	}
	if err := raiseScript.Run(ctx, f.a.store.rdb, []string{keyFeed}, known).Err(); err != nil {
		return false
	}
	// The other gateways find the number as they know it and would go on with
	// what they remember.
	if err := f.tell(ctx, change{changedEverything, lostChanges, "-"}); err != nil {
		return false
	}
	f.mu.Lock()
	f.heardTo = max(f.heardTo, known)
	f.mu.Unlock()
	f.a.cache.dropAll() // what was said meanwhile had numbers that were used before
	f.a.observer.StoreRolledBack(int64(known-number), complete)
	return true
}

// repeatRevokedScript marks a token's record as revoked. A record that is not
// there is made: some other gateway may remember the token and record it again.
var repeatRevokedScript = redis.NewScript(`
local state = redis.call('GETRANGE', KEYS[1], 0, 0)
if state == '' then
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
  return 1
end
if state == string.sub(ARGV[2], 1, 1) then return 0 end
redis.call('SETRANGE', KEYS[1], 0, ARGV[1])
return 1`)

// laterIfScript is laterScript for a record that must (still) have a field.
var laterIfScript = redis.NewScript(`
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end
local have = tonumber(redis.call('HGET', KEYS[1], ARGV[2]) or '0')
if have >= tonumber(ARGV[3]) then return 0 end
redis.call('HSET', KEYS[1], ARGV[2], ARGV[3])
return 1`)

// repeat writes a change again that Redis may have lost, and tells everybody if
// it had.
func (a *Authority) repeat(ctx context.Context, c change) error {
	var cmd *redis.Cmd
	var err error
	if c.value == unknownValue && c.kind != changedApplication {
		return nil // it was never known to have been made
	}
	switch c.kind {
	case revokedToken:
		cmd, err = a.repeatRevoked(ctx, c)
	case revokedApplication:
		cmd, err = a.store.write(ctx, laterIfScript, keyApplication(c.id), fieldVersion, fieldGeneration, c.value)
	case revokedUser:
		cmd, err = a.store.write(ctx, laterIfScript, keyUser(c.id), fieldMail, fieldGeneration, c.value)
	case revokedGrant:
		user, app, _ := strings.Cut(c.id, "/")
		cmd, err = a.store.write(ctx, revokeGrantScript, keyUser(user), app, maxGrants, c.value)
	case revokedFamily:
		cmd, err = a.store.write(ctx, repeatEndScript, keyFamily(c.id), c.value, maxLifetime.Milliseconds())
	case revokedInstallation:
		cmd, err = a.store.write(ctx, laterScript, keyInstallation, fieldGeneration, c.value)
	case revokedBefore:
		cmd, err = a.store.write(ctx, laterScript, keyInstallation, fieldNotBefore, c.value)
	case withdrawnKey:
		cmd, err = a.store.write(ctx, laterScript, keyInstallation, prefixWithdrawn+c.id, c.value)
	case changedApplication:
		return a.repeatEdit(ctx, c)
	case changedAlias, changedUser, changedEverything:
		return nil
	default:
		return nil // of a later version: those who made it know what to do
	}
	if err != nil {
		return unavailable("writing a lost change again", err)
	}
	if n, _ := cmd.Int64(); n == 0 {
		return nil // it was not lost
	}
	return a.publish(ctx, c)
}

// repeatEndScript ends a family that has not ended. For one that is not there a mark
// is put: the gateway that gave its first token may have to record it again. ARGV:
// when it ended, life of the mark in ms.
var repeatEndScript = redis.NewScript(`
local lost = redis.call('HSETNX', KEYS[1], 'end', ARGV[1])
if redis.call('HEXISTS', KEYS[1], 'cur') == 1 then return lost end
if lost == 1 then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 0`)

func (a *Authority) repeatRevoked(ctx context.Context, c change) (*redis.Cmd, error) {
	mark := revokedMark(c.value)
	if mark == nil {
		return redis.NewCmdResult(int64(0), nil), nil
	}
	return a.store.write(ctx, repeatRevokedScript, c.id, string([]byte{recordRevoked}), mark, maxLifetime.Milliseconds())
}

// repeatEditScript writes an application's record if an older one is there.
var repeatEditScript = redis.NewScript(`
local have = tonumber(redis.call('HGET', KEYS[1], 'v') or '0')
if have == 0 or have >= tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'v', ARGV[1], 'd', ARGV[2])
return 1`)

// createAgainScript writes an application's record if none is there, and none was
// deleted lately.
var createAgainScript = redis.NewScript(`
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('HSET', KEYS[1], 'v', ARGV[1], 'd', ARGV[2])
return 1`)

// createAgain restores an application that is lost and so new that whoever
// created it has only just been told. One that was there for longer is missing
// for another reason, which is for operators to mend.
func (a *Authority) createAgain(ctx context.Context, c change, e edit) error {
	app, err := a.decodeApplication(c.id, map[string]string{fieldDocument: e.document, fieldVersion: strconv.FormatInt(e.version, 10)})
	if err != nil || a.now().Sub(app.Created) > mintMemory {
		return nil //nolint:nilerr // it cannot be read, and so not be used either
	}
	n, err := a.store.rdb.Exists(ctx, keyApplication(app.ID)).Result()
	if err != nil {
		return unavailable("looking for a deleted application", err)
	}
	if n > 0 {
		return nil
	}
	if err := a.noteBackend(ctx, app); err != nil {
		return err
	}
	if err := a.store.rdb.ZAdd(ctx, keyIndex, redis.Z{Member: indexMember(app.Name, app.ID)}).Err(); err != nil {
		return unavailable("writing the index of applications", err)
	}
	if _, err := a.store.write(ctx, createAgainScript, keyApplication(app.ID), e.version, e.document); err != nil {
		return unavailable("writing a lost change again", err)
	}
	// What another application has taken meanwhile stays with it.
	if err := a.repairAliases(ctx, app); err != nil && !errors.Is(err, ErrConflict) {
		return err
	}
	return a.publish(ctx, edited(app, e.version))
}

// repeatEdit restores the last edit of an application if it is lost. If it is not
// remembered any more what that was, the tokens that it could have ended are
// ended, and an application that was disabled or deleted is disabled.
func (a *Authority) repeatEdit(ctx context.Context, c change) error {
	deleted := c.value == deletedVersion
	a.feed.mu.Lock()
	e, known := a.feed.edits.byID[c.id]
	a.feed.mu.Unlock()
	app, err := a.readApplication(ctx, c.id)
	if errors.Is(err, ErrNotFound) {
		if !known || c.version() != createdVersion {
			return nil
		}
		return a.createAgain(ctx, c, e)
	}
	if err != nil {
		return err
	}
	versionText, off, _ := strings.Cut(c.value, "/")
	want, _ := strconv.ParseInt(versionText, 10, 64)
	if !deleted && app.Version >= want {
		return nil
	}
	if known && e.version >= want && !deleted {
		if _, err := a.store.write(ctx, repeatEditScript, keyApplication(c.id), e.version, e.document); err != nil {
			return unavailable("writing a lost change again", err)
		}
		restored, err := a.readApplication(ctx, c.id)
		if err == nil {
			err = a.repairAliases(ctx, restored)
		}
		if err != nil && !errors.Is(err, ErrConflict) && !errors.Is(err, ErrNotFound) {
			return err
		}
		return a.publish(ctx, c)
	}
	if (off != "" || deleted) && app.Active {
		_, err := a.UpdateApplication(ctx, c.id, 0, func(n *Application) error { n.Active = false; return nil })
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
	}
	return a.RevokeApplication(ctx, c.id)
}
