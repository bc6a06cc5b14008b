// SPDX-License-Identifier: MIT

package tokens

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/meet-gateway/meet-gateway/tokens/grammar"
	"github.com/meet-gateway/meet-gateway/tokens/internal/clientids"
	"github.com/meet-gateway/meet-gateway/tokens/internal/feed"
	"github.com/meet-gateway/meet-gateway/tokens/internal/journal"
	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
	"github.com/meet-gateway/meet-gateway/tokens/internal/secrets"
	"github.com/meet-gateway/meet-gateway/tokens/internal/vault"
)

// registry creates, changes and deletes applications.
type registry struct {
	*core
	applications *applications
	clientIDs    *clientids.Index
	meetClients  *meetClients
}

// CreateApplication registers an application and returns it with its first
// secret, which is not shown again. Fields that the Authority keeps are ignored.
//
// Errors: ErrInvalidApplication, ErrConflict if an alias is taken, ErrUnavailable.
func (r *registry) CreateApplication(ctx context.Context, app Application) (*Application, string, error) {
	return r.CreateApplicationWithSecret(ctx, app, vault.NewSecret(SecretPrefix))
}

// CreateApplicationWithSecret is [Authority.CreateApplication] with a secret that
// [NewClientSecret] has made. Other secrets are refused: the hash of a secret is not slow, so
// it must be long and random.
func (r *registry) CreateApplicationWithSecret(ctx context.Context, app Application, secret string) (*Application, string, error) {
	if !strings.HasPrefix(secret, SecretPrefix) || len(secret) != len(vault.NewSecret(SecretPrefix)) || !ChecksumOK(secret) {
		return nil, "", fmt.Errorf("%w: client_secret: it must be one that \"meet secret new\" made, without a typo", ErrInvalidApplication)
	}
	created, err := r.create(ctx, app, func(n *Application) {
		n.storedSecrets = []secrets.Stored{secrets.New(r.keys, vault.RandomID(8), n.ID, secret, n.Created)}
	})
	if err != nil {
		return nil, "", err
	}
	return created, secret, nil
}

func (r *registry) create(ctx context.Context, app Application, addSecrets func(*Application)) (*Application, error) {
	n := app.clone()
	if err := n.normalise(); err != nil {
		return nil, err
	}
	n.ID = vault.RandomID(vault.ApplicationID)
	n.Created = r.now().UTC().Truncate(time.Millisecond)
	n.Updated = n.Created
	n.Version, n.generation, n.edits, n.NotGranted = 0, 0, 0, nil
	addSecrets(n)
	wanted := r.clientIDs.Want(n.ID, n.Version, n.Aliases)
	if err := wanted.Take(ctx); err != nil {
		return nil, err
	}
	if err := r.meetClients.record(ctx, n); err != nil {
		wanted.Drop(ctx)
		return nil, err
	}
	// The index comes first: lists skip an entry without a record, but cannot find a record
	// without an entry.
	if err := r.applications.addToIndex(ctx, indexMember(n.Name, n.ID)); err != nil {
		wanted.Drop(ctx)
		return nil, err
	}
	// A delay in publishing does no harm, since no client knows the application yet.
	created, err := r.save(ctx, n, wanted)
	if errors.Is(err, errNotSaved) {
		wanted.Drop(ctx)
		_ = r.meetClients.forget(ctx, n) // best effort: a left-over entry does no harm
		_ = r.applications.removeFromIndex(ctx, indexMember(n.Name, n.ID))
	}
	if err != nil && !errors.Is(err, feed.ErrUnpublished) {
		return nil, err
	}
	return created, nil
}

// UpdateApplication changes an application atomically. If it was changed since version,
// nothing is written and the error is ErrConflict. Version 0 accepts any version and
// retries after a conflict. change may be called several times; if it returns an error,
// nothing is written.
//
// Errors: ErrNotFound, ErrConflict, ErrInvalidApplication, ErrUnavailable, and
// that of change.
func (r *registry) UpdateApplication(ctx context.Context, id string, version int64, change func(*Application) error) (*Application, error) {
	app, err := r.change(ctx, id, version, countingEdits(change))
	if err != nil {
		return nil, err
	}
	return app, nil
}

// change is UpdateApplication, but it also returns the application if that was written and a
// later step failed.
func (r *registry) change(ctx context.Context, id string, version int64, change func(*Application) error) (*Application, error) {
	const tries = 10
	for try := 1; ; try++ {
		old, err := r.applications.read(ctx, id)
		if err != nil {
			return nil, err
		}
		if version != 0 && old.Version != version {
			// The caller's version may come from a change that was not published.
			_ = r.feed.Forget(ctx, redisdb.KeyApplication(id)) // retried later if it fails
			return nil, fmt.Errorf("application %s has version %d: %w", id, old.Version, ErrConflict)
		}
		app, err := r.edit(ctx, old, change)
		if !errors.Is(err, ErrConflict) || version != 0 || try == tries {
			return app, err
		}
	}
}

func (r *registry) edit(ctx context.Context, old *Application, change func(*Application) error) (*Application, error) {
	n := old.clone()
	if err := change(n); err != nil {
		return nil, err
	}
	// A caller cannot change these.
	n.ID, n.Version, n.Created, n.generation = old.ID, old.Version, old.Created, old.generation
	n.LastUsed, n.Secrets, n.NotGranted = old.LastUsed, old.Secrets, old.NotGranted
	if err := n.normalise(); err != nil {
		return nil, err
	}
	n.Updated = r.now().UTC().Truncate(time.Millisecond)
	added, removed := without(n.Aliases, old.Aliases), without(old.Aliases, n.Aliases)
	wanted := r.clientIDs.Want(n.ID, n.Version, added)
	if err := wanted.Take(ctx); err != nil {
		return nil, err
	}
	if err := r.prepare(ctx, old, n, removed); err != nil {
		wanted.Drop(ctx)
		return nil, err
	}
	written, err := r.save(ctx, n, wanted)
	if errors.Is(err, errNotSaved) {
		wanted.Drop(ctx)
	}
	if written == nil {
		return nil, err
	}
	r.clientIDs.Release(ctx, n.ID, removed)
	return written, errors.Join(err, r.reindex(ctx, n.ID, indexMember(old.Name, n.ID), indexMember(n.Name, n.ID)))
}

// prepare writes the entries that must exist before a record is written. Left-over entries
// do no harm.
func (r *registry) prepare(ctx context.Context, old, n *Application, removed []string) error {
	if err := r.meetClients.record(ctx, n); err != nil {
		return err
	}
	if err := r.meetClients.markRemoved(ctx, removed...); err != nil {
		return err
	}
	if n.Name == old.Name {
		return nil
	}
	return r.applications.addToIndex(ctx, indexMember(n.Name, n.ID))
}

// reindex replaces the index entry of an application that was renamed. If the application was
// renamed back meanwhile, it restores the old entry.
func (r *registry) reindex(ctx context.Context, id, before, now string) error {
	if before == now {
		return nil
	}
	if err := r.applications.addToIndex(ctx, now); err != nil {
		return err
	}
	if err := r.applications.removeFromIndex(ctx, before); err != nil {
		return err
	}
	app, err := r.applications.read(ctx, id)
	if err != nil || indexMember(app.Name, id) != before {
		return nil //nolint:nilerr // gone or unavailable: nothing to correct
	}
	return r.applications.addToIndex(ctx, before)
}

// countingEdits makes a change count for the application's [Generations]. A change of limits
// alone does not count: it relieves an overloaded Meet, and must not make the gateways fetch
// every token from Meet again.
func countingEdits(change func(*Application) error) func(*Application) error {
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

func without(list, drop []string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return slices.Contains(drop, s) })
}

// saveScript writes a record if it has the expected version and still wants the client ids
// that it is going to list. Finding its own earlier write is a success, since the reply may
// have been lost. It deletes the last uses of other secrets. ARGV: version, document, secrets
// (fields of their last use), client ids.
var saveScript = redisdb.NewScript(clientids.RedisNow + `
local have = redis.call('HMGET', KEYS[1], 'v', 'd')
local version = tonumber(have[1] or '0')
local expected = tonumber(ARGV[1])
if version == expected + 1 and have[2] == ARGV[2] then return version end
if version ~= expected then return -1 end
for i = 4, #ARGV do
  local want = redis.call('HGET', KEYS[1], 'w:' .. ARGV[i])
  if not want or tonumber(string.match(want, '^%d+')) <= now() then return -2 end
end
redis.call('HSET', KEYS[1], 'v', expected + 1, 'd', ARGV[2])
redis.call('PERSIST', KEYS[1])
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
  if string.sub(field, 1, 2) == 'w:' then redis.call('HDEL', KEYS[1], field) end
  if string.sub(field, 1, 2) == 's:' and not string.find(ARGV[3], field, 1, true) then redis.call('HDEL', KEYS[1], field) end
end
return expected + 1`)

// errNotSaved means that a record was certainly not written.
var errNotSaved = errors.New("the record was not written")

// errWantOver means that taking client ids took longer than clientids.WantTime.
var errWantOver = errors.New("taking client ids took too long")

// save replaces the version that n was made from, and publishes the change. wanted are the
// client ids that n adds. It returns the stored application with a nil error or
// feed.ErrUnpublished.
func (r *registry) save(ctx context.Context, n *Application, wanted *clientids.Want) (*Application, error) {
	const doing = "writing an application"
	doc, err := r.applications.codec.encode(n)
	if err != nil {
		return nil, err
	}
	var live strings.Builder
	for _, v := range n.storedSecrets {
		live.WriteString(prefixSecretUsed + v.ID + " ")
	}
	var written *Application
	err = r.feed.Commit(ctx, feed.Commit{
		Doing: doing, Script: saveScript, Key: redisdb.KeyApplication(n.ID), Args: wanted.Args(n.Version, doc, live.String()),
		Outcome: func(reply *redisdb.Reply) ([]journal.Entry, error) {
			version, err := reply.Int64()
			switch {
			case err != nil:
				return nil, unavailable(doing, err)
			case version == -1:
				return nil, fmt.Errorf("application %s: %w: %w", n.ID, ErrConflict, errNotSaved)
			case version == -2:
				return nil, unavailable(doing, fmt.Errorf("%w: %w", errWantOver, errNotSaved))
			}
			written, err = r.written(n, version, doc)
			return editAgain(n, version, doc), err
		},
	})
	if err != nil && !errors.Is(err, feed.ErrUnpublished) {
		return nil, err
	}
	return written, err
}

// listsClientID reports whether the document of an application lists a client id.
func (c *applicationCodec) listsClientID(id, document, clientID string) (bool, error) {
	app, err := c.decodeSealed(id, map[string]string{fieldDocument: document})
	return err == nil && slices.Contains(app.Aliases, clientID), err
}

// written returns the application as stored. It decodes doc rather than reading Redis, so an
// outage cannot lose a secret that was just made.
func (r *registry) written(n *Application, version int64, doc string) (*Application, error) {
	m := map[string]string{
		fieldDocument: doc, fieldVersion: strconv.FormatInt(version, 10),
		fieldGeneration: strconv.FormatUint(n.generation, 10),
	}
	setTime := func(field string, at time.Time) {
		if !at.IsZero() {
			m[field] = strconv.FormatInt(at.UnixMilli(), 10)
		}
	}
	setTime(fieldLastUsed, n.LastUsed)
	for _, s := range n.Secrets {
		setTime(prefixSecretUsed+s.ID, s.LastUsed)
	}
	for _, g := range n.NotGranted {
		field, value := g.field()
		m[field] = value
	}
	return r.applications.codec.decode(n.ID, m)
}

// RotateSecret gives the application a new secret and returns it, once. The previous
// secret keeps working for grace (0: it stops at once); an older one is dropped. Version
// and errors are those of UpdateApplication. After ErrUnavailable the application may have a
// new secret that is lost. With a grace, a delay in publishing is no error.
func (r *registry) RotateSecret(ctx context.Context, id string, version int64, grace time.Duration) (*Application, string, error) {
	secret := vault.NewSecret(SecretPrefix)
	app, err := r.change(ctx, id, version, func(n *Application) error {
		now := r.now()
		live := slices.DeleteFunc(n.storedSecrets, func(v secrets.Stored) bool { return v.Expired(now) })
		n.storedSecrets = []secrets.Stored{secrets.New(r.keys, vault.RandomID(8), id, secret, now)}
		if grace <= 0 || len(live) == 0 {
			return nil
		}
		retiring := live[0]
		end := now.Add(grace).UnixMilli()
		if retiring.Expires == 0 || end < retiring.Expires {
			retiring.Expires = end
		}
		n.storedSecrets = append(n.storedSecrets, retiring)
		return nil
	})
	if app == nil {
		return nil, "", err
	}
	if grace <= 0 && err != nil {
		return nil, "", err // other gateways may still accept the old secret
	}
	// Redis has the new secret, and gateways ask Redis before they refuse a secret.
	return app, secret, nil
}

// deleteScript deletes a record of the expected version, 0 for any. It leaves a mark for
// as long as a gateway that has not heard of the deletion could recreate the application
// (see editAgain). ARGV: version, life of the mark in ms.
var deleteScript = redisdb.NewScript(`
local version = tonumber(redis.call('HGET', KEYS[1], 'v') or '0')
if version == 0 then return 0 end
if ARGV[1] ~= '0' and version ~= tonumber(ARGV[1]) then return -1 end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'gone', 1)
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1`)

// DeleteApplication deletes an application, which ends its secrets and tokens. Version 0
// deletes any version. Errors: ErrNotFound, ErrConflict, ErrUnavailable.
func (r *registry) DeleteApplication(ctx context.Context, id string, version int64) error {
	app, err := r.applications.read(ctx, id)
	if err != nil {
		if errors.Is(err, ErrNotFound) && grammar.IsClientID(id) {
			// An earlier attempt that failed with ErrUnavailable may have deleted it. Without the
			// entry a replay could recreate it.
			_ = r.feed.Forget(ctx, redisdb.KeyApplication(id), deleteAgain(id)) // retried later if it fails
		}
		return err
	}
	// First, so that adoption cannot undo a deletion that fails half-way.
	if err := r.meetClients.markRemoved(ctx, app.clientIDsAtMeet()...); err != nil {
		return err
	}
	const doing = "deleting an application"
	err = r.feed.Commit(ctx, feed.Commit{
		Doing: doing, Script: deleteScript, Key: redisdb.KeyApplication(id), Args: []any{version, (2 * journal.Memory).Milliseconds()},
		Outcome: func(reply *redisdb.Reply) ([]journal.Entry, error) {
			done, err := reply.Int64()
			if err != nil {
				return nil, unavailable(doing, err)
			}
			if done < 0 {
				return nil, fmt.Errorf("application %s: %w", id, ErrConflict)
			}
			// Deleted, now or by a concurrent attempt.
			return []journal.Entry{deleteAgain(id)}, nil
		},
	})
	if errors.Is(err, ErrConflict) {
		_ = r.feed.Forget(ctx, redisdb.KeyApplication(id)) // as in change
	}
	if err != nil {
		return err
	}
	r.clientIDs.Release(ctx, id, app.Aliases)
	if err := r.meetClients.forget(ctx, app); err != nil {
		return err
	}
	return r.applications.removeFromIndex(ctx, indexMember(app.Name, id))
}

// confirmScript writes the version of an unchanged record once more. Replicas that
// acknowledge this write have everything written before it.
var confirmScript = redisdb.NewScript(`
local have = redis.call('HMGET', KEYS[1], 'v', 'd')
if have[1] ~= ARGV[1] or have[2] ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], 'v', have[1])
return 1`)

// ConfirmApplication writes an unchanged application once more, to make it durable: a write
// that failed with ErrUnavailable may be on no replica and in no journal. Errors:
// ErrNotFound, ErrConflict if the application keeps changing, ErrUnavailable.
func (r *registry) ConfirmApplication(ctx context.Context, id string) (*Application, error) {
	const doing, tries = "confirming an application", 10
	for range tries {
		m, err := r.findHash(ctx, "reading an application", redisdb.KeyApplication(id))
		if err != nil {
			return nil, err
		}
		app, err := r.applications.codec.decode(id, m)
		if err != nil {
			return nil, err
		}
		doc := m[fieldDocument]
		var record applicationRecord
		if json.Unmarshal([]byte(doc), &record) == nil && record.inClear() {
			return r.UpdateApplication(ctx, id, app.Version, func(*Application) error { return nil })
		}
		err = r.feed.Commit(ctx, feed.Commit{
			Doing: doing, Script: confirmScript, Key: redisdb.KeyApplication(id), Args: []any{app.Version, doc},
			Outcome: func(reply *redisdb.Reply) ([]journal.Entry, error) {
				if n, _ := reply.Int64(); n == 0 {
					return nil, fmt.Errorf("application %s: %w", id, ErrConflict)
				}
				return editAgain(app, app.Version, doc), nil
			},
		})
		if errors.Is(err, ErrConflict) {
			continue // changed meanwhile
		}
		if err != nil {
			return nil, err
		}
		return app, r.clientIDs.Repair(ctx, app.ID, app.Aliases)
	}
	return nil, fmt.Errorf("application %s: %w", id, ErrConflict)
}
