// SPDX-License-Identifier: MIT

package tokens

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/meet-gateway/meet-gateway/tokens/internal/feed"
	"github.com/meet-gateway/meet-gateway/tokens/internal/installation"
	"github.com/meet-gateway/meet-gateway/tokens/internal/journal"
	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
	"github.com/meet-gateway/meet-gateway/tokens/internal/vault"
)

// Every revocation costs one write, whatever the number of tokens it ends. All
// return nil only after Redis has acknowledged the write (and the replicas asked
// for have) and the other gateways were told; ErrUnavailable means that it may or
// may not have happened and that doing it again is safe.

// revokeRecordScript marks a record as revoked and answers it. The mark stays
// until the token would have expired, so that nothing can record it again; where
// no record is (it was lost, and may be written again), a mark is put. ARGV:
// state, mark, its life in ms.
var revokeRecordScript = redisdb.NewScript(`
local value = redis.call('GET', KEYS[1])
if not value then
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
  return ARGV[2]
end
redis.call('SETRANGE', KEYS[1], 0, ARGV[1])
return value`)

// revocations ends tokens.
type revocations struct {
	*core
	installations *installation.Store
	applications  *applications
	users         *users
	signer        *signer
	records       *records
	refreshes     *refreshes
	keyUse        *installation.KeyUse
}

// RevokeToken ends one access token, given whole or by its id ("jti"), or the
// family of a refresh token. A token that is expired, unknown or not ours is not
// valid anyway: that is no error (RFC 7009 §2.2). Errors: ErrUnavailable.
func (r *revocations) RevokeToken(ctx context.Context, rawOrID string) error {
	if vault.IsID(rawOrID, vault.TokenID) {
		return r.records.revoke(ctx, redisdb.KeyToken(rawOrID), [sha256.Size]byte{}, maxLifetime)
	}
	return r.revokeRaw(ctx, rawOrID, "")
}

// IsToken reports whether a text is what [Authority.RevokeToken] can end, or could
// have ended: a token of this installation, whole, or by its form the id of one.
// The error is ErrUnavailable.
func (r *revocations) IsToken(ctx context.Context, rawOrID string) (bool, error) {
	if vault.IsID(rawOrID, vault.TokenID) {
		return true, nil
	}
	if strings.HasPrefix(rawOrID, RefreshPrefix) {
		return ChecksumOK(rawOrID), nil
	}
	_, err := r.signer.parseSigned(rawOrID)
	if err = r.keyUse.OrMissing(ctx, err); errors.Is(err, ErrUnavailable) {
		return false, err
	}
	return err == nil, nil
}

// RevokeOwnToken is RevokeToken for the holder: only a token that was issued to
// the application is ended. Errors: ErrNotOwner, ErrUnavailable.
func (r *revocations) RevokeOwnToken(ctx context.Context, app *Application, raw string) error {
	return r.revokeRaw(ctx, raw, app.ID)
}

func (r *revocations) revokeRaw(ctx context.Context, raw, owner string) error {
	if strings.HasPrefix(raw, RefreshPrefix) {
		return r.refreshes.revoke(ctx, raw, owner)
	}
	sum := hashToken(raw)
	// Not parse: a token that is not valid yet by this node's clock is revoked too.
	t, err := r.signer.parseSigned(raw)
	if err != nil {
		if err = r.keyUse.OrMissing(ctx, err); errors.Is(err, ErrUnavailable) {
			return err
		}
		return nil // what is not a token of ours needs no revoking
	}
	if owner != "" && t.appID() != owner {
		return deny(ErrNotOwner, "other_application")
	}
	rest := t.expiresAt().Sub(r.now())
	if rest <= 0 {
		return nil
	}
	return r.records.revoke(ctx, redisdb.KeyToken(t.id), sum, min(rest, maxLifetime)+time.Second)
}

// revokeAgainScript marks a token's record as revoked. A record that is not there is
// made: some other gateway may remember the token and record it again. ARGV: life of
// the mark in ms, state, mark.
var revokeAgainScript = journal.NewScript(`
local state = redis.call('GETRANGE', KEYS[1], 0, 0)
if state == '' then
  redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[1])
  return 1
end
if state == ARGV[2] then return 0 end
redis.call('SETRANGE', KEYS[1], 0, ARGV[2])
return 1`)

// revoke marks a record. sum is the hash of the token where it is known; life is
// how long the token can be valid at most.
func (r *records) revoke(ctx context.Context, key string, sum [sha256.Size]byte, life time.Duration) error {
	state, mark := string([]byte{recordRevoked}), encodeRecord(sum, generations{})
	mark[0] = recordRevoked
	err := r.feed.Commit(ctx, feed.Commit{
		Doing: "revoking a token", Script: revokeRecordScript, Key: key, Args: []any{state, mark, life.Milliseconds()},
		Redo: []journal.Entry{{
			Rank: journal.Revocations, Key: key, Script: revokeAgainScript, Args: []any{state, string(mark)}, Expires: r.now().Add(life),
		}},
		Outcome: func(reply *redisdb.Reply) ([]journal.Entry, error) {
			value, err := reply.Text()
			if err != nil {
				return nil, unavailable("revoking a token", err)
			}
			if _, _, _, err = decodeRecord([]byte(value)); err != nil {
				return nil, unavailable("revoking a token", err)
			}
			if value[0] == recordRevoked && r.wasTold(key) {
				return nil, errTold
			}
			return nil, nil
		},
	})
	if errors.Is(err, errTold) {
		return nil
	}
	if err == nil {
		r.noteTold(key)
	}
	return err
}

// errTold means that every gateway was told of a revocation already: one that is asked
// for again and again is one change of the feed, and does not push out others.
var errTold = errors.New("every gateway was told already")

// wasTold reports whether that is so of a record or family, on this server.
func (r *records) wasTold(key string) bool {
	told, ok := r.cache.told.GetIfPresent(key)
	return ok && !r.feed.Replaced(told)
}

func (r *records) noteTold(key string) { r.cache.told.Set(key, r.feed.Snapshot()) }

// RevokeApplication ends all tokens of an application issued so far. Its secrets
// go on working. Errors: ErrNotFound, ErrUnavailable.
func (r *revocations) RevokeApplication(ctx context.Context, id string) error {
	return r.bump(ctx, redisdb.KeyApplication(id), bumpScript, []any{fieldVersion, fieldGeneration}, laterIfScript, fieldVersion, fieldGeneration)
}

// RevokeUser ends all tokens for a user issued so far, whichever application
// has them. Errors: ErrNotFound, ErrUnavailable.
func (r *revocations) RevokeUser(ctx context.Context, idOrMail string) error {
	u, err := r.users.User(ctx, idOrMail)
	if err != nil {
		return err
	}
	return u.eachID(func(id string) error {
		return r.bump(ctx, redisdb.KeyUser(id), bumpScript, []any{fieldMail, fieldGeneration}, laterIfScript, fieldMail, fieldGeneration)
	})
}

// RevokeGrant ends all tokens that one application has for one user. Errors:
// ErrNotFound, ErrUnavailable.
func (r *revocations) RevokeGrant(ctx context.Context, applicationID, idOrMail string) error {
	u, err := r.users.User(ctx, idOrMail)
	if err != nil {
		return err
	}
	app, err := r.applications.Application(ctx, applicationID)
	if err != nil {
		return err
	}
	return u.eachID(func(id string) error {
		return r.bump(ctx, redisdb.KeyUser(id), revokeGrantScript, []any{app.ID, maxGrants}, revokeGrantScript, app.ID, maxGrants)
	})
}

// eachID revokes all ids of a user's address. One that was never given to anybody may
// not be there.
func (u *User) eachID(revoke func(id string) error) error {
	for _, id := range u.others {
		if err := revoke(id); err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
	}
	return revoke(u.ID)
}

// bump runs a script that counts a generation up and answers it, or 0 if what it
// belongs to is not there. again writes that generation where it was lost, given
// againArgs and the generation.
func (r *revocations) bump(ctx context.Context, key string, script *redisdb.Script, args []any, again *redisdb.Script, againArgs ...any) error {
	const doing = "revoking"
	return r.feed.Refuse(ctx, doing, func(ctx context.Context) error {
		return r.feed.Commit(ctx, feed.Commit{
			Doing: doing, Script: script, Key: key, Args: args,
			Outcome: func(reply *redisdb.Reply) ([]journal.Entry, error) {
				generation, err := reply.Int64()
				if err != nil {
					return nil, unavailable(doing, err)
				}
				if generation == 0 {
					return nil, fmt.Errorf("%s: %w", doing, ErrNotFound)
				}
				return []journal.Entry{{
					Rank: journal.Revocations, Key: key, Script: again, Args: append(againArgs, strconv.FormatInt(generation, 10)),
				}}, nil
			},
		})
	})
}

// laterIfScript is [installation.Raise] for a record that must (still) have a field.
var laterIfScript = journal.NewScript(`
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end
local have = tonumber(redis.call('HGET', KEYS[1], ARGV[2]) or '0')
if have >= tonumber(ARGV[3]) then return 0 end
redis.call('HSET', KEYS[1], ARGV[2], ARGV[3])
return 1`)

// RevokeKey ends all access tokens signed with the key. The key stays
// configured; tokens it signs from now on are not valid either, so configure
// another one first. Errors: ErrNotFound for a key that is neither configured nor
// in use by other gateways, ErrConflict for the one that signs, ErrUnavailable.
func (r *revocations) RevokeKey(ctx context.Context, kid string) error {
	if _, ok := r.signing.AlgorithmOf(kid); !ok {
		used := false
		err := r.feed.Read(ctx, "looking for a key", func(ctx context.Context, _ feed.Reader) (bool, error) {
			in, err := r.installations.Load(ctx)
			used = err == nil && in.Uses(kid, r.now())
			return used, err
		})
		if err != nil {
			return err
		}
		if !used {
			return fmt.Errorf("signing key: %w", ErrNotFound)
		}
	}
	if kid == r.signing.KeyID() {
		return fmt.Errorf("signing key %s is the one that signs; put another one first: %w", kid, ErrConflict)
	}
	return r.installations.Withdraw(ctx, kid)
}

// RevokeBefore ends all tokens issued before the instant, which must not be in
// the future. Errors: ErrInvalidInstant, ErrUnavailable.
func (r *revocations) RevokeBefore(ctx context.Context, t time.Time) error {
	if t.After(r.now()) {
		return fmt.Errorf("%w: it lies in the future", ErrInvalidInstant)
	}
	return r.installations.RefuseBefore(ctx, t)
}

// RevokeAll ends all tokens issued so far. Errors: ErrUnavailable.
func (r *revocations) RevokeAll(ctx context.Context) error {
	return r.bump(ctx, redisdb.KeyInstallation, countScript, []any{fieldGeneration}, installation.Raise, fieldGeneration)
}

// countScript counts a field of a hash up.
var countScript = redisdb.NewScript(countUp + `
return up(ARGV[1])`)
