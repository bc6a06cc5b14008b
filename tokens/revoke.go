// SPDX-License-Identifier: MIT

package tokens

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/meet-gateway/meet-gateway/tokens/internal/feed"
	"github.com/meet-gateway/meet-gateway/tokens/internal/installation"
	"github.com/meet-gateway/meet-gateway/tokens/internal/journal"
	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
	"github.com/meet-gateway/meet-gateway/tokens/internal/vault"
)

// revocations ends tokens. Each revocation costs one write, whatever the number of tokens it
// ends. It returns nil once Redis and the configured replicas have acknowledged the write
// and the other gateways were notified. After ErrUnavailable it may or may not have
// happened, and repeating it is safe.
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

// RevokeToken ends one access token, given whole or by its id ("jti"), or the family of a
// refresh token. An expired, unknown or foreign token is no error, since it is not valid
// anyway (RFC 7009 §2.2). The error is ErrUnavailable.
func (r *revocations) RevokeToken(ctx context.Context, rawOrID string) error {
	if vault.IsID(rawOrID, vault.TokenID) {
		return r.records.revoke(ctx, redisdb.KeyToken(rawOrID), [sha256.Size]byte{}, maxLifetime)
	}
	return r.revokeRaw(ctx, rawOrID, "")
}

// IsToken reports whether a text can be given to [Authority.RevokeToken]: it is a token of
// this installation, valid or not, or has the form of a token's id. The error is
// ErrUnavailable.
func (r *revocations) IsToken(ctx context.Context, rawOrID string) (bool, error) {
	if vault.IsID(rawOrID, vault.TokenID) {
		return true, nil
	}
	if strings.HasPrefix(rawOrID, RefreshPrefix) {
		return ChecksumOK(rawOrID), nil
	}
	_, err := r.signer.parse(rawOrID)
	if err = r.keyUse.OrMissing(ctx, err); errors.Is(err, ErrUnavailable) {
		return false, err
	}
	return err == nil, nil
}

// RevokeOwnToken is RevokeToken for an application, which may only end its own tokens.
// Errors: ErrNotOwner, ErrUnavailable.
func (r *revocations) RevokeOwnToken(ctx context.Context, app *Application, raw string) error {
	return r.revokeRaw(ctx, raw, app.ID)
}

func (r *revocations) revokeRaw(ctx context.Context, raw, owner string) error {
	if strings.HasPrefix(raw, RefreshPrefix) {
		return r.refreshes.revoke(ctx, raw, owner)
	}
	sum := hashToken(raw)
	// Not parse: a token that is not valid yet by this node's clock is revoked too.
	t, err := r.signer.parse(raw)
	if err != nil {
		if err = r.keyUse.OrMissing(ctx, err); errors.Is(err, ErrUnavailable) {
			return err
		}
		return nil // not a token of this installation
	}
	if owner != "" && t.Application != owner {
		return deny(ErrNotOwner, "other_application")
	}
	rest := t.expiresAt().Sub(r.now())
	if rest <= 0 {
		return nil
	}
	return r.records.revoke(ctx, t.key(), sum, min(rest, maxLifetime)+time.Second)
}

// RevokeApplication ends all tokens of an application issued so far. Its secrets stay
// valid. Errors: ErrNotFound, ErrUnavailable.
func (r *revocations) RevokeApplication(ctx context.Context, id string) error {
	return r.countUp(ctx, redisdb.KeyApplication(id), countIfScript, raiseIfScript, fieldVersion, fieldGeneration)
}

// RevokeUser ends all tokens issued for a user so far, of all applications. Errors:
// ErrNotFound, ErrUnavailable.
func (r *revocations) RevokeUser(ctx context.Context, idOrMail string) error {
	u, err := r.users.User(ctx, idOrMail)
	if err != nil {
		return err
	}
	return u.eachID(func(id string) error {
		return r.countUp(ctx, redisdb.KeyUser(id), countIfScript, raiseIfScript, fieldMail, fieldGeneration)
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
		return r.countUp(ctx, redisdb.KeyUser(id), revokeGrantScript, revokeGrantScript, app.ID, maxGrants)
	})
}

// RevokeAll ends all tokens issued so far. The error is ErrUnavailable.
func (r *revocations) RevokeAll(ctx context.Context) error {
	return r.countUp(ctx, redisdb.KeyInstallation, countScript, installation.Raise, fieldGeneration)
}

// countUp counts a generation up, which ends the tokens issued under the one before. script
// answers the new generation, or 0 if the record does not exist. again repeats the change on
// a Redis that lost it. It gets the same arguments, followed by the generation.
func (r *revocations) countUp(ctx context.Context, key string, script, again *redisdb.Script, args ...any) error {
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
					Rank: journal.Revocations, Key: key, Script: again, Args: append(slices.Clip(args), strconv.FormatInt(generation, 10)),
				}}, nil
			},
		})
	})
}

// RevokeKey ends all access tokens signed with a key, also those that it signs later. So
// another key must be configured first. Errors: ErrNotFound for a key that is neither
// configured nor in use by other gateways, ErrConflict for the one that signs,
// ErrUnavailable.
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

// RevokeBefore ends all tokens issued before a time, which must not be in the future.
// Errors: ErrInvalidInstant, ErrUnavailable.
func (r *revocations) RevokeBefore(ctx context.Context, t time.Time) error {
	if t.After(r.now()) {
		return fmt.Errorf("%w: it lies in the future", ErrInvalidInstant)
	}
	return r.installations.RefuseBefore(ctx, t)
}

// luaUp defines the Lua function up, which counts a generation up, at least to the current second. Even a
// generation that Redis has lost then never returns to a value that tokens were issued
// under.
const luaUp = `
local function up(field)
  local value = math.max(tonumber(redis.call('HGET', KEYS[1], field) or '0') + 1, tonumber(redis.call('TIME')[1]))
  redis.call('HSET', KEYS[1], field, string.format('%.0f', value))
  return value
end`

// countScript counts a generation up and answers it. ARGV: field.
var countScript = redisdb.NewScript(luaUp + `
return up(ARGV[1])`)

// countIfScript is countScript for a record that exists, which has a certain field. It
// answers 0 if the record does not exist. ARGV: that field, field to count up.
var countIfScript = redisdb.NewScript(luaUp + `
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end
return up(ARGV[2])`)

// raiseIfScript is [installation.Raise] for a record that exists, which has a certain
// field. ARGV: that field, field to raise, number.
var raiseIfScript = journal.NewScript(`
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end
local have = tonumber(redis.call('HGET', KEYS[1], ARGV[2]) or '0')
if have >= tonumber(ARGV[3]) then return 0 end
redis.call('HSET', KEYS[1], ARGV[2], ARGV[3])
return 1`)

// revokeGrantScript counts a grant's generation up and answers it, or 0 if the user does not
// exist. With a value it raises the generation to that value instead, and answers 0 if it is
// as high. ARGV: application, number of grants to keep, value.
var revokeGrantScript = journal.NewScript(luaUp + `
if redis.call('HEXISTS', KEYS[1], 'm') == 0 then return 0 end
local function number(field) return tonumber(redis.call('HGET', KEYS[1], field) or '0') end
local value = tonumber(ARGV[3] or '')
if value then
  if number('g:' .. ARGV[1]) >= value or number('gf') >= value then return 0 end
  if number('gc') < value then redis.call('HSET', KEYS[1], 'gc', ARGV[3]) end
else
  value = up('gc')
end
redis.call('HSET', KEYS[1], 'g:' .. ARGV[1], string.format('%.0f', value))
local keep = tonumber(ARGV[2])
if redis.call('HLEN', KEYS[1]) > keep then
  local all = redis.call('HGETALL', KEYS[1])
  local count, oldest, least = 0, nil, nil
  for i = 1, #all, 2 do
    if string.sub(all[i], 1, 2) == 'g:' then
      count = count + 1
      local v = tonumber(all[i + 1])
      if not least or v < least then oldest, least = all[i], v end
    end
  end
  if count > keep then
    redis.call('HDEL', KEYS[1], oldest)
    if number('gf') < least then redis.call('HSET', KEYS[1], 'gf', least) end
  end
end
return value`)

// maxGrants is how many revoked grants of a user are recorded one by one.
const maxGrants = 64

// eachID revokes all ids of a user's address. The further ids may not exist.
func (u *User) eachID(revoke func(id string) error) error {
	if u.others != nil {
		for _, id := range *u.others {
			if err := revoke(id); err != nil && !errors.Is(err, ErrNotFound) {
				return err
			}
		}
	}
	return revoke(u.ID)
}
